"""
An emulated board from a given nvpmodel.conf: its modes and files on the most similar board.

The family is found by the folder of the GPU; the board by NVIDIA's name of the file, else by the
cores and the highest caps. Clock tables, rails and sensors are those of that board; missing files,
such as caps of engines, are added.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
import re

from yolov7_trt_ros.emulated_board.boards.board_definition import BoardDefinition, ModeDefinition
from yolov7_trt_ros.emulated_board.boards.catalogue import BOARDS, find_board
from yolov7_trt_ros.emulated_board.boards.clock_definitions import ClockDefinition
from yolov7_trt_ros.emulated_board.boards.frequencies import steps
from yolov7_trt_ros.emulated_board.conf_reader import Conf, ConfMode, read_conf
from yolov7_trt_ros.emulated_board.state import BoardState, CONF_COPY
from yolov7_trt_ros.emulated_board.tree import write_value
from yolov7_trt_ros.errors import PowerCommandError, PowerFormatError
from yolov7_trt_ros.plain_file import open_plain_file
from yolov7_trt_ros.power.nvpmodel.conf import parse_conf

MOST_BYTES = 1 << 20
MOST_CORES = 64
HIGHEST_HZ = 3_000_000_000

_BY_FILE_NAME = (
    ('t210', 'nano'), ('t186', 'tx2'), ('p3668', 'xavier_nx'), ('t194', 'agx_xavier'),
    ('p3701_0004', 'agx_orin_32gb'), ('p3701', 'agx_orin'), ('p3767_0000', 'orin_nx'),
    ('p3767_0001', 'orin_nx'), ('p3767', 'orin_nano'), ('p3834', 'thor'),
)
_BY_GPU = (
    ('57000000.gpu', 'nano'), ('17000000.gp10b', 'tx2'), ('17000000.gv11b', 'xavier'),
    ('17000000.ga10b', 'orin'), ('17000000.gpu', 'orin'), ('gpu-gpc', 'thor'),
)
_JETPACK_6_GPU = 'platform/17000000.gpu'
_FASTEST_ORIN_NANO_HZ = 1020000000
_CORE = re.compile(r'CORE_(\d{1,4})', re.ASCII)


def board_of(root: Path, state: BoardState) -> BoardDefinition:
    """Return the definition of the board below a root folder."""
    if not state['conf']:
        return find_board(state['board'])
    return board_from_conf((root / CONF_COPY).read_text(encoding='utf-8'), state['conf'])


@lru_cache(maxsize=4)
def board_from_conf(text: str, file_name: str) -> BoardDefinition:
    """
    Return the board that an nvpmodel.conf is for, with the modes of that file.

    Raises
    ------
    PowerCommandError
        It has no mode, is of no known board, or writes outside /sys.

    """
    conf = read_conf(text)
    if not conf.modes:
        raise PowerCommandError(f'expected a power mode in {file_name}, found none')
    outside = [item.path for item in conf.arguments.values() if not item.file.startswith('sys/')]
    if outside:
        raise PowerCommandError(
            f'an emulated board has files below /sys only, and {file_name} names {outside[0]!r}')
    return _with_modes(_nearest_board(conf, file_name), conf, file_name)


def load_conf(path: Path) -> str:
    """
    Return the text of an nvpmodel.conf.

    Raises
    ------
    PowerError
        There is no such file, it is too large, or it is no nvpmodel.conf.

    """
    try:
        with open_plain_file(path, PowerCommandError) as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as exc:
        raise PowerCommandError(f'cannot read {path}: {exc.strerror}') from exc
    if len(content) > MOST_BYTES:
        raise PowerCommandError(f'{path} has more than {MOST_BYTES} bytes: no nvpmodel.conf')
    text = content.decode('utf-8', 'replace')
    try:
        parse_conf(text)
    except PowerFormatError as exc:
        raise PowerFormatError(f'{path}: {exc}') from exc
    return text


def make_missing_files(root: Path, text: str) -> None:
    """Make the files of the conf that the kernel of the nearest board lacks."""
    conf = read_conf(text)
    for param, argument in {(param, argument) for mode in conf.modes
                            for param, argument, _ in mode.settings}:
        item = conf.find_argument(root, param, argument)
        if item is None or (root / item.file).exists():
            continue
        try:
            write_value(root, item.file, 0)
        except OSError as exc:
            raise PowerCommandError(f'cannot emulate {item.path}: {exc.strerror}') from exc


def _nearest_board(conf: Conf, file_name: str) -> BoardDefinition:
    named = next((board for part, board in _BY_FILE_NAME if part in file_name), '')
    paths = [item.path for item in conf.arguments.values()]
    family = next((board for part, board in _BY_GPU if any(part in path for path in paths)), '')
    name = named if family in ('', _family(named)) else _member(family, conf)
    if name not in BOARDS:
        raise PowerCommandError(
            f'{file_name} names no GPU of a known board ({", ".join(BOARDS)}); expected a folder '
            f'with one of {", ".join(part for part, _ in _BY_GPU)}')
    is_jetpack_6 = any(_JETPACK_6_GPU in path for path in paths)
    return _on_jetpack_6(BOARDS[name]) if is_jetpack_6 else BOARDS[name]


def _family(name: str) -> str:
    """Return the family of a board: 'orin' of 'agx_orin', 'nano' of 'nano'."""
    return next((family for family in ('orin', 'xavier') if family in name), name)


def _member(family: str, conf: Conf) -> str:
    """Return the board of a family that matches the cores and caps."""
    cores = core_count(conf)
    if family == 'xavier':
        return 'xavier_nx' if cores <= 6 else 'agx_xavier'
    if family != 'orin':
        return family
    if cores > 8:
        return 'agx_orin'
    caps = [_number(mode.value('MAX_FREQ', 'GPU')) for mode in conf.modes]
    return 'orin_nano' if cores <= 6 and max(caps) <= _FASTEST_ORIN_NANO_HZ else 'orin_nx'


def core_count(conf: Conf) -> int:
    """Return the number of cores in the file."""
    cores = [int(match[1]) for _, argument in conf.arguments
             if (match := _CORE.fullmatch(argument))]
    count = max(cores, default=0) + 1
    if count > MOST_CORES:
        raise PowerCommandError(f'expected at most {MOST_CORES} cores, found CORE_{count - 1}')
    return count


def _on_jetpack_6(board: BoardDefinition) -> BoardDefinition:
    """Return a board of the Orin family with the kernel's files of JetPack 6."""
    newer = BOARDS['orin_nano_super']
    if board.grammar != 'jp5':
        return board
    if board.name == 'orin_nano':
        return newer
    clock = newer.gpu.clocks[0]._replace(table_hz=board.gpu.clocks[0].table_hz)
    return board._replace(
        l4t=newer.l4t, grammar=newer.grammar,
        gpu=newer.gpu._replace(clocks=(clock,), fbp_mask=board.gpu.fbp_mask),
        emc=board.emc._replace(cap_file=newer.emc.cap_file),
        thermal=board.thermal._replace(zones=newer.thermal.zones))


