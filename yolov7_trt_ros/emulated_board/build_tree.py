"""Make the files of an emulated board that has just been switched on."""

from __future__ import annotations

from pathlib import Path
import uuid

from yolov7_trt_ros.emulated_board.boards.board_definition import BoardDefinition
from yolov7_trt_ros.emulated_board.boards.clock_definitions import ClockDefinition
from yolov7_trt_ros.emulated_board.conf_board import make_missing_files
from yolov7_trt_ros.emulated_board.conf_text import conf_text
from yolov7_trt_ros.emulated_board.state import CONF_COPY, FOLDER, initial_state, save_state
from yolov7_trt_ros.emulated_board.tree import (
    BPMP_FOLDER,
    BWMGR_FOLDER,
    chip_folder,
    cooling_folder,
    CPU_FOLDER,
    EMC_DEVFREQ_FOLDER,
    FAN_CURVES,
    fan_folder,
    gate,
    link,
    over_current_folder,
    OVERRIDE_FOLDER,
    policy_folder,
    RPM_PER_PWM,
    tachometer_folder,
    write_fan_status,
    write_text,
    write_value,
    zone_folder,
)

CRIT_MARGIN = 1.35
WARN_MARGIN = 1.15


def current_limits_ma(board: BoardDefinition) -> dict[str, tuple[int, int]]:
    """Return the warning and critical current of each rail: full power and a margin, in mA."""
    model = board.power
    limits = {}
    for rail in board.rails:
        full_mw = (rail.base_mw + rail.gpu * model.gpu_mw + rail.cpu * model.cpu_mw
                   + rail.emc * model.emc_mw + rail.soc * model.soc_mw)
        full_ma = full_mw * 1000 / rail.voltage_mv
        limits[rail.name] = (round(full_ma * WARN_MARGIN), round(full_ma * CRIT_MARGIN))
    return limits


def build_tree(root: Path, board: BoardDefinition, conf: str = '') -> None:
    """
    Make all files of a board that has just been switched on, before its first mode is set.

    Parameters
    ----------
    root
        Folder to make.
    board
        The board.
    conf
        Text of its nvpmodel.conf; '': made from the definition.

    """
    _build_identity(root, board, conf or conf_text(board))
    _build_cpu(root, board)
    _build_gpu(root, board)
    _build_emc(root, board)
    _build_chips(root, board)
    _build_thermal(root, board)
    _build_fan(root, board)
    (root / FOLDER).mkdir(parents=True, exist_ok=True)
    save_state(root, initial_state(board.name, board.conf_name if conf else ''))
    if conf:
        write_text(root, CONF_COPY, conf)
        make_missing_files(root, conf)


def _build_identity(root: Path, board: BoardDefinition, conf: str) -> None:
    tree = 'sys/firmware/devicetree/base'
    write_text(root, f'{tree}/model', f'{board.model}\0')
    write_text(root, f'{tree}/compatible', ''.join(f'{item}\0' for item in board.compatible))
    write_text(root, f'{tree}/serial-number', '1420000000000\0')
    link(root, 'proc/device-tree', tree)
    write_text(root, 'proc/sys/kernel/random/boot_id', f'{uuid.uuid4()}\n')
    release, revision = board.l4t
    write_text(root, 'etc/nv_tegra_release',
               f'# R{release} (release), REVISION: {revision}, GCID: 0, BOARD: generic, '
               'EABI: aarch64, DATE: Thu Jan  1 00:00:00 UTC 2026\n')
    write_text(root, f'etc/nvpmodel/{board.conf_name}', conf)
    link(root, 'etc/nvpmodel.conf', f'etc/nvpmodel/{board.conf_name}')
    for folder in ('var/lib/nvpmodel', 'etc/sudoers.d', 'root', 'tmp'):
        (root / folder).mkdir(parents=True, exist_ok=True)


def _build_cpu(root: Path, board: BoardDefinition) -> None:
    cpu = board.cpu
    table = cpu.table_khz
    for leader in cpu.leaders:
        folder = policy_folder(leader)
        for name, value in (
            ('cpuinfo_min_freq', table[0]), ('cpuinfo_max_freq', table[-1]),
            ('scaling_min_freq', table[0]), ('scaling_max_freq', table[-1]),
            ('scaling_cur_freq', table[0]), ('scaling_governor', 'schedutil'),
            ('scaling_available_governors', 'conservative userspace performance schedutil'),
            ('scaling_available_frequencies', ' '.join(map(str, table))),
        ):
            write_value(root, f'{folder}/{name}', value)
    for core in range(cpu.core_count):
        _build_core(root, board, core)
    write_value(root, f'{CPU_FOLDER}/present', f'0-{cpu.core_count - 1}')
    write_value(root, f'{CPU_FOLDER}/possible', f'0-{cpu.core_count - 1}')


