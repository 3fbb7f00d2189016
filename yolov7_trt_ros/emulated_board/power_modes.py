"""The power mode of an emulated board: read the stored one, apply another."""

from __future__ import annotations

from pathlib import Path

from yolov7_trt_ros.emulated_board.boards.board_definition import BoardDefinition
from yolov7_trt_ros.emulated_board.conf_board import board_of
from yolov7_trt_ros.emulated_board.conf_reader import Conf, ConfMode, read_conf
from yolov7_trt_ros.emulated_board.state import load_state
from yolov7_trt_ros.emulated_board.tree import read_text, write_text, write_value

STATUS_FILE = 'var/lib/nvpmodel/status'
CONF_FILE = '/etc/nvpmodel.conf'


def current_mode(root: Path) -> tuple[int, str]:
    """Return id and name of the mode in the status file."""
    conf = read_conf((root / CONF_FILE.lstrip('/')).read_text(encoding='utf-8'))
    mode_id = stored_mode(root, conf)
    mode = conf.mode(mode_id)
    return mode_id, mode.name if mode is not None else '?'


def apply_mode(root: Path, mode_id: int) -> None:
    """Set a mode without questions, as at boot."""
    conf = read_conf((root / CONF_FILE.lstrip('/')).read_text(encoding='utf-8'))
    mode = conf.mode(mode_id)
    if mode is not None:
        write_settings(root, conf, mode)
        write_text(root, STATUS_FILE, f'pmode:{mode_id:04d}\n')


def stored_mode(root: Path, conf: Conf) -> int:
    """Return the id in the status file; the default of the configuration without one."""
    digits = read_text(root, STATUS_FILE).rpartition(':')[2]
    return int(digits) if digits.isdecimal() else conf.default


def write_settings(root: Path, conf: Conf, mode: ConfMode) -> None:
    """Write all values of a mode in the order of the file; minima come before maxima there."""
    board = board_of(root, load_state(root))
    for param, argument, value in mode.settings:
        item = conf.find_argument(root, param, argument)
        if item is not None:
            no_cap = item.kind == 'CLOCK' and value == '-1'
            write_value(root, item.file, int_max(board) if no_cap else value)


def int_max(board: BoardDefinition) -> int:
    """Return the number that a release writes for a clock without a cap."""
    return (1 << 63) - 1 if board.l4t[0] >= 36 else (1 << 31) - 1
