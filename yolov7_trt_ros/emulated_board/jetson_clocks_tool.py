"""
The emulated ``jetson_clocks``: lock, --show, --store and --restore.

Texts and exit statuses are recorded ones; the files of an Orin or Thor in the store file follow
the recorded one of a Nano.

"""

from __future__ import annotations

from pathlib import Path
import sys

from yolov7_trt_ros.emulated_board import clocks, kernel
from yolov7_trt_ros.emulated_board.boards.board_definition import BoardDefinition
from yolov7_trt_ros.emulated_board.conf_board import board_of
from yolov7_trt_ros.emulated_board.conf_text import gpu_folder
from yolov7_trt_ros.emulated_board.power_modes import current_mode
from yolov7_trt_ros.emulated_board.state import load_state
from yolov7_trt_ros.emulated_board.tool_process import is_root
from yolov7_trt_ros.emulated_board.tree import (
    BPMP_FOLDER,
    CPU_FOLDER,
    EMC_DEVFREQ_FOLDER,
    fan_folder,
    hwmon_numbers,
    OVERRIDE_FOLDER,
    policy_folder,
    read_number,
    read_text,
    write_value,
)

STORE_FILE = 'root/l4t_dfs.conf'
"""Default store file: in root's home folder, on the board."""
_OPTIONS = ('--show', '--store', '--restore', '--fan')
_USAGE = """\
Maximize jetson performance by setting static max frequency to CPU, GPU and EMC clocks.
Usage:
jetson_clocks [options]
  options,
  --help, -h         display this help message
  --show             display current settings
  --fan              set PWM fan speed to maximal
  --store [file]     store current settings to a file (default: ${HOME}/l4t_dfs.conf)
  --restore [file]   restore saved settings from a file (default: ${HOME}/l4t_dfs.conf)
  run jetson_clocks without any option to set static max frequency to CPU, GPU and EMC clocks."""


def run_jetson_clocks(root: Path, arguments: list[str]) -> int:
    """Carry out the arguments; returns the exit status."""
    option = arguments[0] if arguments else ''
    if option in ('-h', '--help'):
        print(_USAGE)
        return 0
    if option and option not in _OPTIONS:
        print(f'Unknown option: {option}')
        print(_USAGE)
        return 1
    state = load_state(root)
    board = board_of(root, state)
    if option == '--show':
        print(f'SOC family:{board.soc_family}  Machine:{board.machine}')
    if not is_root(state):
        print('Error: Run this script(/usr/bin/jetson_clocks) as a root user')
        return 1
    file = Path(arguments[1]) if len(arguments) > 1 else root / STORE_FILE
    if option == '--show':
        return _show(root, board)
    if option == '--store':
        return _store(root, board, file)
    if option == '--restore':
        return _restore(root, file)
    return _lock(root, board, with_fan=option == '--fan')


def release_clocks(root: Path, board: BoardDefinition) -> None:
    """Set everything that a lock changes to its state after switching on."""
    for path in _cpuidle_files(board):
        write_value(root, path, 0)
    for leader in board.cpu.leaders:
        write_value(root, f'{policy_folder(leader)}/scaling_min_freq', board.cpu.table_khz[0])
    write_value(root, f'{board.gpu.device}/railgate_enable', 1)
    for clock in board.gpu.clocks:
        write_value(root, f'{clock.folder}/min_freq', clock.lowest_hz)
    write_value(root, _emc_lock_file(board), 0 if board.emc.kind != 'devfreq'
                else board.emc.table_hz[0])
    if board.fan == 'pwm-fan':
        write_value(root, f'{fan_folder(board)}/temp_control', 1)