def _build_core(root: Path, board: BoardDefinition, core: int) -> None:
    folder = f'{CPU_FOLDER}/cpu{core}'
    write_value(root, f'{folder}/online', 1)
    link(root, f'{folder}/cpufreq', policy_folder(board.cpu.leader_of(core)))
    for number, name in enumerate(board.cpu.idle_states):
        write_value(root, f'{folder}/cpuidle/state{number}/name', name)
        write_value(root, f'{folder}/cpuidle/state{number}/disable', 0)


def _build_gpu(root: Path, board: BoardDefinition) -> None:
    gpu = board.gpu
    for name, value in (('railgate_enable', '1'), ('power/control', 'auto'),
                        ('enable_3d_scaling', '1')):
        write_value(root, f'{gpu.device}/{name}', value)
    if gpu.fbp_mask is not None:
        write_value(root, f'{gpu.device}/fbp_pg_mask', gpu.fbp_mask)
    if board.modes[0].tpc_mask is not None:
        mask = board.mode(board.default_mode).tpc_mask
        write_value(root, f'{gpu.device}/tpc_pg_mask', board.real_tpc_mask or mask)
    if gpu.of_name:
        write_value(root, f'{gpu.device}/load', 0)
        write_text(root, f'{gpu.device}/of_node/name', f'{gpu.of_name}\0')
    if gpu.alias != gpu.device:
        link(root, gpu.alias, gpu.device)
    for clock in gpu.clocks:
        _build_devfreq(root, clock, 'nvhost_podgov')
        if gpu.of_name:
            link(root, f'{clock.folder}/device', gpu.device)
    if board.grammar == 'jp6':
        link(root, f'{gpu.device}/devfreq_dev', gpu.clocks[0].folder)


def _build_devfreq(root: Path, clock: ClockDefinition, governor: str) -> None:
    """Make one devfreq folder and its link in /sys/class/devfreq."""
    name, folder, table_hz, _ = clock
    for file, value in (
        ('available_frequencies', ' '.join(map(str, table_hz))), ('min_freq', clock.lowest_hz),
        ('max_freq', table_hz[-1]), ('cur_freq', clock.lowest_hz), ('governor', governor),
        ('available_governors', f'performance {governor} userspace'),
    ):
        write_value(root, f'{folder}/{file}', value)
    link(root, f'sys/class/devfreq/{name}', folder)


def _build_emc(root: Path, board: BoardDefinition) -> None:
    emc = board.emc
    low, top = emc.table_hz[0], emc.table_hz[-1]
    folder = emc.cap_file.rpartition('/')[0]
    write_value(root, emc.cap_file, 0 if 'emc_cap' in folder else top)
    for name in board.extra_caps:
        write_value(root, f'{folder}/{name}', 0)
    if emc.kind == 'devfreq':
        _build_devfreq(
            root, ClockDefinition('bwmgr', EMC_DEVFREQ_FOLDER, emc.table_hz), 'userspace')
        return
    files = {
        'bpmp': {'min_rate': low, 'max_rate': top, 'rate': emc.idle_hz, 'mrq_rate_locked': 0,
                 'state': 1},
        'clk': {'clk_rate': emc.idle_hz, 'clk_update_rate': emc.idle_hz, 'clk_state': 0},
    }[emc.kind]
    base = {'bpmp': BPMP_FOLDER, 'clk': OVERRIDE_FOLDER}[emc.kind]
    for name, value in files.items():
        write_value(root, f'{base}/{name}', value)
    if emc.kind == 'clk':
        write_value(root, f'{BWMGR_FOLDER}/emc_min_rate', low)
        write_value(root, f'{BWMGR_FOLDER}/emc_max_rate', top)


def _build_chips(root: Path, board: BoardDefinition) -> None:
    limits = current_limits_ma(board)
    for chip in board.chips:
        folder = chip_folder(board, chip)
        write_value(root, f'{folder}/name', chip.driver)
        for number, rail in enumerate(chip.channels):
            warn, crit = limits.get(rail, (32760, 32760))
            _build_channel(root, folder, chip.driver, number, rail, warn, crit)
        if chip.driver != 'ina3221x':
            name = folder.rpartition('/')[2]
            link(root, f'sys/class/hwmon/{name}', folder)
        if chip.driver == 'ina3221':
            write_value(root, f'{folder}/in7_label', 'sum of shunt voltages')
            write_value(root, f'{folder}/in7_input', 0)
            write_value(root, f'{folder}/samples', 512)
            write_value(root, f'{folder}/update_interval', 430)


