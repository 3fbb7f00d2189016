"""How well the detections of a changed model agree with those of the original model."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.core.boxes import box_iou
from yolov7_trt_ros.core.detections import Detections

MATCH_IOU = 0.5
SURE_SCORE = 0.25
"""Detections of the reference from this score on are what the other model has to find."""

COUNTED_SCORE = 0.1
"""Pairs count for the weighted agreement from this score of either on."""

_RECALLS = np.linspace(0.0, 1.0, 101)
_UNMATCHED = -1


@dataclasses.dataclass(frozen=True)
class Agreement:
    """
    Agreement of two models on the same pictures; each number is 1 if they find the same.

    Attributes
    ----------
    weighted
        F1 weighted by scores: twice the lesser scores of all pairs over the sum of all scores,
        0..1. It has no threshold, so it shows small changes.
    ap50
        Average precision at IoU 0.5 with the reference's sure detections as the labels, all
        classes together, 0..1.
    f1
        Harmonic mean of precision and recall of the detections from score 0.25 on.
    wanted
        Number of the reference's sure detections.

    """

    weighted: float
    ap50: float
    f1: float
    wanted: int


def measure_agreement(
    reference: Sequence[Detections], found: Sequence[Detections]
) -> Agreement:
    """
    Compare the detections of two models, picture by picture.

    A pair has the same class and an IoU of at least 0.5. For AP50, what pairs only with an unsure
    detection of the reference counts neither for nor against.

    Parameters
    ----------
    reference, found
        Of the same pictures in the same order, both with low score thresholds.

    """
    scores = np.concatenate([np.empty(0, np.float32), *(each.scores for each in found)])
    wanted = sum(int((each.scores >= SURE_SCORE).sum()) for each in reference)
    lesser, total = 0.0, 0.0
    partners = [np.empty(0, np.float32)]
    for left, right in zip(reference, found, strict=True):
        pairs = match(left, right)
        partners.append(_partner_scores(left, pairs))
        pair_sums = _weights(left, right, pairs)
        lesser, total = lesser + pair_sums[0], total + pair_sums[1]
    partner = np.concatenate(partners)
    return Agreement(
        round(2 * lesser / total if total else 1.0, 5),
        round(_average_precision(scores, partner, wanted), 5),
        round(_f1(scores, partner, wanted), 5),
        wanted,
    )


def match(reference: Detections, found: Detections) -> NDArray[np.intp]:
    """
    Return the partner of each found detection in the reference, or -1.

    The best scores choose first, and sure detections before unsure ones.

    """
    partners = np.full(len(found), _UNMATCHED, np.intp)
    if not len(reference) or not len(found):
        return partners
    iou = box_iou(found.boxes_xyxy, reference.boxes_xyxy)
    iou[found.class_ids[:, None] != reference.class_ids[None, :]] = 0.0
    iou[iou < MATCH_IOU] = 0.0
    iou[:, reference.scores >= SURE_SCORE] *= 2  # every sure one above every unsure one
    for index in np.argsort(-found.scores, kind='stable'):
        best = int(np.argmax(iou[index]))
        if iou[index, best] > 0:
            partners[index] = best
            iou[:, best] = 0.0
    return partners


def _partner_scores(reference: Detections, partners: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return the reference's score for each found detection, -1 without a partner."""
    padded = np.append(reference.scores, np.float32(_UNMATCHED))
    return np.asarray(padded[partners], np.float32)


def _weights(
    reference: Detections, found: Detections, partners: NDArray[np.intp]
) -> tuple[float, float]:
    """Return the sum of the lesser scores of pairs, and of all scores that count."""
    paired = partners != _UNMATCHED
    left, right = reference.scores[partners[paired]], found.scores[paired]
    counted = np.maximum(left, right) >= COUNTED_SCORE
    alone = [
        found.scores[~paired],
        np.delete(reference.scores, partners[paired]),
    ]
    total = float((left + right)[counted].sum())
    total += sum(float(scores[scores >= COUNTED_SCORE].sum()) for scores in alone)
    return float(np.minimum(left, right)[counted].sum()), total


def _average_precision(
    scores: NDArray[np.float32], partner: NDArray[np.float32], wanted: int
) -> float:
    if not wanted:
        return float(not (scores[partner == _UNMATCHED] >= SURE_SCORE).any())
    counted = (partner >= SURE_SCORE) | (partner == _UNMATCHED)
    hits = (partner >= SURE_SCORE)[counted][np.argsort(-scores[counted], kind='stable')]
    true = np.cumsum(hits)
    precision = true / np.arange(1, len(hits) + 1)
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    first = np.searchsorted(true / wanted, _RECALLS - 1e-9)
    return float(envelope[first].mean())


def _f1(scores: NDArray[np.float32], partner: NDArray[np.float32], wanted: int) -> float:
    sure = scores >= SURE_SCORE
    hits, given = int((partner[sure] >= SURE_SCORE).sum()), int(sure.sum())
    return 2 * hits / (given + wanted) if given + wanted else 1.0
