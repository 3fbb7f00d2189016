"""Decode: from every output form of YOLOv7 exports to candidates, and on to Detections."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.core.boxes import nms, xyxy_from_cxcywh
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.forms.grid_values import FloatArray
from yolov7_trt_ros.core.forms.map_forms import cells_of
from yolov7_trt_ros.core.forms.model_spec import Anchors, ModelSpec, OutputLayout
from yolov7_trt_ros.core.forms.output_checks import (
    check_finished_boxes,
    check_finite,
    check_image_numbers,
    check_scores,
    checked_class_ids,
)
from yolov7_trt_ros.core.letterbox import Letterbox

CLASS_LIMIT = 8192
"""Upper limit of class ids if a model does not state its number of classes."""


@dataclasses.dataclass(frozen=True, eq=False)
class Candidates:
    """Boxes (n, 4) xyxy in network pixels, scores (n,), class ids (n,) of one image."""

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int32]
    suppressed: bool = False
    """True if the model itself already ran NMS."""


def decode_outputs(
    spec: ModelSpec, outputs: Sequence[NDArray[Any]], settings: DetectSettings
) -> Candidates:
    """
    Decode the outputs of one image.

    Parameters
    ----------
    spec
        The model; `outputs` come in the order of `spec.outputs`.
    outputs
        Arrays with batch 1, as the model gave them.
    settings
        The least score of any class and multi_label are used here.

    Raises
    ------
    InferenceError
        An objectness, the best score of a candidate or its box is NaN or infinite, a score is
        above 1, or, of what has labels or is suppressed already, a class or a box is none.

    """
    if spec.layout is OutputLayout.GRID:
        rows = outputs[0][0]
        return _decode_grid(rows.T if spec.transposed else rows, settings)
    if spec.layout is OutputLayout.RAW_HEADS:
        assert spec.anchors is not None  # recognise_model guarantees it
        heads = [head[0] for head in outputs]
        return _decode_raw_heads(heads, spec.strides, spec.anchors, settings)
    if spec.layout is OutputLayout.BOXES_AND_SCORES:
        return _decode_pair(outputs[0][0], outputs[1][0], spec.boxes_are_centres, settings)
    if spec.layout is OutputLayout.LABELLED:
        return _decode_labelled(spec, outputs, settings)
    limit = spec.num_classes or CLASS_LIMIT
    if spec.layout is OutputLayout.END2END_TRT:
        count, boxes, scores, classes = outputs
        found = slice(0, max(0, int(count.reshape(-1)[0])))
        return _finished(boxes[0][found], scores[0][found], classes[0][found], limit, settings)
    rows = outputs[0]
    check_image_numbers(rows[:, 0])
    return _finished(rows[:, 1:5], rows[:, 6], rows[:, 5], limit, settings)


def select_detections(
    candidates: Candidates, letterbox: Letterbox, settings: DetectSettings
) -> Detections:
    """
    Filter classes and their scores, suppress overlaps and map to source pixels.

    Boxes that lie wholly outside the source image (in the letterbox border) are dropped first, so
    that they take no place among the `max_detections`.

    """
    boxes, scores, classes = candidates.boxes_xyxy, candidates.scores, candidates.class_ids
    if settings.class_ids is not None:
        wanted = np.isin(classes, np.fromiter(settings.class_ids, np.int32))
        boxes, scores, classes = boxes[wanted], scores[wanted], classes[wanted]
    if settings.class_thresholds:
        passing = scores > thresholds_of(classes, settings)
        boxes, scores, classes = boxes[passing], scores[passing], classes[passing]
    if not candidates.suppressed and len(scores) > settings.max_candidates:
        best = _best(scores, settings.max_candidates)
        boxes, scores, classes = boxes[best], scores[best], classes[best]
    in_source = letterbox.to_source(boxes)
    visible = (in_source[:, 2] > in_source[:, 0]) & (in_source[:, 3] > in_source[:, 1])
    boxes, in_source = boxes[visible], in_source[visible]
    scores, classes = scores[visible], classes[visible]
    if candidates.suppressed:
        kept = np.argsort(-scores, kind='stable')[: settings.max_detections]
    else:
        groups = None if settings.class_agnostic else classes
        kept = nms(boxes, scores, groups, settings.iou_threshold, settings.max_detections)
    return Detections(
        in_source[kept], np.clip(scores[kept], 0, 1), classes[kept], letterbox.source_wh
    )


def thresholds_of(
    classes: NDArray[np.int32], settings: DetectSettings
) -> NDArray[np.float32]:
    """Return the least score (n,) of each of some classes (n,)."""
    if not settings.class_thresholds:
        return np.full(len(classes), settings.score_threshold, np.float32)
    ids, scores = np.array(sorted(settings.class_thresholds)).T
    places = np.minimum(np.searchsorted(ids, classes), len(ids) - 1)
    has_own = ids[places] == classes
    return np.where(has_own, scores[places], settings.score_threshold).astype(np.float32)


def _best(scores: NDArray[np.float32], most: int) -> NDArray[np.intp]:
    """Return the indices of the `most` highest scores, ascending; of equal ones the first."""
    least = np.partition(scores, -most)[-most]
    chosen = scores > least
    ties = np.flatnonzero(scores == least)
    chosen[ties[: most - np.count_nonzero(chosen)]] = True
    return np.flatnonzero(chosen)


def _decode_grid(rows: FloatArray, settings: DetectSettings) -> Candidates:
    """Rows (n, 5 + C): cx, cy, w, h, objectness, classes."""
    objectness = rows[:, 4]
    check_finite(objectness, 'objectness')
    likely = np.flatnonzero(objectness > settings.least_score)
    chosen = rows[likely].astype(np.float32, copy=False)
    if rows.shape[1] == 6:  # one class: YOLOv7 trains no class loss, the score is objectness
        scores = chosen[:, 4:5]
        check_scores(chosen[:, 5])  # or it is no class: a label
    else:
        scores = chosen[:, 5:] * chosen[:, 4:5]
    return _candidates(xyxy_from_cxcywh(chosen), scores, settings)


def _decode_raw_heads(
    heads: list[FloatArray],
    strides: tuple[int, ...],
    anchors: Anchors,
    settings: DetectSettings,
) -> Candidates:
    """Heads (A, h, w, 5 + C) or (A * (5 + C), h, w) of logits; only likely cells are decoded."""
    rows = [
        _decode_head(head, stride, np.array(sizes, np.float32), settings)
        for head, stride, sizes in zip(heads, strides, anchors, strict=True)
    ]
    return _decode_grid(np.concatenate(rows), settings)


def _decode_head(
    head: FloatArray, stride: int, sizes_wh: NDArray[np.float32], settings: DetectSettings
) -> NDArray[np.float32]:
    """Grid rows (n, 5 + C) of the cells whose objectness alone passes the threshold."""
    head = cells_of(head, len(sizes_wh))
    objectness = head[..., 4]
    check_finite(objectness, 'objectness logit')
    likely = np.flatnonzero(objectness > _logit(settings.least_score))
    if not likely.size:  # most heads of most images
        return np.empty((0, head.shape[-1]), np.float32)
    anchor, y, x = np.unravel_index(likely, objectness.shape)  # faster than nonzero of three axes
    with np.errstate(over='ignore'):  # exp of a large negative logit: the sigmoid is 0
        rows = 1 / (1 + np.exp(-head[anchor, y, x].astype(np.float32)))
    cells = np.stack([x, y], axis=1).astype(np.float32)
    rows[:, :2] = (rows[:, :2] * 2 - 0.5 + cells) * stride
    rows[:, 2:4] = (rows[:, 2:4] * 2) ** 2 * sizes_wh[anchor]
    return np.asarray(rows, np.float32)


def _logit(score: float) -> float:
    """Inverse of the sigmoid; infinite at 0 and 1."""
    if score <= 0:
        return -math.inf
    return math.inf if score >= 1 else math.log(score / (1 - score))


def _decode_pair(
    boxes: FloatArray, scores: FloatArray, boxes_are_centres: bool, settings: DetectSettings
) -> Candidates:
    """Boxes (n, 4) and scores (n, C) with objectness multiplied in."""
    best = scores.max(axis=1)  # NaN where a score is NaN
    check_finite(best, 'score')
    likely = np.flatnonzero(best > settings.least_score)
    chosen = boxes[likely].astype(np.float32, copy=False)
    corners = xyxy_from_cxcywh(chosen) if boxes_are_centres else chosen
    return _candidates(corners, scores[likely].astype(np.float32, copy=False), settings)


def _candidates(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], settings: DetectSettings
) -> Candidates:
    """Candidates from boxes (n, 4) and per-class scores (n, C)."""
    if settings.multi_label:
        check_finite(scores, 'class score')
        row, classes = np.nonzero(scores > settings.least_score)
        best = scores[row, classes]
    else:
        classes = scores.argmax(axis=1)  # of a row with NaN: the NaN
        best = scores[np.arange(len(scores)), classes]
        check_finite(best, 'class score')
        row = np.flatnonzero(best > settings.least_score)
        best, classes = best[row], classes[row]
    corners = boxes[row]
    check_finite(corners, 'box')
    check_scores(best)
    return Candidates(corners, best, classes.astype(np.int32))


def _decode_labelled(
    spec: ModelSpec, outputs: Sequence[NDArray[Any]], settings: DetectSettings
) -> Candidates:
    """Boxes with one score and one label each, in one tensor or in three."""
    columns = spec.columns
    if columns is None:
        boxes, scores, labels = outputs[0][0], outputs[1][0, :, 0], outputs[2][0, :, 0]
    else:
        rows = outputs[0][0].T if spec.transposed else outputs[0][0]
        boxes = rows[:, columns.box:columns.box + 4]
        scores, labels = rows[:, columns.score], rows[:, columns.label]
    scores = scores.astype(np.float32, copy=False)
    if columns is not None and columns.objectness is not None:
        with np.errstate(invalid='ignore'):  # infinity times 0: told below
            scores = scores * rows[:, columns.objectness].astype(np.float32, copy=False)
    check_finite(scores, 'score')
    row = np.flatnonzero(scores > settings.least_score)
    chosen = boxes[row].astype(np.float32)
    corners = xyxy_from_cxcywh(chosen) if spec.boxes_are_centres else chosen
    best = scores[row].astype(np.float32)
    check_finite(corners, 'box')
    check_scores(best)
    class_ids = checked_class_ids(labels[row], spec.num_classes or CLASS_LIMIT)
    return Candidates(corners, best, class_ids)


def _finished(
    boxes: FloatArray,
    scores: FloatArray,
    classes: NDArray[Any],
    class_limit: int,
    settings: DetectSettings,
) -> Candidates:
    """Candidates of a model that already suppressed overlaps: nothing of them is believed."""
    check_finite(scores, 'score')
    check_finite(boxes, 'box')
    passing = scores > settings.least_score
    chosen = boxes[passing].astype(np.float32)
    best = scores[passing].astype(np.float32)
    check_scores(best)
    check_finished_boxes(chosen)
    class_ids = checked_class_ids(classes[passing], class_limit)
    return Candidates(chosen, best, class_ids, suppressed=True)