def _with_modes(board: BoardDefinition, conf: Conf, file_name: str) -> BoardDefinition:
    count = core_count(conf)
    if count == 1:  # none is listed
        count = board.cpu.core_count
    leaders = tuple(leader for leader in board.cpu.leaders if leader < count)
    top_hz = max([_number(mode.value('MAX_FREQ', 'GPU')) for mode in conf.modes])
    default = conf.default if conf.mode(conf.default) else conf.modes[0].mode_id
    return board._replace(
        conf_name=file_name, fan_profile=conf.fan if board.fan == 'pwm-fan' else None,
        cpu=board.cpu._replace(core_count=count, leaders=leaders),
        gpu=board.gpu._replace(clocks=(
            _reaching(board.gpu.clocks[0], top_hz), *board.gpu.clocks[1:])),
        modes=tuple(_mode(mode, count) for mode in conf.modes), default_mode=default,
        extra_caps=())


def _reaching(clock: ClockDefinition, top_hz: int) -> ClockDefinition:
    """Return the clock with a table that goes up to the highest cap of the modes."""
    top_hz = min(top_hz, HIGHEST_HZ)
    if top_hz <= clock.table_hz[-1]:
        return clock
    step_hz = clock.table_hz[-1] - clock.table_hz[-2]
    return clock._replace(table_hz=(*clock.table_hz[:-1], *steps(
        clock.table_hz[-1], top_hz, step_hz)))


def _mode(mode: ConfMode, count: int) -> ModeDefinition:
    switched = {int(match[1]): value != '0' for _, argument, value in mode.settings
                if (match := _CORE.fullmatch(argument))}
    off = tuple(core for core in range(1, count) if not switched.get(core, True))
    mask = mode.value('TPC_PG_MASK')
    return ModeDefinition(
        mode.mode_id, mode.name, count - len(off), _number(mode.value('MAX_FREQ', 'CPU')),
        _number(mode.value('MAX_FREQ', 'GPU')), _number(mode.value('MAX_FREQ', 'EMC')),
        None if mask is None else _number(mask), off)


def _number(text: str | None) -> int:
    try:
        return int(text or '-1', 0)
    except ValueError:
        return -1
