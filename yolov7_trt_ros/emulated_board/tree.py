"""
The files of an emulated board below its root folder: their paths, reading and replacing them.

Paths are relative to the root: 'sys/class/thermal/thermal_zone0/temp'.

"""

from __future__ import annotations

import os
from pathlib import Path
import stat
import threading

from yolov7_trt_ros.emulated_board.boards.board_definition import BoardDefinition, ChipDefinition
from yolov7_trt_ros.errors import PowerCommandError
from yolov7_trt_ros.plain_file import open_plain_file

CPU_FOLDER = 'sys/devices/system/cpu'
BPMP_FOLDER = 'sys/kernel/debug/bpmp/debug/clk/emc'
BWMGR_FOLDER = 'sys/kernel/debug/tegra_bwmgr'
OVERRIDE_FOLDER = 'sys/kernel/debug/clk/override.emc'
EMC_DEVFREQ_FOLDER = 'sys/devices/virtual/devfreq/bwmgr'
FAN_FOLDER_JP4 = 'sys/devices/pwm-fan'
RPM_PER_PWM = 12


def read_text(root: Path, path: str) -> str:
    """Return a file's text without surrounding white space; '' if it cannot be read."""
    try:
        with open_plain_file(root / path, PowerCommandError) as file:
            return file.read().decode().strip(' \n\0')
    except (OSError, PowerCommandError):  # none; or a FIFO, which emulates a file whose reads hang
        return ''


def read_number(root: Path, path: str, default: int = 0) -> int:
    """Return the integer in a file; the default without one."""
    try:
        return int(read_text(root, path), 0)
    except ValueError:
        return default


def write_text(root: Path, path: str, text: str) -> None:
    """Replace a file's text atomically, making folders; keeps its mode, and a FIFO."""
    full = os.path.realpath(root / path)
    try:
        mode = os.stat(full).st_mode
    except FileNotFoundError:
        os.makedirs(os.path.dirname(full), exist_ok=True)
        mode = stat.S_IFREG | 0o644
    if not stat.S_ISREG(mode):
        return
    folder, name = os.path.split(full)
    fresh = f'{folder}/.{name}.{os.getpid()}.{threading.get_ident()}'
    with open(fresh, 'w', encoding='utf-8') as file:
        file.write(text)
    if mode & 0o777 != 0o644:
        os.chmod(fresh, mode & 0o777)
    os.replace(fresh, full)


def write_value(root: Path, path: str, value: object) -> None:
    """Replace a file's content by a value and the newline that the kernel appends."""
    write_text(root, path, f'{value}\n')


def link(root: Path, path: str, target: str) -> None:
    """Make a relative link to another path below the root, valid also if the root moves."""
    full = root / path
    full.parent.mkdir(parents=True, exist_ok=True)
    full.symlink_to(os.path.relpath(root / target, full.parent.resolve()))


def gate(root: Path, path: str) -> None:
    """Replace a file by one that opens but fails to read, as gated sensors do."""
    full = root / path
    fresh = full.with_name(f'.{full.name}.gated')
    fresh.unlink(missing_ok=True)
    fresh.symlink_to('/proc/self/mem')
    os.replace(fresh, full)


def hwmon_numbers(board: BoardDefinition) -> dict[str, int]:
    """Return the hwmon number of each chip's address and of the fan, if there is one."""
    names = [chip.address for chip in board.chips if chip.driver != 'ina3221x']
    if board.fan == 'hwmon':
        names = ['fan', *names, 'soctherm_oc', 'tachometer']
    return {name: number for number, name in enumerate(names)}


def chip_folder(board: BoardDefinition, chip: ChipDefinition) -> str:
    """Return the folder with a power monitor's values."""
    base = f'sys/bus/i2c/drivers/{chip.driver}/{chip.address}'
    if chip.driver == 'ina3221x':
        return f'{base}/iio:device{board.chips.index(chip)}'
    return f'{base}/hwmon/hwmon{hwmon_numbers(board)[chip.address]}'


def fan_folder(board: BoardDefinition) -> str:
    """Return the folder with the fan's PWM."""
    if board.fan == 'pwm-fan':
        return FAN_FOLDER_JP4
    return f'sys/devices/platform/pwm-fan/hwmon/hwmon{hwmon_numbers(board)["fan"]}'


def over_current_folder(board: BoardDefinition) -> str | None:
    """Return the folder with the over-current event counters; None before JetPack 5."""
    if board.fan != 'hwmon':
        return None
    number = hwmon_numbers(board)['soctherm_oc']
    return f'sys/devices/platform/soctherm-oc-event/hwmon/hwmon{number}'


def tachometer_folder(board: BoardDefinition) -> str | None:
    """Return the folder with the fan's speed; None before JetPack 5."""
    if board.fan != 'hwmon':
        return None
    return f'sys/devices/platform/tachometer/hwmon/hwmon{hwmon_numbers(board)["tachometer"]}'


def activity_file(board: BoardDefinition) -> str:
    """Return the file with the memory's activity, in kHz of its clock."""
    if board.grammar == 'jp4':
        return 'sys/kernel/actmon_avg_activity/mc_all'
    return 'sys/kernel/debug/cactmon/mc_all'


def policy_folder(leader: int) -> str:
    """Return the cpufreq folder of a cluster."""
    return f'{CPU_FOLDER}/cpufreq/policy{leader}'


def zone_folder(number: int) -> str:
    """Return the folder of a thermal zone."""
    return f'sys/devices/virtual/thermal/thermal_zone{number}'


def cooling_folder(number: int) -> str:
    """Return the folder of a cooling device."""
    return f'sys/devices/virtual/thermal/cooling_device{number}'


def write_fan_status(root: Path, profile: str) -> None:
    """Note the fan profile in use, as nvfancontrol does."""
    write_text(root, 'var/lib/nvfancontrol/status',
               f'FAN1:FAN_PROFILE:{profile}\nFAN1:FAN_GOVERNOR:cont\n'
               'FAN1:FAN_CONTROL:close_loop\n')


FAN_CURVES: dict[str, tuple[tuple[float, int], ...]] = {
    'quiet': ((0, 0), (45, 70), (60, 110), (80, 190), (95, 255)),
    'cool': ((0, 60), (40, 110), (55, 180), (70, 255)),
}
"""Profile to temperature in degrees Celsius and PWM, 0 to 255, with straight lines between."""


def limit_files(driver: str, number: int) -> tuple[str, str]:
    """Return the names of the warning and critical limit's files; '' for none."""
    if driver == 'ina3221x':
        return f'warn_current_limit_{number}', f'crit_current_limit_{number}'
    if driver == 'ina3221':
        return f'curr{number + 1}_max', f'curr{number + 1}_crit'
    return '', ''


def fan_profile(status: str) -> str:
    """Return the profile in the status of nvfancontrol."""
    for line in status.splitlines():
        if line.startswith('FAN1:FAN_PROFILE:'):
            return line.rpartition(':')[2].strip()
    return 'quiet'


def ranges(numbers: list[int]) -> str:
    """Return ascending numbers as the kernel lists them: '0-3,6'."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ','.join(str(part[0]) if len(part) == 1 else f'{part[0]}-{part[-1]}'
                    for part in parts)
