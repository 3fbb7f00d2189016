"""
Write a board's nvpmodel.conf in NVIDIA's grammar, from our definitions.

Parameters and settings are in the order in which a board reports them.

"""

from __future__ import annotations

from typing import NamedTuple

from yolov7_trt_ros.emulated_board.boards.board_definition import BoardDefinition, ModeDefinition


class Setting(NamedTuple):
    """
    One setting of a mode.

    Attributes
    ----------
    kind : str
        'FILE', 'CLOCK' or 'HWMON'.
    param, argument : str
    path : str
        Absolute; for HWMON the folder and the file, separated by a space.
    value : int or str

    """

    kind: str
    param: str
    argument: str
    path: str
    value: int | str


def mode_settings(board: BoardDefinition, mode: ModeDefinition) -> list[Setting]:
    """Return the settings of a mode, in the order in which nvpmodel writes them."""
    return [
        *_core_settings(board, mode),
        *_mask_settings(board, mode),
        _power_control(board, 'ENABLE', 'on'),
        *_cpu_settings(board, mode),
        *_gpu_settings(board, mode),
        _power_control(board, 'DISABLE', 'auto'),
        *_emc_settings(board, mode),
        *_hwmon_settings(board),
    ]


def conf_text(board: BoardDefinition) -> str:
    """Return the whole nvpmodel.conf of a board."""
    lines = [f'# Power modes of the emulated {board.name}.', '']
    lines += _param_lines(mode_settings(board, board.modes[0]))
    for mode in board.modes:
        lines.append(f'< POWER_MODEL ID={mode.mode_id} NAME={mode.name} >')
        lines += [
            f'{setting.param} {setting.argument} {setting.value}'
            for setting in mode_settings(board, mode)
        ]
        lines.append('')
    lines.append(f'< PM_CONFIG DEFAULT={board.default_mode} >')
    if board.fan_profile is not None:
        lines.append(f'< FAN_CONFIG DEFAULT={board.fan_profile} >')
    return '\n'.join(lines) + '\n'


def _param_lines(settings: list[Setting]) -> list[str]:
    """Return the sections with the file of each argument."""
    lines: list[str] = []
    previous = ''
    for setting in settings:
        if setting.param != previous:
            closing = '>' if setting.param == 'EMC' else ' >'
            opening = '<' if setting.param == 'EMC' else '< '
            lines += ['', f'{opening}PARAM TYPE={setting.kind} NAME={setting.param}{closing}']
            previous = setting.param
        lines.append(f'{setting.argument} {setting.path}')
    return [*lines[1:], '']


def _core_settings(board: BoardDefinition, mode: ModeDefinition) -> list[Setting]:
    return [
        Setting('FILE', 'CPU_ONLINE', f'CORE_{core}',
                f'/sys/devices/system/cpu/cpu{core}/online', int(mode.has_core(core)))
        for core in range(board.cpu.first_listed, board.cpu.core_count)
    ]


def _mask_settings(board: BoardDefinition, mode: ModeDefinition) -> list[Setting]:
    folder = f'/{board.gpu.alias}'
    settings = []
    if board.gpu.fbp_mask is not None:
        settings.append(Setting('FILE', 'FBP_POWER_GATING', 'FBP_PG_MASK',
                                f'{folder}/fbp_pg_mask', board.gpu.fbp_mask))
    if mode.tpc_mask is not None:
        settings.append(Setting('FILE', 'TPC_POWER_GATING', 'TPC_PG_MASK',
                                f'{folder}/tpc_pg_mask', mode.tpc_mask))
    return settings


def _power_control(board: BoardDefinition, what: str, value: str) -> Setting:
    short = {'ENABLE': 'EN', 'DISABLE': 'DIS'}[what]
    return Setting('FILE', f'GPU_POWER_CONTROL_{what}', f'GPU_PWR_CNTL_{short}',
                   f'/{board.gpu.alias}/power/control', value)


def _cpu_settings(board: BoardDefinition, mode: ModeDefinition) -> list[Setting]:
    settings = []
    names = board.cpu.params or [f'{board.cpu.param}_{leader}' for leader in board.cpu.leaders]
    for leader, param in zip(board.cpu.leaders, names, strict=True):
        folder = f'/sys/devices/system/cpu/cpu{leader}/cpufreq'
        settings += [
            Setting('CLOCK', param, 'MIN_FREQ', f'{folder}/scaling_min_freq',
                    board.cpu.mode_min_khz),
            Setting('CLOCK', param, 'MAX_FREQ', f'{folder}/scaling_max_freq', mode.cpu_max_khz),
        ]
    return settings


def _gpu_settings(board: BoardDefinition, mode: ModeDefinition) -> list[Setting]:
    folder = f'/{gpu_folder(board)}'
    return [
        Setting('CLOCK', board.gpu.param, 'MIN_FREQ', f'{folder}/min_freq',
                board.gpu.clocks[0].rest_hz),
        Setting('CLOCK', board.gpu.param, 'MAX_FREQ', f'{folder}/max_freq', mode.gpu_max_hz),
    ]


def gpu_folder(board: BoardDefinition) -> str:
    """Return the GPU clock's folder as nvpmodel.conf names it, relative to the root."""
    if board.grammar == 'jp6':
        return f'{board.gpu.device}/devfreq_dev'
    if board.grammar == 'jp7':
        return f'sys/class/devfreq/{board.gpu.clocks[0].name}'
    return board.gpu.clocks[0].folder


def _emc_settings(board: BoardDefinition, mode: ModeDefinition) -> list[Setting]:
    settings = [Setting('CLOCK', 'EMC', 'MAX_FREQ', f'/{board.emc.cap_file}', mode.emc_max_hz)]
    folder = board.emc.cap_file.rpartition('/')[0]
    settings += [
        Setting('CLOCK', name.removeprefix('nafll_').upper(), 'MAX_FREQ', f'/{folder}/{name}', 0)
        for name in board.extra_caps
    ]
    return settings


def _hwmon_settings(board: BoardDefinition) -> list[Setting]:
    if board.name != 'xavier_nx':  # the only recorded board with such parameters
        return []
    folder = '/sys/bus/i2c/drivers/ina3221x/7-0040/iio:device0'
    return [
        Setting('HWMON', 'VDDIN_OC_LIMIT', 'WARN', f'{folder} warn_current_limit_0', 4000),
        Setting('HWMON', 'VDDIN_OC_LIMIT', 'CRIT', f'{folder} crit_current_limit_0', 5000),
    ]
