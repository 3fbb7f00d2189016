"""EngineTimes: how long an engine needs for each kind of frame, learned from its runs."""

from __future__ import annotations

import collections
from collections.abc import Hashable, Iterable

_SAMPLES = 50
_MOST_KINDS = 32
LEAST_SAMPLES = 5
"""With fewer the time of a kind is unknown."""


class EngineTimes:
    """
    The latest times of each kind of frame; a kind is the number and the sizes of images.

    The first frame of a kind does not count: an engine may prepare itself then, for many times as
    long as a frame takes.

    The kinds unseen for longest are forgotten, so foreign images cannot fill the memory.

    """

    def __init__(self) -> None:
        self._kinds: collections.OrderedDict[Hashable, _Kind] = collections.OrderedDict()

    def add(self, kind: Hashable, took_ns: int) -> bool:
        """Note a frame; return whether it counts, for it is not the first of its kind."""
        known = self._kinds.get(kind)
        if known is None:
            self._kinds[kind] = _Kind()
        else:
            known.add(took_ns)
        self._kinds.move_to_end(kind)
        while len(self._kinds) > _MOST_KINDS:
            self._kinds.popitem(last=False)
        return known is not None

    def forget(self) -> None:
        """Know no time any more; what was prepared for a kind still is."""
        for kind in self._kinds:
            self._kinds[kind] = _Kind()

    def begin_anew(self) -> None:
        """Know nothing any more: another engine."""
        self._kinds.clear()

    def knows(self, kinds: Iterable[Hashable]) -> bool:
        """Whether each kind was seen often enough."""
        return all(self.typical_ns(kind) is not None for kind in kinds)

    def typical_ns(self, kind: Hashable) -> int | None:
        """Return the median of a kind, None if unknown."""
        known = self._kinds.get(kind)
        return None if known is None else known.typical_ns

    def high_ns(self, kind: Hashable) -> int | None:
        """Return the 95th percentile of a kind, None if unknown."""
        known = self._kinds.get(kind)
        return None if known is None else known.high_ns


class _Kind:
    """The newest times of one kind, and their quantiles once there are enough."""

    def __init__(self) -> None:
        self._samples: collections.deque[int] = collections.deque(maxlen=_SAMPLES)
        self.typical_ns: int | None = None
        self.high_ns: int | None = None

    def add(self, took_ns: int) -> None:
        self._samples.append(took_ns)
        if len(self._samples) >= LEAST_SAMPLES:
            ordered = sorted(self._samples)
            self.typical_ns = ordered[len(ordered) // 2]
            self.high_ns = ordered[int(0.95 * (len(ordered) - 1))]  # one of five may be late
