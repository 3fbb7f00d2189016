"""
End this process when its parent ends, even if the parent was killed.

`ros2 launch` passes only SIGINT on to its nodes. A process that starts a node which shall not
outlive it adds `ends_with_this_process()` to the node's environment; the node watches that process
with `end_with_starter`. It polls /proc instead of requesting a signal (PR_SET_PDEATHSIG): that
signal comes when the starting thread ends, not the process, and never if a shell or debugger is
between the two.

"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
import contextlib
import os
from pathlib import Path
import re
import signal
import threading
import time

from yolov7_trt_ros.errors import SettingError

ENDS_WITH = 'YOLOV7_TRT_ROS_ENDS_WITH'
"""Environment variable: `<process id>:<its start, in clock ticks since boot>`."""
PATIENCE_S = 180.0
"""Between SIGTERM and SIGKILL, as in power.launch.py; no other node needs that long."""

_POLL_S = 0.5
_STATE, _START = 0, 19  # in /proc/<pid>/stat, counted from behind the name
_ENDED = (b'Z', b'X')


def ends_with_this_process() -> dict[str, str]:
    """Return the variable that makes a process of ours end when this one has."""
    pid = os.getpid()
    _, start = _read_stat(pid)
    return {ENDS_WITH: f'{pid}:{start}'}


def end_with_starter(
    environment: MutableMapping[str, str], report: Callable[[str], object], *,
    patience_s: float = PATIENCE_S,
) -> None:
    """
    Watch the process named in the environment, if any, in a thread.

    When that has ended, this process gets SIGTERM, and later SIGKILL if it still runs.

    Parameters
    ----------
    environment
        As of os.environ. The variable is removed from it: processes that this one starts, such as
        another command of this package, do not end with what started this one.
    report
        Called in that thread with the reason why this process ends.
    patience_s
        Between the two signals.

    Raises
    ------
    SettingError
        The variable has another value.

    """
    text = environment.pop(ENDS_WITH, '')
    if not text:
        return
    found = re.fullmatch(r'([1-9][0-9]{0,6}):([0-9]{1,20})', text, re.ASCII)
    if found is None:
        raise SettingError(
            f'{ENDS_WITH} must be <process id>:<start>, as launch files of this package set it, '
            f'got {text[:40]!r}; unset it to let the node live on by itself'
        )
    threading.Thread(
        target=_watch, args=(int(found[1]), int(found[2]), report, patience_s),
        name='parent_process', daemon=True,
    ).start()


def _watch(pid: int, start: int, report: Callable[[str], object], patience_s: float) -> None:
    while _is_there(pid, start):
        time.sleep(_POLL_S)
    with contextlib.suppress(OSError):  # a pipe that nobody reads any more
        report(f'process {pid}, which started this one, has ended: ending too')
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(patience_s)
    with contextlib.suppress(OSError):
        report(f'not at its end {patience_s:g} s after SIGTERM: killed')
    os.kill(os.getpid(), signal.SIGKILL)


def _is_there(pid: int, start: int) -> bool:
    """Whether that process still lives, and its id was not reused."""
    try:
        state, found = _read_stat(pid)
    except OSError:  # gone, or hidden from this user (hidepid), or no file can be opened here
        return _has_process(pid)
    return found == start and state not in _ENDED


def _has_process(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _read_stat(pid: int) -> tuple[bytes, int]:
    """Return state and start of a process."""
    fields = Path(f'/proc/{pid}/stat').read_bytes().rpartition(b')')[2].split()
    return fields[_STATE], int(fields[_START])
