"""The result of a comparison of two recordings, as plain values."""

from __future__ import annotations

import dataclasses
from typing import Any

from yolov7_trt_ros.core.detections import Detections

WORST_FRAMES = 10
"""How many frames a result lists."""


@dataclasses.dataclass(frozen=True)
class Difference:
    """
    What differs in a frame, a class or a whole recording.

    Attributes
    ----------
    matched
        Pairs of partners of which at least one is sure.
    missed
        Sure detections of the reference without a partner.
    new
        Sure detections without a partner in the reference.

    """

    matched: int = 0
    missed: int = 0
    new: int = 0

    def __add__(self, other: Difference) -> Difference:
        """Return the sum."""
        return Difference(
            self.matched + other.matched, self.missed + other.missed, self.new + other.new
        )

    @property
    def matched_share(self) -> float:
        """Return the matched share of all, 0..1; 1 if there is none."""
        total = self.matched + self.missed + self.new
        return self.matched / total if total else 1.0


@dataclasses.dataclass(frozen=True)
class FrameDifference:
    """
    A frame to look at; `largest_drift` and `least_iou` are 0 and 1 without partners.

    Its detections of both recordings are kept, to be drawn.

    """

    topic: str
    stamp_ns: int
    difference: Difference
    largest_drift: float
    least_iou: float
    reference: Detections = dataclasses.field(repr=False, compare=False)
    found: Detections = dataclasses.field(repr=False, compare=False)

    @property
    def rank(self) -> tuple[float, ...]:
        """Return what orders frames, worst first: lost and new ones, then drift, then overlap."""
        lost = self.difference.missed + self.difference.new
        return (-lost, -self.largest_drift, self.least_iou, self.stamp_ns)


@dataclasses.dataclass(frozen=True)
class ClassDifference:
    """One class; `ap50` is None where the reference has no sure detection of it."""

    name: str
    reference: int
    difference: Difference
    mean_drift: float
    ap50: float | None


@dataclasses.dataclass(frozen=True)
class LoneFrames:
    """Frames that the other recording does not have: how many, topic and stamp of the first."""

    count: int = 0
    first: tuple[tuple[str, int], ...] = ()

    def plus(self, topic: str, stamp_ns: int) -> LoneFrames:
        """Return these and one more."""
        first = self.first
        if len(first) < WORST_FRAMES:
            first = (*first, (topic, stamp_ns))
        return LoneFrames(self.count + 1, first)


@dataclasses.dataclass(frozen=True)
class FrameCounts:
    """Frames compared, and those that only one recording has."""

    compared: int
    only_in_reference: LoneFrames
    only_in_new: LoneFrames

    @property
    def share(self) -> float:
        """Return the compared share of the reference's frames, 0..1; 1 if it has none."""
        total = self.compared + self.only_in_reference.count
        return self.compared / total if total else 1.0

    def as_record(self) -> dict[str, Any]:
        """Return everything as a JSON-ready dict."""
        record: dict[str, Any] = {'compared': self.compared, 'share': self.share}
        for name in ('only_in_reference', 'only_in_new'):
            lone: LoneFrames = getattr(self, name)
            record[name] = lone.count
            record[f'first_{name}'] = [
                {'topic': topic, 'stamp_ns': stamp_ns} for topic, stamp_ns in lone.first
            ]
        return record


@dataclasses.dataclass(frozen=True)
class DriftSummary:
    """Of |score of the new one - score of the reference| over the matched; `bias` has its sign."""

    mean: float
    p95: float
    largest: float
    bias: float

    def as_record(self) -> dict[str, float]:
        """Return the summary as a JSON-ready dict; the largest is its `max`."""
        return {'mean': self.mean, 'p95': self.p95, 'max': self.largest, 'bias': self.bias}


@dataclasses.dataclass(frozen=True)
class IouSummary:
    """Of the overlaps of the matched: `p5` is what 95 % of them reach."""

    mean: float
    p5: float
    p95: float
    least: float

    def as_record(self) -> dict[str, float]:
        """Return the summary as a JSON-ready dict; the least is its `min`."""
        return {'mean': self.mean, 'p5': self.p5, 'p95': self.p95, 'min': self.least}


@dataclasses.dataclass(frozen=True)
class ComparisonResult:
    """
    The result of `RunComparison`.

    Attributes
    ----------
    frames, total
        Counts.
    iou, drift
        Over all matched detections; None without any.
    ap50
        Average precision at IoU 0.5 with the reference's sure detections as labels, mean over its
        classes; without any, 1 if nothing sure was found and 0 if something was.
    classes
        Those of matched, missed and new detections, by name.
    worst
        The frames that differ most, worst first; frames without a difference are not among them.
    drift_histogram
        Matched detections by drift, in equal parts of 0..1.

    """

    frames: FrameCounts
    total: Difference
    iou: IouSummary | None
    drift: DriftSummary | None
    ap50: float
    classes: tuple[ClassDifference, ...]
    worst: tuple[FrameDifference, ...]
    drift_histogram: tuple[int, ...]

    @property
    def has_detections(self) -> bool:
        """Whether any detection needed a partner."""
        return self.total != Difference()

    def as_record(self) -> dict[str, Any]:
        """Return everything as a JSON-ready dict."""
        return {
            'frames': self.frames.as_record(),
            'detections': _difference_record(self.total),
            'iou': self.iou and self.iou.as_record(),
            'score_drift': self.drift and self.drift.as_record(),
            'ap50': self.ap50,
            'per_class': {
                each.name: {'ap50': each.ap50, 'reference': each.reference,
                            **_difference_record(each.difference), 'mean_drift': each.mean_drift}
                for each in self.classes
            },
            'worst_frames': [
                {'topic': each.topic, 'stamp_ns': each.stamp_ns,
                 **dataclasses.asdict(each.difference),
                 'largest_drift': each.largest_drift, 'least_iou': each.least_iou}
                for each in self.worst
            ],
            'drift_histogram': list(self.drift_histogram),
        }


def _difference_record(difference: Difference) -> dict[str, Any]:
    return dataclasses.asdict(difference) | {'matched_share': difference.matched_share}
