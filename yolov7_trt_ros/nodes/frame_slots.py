"""FrameSlots: hand the latest frame of each topic to one worker; older ones are dropped."""

from __future__ import annotations

import collections
import threading
from typing import Generic, TypeVar

T = TypeVar('T')


class FrameSlots(Generic[T]):
    """
    One slot of depth one per topic, and a fair order among topics.

    The topic whose frame has waited longest is served first; replacing a waiting frame keeps its
    place in the line, so a fast camera cannot starve a slow one.

    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._waiting: collections.OrderedDict[str, T] = collections.OrderedDict()
        self._closed = False

    def put(self, topic: str, frame: T) -> bool:
        """Store a frame; returns True when it replaced one that nobody had taken."""
        with self._condition:
            replaced = topic in self._waiting
            self._waiting[topic] = frame
            self._condition.notify()
            return replaced

    def take(self) -> tuple[str, T] | None:
        """Wait for a frame and return (topic, frame); None once closed."""
        with self._condition:
            while not self._waiting and not self._closed:
                self._condition.wait()
            return None if self._closed else self._waiting.popitem(last=False)

    def close(self) -> list[str]:
        """Wake the worker for good; returns the topics whose waiting frame was thrown away."""
        with self._condition:
            self._closed = True
            dropped = list(self._waiting)
            self._waiting.clear()
            self._condition.notify_all()
            return dropped
