"""Match the detections of one frame with those of another engine in the same frame."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.core.boxes import box_iou
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.report.compare.result import Difference

NONE = -1
_NO_OVERLAP = np.float32(-1.0)


@dataclasses.dataclass(frozen=True, eq=False)
class FrameMatch:
    """
    Which detection of the reference each found one belongs to; no two share one.

    Attributes
    ----------
    partner
        (found,) index into the reference, -1 for none.
    iou
        (found,) overlap with the partner, 0 for none.

    """

    partner: NDArray[np.intp]
    iou: NDArray[np.float32]

    def unmatched(self, count: int) -> NDArray[np.bool_]:
        """Return which of the `count` detections of the reference have no partner."""
        free = np.ones(count, bool)
        free[self.partner[self.partner != NONE]] = False
        return free


def match_detections(
    reference: Detections, found: Detections, *, min_iou: float, sure_score: float
) -> FrameMatch:
    """
    Match each found detection, best score first, with the reference's that it overlaps most.

    Partners have the same class and overlap by at least `min_iou`. One of the reference's below
    `sure_score` is taken only if no sure one is left: COCO's rule for ignored labels.

    Parameters
    ----------
    reference, found
        Of one frame; class ids mean the same in both.
    min_iou
        Above 0, at most 1.
    sure_score
        0..1.

    """
    partner = np.full(len(found), NONE, np.intp)
    overlap = np.zeros(len(found), np.float32)
    if not len(reference) or not len(found):
        return FrameMatch(partner, overlap)
    iou = box_iou(found.boxes_xyxy, reference.boxes_xyxy)
    iou[found.class_ids[:, None] != reference.class_ids[None, :]] = _NO_OVERLAP
    sure = reference.scores >= sure_score
    free = np.ones(len(reference), bool)
    for index in np.argsort(-found.scores, kind='stable'):
        best = _best(iou[index], free & sure, min_iou)
        if best == NONE:
            best = _best(iou[index], free & ~sure, min_iou)
        if best != NONE:
            partner[index], overlap[index], free[best] = best, iou[index, best], False
    return FrameMatch(partner, overlap)


@dataclasses.dataclass(frozen=True, eq=False)
class SurePairs:
    """Partners of which at least one is sure: class, overlap, score new less reference."""

    class_ids: NDArray[np.int32]
    iou: NDArray[np.float32]
    drift: NDArray[np.float32]

    @classmethod
    def of(
        cls, reference: Detections, found: Detections, match: FrameMatch, sure_score: float
    ) -> SurePairs:
        """Return the pairs of a frame."""
        index = np.flatnonzero(match.partner != NONE)
        before, after = reference.scores[match.partner[index]], found.scores[index]
        sure = (before >= sure_score) | (after >= sure_score)
        index = index[sure]
        return cls(found.class_ids[index], match.iou[index], (after - before)[sure])


def class_differences(
    reference: Detections, found: Detections, match: FrameMatch, pairs: SurePairs,
    sure_score: float,
) -> dict[int, Difference]:
    """Return what differs in a frame, of each class that either has."""
    alone = match.unmatched(len(reference)) & (reference.scores >= sure_score)
    missed = reference.class_ids[alone]
    new = found.class_ids[(found.scores >= sure_score) & (match.partner == NONE)]
    counted = (pairs.class_ids, missed, new)
    numbers = np.unique(np.concatenate([reference.class_ids, found.class_ids]))
    return {
        number: Difference(*(int((each == number).sum()) for each in counted))
        for number in numbers.tolist()
    }


def _best(iou: NDArray[np.float32], among: NDArray[np.bool_], min_iou: float) -> int:
    overlaps = np.where(among, iou, _NO_OVERLAP)
    best = int(np.argmax(overlaps))
    return best if overlaps[best] >= np.float32(min_iou) else NONE
