"""AnswerWatch: detect an engine that hangs, by comparison with its earlier run times."""

from __future__ import annotations

from collections.abc import Callable
import time

from yolov7_trt_ros.bank.team.engine_schedule import hang_limit_ns
from yolov7_trt_ros.core.units import NS_PER_S


class AnswerWatch:
    """
    Notes each request to an engine and its answer, in one thread; readable in any other.

    Parameters
    ----------
    clock
        Monotonic nanoseconds.

    """

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._asked_ns: int | None = None
        self._longest_ns: int | None = None

    def ask(self) -> None:
        """Note a request to an engine."""
        self._asked_ns = self._clock()

    def answer(self) -> None:
        """Note its answer or failure."""
        asked_ns, self._asked_ns = self._asked_ns, None
        if asked_ns is not None:
            self._longest_ns = max(self._longest_ns or 0, self._clock() - asked_ns)

    def text(self) -> str:
        """Return a warning that the engine does not answer, '' if it does."""
        asked_ns, longest_ns = self._asked_ns, self._longest_ns
        waited_ns = 0 if asked_ns is None else self._clock() - asked_ns
        if waited_ns <= hang_limit_ns(longest_ns):
            return ''
        before = '' if longest_ns is None else f', it took {longest_ns / NS_PER_S:.2f} s at most'
        return (
            f'the engine has not answered for {waited_ns / NS_PER_S:.0f} s{before}: nothing '
            'is detected until it does; if it never does, restart the node'
        )
