"""Pair the frames of two recordings that have the same topic and stamp."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator
import dataclasses
from typing import Protocol

from yolov7_trt_ros.core.detections import Detections

MOST_WAITING = 2048
"""Frames of each recording that may wait for the other's; then the oldest is given up."""


class StampedDetections(Protocol):
    """A frame with topic and stamp."""

    @property
    def topic(self) -> str:
        """Where its detections were published."""
        raise NotImplementedError

    @property
    def stamp_ns(self) -> int:
        """Stamp of the image."""
        raise NotImplementedError

    @property
    def detections(self) -> Detections:
        """Return what was found in it."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class FramePair:
    """A frame of the reference and the same one of the other recording, None if missing."""

    topic: str
    stamp_ns: int
    reference: Detections | None
    found: Detections | None


class _Side:
    """One recording: the frames it has given and that wait, by topic and stamp."""

    def __init__(self, frames: Iterable[StampedDetections]) -> None:
        self._frames = iter(frames)
        self._order: collections.OrderedDict[
            tuple[str, int], collections.deque[Detections]
        ] = collections.OrderedDict()
        self.waiting = 0
        self.stamp_ns = -1
        self.ended = False

    def advance(self) -> StampedDetections | None:
        frame = next(self._frames, None)
        if frame is None:
            self.ended = True
        else:
            self.stamp_ns = frame.stamp_ns
        return frame

    def wait(self, frame: StampedDetections) -> None:
        key = (frame.topic, frame.stamp_ns)
        self._order.setdefault(key, collections.deque()).append(frame.detections)
        self.waiting += 1

    def take(self, key: tuple[str, int]) -> Detections | None:
        """Return the earliest frame of a topic and stamp, which then waits no longer."""
        frames = self._order.get(key)
        if frames is None:
            return None
        self.waiting -= 1
        found = frames.popleft()
        if not frames:
            del self._order[key]
        return found

    def give_up(self) -> tuple[tuple[str, int], Detections]:
        """Return the frame that has waited longest."""
        key = next(iter(self._order))
        found = self.take(key)
        assert found is not None
        return key, found


def pair_frames(
    reference: Iterable[StampedDetections],
    found: Iterable[StampedDetections],
    *,
    most_waiting: int = MOST_WAITING,
) -> Iterator[FramePair]:
    """
    Yield every frame of both, in pairs where topic and stamp are equal.

    Both are read side by side, always the one whose latest stamp is earlier, so that few frames
    have to wait. Frames of one topic and stamp are paired in their order.

    Parameters
    ----------
    reference, found
        In the order of recording.
    most_waiting
        Frames that may wait in each; one that is given up comes alone.

    """
    sides = (_Side(reference), _Side(found))
    while not (sides[0].ended and sides[1].ended):
        number = _next_side(sides)
        side, other = sides[number], sides[1 - number]
        frame = side.advance()
        if frame is None:
            continue
        partner = other.take((frame.topic, frame.stamp_ns))
        if partner is not None:
            yield _pair(number, (frame.topic, frame.stamp_ns), frame.detections, partner)
            continue
        side.wait(frame)
        if side.waiting > most_waiting:
            yield _pair(number, *side.give_up(), None)
    for number, side in enumerate(sides):
        while side.waiting:
            yield _pair(number, *side.give_up(), None)


def _next_side(sides: tuple[_Side, _Side]) -> int:
    if sides[0].ended or sides[1].ended:
        return int(sides[0].ended)
    return int(sides[1].stamp_ns < sides[0].stamp_ns)


def _pair(
    number: int, key: tuple[str, int], detections: Detections, partner: Detections | None
) -> FramePair:
    reference, found = (detections, partner) if number == 0 else (partner, detections)
    return FramePair(*key, reference, found)
