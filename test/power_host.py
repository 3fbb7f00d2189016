"""A power service on an emulated board, as a container's host has it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
import os
from pathlib import Path
import threading
from typing import Any

from yolov7_trt_ros.emulated_board.board import EmulatedBoard
from yolov7_trt_ros.emulated_board.machine import board_host
from yolov7_trt_ros.power.root.commands import CommandResult, SystemRunner
from yolov7_trt_ros.power.service.power_service import PowerService
from yolov7_trt_ros.power.service.remote_control import RemoteControl
from yolov7_trt_ros.power.service.socket_files import open_listener
from yolov7_trt_ros.power.service.verbs import Grants

TOOL_LIMIT_S = 600.0
"""Time limit of the board's tools in tests: the speed of the machine must not matter."""

# A service in a process of its own, on a board whose folder is given.
SERVE = """
import sys
from pathlib import Path
from yolov7_trt_ros.cli.power.serve import serve
from yolov7_trt_ros.emulated_board.board import EmulatedBoard
from yolov7_trt_ros.emulated_board.boards.catalogue import find_board
from yolov7_trt_ros.emulated_board.machine import board_host
from yolov7_trt_ros.power.service.verbs import Grants
board = EmulatedBoard(find_board('orin_nano_super'), Path(sys.argv[1]))
serve(board_host(board), Path(sys.argv[2]), None, Grants(), timeout_s=600.0)
"""


class Log(list[str]):
    """Lines of a service; one of them can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self._came = threading.Condition()

    def add(self, line: str) -> None:
        with self._came:
            self.append(line)
            self._came.notify_all()

    def wait_for(self, text: str) -> str:
        def find() -> str:
            return next((line for line in self if text in line), '')

        with self._came:
            assert self._came.wait_for(find, TOOL_LIMIT_S), f'{text!r} is not in {list(self)}'
            return find()


class PatientRunner(SystemRunner):
    """A runner that gives tools the time limit of the tests where none is asked for."""

    def run(
        self, command: Sequence[str], *, as_root: bool = False, input_text: str | None = None,
        timeout_s: float = TOOL_LIMIT_S,
    ) -> CommandResult:
        return super().run(
            command, as_root=as_root, input_text=input_text, timeout_s=timeout_s
        )


def client_of(path: Path, **options: Any) -> RemoteControl:
    """Return a client of a service, with the time limit of the tests."""
    return RemoteControl(path, **{'timeout_s': TOOL_LIMIT_S, **options})


@contextmanager
def serving(
    board: EmulatedBoard, path: Path, *, group: int | None = None, grants: Grants | None = None,
    line_timeout_s: float = 5.0,
) -> Iterator[Log]:
    """Serve in threads of this process, and end as the command does."""
    log = Log()
    host = board_host(board)
    service = PowerService(
        host.root, host.runner, grants or Grants(), log.add, line_timeout_s=line_timeout_s,
        timeout_s=TOOL_LIMIT_S,
    )
    with open_listener(path, group, {**os.environ, 'LISTEN_PID': ''}) as listener:
        service.put_back_left()
        thread = threading.Thread(target=service.run, args=(listener,))
        thread.start()
        try:
            yield log
        finally:
            service.stop()
            thread.join()
    service.close()
