"""AnswerWatch: whether an engine that was asked does not answer, by how long it took before."""

from __future__ import annotations

from collections.abc import Callable
import time

from yolov7_trt_ros.bank.team.engine_schedule import hang_limit_ns
from yolov7_trt_ros.core.units import NS_PER_S


class AnswerWatch:
    """
    Notes each question to an engine and its answer, by one thread; tells it in any other.

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
        """Note that an engine is asked now."""
        self._asked_ns = self._clock()

    def answer(self) -> None:
        """Note that it has answered, or failed."""
        asked_ns, self._asked_ns = self._asked_ns, None
        if asked_ns is not None:
            self._longest_ns = max(self._longest_ns or 0, self._clock() - asked_ns)

    def text(self) -> str:
        """Return that the engine does not answer, '' where that is not so."""
        asked_ns, longest_ns = self._asked_ns, self._longest_ns
        waited_ns = 0 if asked_ns is None else self._clock() - asked_ns
        if waited_ns <= hang_limit_ns(longest_ns):
            return ''
        before = '' if longest_ns is None else f', it took {longest_ns / NS_PER_S:.2f} s at most'
        return (
            f'the engine has not answered for {waited_ns / NS_PER_S:.0f} s{before}: no image is '
            'detected in until it does, and nothing but a restart of the node ends that'
        )
