"""ShadowTally: compares a new model with the serving one on the same frames."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.bank.class_map import ClassMap
from yolov7_trt_ros.core.detections import class_name, Detections
from yolov7_trt_ros.errors import InferenceError
from yolov7_trt_ros.report.compare.detection_match import (
    class_differences,
    match_detections,
    SurePairs,
)
from yolov7_trt_ros.report.compare.result import Difference
from yolov7_trt_ros.report.compare.score_counts import Distribution

MATCH_IOU = 0.5
"""Least overlap of partners: the default of `compare`."""

_SURE_ABOVE = 1 / 8
_TIMED_FRAMES = 1000
_SHOWN_CLASSES = 3
_QUICK_PERCENT = 10


@dataclasses.dataclass(frozen=True, eq=False)
class FrameComparison:
    """
    What differs in one frame, or one batch of frames, and how long both models took for it.

    Attributes
    ----------
    differences
        By class name.
    drift
        (n,) how far the scores of partners are from each other, 0..1.
    served_ns, candidate_ns
        Of the model that serves, and of the other one.
    frames
        How many there are.

    """

    differences: Mapping[str, Difference]
    drift: NDArray[np.float32]
    served_ns: int
    candidate_ns: int
    frames: int = 1


def sure_score(score_threshold: float) -> float:
    """
    Return the score from which a detection must have a partner.

    It is above the threshold of both models, because otherwise a score that crosses the threshold
    would count as a missed detection.

    """
    return score_threshold + (1 - score_threshold) * _SURE_ABOVE


def compare(
    served: Sequence[Detections],
    found: Sequence[Detections],
    classes: ClassMap,
    score_threshold: float,
    *,
    served_ns: int,
    candidate_ns: int,
) -> FrameComparison:
    """
    Compare the detections of two models in the same frames, as the verb `compare` does.

    Parameters
    ----------
    served, found
        Of the model that serves, and of the other one.
    classes
        Their class names.
    score_threshold
        That both ran with.
    served_ns, candidate_ns
        What both took.

    Raises
    ------
    InferenceError
        A detection of the other model has a score that is none, or an impossible box.

    """
    for detections in found:
        _check_values(detections)
    least = sure_score(score_threshold)
    differences: collections.defaultdict[str, Difference] = collections.defaultdict(Difference)
    drift = [np.empty(0, np.float32)]
    for left, right in zip(served, found, strict=True):
        reference, new = classes.of_former(left), classes.of_new(right)
        match = match_detections(reference, new, min_iou=MATCH_IOU, sure_score=least)
        pairs = SurePairs.of(reference, new, match, least)
        drift.append(np.abs(pairs.drift))
        for number, each in class_differences(reference, new, match, pairs, least).items():
            differences[class_name(classes.former, number)] += each
    return FrameComparison(
        dict(differences), np.concatenate(drift), served_ns, candidate_ns, len(served)
    )


def _check_values(found: Detections) -> None:
    """Refuse what no engine may give, and nothing here could count."""
    scores, boxes = found.scores, found.boxes_xyxy
    good = (scores >= 0) & (scores <= 1)  # written so that NaN fails
    good &= np.isfinite(boxes).all(axis=1) & (boxes[:, :2] <= boxes[:, 2:]).all(axis=1)
    if not good.all():
        wrong = int(np.flatnonzero(~good)[0])
        raise InferenceError(
            f'a detection has the score {scores[wrong]:g} and the box '
            f'{", ".join(f"{value:g}" for value in boxes[wrong])}: expected a score within 0..1, '
            'and left, top, right, bottom'
        )


class ShadowTally:
    """Adds comparisons up, in bounded memory."""

    def __init__(self) -> None:
        self.frames = 0
        self._classes: collections.defaultdict[str, Difference] = (
            collections.defaultdict(Difference)
        )
        self._drift = Distribution()
        self._times_ns: collections.deque[tuple[int, int]] = (
            collections.deque(maxlen=_TIMED_FRAMES)
        )

    def add(self, comparison: FrameComparison) -> None:
        """Add one."""
        self.frames += comparison.frames
        for name, difference in comparison.differences.items():
            self._classes[name] += difference
        self._drift.add(comparison.drift)
        self._times_ns.append((comparison.served_ns, comparison.candidate_ns))

    @property
    def total(self) -> Difference:
        """Return matched, missed and new detections of all classes."""
        return sum(self._classes.values(), Difference())

    @property
    def detections(self) -> int:
        """Return the number of detections that the agreement is based on."""
        total = self.total
        return total.matched + total.missed + total.new

    @property
    def agreement(self) -> float:
        """Return the matched part of these, 0..1."""
        return self.total.matched_share

    @property
    def drift_p95(self) -> float:
        """Return how far 95 % of the matched scores have moved at most."""
        return self._drift.percentile(95)

    @property
    def latency_ratio(self) -> float:
        """
        Return the time of the new model relative to the serving one, 0 without frames.

        Both count with their fastest tenth: frames served at the same time slow down the new
        model, which does not serve yet.

        """
        if not self._times_ns:
            return 0.0
        served_ns, candidate_ns = np.percentile(self._times_ns, _QUICK_PERCENT, axis=0)
        return float(candidate_ns / max(1.0, served_ns))

    def worst_classes(self) -> str:
        """Return the classes that differ most: `person (missed 12, new 0)`, '' for none."""
        differing = sorted(
            ((each.missed + each.new, name) for name, each in self._classes.items()), reverse=True
        )
        return ', '.join(
            f'{name} (missed {self._classes[name].missed}, new {self._classes[name].new})'
            for count, name in differing[:_SHOWN_CLASSES] if count
        )
