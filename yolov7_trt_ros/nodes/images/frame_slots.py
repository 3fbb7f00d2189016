"""FrameSlots: hand the latest frame of each topic to one worker; drop older ones."""

from __future__ import annotations

import collections
from collections.abc import Callable
import dataclasses
import threading
import time
from typing import Generic, TypeVar

from yolov7_trt_ros.core.units import NS_PER_S

T = TypeVar('T')

_NEWEST = 0.25
"""Weight of the newest gap in the running mean of the gaps between frames of a topic."""


@dataclasses.dataclass
class Arrivals:
    """Arrival times of the frames of a topic, in monotonic nanoseconds."""

    last_ns: int
    gap_ns: int | None = None

    def note(self, now_ns: int, missed: int = 0) -> None:
        """Note a frame, and how many frames came since the last noted one."""
        gap_ns = (now_ns - self.last_ns) // (missed + 1)
        known = self.gap_ns
        self.gap_ns = gap_ns if known is None else int(known + _NEWEST * (gap_ns - known))
        self.last_ns = now_ns

    def is_due(self, now_ns: int, until_ns: int) -> bool:
        """Whether the next frame is expected before `until_ns`; not if the topic is overdue."""
        if self.gap_ns is None or now_ns - self.last_ns > 2 * self.gap_ns:
            return False
        return self.last_ns + self.gap_ns < until_ns


class FrameSlots(Generic[T]):
    """
    One slot of depth one per topic, and a fair order among topics.

    The topic whose frame has waited longest is served first; replacing a waiting frame keeps its
    place in the line, so a fast camera cannot starve a slow one.

    Parameters
    ----------
    clock
        Monotonic nanoseconds.

    """

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._condition = threading.Condition()
        self._waiting: collections.OrderedDict[str, tuple[int, T]] = collections.OrderedDict()
        self._arrivals: dict[str, Arrivals] = {}
        self._closed = False

    def put(self, topic: str, frame: T) -> bool:
        """Store a frame; return whether it replaced one that was not taken."""
        now_ns = self._clock()
        with self._condition:
            if topic in self._arrivals:
                self._arrivals[topic].note(now_ns)
            else:
                self._arrivals[topic] = Arrivals(now_ns)
            replaced = topic in self._waiting
            since_ns = self._waiting[topic][0] if replaced else now_ns
            self._waiting[topic] = (since_ns, frame)
            self._condition.notify()
            return replaced

    def take(
        self, most: int = 1, wait_ns: int = 0, until: Callable[[], bool] = lambda: False
    ) -> list[tuple[str, T]]:
        """
        Wait for frames and return them as (topic, frame), the one that waited longest first.

        Parameters
        ----------
        most
            Maximum number of frames, each of another topic.
        wait_ns
            How long the first of them may wait for others. It waits only while a frame of
            another topic is due within that time, so a dead or slow camera delays nobody.
        until
            Stops waiting when this returns True; it is called first, and after each `wake`.

        Returns
        -------
        list of tuple
            Empty once closed, or if `until` returned True.

        """
        with self._condition:
            while not self._closed and not until():
                pause_ns = self._pause_ns(most, wait_ns)
                if pause_ns == 0:
                    return self._pop(most)
                self._condition.wait(None if pause_ns is None else pause_ns / NS_PER_S)
            return []

    def wake(self) -> None:
        """Make a waiting `take` check again; from any thread."""
        with self._condition:
            self._condition.notify_all()

    def take_waiting(self, most: int = 1) -> list[tuple[str, T]]:
        """Return waiting frames without blocking, as `take` does."""
        with self._condition:
            return self._pop(most)

    def _pop(self, most: int) -> list[tuple[str, T]]:
        count = min(most, len(self._waiting))
        taken = [self._waiting.popitem(last=False) for _ in range(count)]
        return [(topic, frame) for topic, (_, frame) in taken]

    def has_waiting(self) -> bool:
        """Whether a frame waits to be taken."""
        with self._condition:
            return bool(self._waiting)

    def forget(self, topic: str) -> list[T]:
        """Forget a topic; return its waiting frame, which is dropped, if there was one."""
        with self._condition:
            self._arrivals.pop(topic, None)
            _, *frames = self._waiting.pop(topic, (0,))
            return frames

    def close(self) -> list[T]:
        """Wake the worker for good; return the waiting frames, which are dropped."""
        with self._condition:
            self._closed = True
            dropped = [frame for _, frame in self._waiting.values()]
            self._waiting.clear()
            self._condition.notify_all()
            return dropped

    def _pause_ns(self, most: int, wait_ns: int) -> int | None:
        """Return how long to wait before taking: 0 for not at all, None until a frame comes."""
        if not self._waiting:
            return None
        if len(self._waiting) >= most or wait_ns <= 0:
            return 0
        now_ns = self._clock()
        since_ns, _ = next(iter(self._waiting.values()))
        until_ns = since_ns + wait_ns
        absent = (each for topic, each in self._arrivals.items() if topic not in self._waiting)
        if any(each.is_due(now_ns, until_ns) for each in absent):
            return max(0, until_ns - now_ns)
        return 0
