"""`power serve`: change the power settings of this host for programs in containers."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import os
from pathlib import Path
import signal
import types

from yolov7_trt_ros.cli.output import say
from yolov7_trt_ros.errors import PowerPermissionError
from yolov7_trt_ros.power.defaults import COMMAND_TIMEOUT_S
from yolov7_trt_ros.power.machine import PowerHost
from yolov7_trt_ros.power.service.power_service import PowerService
from yolov7_trt_ros.power.service.socket_files import group_id, open_listener
from yolov7_trt_ros.power.service.verbs import Grants

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def serve(
    host: PowerHost, path: Path, group: str | None, grants: Grants,
    timeout_s: float = COMMAND_TIMEOUT_S,
) -> None:
    """
    Serve until SIGINT, SIGTERM or SIGHUP, and restore the changes of clients.

    Parameters
    ----------
    host
        This machine, or an emulated board.
    path
        Path of the socket.
    group
        Name or number of the group that may use it; None: root only.
    grants
        Requests that are allowed in addition to the basic ones.
    timeout_s
        Time limit of one tool, for changes left by an earlier process; clients have their own.

    Raises
    ------
    PowerError
        It cannot listen there.

    """
    if not host.is_emulated and not host.runner.is_root:
        raise PowerPermissionError(
            'the power service changes the board for others, so it has to run as root'
        )
    group_number = None if group is None else group_id(group)
    service = PowerService(host.root, host.runner, grants, say, timeout_s=timeout_s)
    try:
        with (
            open_listener(path.absolute(), group_number, os.environ) as listener,
            _ended_by_signals(service),
        ):
            service.put_back_left()
            who = 'root' if listener.group is None else f'root and group {listener.group}'
            say(f'listening at {listener.path} for {who}')
            service.run(listener)
    finally:
        service.close()


@contextlib.contextmanager
def _ended_by_signals(service: PowerService) -> Iterator[None]:
    """Let a signal end the service; further ones do not interrupt its restoring."""
    def stop(_number: int, _frame: types.FrameType | None) -> None:
        service.stop()

    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
