"""Progress line of a command over many recordings, with its rate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import sys
import time
from typing import Any

_EVERY_S = {True: 0.2, False: 10.0}
"""Seconds between two lines, on a terminal and elsewhere."""


@contextlib.contextmanager
def fleet_progress(
    total: int, label: str, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """
    Yield a function to call with the result of each task; it prints progress on stderr.

    Parameters
    ----------
    total
        Number of tasks; nothing is printed for 0.
    label
        Name of the tasks.
    clock
        Returns seconds.

    """
    on_terminal = sys.stderr.isatty()
    start = last = clock()
    done = failed = frames = 0

    def advance(result: dict[str, Any]) -> None:
        nonlocal done, failed, frames, last
        done += 1
        failed += 'error' in result
        frames += _frames(result)
        now = clock()
        if total and (now - last >= _EVERY_S[on_terminal] or done == total):
            last = now
            _show(progress_text(done, failed, frames, total, label, now - start), on_terminal)

    try:
        yield advance
    finally:
        if on_terminal and total:
            print(file=sys.stderr)


def progress_text(
    done: int, failed: int, frames: int, total: int, label: str, elapsed_s: float
) -> str:
    """Return the progress line: number done, rates, elapsed and remaining time."""
    per_s = done / elapsed_s if elapsed_s > 0 else 0.0
    parts = [f'{done} of {total} {label}' + (f' ({failed} failed)' if failed else '')]
    if per_s:
        parts.append(f'{per_s:.2f}/s')
        if frames:
            parts.append(f'{frames / elapsed_s:.1f} frames/s')
        parts.append(f'{elapsed_s:.0f} s so far, {(total - done) / per_s:.0f} s to go')
    return ', '.join(parts)


def _frames(result: dict[str, Any]) -> int:
    found = result.get('frames', 0)
    if isinstance(found, dict):  # of a comparison
        found = found['compared']
    return found if isinstance(found, int) else len(found)


def _show(text: str, on_terminal: bool) -> None:
    end = '' if on_terminal else '\n'
    print(f'\r\033[K{text}' if on_terminal else f'yolov7_trt: {text}', file=sys.stderr, end=end,
          flush=True)