def _build_channel(
    root: Path, folder: str, driver: str, number: int, rail: str, warn: int, crit: int
) -> None:
    """Make the constant files of one channel; the kernel fills in the readings."""
    if driver == 'ina3221x':
        write_value(root, f'{folder}/rail_name_{number}', rail)
        write_value(root, f'{folder}/warn_current_limit_{number}', warn)
        write_value(root, f'{folder}/crit_current_limit_{number}', crit)
    elif driver == 'ina3221':
        channel = number + 1
        write_value(root, f'{folder}/in{channel}_label', rail)
        write_value(root, f'{folder}/in{channel}_enable', 1)
        write_value(root, f'{folder}/curr{channel}_max', warn)
        write_value(root, f'{folder}/curr{channel}_crit', crit)
        write_value(root, f'{folder}/curr{channel}_max_alarm', 0)
        write_value(root, f'{folder}/curr{channel}_crit_alarm', 0)


def _build_thermal(root: Path, board: BoardDefinition) -> None:
    for number, zone in enumerate(board.thermal.zones):
        folder = zone_folder(number)
        write_value(root, f'{folder}/type', zone.zone_type)
        for trip, kind, limit in ((0, 'passive', board.thermal.throttle_c),
                                  (1, 'critical', board.thermal.shutdown_c)):
            write_value(root, f'{folder}/trip_point_{trip}_type', kind)
            write_value(root, f'{folder}/trip_point_{trip}_temp', round(limit * 1000))
        link(root, f'sys/class/thermal/thermal_zone{number}', folder)
        if zone.gated:
            gate(root, f'{folder}/temp')
    for number, name in enumerate(('cpu-throttle-alert', 'gpu-throttle-alert')):
        folder = cooling_folder(number)
        for file, value in (('type', name), ('cur_state', 0), ('max_state', 2)):
            write_value(root, f'{folder}/{file}', value)
        link(root, f'sys/class/thermal/cooling_device{number}', folder)


def _build_fan(root: Path, board: BoardDefinition) -> None:
    folder = fan_folder(board)
    if board.fan == 'pwm-fan':
        for name, value in (('target_pwm', 0), ('cur_pwm', 0), ('temp_control', 1)):
            write_value(root, f'{folder}/{name}', value)
        if board.fan_profile is not None:
            write_value(root, f'{folder}/fan_profile', board.fan_profile)
        link(root, 'sys/bus/platform/devices/pwm-fan', folder)
        return
    write_value(root, f'{folder}/name', 'pwmfan')
    write_value(root, f'{folder}/pwm1', 0)
    write_value(root, f'{folder}/pwm1_enable', 1)
    link(root, f'sys/class/hwmon/{folder.rpartition("/")[2]}', folder)
    counters = over_current_folder(board)
    if counters is not None:
        write_value(root, f'{counters}/name', 'soctherm_oc')
        write_value(root, f'{counters}/oc1_event_cnt', 0)
        write_value(root, f'{counters}/oc1_throt_en', 1)
        link(root, f'sys/class/hwmon/{counters.rpartition("/")[2]}', counters)
    tachometer = tachometer_folder(board)
    if tachometer is not None:
        write_value(root, f'{tachometer}/name', 'pwm_tach')
        write_value(root, f'{tachometer}/rpm', 0)
        link(root, f'sys/class/hwmon/{tachometer.rpartition("/")[2]}', tachometer)
    write_text(root, 'etc/nvfancontrol.conf', _fan_conf_text(board))
    write_fan_status(root, 'quiet')


def _fan_conf_text(board: BoardDefinition) -> str:
    """Return /etc/nvfancontrol.conf in its grammar, with the curves above."""
    lines = ['POLLING_INTERVAL=2', '', '<FAN 1>', '\tTMARGIN DISABLED', '\tFAN_GOVERNOR cont {',
             '\t\tSTEP_SIZE 10', '\t}']
    for profile, curve in FAN_CURVES.items():
        lines += [f'\tFAN_PROFILE {profile} {{', '\t\t#TEMP\tHYST\tPWM\tRPM']
        lines += [f'\t\t{celsius:g}\t0\t{pwm}\t{pwm * RPM_PER_PWM}' for celsius, pwm in curve]
        lines.append('\t}')
    lines += ['\tTHERMAL_GROUP 0 {', f'\t\tGROUP_MAX_TEMP {board.thermal.shutdown_c:g}']
    lines += [f'\t\t{zone.zone_type} 20,20,20,20' for zone in board.thermal.zones[:2]]
    lines += ['\t}', '\tFAN_DEFAULT_CONTROL close_loop', '\tFAN_DEFAULT_PROFILE quiet',
              '\tFAN_DEFAULT_GOVERNOR cont', '\tKICKSTART_PWM 64', '']
    return '\n'.join(lines)
