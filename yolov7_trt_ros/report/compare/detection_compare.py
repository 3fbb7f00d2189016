"""Compare the detections of a new engine with recorded ones, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from yolov7_trt_ros.core.detections import class_name, Detections
from yolov7_trt_ros.report.compare.detection_match import (
    class_differences,
    FrameMatch,
    match_detections,
    NONE,
    SurePairs,
)
from yolov7_trt_ros.report.compare.result import (
    ClassDifference,
    ComparisonResult,
    Difference,
    DriftSummary,
    FrameCounts,
    FrameDifference,
    IouSummary,
    LoneFrames,
    WORST_FRAMES,
)
from yolov7_trt_ros.report.compare.score_counts import Distribution, PrecisionCurve
from yolov7_trt_ros.report.compare.settings import CompareSettings

AP_IOU = 0.5
HISTOGRAM_BARS = 50


class RunComparison:
    """
    Collects the differences of frames; its memory does not grow with their number.

    Parameters
    ----------
    settings
        What counts as the same detection.

    """

    def __init__(self, settings: CompareSettings) -> None:
        self._settings = settings
        self._compared = 0
        self._only_in_reference, self._only_in_new = LoneFrames(), LoneFrames()
        self._iou, self._drift = Distribution(), Distribution()
        self._signed = 0.0
        self._classes: dict[int, _ClassTally] = {}
        self._worst: list[FrameDifference] = []

    def add_lone(self, topic: str, stamp_ns: int, *, in_reference: bool) -> None:
        """Count a frame that only the reference has, or only the new recording."""
        if in_reference:
            self._only_in_reference = self._only_in_reference.plus(topic, stamp_ns)
        else:
            self._only_in_new = self._only_in_new.plus(topic, stamp_ns)

    def add(
        self, topic: str, stamp_ns: int, reference: Detections, found: Detections
    ) -> FrameDifference:
        """Compare one frame; class ids mean the same in both."""
        self._compared += 1
        least = self._settings.score_threshold
        match = match_detections(
            reference, found, min_iou=self._settings.iou, sure_score=least
        )
        self._add_precision(reference, found, match)
        pairs = SurePairs.of(reference, found, match, least)
        self._iou.add(pairs.iou)
        self._drift.add(np.abs(pairs.drift))
        self._signed += float(pairs.drift.sum(dtype=np.float64))
        total = self._add_classes(reference, found, match, pairs)
        frame = FrameDifference(
            topic, stamp_ns, total,
            float(np.abs(pairs.drift).max(initial=0.0)), float(pairs.iou.min(initial=1.0)),
            reference, found,
        )
        self._keep_if_bad(frame)
        return frame

    def result(self, class_names: Sequence[str]) -> ComparisonResult:
        """Return what was found so far; `class_names` by id."""
        names = tuple(class_names)
        classes = tuple(sorted(
            (
                tally.result(class_name(names, number))
                for number, tally in self._classes.items()
                if tally.difference != Difference()
            ),
            key=lambda each: each.name,
        ))
        total = sum((each.difference for each in classes), Difference())
        known = [each.ap50 for each in classes if each.ap50 is not None]
        return ComparisonResult(
            FrameCounts(self._compared, self._only_in_reference, self._only_in_new),
            total, self._iou_summary(), self._drift_summary(),
            sum(known) / len(known) if known else float(not total.new),
            classes, tuple(self._worst), tuple(self._drift.histogram(HISTOGRAM_BARS)),
        )

    def _iou_summary(self) -> IouSummary | None:
        iou = self._iou
        if not iou.count:
            return None
        return IouSummary(iou.mean, iou.percentile(5), iou.percentile(95), iou.least)

    def _drift_summary(self) -> DriftSummary | None:
        drift = self._drift
        if not drift.count:
            return None
        bias = self._signed / drift.count
        return DriftSummary(drift.mean, drift.percentile(95), drift.largest, bias)

    def _add_precision(
        self, reference: Detections, found: Detections, match: FrameMatch
    ) -> None:
        """Count right and wrong at IoU 0.5; a partner that is not sure counts as neither."""
        least = self._settings.score_threshold
        if self._settings.iou != AP_IOU:
            match = match_detections(reference, found, min_iou=AP_IOU, sure_score=least)
        has_partner = match.partner != NONE
        right = has_partner.copy()
        right[has_partner] = reference.scores[match.partner[has_partner]] >= least
        counted = right | ~has_partner
        for number in np.unique(found.class_ids[counted]).tolist():
            chosen = counted & (found.class_ids == number)
            self._tally(number).curve.add(found.scores[chosen], right[chosen])

    def _add_classes(
        self, reference: Detections, found: Detections, match: FrameMatch, pairs: SurePairs
    ) -> Difference:
        least = self._settings.score_threshold
        wanted = reference.class_ids[reference.scores >= least]
        total = Difference()
        differences = class_differences(reference, found, match, pairs, least)
        for number, difference in differences.items():
            tally = self._tally(number)
            tally.difference += difference
            tally.wanted += int((wanted == number).sum())
            chosen = pairs.drift[pairs.class_ids == number]
            tally.drift += float(np.abs(chosen).sum(dtype=np.float64))
            total += difference
        return total

    def _tally(self, class_id: int) -> _ClassTally:
        return self._classes.setdefault(class_id, _ClassTally())

    def _keep_if_bad(self, frame: FrameDifference) -> None:
        lost = frame.difference.missed + frame.difference.new
        if lost or frame.largest_drift > 0 or frame.least_iou < 1:
            self._worst.append(frame)
            self._worst.sort(key=lambda each: (*each.rank, each.topic))
            del self._worst[WORST_FRAMES:]


class _ClassTally:
    """What is counted of one class."""

    def __init__(self) -> None:
        self.difference = Difference()
        self.wanted = 0
        self.drift = 0.0
        self.curve = PrecisionCurve()

    def result(self, name: str) -> ClassDifference:
        return ClassDifference(
            name, self.wanted, self.difference, self.drift / max(1, self.difference.matched),
            self.curve.average_precision(self.wanted) if self.wanted else None,
        )