def _lock(root: Path, board: BoardDefinition, *, with_fan: bool) -> int:
    """Raise every minimum to its maximum and keep everything awake."""
    for leader in board.cpu.leaders:
        folder = policy_folder(leader)
        write_value(root, f'{folder}/scaling_min_freq',
                    read_text(root, f'{folder}/scaling_max_freq'))
    for path in _cpuidle_files(board):
        write_value(root, path, 1)
    write_value(root, f'{board.gpu.device}/railgate_enable', 0)
    for clock in board.gpu.clocks:
        write_value(root, f'{clock.folder}/min_freq',
                    read_text(root, f'{clock.folder}/max_freq'))
    _lock_emc(root, board)
    if with_fan:
        _full_fan(root, board)
    kernel.settle(root)
    return 0


def _lock_emc(root: Path, board: BoardDefinition) -> None:
    _, top = clocks.emc_range_hz(root, board, load_state(root))
    if board.emc.kind == 'devfreq':
        write_value(root, f'{EMC_DEVFREQ_FOLDER}/min_freq', top)
        return
    cap = read_number(root, board.emc.cap_file) or board.emc.table_hz[-1]
    write_value(root, clocks.emc_rate_file(board), min(cap, board.emc.table_hz[-1]))
    write_value(root, _emc_lock_file(board), 1)


def _full_fan(root: Path, board: BoardDefinition) -> None:
    folder = fan_folder(board)
    if board.fan == 'pwm-fan':
        write_value(root, f'{folder}/temp_control', 0)
        write_value(root, f'{folder}/target_pwm', 255)
        return
    (root / 'run/emulated_board/nvfancontrol_stopped').touch()
    write_value(root, f'{folder}/pwm1', 255)


def _emc_lock_file(board: BoardDefinition) -> str:
    return {'bpmp': f'{BPMP_FOLDER}/mrq_rate_locked', 'clk': f'{OVERRIDE_FOLDER}/clk_state',
            'devfreq': f'{EMC_DEVFREQ_FOLDER}/min_freq'}[board.emc.kind]


def _cpuidle_files(board: BoardDefinition) -> list[str]:
    return [f'{CPU_FOLDER}/cpu{core}/cpuidle/state{state}/disable'
            for core in range(board.cpu.core_count) for state in range(len(board.cpu.idle_states))]


def _stored_files(board: BoardDefinition) -> list[str]:
    """Return the files that a store file lists, in its order."""
    cores = range(board.cpu.core_count)
    files = [f'{CPU_FOLDER}/cpu{core}/online' for core in cores]
    files += [f'{CPU_FOLDER}/cpu{core}/cpufreq/scaling_min_freq' for core in cores]
    files += _cpuidle_files(board)
    files.append(f'{gpu_folder(board)}/min_freq')
    files += [f'{clock.folder}/min_freq' for clock in board.gpu.clocks[1:]]
    files += [f'{board.gpu.device}/railgate_enable', _emc_lock_file(board)]
    folder = fan_folder(board)
    names = ('target_pwm', 'temp_control') if board.fan == 'pwm-fan' else ('pwm1',)
    return files + [f'{folder}/{name}' for name in names]


def _store(root: Path, board: BoardDefinition, file: Path) -> int:
    if file.exists():
        print(f'File {file} already exists. Can I overwrite it? Y/N:', flush=True)
        if sys.stdin.readline().strip() not in ('Y', 'y'):
            print(f'Error: file {file} already exists!')
            return 1
    lines = [f'/{path}:{read_text(root, path)}\n' for path in _stored_files(board)]
    file.write_text(''.join(lines), encoding='utf-8')
    return 0


def _restore(root: Path, file: Path) -> int:
    if not file.is_file():
        print(f'Error: {file} file not found !')
        return 1
    for line in file.read_text(encoding='utf-8').splitlines():
        path, found, value = line.rpartition(':')
        if found and (root / path.lstrip('/')).exists():
            write_value(root, path.lstrip('/'), value)
    (root / 'run/emulated_board/nvfancontrol_stopped').unlink(missing_ok=True)
    kernel.settle(root)
    return 0


