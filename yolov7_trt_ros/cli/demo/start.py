"""Wait for the demo's detector, which may build a plan first on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import time
from typing import Any

from yolov7_trt_ros.errors import Yolov7TrtError

START_S = 60.0
_SAY_PERIOD_S = 5.0
_POLL_S = 0.05
_BUILDING = 'building a plan: '


def detector_status(record: dict[str, Any]) -> dict[str, str]:
    """Return the detector's last diagnostics in the recorder's line, with `message`."""
    status: dict[str, str] = record['diagnostics'].get('/detector: detector', {})
    return status


def build_progress(status: dict[str, str]) -> str:
    """Return such as `building a TensorRT plan: tactics 43 %, 95 s`, '' if none is built."""
    message = status.get('message', '')
    if not message.startswith(_BUILDING):
        return ''
    return f'building a TensorRT plan: {message.removeprefix(_BUILDING)}'


def _print(line: str) -> None:
    print(line, flush=True)


def wait_until_ready(
    latest: Callable[[], dict[str, Any]],
    ended: Callable[[], list[str]],
    log: Path,
    *,
    say: Callable[[str], None] = _print,
    clock_s: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """
    Return when the detector is active with its model; report the progress of a plan build.

    A build has no time limit; all else has `START_S`.

    Parameters
    ----------
    latest
        Returns the recorder's latest line.
    ended
        Returns the names of processes that ended unexpectedly.
    log
        Folder of the processes' logs.
    say
        Called with a progress line every few seconds while a plan is built.
    clock_s, sleep
        Used instead of those of `time`.

    Raises
    ------
    Yolov7TrtError
        The detector cannot start: its reason, or the file that has it.

    """
    deadline_s, say_at_s = clock_s() + START_S, clock_s()
    while not _is_ready(status := detector_status(latest())):
        error = status.get('last error', 'none')
        if error != 'none':
            raise Yolov7TrtError(error)
        if ended() or clock_s() > deadline_s:
            name = (ended() or ['detector'])[0]
            raise Yolov7TrtError(f'the {name} did not start; the reason is in {log / name}.txt')
        progress = build_progress(status)
        if progress:
            deadline_s = clock_s() + START_S
        if progress and clock_s() >= say_at_s:
            say(progress)
            say_at_s = clock_s() + _SAY_PERIOD_S
        sleep(_POLL_S)


def _is_ready(status: dict[str, str]) -> bool:
    return status.get('state') == 'active' and 'backend' in status
