"""Merge the detections of crops with those of the whole frame. Arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.core.boxes import box_areas, box_iou, nms
from yolov7_trt_ros.core.decode import thresholds_of
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.looks.crops import Crop, inner_of

CUT_PX = 4.0
"""A box this near to a border inside the frame may continue beyond it: it is cut."""
NEAR_PX = 16.0
"""A box this near is cut if a box that continues beyond the border contains most of it."""
MOST_OF_IT = 0.7
"""Part of the area of a box."""
SAME_IOU = 0.5
"""From this overlap on, detections of one class in both looks are one object."""


class Look(NamedTuple):
    """What was found in a crop: boxes in the pixels of the crop, class ids of the first look."""

    crop: Crop
    found: Detections


class _Found(NamedTuple):
    """Boxes (n, 4) in pixels of the frame, scores (n,), class ids (n,)."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int32]

    def chosen(self, which: NDArray[np.bool_]) -> _Found:
        return _Found(self.boxes[which], self.scores[which], self.class_ids[which])


def merge_looks(
    first: Detections, looks: Sequence[Look], settings: DetectSettings, sure_score: float
) -> Detections:
    """
    Return the detections of a frame that was looked at as a whole and in crops.

    1. What an inner border of a crop may have cut is dropped: what comes within `CUT_PX` of it;
       and within `NEAR_PX`, where most of it lies in a box of its class that goes on beyond.
    2. A detection of a crop and one of the whole frame are one object where they have one class
       and overlap by `SAME_IOU`. Each has one partner at most; the best scores choose first. Of a
       pair the box of the crop stays, for there are more pixels behind it, with the score of the
       crop, or the mean of both where that is lower. What the first look was sure of keeps its
       score at least.
    3. What has no partner stays, whichever look has found it.
    4. Overlaps that are left, such as those of two crops, end in the suppression that `settings`
       ask for, after its score thresholds and before its limit.

    Parameters
    ----------
    first
        Of the whole frame, with a threshold that may be lower than those of `settings`.
    looks
        Of the crops, in any order.
    settings
        What the result keeps to.
    sure_score
        From this score on the first look was sure.

    """
    whole = _Found(first.boxes_xyxy, first.scores, first.class_ids)
    shown = [_uncut(look, first.source_wh) for look in looks]
    shown = [
        _without_parts(each, look.crop, [whole, *shown[:index], *shown[index + 1:]],
                       first.source_wh)
        for index, (look, each) in enumerate(zip(looks, shown, strict=True))
    ]
    seconds = _joined(shown)
    partners = _partners(whole, seconds)
    paired = partners >= 0
    scores = seconds.scores.copy()
    scores[paired] = _pair_scores(
        whole.scores[partners[paired]], seconds.scores[paired], sure_score
    )
    alone = np.ones(len(whole.scores), bool)
    alone[partners[paired]] = False
    merged = _joined([whole.chosen(alone), seconds._replace(scores=scores)])
    return _selected(merged, first.source_wh, settings)


def _uncut(look: Look, source_wh: tuple[int, int]) -> _Found:
    """Return what a crop shows, in pixels of the frame, without what its borders may have cut."""
    offset = np.array([look.crop.left, look.crop.top] * 2, np.float32)
    boxes = look.found.boxes_xyxy + offset
    return _Found(boxes, look.found.scores, look.found.class_ids).chosen(
        ~_beyond(boxes, look.crop, source_wh, CUT_PX)
    )


def _without_parts(
    found: _Found, crop: Crop, others: Sequence[_Found], source_wh: tuple[int, int]
) -> _Found:
    """Return it without boxes near a border that are part of one that continues beyond."""
    near = np.flatnonzero(_beyond(found.boxes, crop, source_wh, NEAR_PX))
    if not len(near):
        return found
    reach = np.array([crop], np.float32)  # all that is found here lies in it
    wider = _joined([each.chosen(_shares(reach, each.boxes)[0] > 0) for each in others])
    wider = wider.chosen(_beyond(wider.boxes, crop, source_wh, 0.0))
    inside = _shares(found.boxes[near], wider.boxes) >= MOST_OF_IT
    inside &= found.class_ids[near][:, None] == wider.class_ids[None, :]
    whole = np.ones(len(found.scores), bool)
    whole[near[inside.any(axis=1)]] = False
    return found.chosen(whole)


def _beyond(
    boxes: NDArray[np.float32], crop: Crop, source_wh: tuple[int, int], margin_px: float
) -> NDArray[np.bool_]:
    """Tell which boxes are not within a crop less a margin at its inner borders."""
    left, top, right, bottom = inner_of(np.array([crop]), source_wh, margin_px)[0]
    return np.asarray(
        (boxes[:, 0] < left) | (boxes[:, 1] < top)
        | (boxes[:, 2] > right) | (boxes[:, 3] > bottom)
    )


def _shares(boxes: NDArray[np.float32], wider: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the share of each box (n,) inside each of the others (m,): (n, m)."""
    low = np.maximum(boxes[:, None, :2], wider[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], wider[None, :, 2:])
    sides = np.maximum(high - low, 0)
    areas = np.maximum(box_areas(boxes), np.finfo(np.float32).tiny)
    return np.asarray(sides[..., 0] * sides[..., 1] / areas[:, None], np.float32)


def _partners(whole: _Found, seconds: _Found) -> NDArray[np.intp]:
    """Return which detection of the whole frame each of the crops' is, -1 for none."""
    partners = np.full(len(seconds.scores), -1, np.intp)
    if not len(whole.scores) or not len(partners):
        return partners
    overlap = box_iou(seconds.boxes, whole.boxes)
    overlap[seconds.class_ids[:, None] != whole.class_ids[None, :]] = 0.0
    near = np.flatnonzero(overlap.max(axis=1) >= SAME_IOU)  # few, where thresholds are low
    for index in near[np.argsort(-seconds.scores[near], kind='stable')]:
        best = int(np.argmax(overlap[index]))
        if overlap[index, best] >= SAME_IOU:
            partners[index] = best
            overlap[:, best] = 0.0
    return partners


def _pair_scores(
    first: NDArray[np.float32], second: NDArray[np.float32], sure_score: float
) -> NDArray[np.float32]:
    score = np.maximum(second, (first + second) / 2)
    sure = first >= sure_score
    return np.asarray(np.where(sure, np.maximum(first, score), score), np.float32)


def _joined(parts: Sequence[_Found]) -> _Found:
    return _Found(
        np.concatenate([np.empty((0, 4), np.float32), *(part.boxes for part in parts)]),
        np.concatenate([np.empty(0, np.float32), *(part.scores for part in parts)]),
        np.concatenate([np.empty(0, np.int32), *(part.class_ids for part in parts)]),
    )


def _selected(
    found: _Found, source_wh: tuple[int, int], settings: DetectSettings
) -> Detections:
    found = found.chosen(found.scores > thresholds_of(found.class_ids, settings))
    kept = nms(
        found.boxes, found.scores, None if settings.class_agnostic else found.class_ids,
        settings.iou_threshold, settings.max_detections,
    )
    return Detections(
        found.boxes[kept], found.scores[kept], found.class_ids[kept], source_wh
    )
