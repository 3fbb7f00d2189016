"""Where power is read and changed: this machine, or an emulated board in its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import dataclasses
import os
from pathlib import Path
from types import ModuleType

from yolov7_trt_ros.emulated_board.board import create_board, EmulatedBoard
from yolov7_trt_ros.emulated_board.boards.catalogue import BOARDS
from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.power.nvml.library import load_nvml
from yolov7_trt_ros.power.root.commands import CommandRunner, SystemRunner, TOOL_FOLDERS
from yolov7_trt_ros.power.service.socket_files import find_socket

GPU_LOAD, CPU_LOAD = 0.6, 0.3
"""How busy a board is that `open_machine` makes."""

_PERIOD_S = 0.2
_WARM_UP_S = 60.0


@dataclasses.dataclass(frozen=True)
class Machine:
    """
    A machine to read and change.

    Attributes
    ----------
    root
        Folder of its files: `/`, or an emulated board's.
    runner
        Runs its tools.
    environment
        Variables for its tools besides this process's own.
    board
        The emulated board that was made for it, and goes with it; None without.
    nvml
        Returns the module pynvml, for a PC; None: there is none to be asked.
    power_socket
        Of the service of `yolov7_trt power serve`, where there is one: it makes the changes.

    """

    root: Path = Path('/')
    runner: CommandRunner = dataclasses.field(default_factory=SystemRunner)
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    board: EmulatedBoard | None = None
    nvml: Callable[[], ModuleType] | None = None
    power_socket: Path | None = None

    def close(self) -> None:
        """Remove the board made for it; nothing to do on a real machine."""
        if self.board is not None:
            self.board.close()


def open_machine(emulate: str = '') -> Machine:
    """
    Return this machine, or a moderately busy emulated board on which time passes.

    Parameters
    ----------
    emulate
        '', the name of a board, or the path of an nvpmodel.conf to make one from.

    Raises
    ------
    SettingError
        There is no such board; the message lists them.
    PowerError
        The file cannot be read, or is none of a known board.

    """
    if not emulate:
        return Machine(nvml=load_nvml, power_socket=find_socket(os.environ))
    is_conf = emulate.endswith('.conf') or '/' in emulate
    if emulate not in BOARDS and not is_conf:
        raise SettingError(
            f'there is no emulated board {emulate!r}; choose one of {", ".join(BOARDS)}, '
            'or give the path of an nvpmodel.conf'
        )
    board = create_board(Path(emulate) if is_conf else emulate)
    board.set_load(gpu=GPU_LOAD, cpu=CPU_LOAD)
    board.step(_WARM_UP_S)
    board.start(_PERIOD_S)
    return dataclasses.replace(board_machine(board), board=board)


def board_machine(board: EmulatedBoard) -> Machine:
    """Return the machine that an emulated board is; whoever made the board removes it."""
    runner = SystemRunner(
        os.pathsep.join((str(board.tools), TOOL_FOLDERS)),
        environment=board.env,
        is_root=board.state['as_root'],
    )
    return Machine(board.root, runner, board.env)