def _show(root: Path, board: BoardDefinition) -> int:
    kernel.settle(root)
    online = read_text(root, f'{CPU_FOLDER}/online')
    offline = read_text(root, f'{CPU_FOLDER}/offline')
    print(f'Online CPUs: {online}' + (f', Offline CPUs: {offline}'.rstrip()
                                      if offline or board.grammar == 'jp7' else ''))
    if board.name == 'nano':
        print('CPU Cluster Switching: Disabled')
    for core in _shown_cores(board):
        print(_core_line(root, board, core))
    _show_gpu(root, board)
    _show_emc(root, board)
    _show_fan(root, board)
    print(f'NV Power Mode: {current_mode(root)[1]}')
    return 0


def _shown_cores(board: BoardDefinition) -> range:
    """Return the listed cores; JetPack 5 omits those with two digits."""
    return range(min(board.cpu.core_count, 10) if board.grammar == 'jp5' else board.cpu.core_count)


def _core_line(root: Path, board: BoardDefinition, core: int) -> str:
    folder = f'{CPU_FOLDER}/cpu{core}'
    states = ' '.join(
        f'{name}={1 - read_number(root, f"{folder}/cpuidle/state{number}/disable")}'
        for number, name in enumerate(board.cpu.idle_states))
    values = {name: read_text(root, f'{folder}/cpufreq/scaling_{name}')
              for name in ('governor', 'min_freq', 'max_freq', 'cur_freq')}
    online = '' if board.grammar == 'jp7' else f'Online={read_number(root, f"{folder}/online")} '
    label = f'cpu{core}:' if board.grammar == 'jp4' else f'cpu{core}:'.ljust(6)
    tail = ' ' if board.grammar == 'jp6' else ''
    return (f'{label} {online}Governor={values["governor"]} MinFreq={values["min_freq"]} '
            f'MaxFreq={values["max_freq"]} CurrentFreq={values["cur_freq"]} '
            f'IdleStates: {states}{tail}')


def _show_gpu(root: Path, board: BoardDefinition) -> None:
    for clock in board.gpu.clocks:
        name = clock.name if board.grammar == 'jp7' else 'GPU'
        low, high, now = (read_text(root, f'{clock.folder}/{file}')
                          for file in ('min_freq', 'max_freq', 'cur_freq'))
        print(f'{name} MinFreq={low} MaxFreq={high} CurrentFreq={now}')
    if board.grammar == 'jp6':
        mask = read_number(root, f'{board.gpu.device}/tpc_pg_mask')
        print(f'Active GPU TPCs: {8 - bin(mask & 0xff).count("1")}')


def _show_emc(root: Path, board: BoardDefinition) -> None:
    low, top = board.emc.table_hz[0], board.emc.table_hz[-1]
    cap = min(read_number(root, board.emc.cap_file) or top, top)
    rate = read_text(root, clocks.emc_rate_file(board))
    locked = int(clocks.is_emc_locked(root, board))
    print(f'EMC MinFreq={low} MaxFreq={cap} CurrentFreq={rate} FreqOverride={locked}')
    if board.grammar == 'jp7':
        print('PVA0_VPS0: Online=0 MinFreq=0 MaxFreq=1215000000 CurrentFreq=1215000000')
        print('PVA0_AXI:  Online=0 MinFreq=0 MaxFreq=909000000 CurrentFreq=909000000')


def _show_fan(root: Path, board: BoardDefinition) -> None:
    folder = fan_folder(board)
    if board.fan == 'pwm-fan':
        word = 'speed' if board.name == 'nano' else 'PWM'
        print(f'Fan: {word}={read_number(root, f"{folder}/cur_pwm")}')
        return
    pwm = read_text(root, f'{folder}/pwm1')
    number = hwmon_numbers(board)['fan']
    if board.grammar == 'jp5':
        print(f'FAN Dynamic Speed control=active hwmon{number}_pwm1={pwm}')
        return
    print(f'FAN Dynamic Speed Control=nvfancontrol hwmon{number}_pwm1={pwm}')
    if board.grammar == 'jp7':
        print(f'FAN Dynamic Speed Control=nvfancontrol hwmon{number}_pwm1_enable=1')
