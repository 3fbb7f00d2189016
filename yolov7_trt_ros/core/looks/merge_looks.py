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

CUT_PX = 4
"""A box this near to a border inside the frame may continue beyond it: it is cut."""
NEAR_PX = 16
"""A box this near is cut if a box that continues beyond the border contains most of it."""
MOST_OF_IT = 0.7
"""Part of the area of a box."""
MOST_COMPARED = 2**20
"""Pairs of boxes that are compared at once: it bounds the memory."""
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

    def chosen(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> _Found:
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
    found = _found_of(first)
    if looks:
        found = _merged(found, looks, first.source_wh, sure_score)
    return _selected(found, first.source_wh, settings)


def _found_of(detections: Detections) -> _Found:
    return _Found(detections.boxes_xyxy, detections.scores, detections.class_ids)


def _merged(
    whole: _Found, looks: Sequence[Look], source_wh: tuple[int, int], sure_score: float
) -> _Found:
    """Return what both looks show, before the suppression."""
    crops = [look.crop for look in looks]
    reached = np.flatnonzero(_overlapping(crops, whole.boxes).any(axis=0))
    near = whole.chosen(reached)  # what the crops show lies in them
    seconds = _shown(near, looks, source_wh)
    paired, partners = _pairs(seconds, near)
    scores = seconds.scores.copy()
    scores[paired] = _pair_scores(near.scores[partners], scores[paired], sure_score)
    alone = np.ones(len(whole.scores), bool)
    alone[reached[partners]] = False
    return _joined([whole.chosen(alone), seconds._replace(scores=scores)])


def _shown(near: _Found, looks: Sequence[Look], source_wh: tuple[int, int]) -> _Found:
    """
    Return what crops show, in pixels of the frame, without what their borders may have cut.

    Parameters
    ----------
    near
        What the first look has found at the crops.
    looks
        One or more.
    source_wh
        Size of the frame.

    """
    crops = [look.crop for look in looks]
    crop_of = np.repeat(np.arange(len(looks)), [len(look.found) for look in looks])
    found = _joined([_found_of(look.found) for look in looks])
    offsets = np.array([[crop.left, crop.top] * 2 for crop in crops], np.float32)
    found = found._replace(boxes=found.boxes + offsets[crop_of])
    uncut = ~_beyond(found.boxes, inner_of(crops, source_wh, CUT_PX)[crop_of])
    found, crop_of = found.chosen(uncut), crop_of[uncut]
    return found.chosen(~_parts(found, crop_of, near, crops, source_wh))


def _parts(
    found: _Found, crop_of: NDArray[np.intp], near: _Found, crops: Sequence[Crop],
    source_wh: tuple[int, int],
) -> NDArray[np.bool_]:
    """Tell which boxes near a border of their crop are part of one that continues beyond."""
    parts = np.zeros(len(found.scores), bool)
    doubtful = np.flatnonzero(
        _beyond(found.boxes, inner_of(crops, source_wh, NEAR_PX)[crop_of])
    )
    if not len(doubtful):
        return parts
    others = _joined([near, found])
    wider = _overlapping(crops, others.boxes)
    wider &= _beyond(others.boxes, inner_of(crops, source_wh, 0)[:, None])
    step = 1 + MOST_COMPARED // len(others.scores)
    for begin in range(0, len(doubtful), step):
        block = doubtful[begin:begin + step]
        same = found.class_ids[block, None] == others.class_ids
        rows, columns = np.nonzero(wider[crop_of[block]] & same)
        inside = _shares(found.boxes[block[rows]], others.boxes[columns]) >= MOST_OF_IT
        parts[block[rows[inside]]] = True
    return parts


def _beyond(boxes: NDArray[np.float32], inner: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell which boxes (n, 4) are not within limits (n, 4), or which (m, 1, 4): (m, n)."""
    return np.asarray(
        (boxes[:, 0] < inner[..., 0]) | (boxes[:, 1] < inner[..., 1])
        | (boxes[:, 2] > inner[..., 2]) | (boxes[:, 3] > inner[..., 3])
    )


def _overlapping(crops: Sequence[Crop], boxes: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell which crops (m) show something of which boxes (n, 4): (m, n)."""
    left, top, right, bottom = np.array(crops, np.float32).T[..., None]
    return np.asarray(
        (boxes[:, 0] < right) & (boxes[:, 1] < bottom)
        & (boxes[:, 2] > left) & (boxes[:, 3] > top)
    )


def _shares(boxes: NDArray[np.float32], wider: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the share (n,) of each box (n, 4) inside the other one of its pair (n, 4)."""
    low, high = np.maximum(boxes[:, :2], wider[:, :2]), np.minimum(boxes[:, 2:], wider[:, 2:])
    sides = np.maximum(high - low, 0)
    areas = np.maximum(box_areas(boxes), np.finfo(np.float32).tiny)
    return np.asarray(sides[:, 0] * sides[:, 1] / areas, np.float32)


def _pairs(seconds: _Found, whole: _Found) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return which detections of the crops are which of the whole frame."""
    overlap = box_iou(seconds.boxes, whole.boxes)
    same = overlap >= SAME_IOU
    same &= seconds.class_ids[:, None] == whole.class_ids
    rows, columns = np.nonzero(same)
    order = np.lexsort((-overlap[rows, columns], rows, -seconds.scores[rows]))
    partners: dict[int, int] = {}
    taken: set[int] = set()
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in partners and column not in taken:
            partners[row] = column
            taken.add(column)
    return np.array([*partners], np.intp), np.array([*partners.values()], np.intp)


def _pair_scores(
    first: NDArray[np.float32], second: NDArray[np.float32], sure_score: float
) -> NDArray[np.float32]:
    score = np.maximum(second, (first + second) / 2)
    sure = first >= sure_score
    return np.asarray(np.where(sure, np.maximum(first, score), score), np.float32)


def _joined(parts: Sequence[_Found]) -> _Found:
    return _Found(*(np.concatenate(each) for each in zip(*parts, strict=True)))


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
