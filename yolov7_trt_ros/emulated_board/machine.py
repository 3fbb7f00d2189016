"""EmulatedHost: an emulated board as the machine whose power is read and changed."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import ClassVar

from yolov7_trt_ros.emulated_board.board import create_board, EmulatedBoard
from yolov7_trt_ros.emulated_board.boards.catalogue import BOARDS
from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.power.machine import PowerHost
from yolov7_trt_ros.power.root.commands import SystemRunner, TOOL_FOLDERS

GPU_LOAD, CPU_LOAD = 0.6, 0.3
"""Load of a board that `emulate_host` makes, 0 to 1."""

_PERIOD_S = 0.2
_WARM_UP_S = 60.0


@dataclasses.dataclass(frozen=True)
class EmulatedHost(PowerHost):
    """
    An emulated board that was made for this host, and is deleted with it.

    Attributes
    ----------
    board
        The board.

    """

    board: EmulatedBoard = dataclasses.field(kw_only=True)
    is_emulated: ClassVar[bool] = True

    def close(self) -> None:
        """Delete the board."""
        self.board.close()


def emulate_host(name: str) -> EmulatedHost:
    """
    Make an emulated board that runs at moderate load.

    Parameters
    ----------
    name
        Name of a board, or path of the nvpmodel.conf of one.

    Raises
    ------
    SettingError
        There is no such board; the message lists them.
    PowerError
        The file cannot be read, or is not that of a known board.

    """
    is_conf = name.endswith('.conf') or '/' in name
    if name not in BOARDS and not is_conf:
        raise SettingError(
            f'there is no emulated board {name!r}; choose one of {", ".join(BOARDS)}, '
            'or give the path of an nvpmodel.conf'
        )
    board = create_board(Path(name) if is_conf else name)
    board.set_load(gpu=GPU_LOAD, cpu=CPU_LOAD)
    board.step(_WARM_UP_S)
    board.start(_PERIOD_S)
    return EmulatedHost(board.root, _board_runner(board), board.env, board=board)


def board_host(board: EmulatedBoard) -> PowerHost:
    """Return an emulated board as a host; the caller deletes the board."""
    return PowerHost(board.root, _board_runner(board), board.env)


def _board_runner(board: EmulatedBoard) -> SystemRunner:
    return SystemRunner(
        os.pathsep.join((str(board.tools), TOOL_FOLDERS)),
        environment=board.env,
        is_root=board.state['as_root'],
    )
