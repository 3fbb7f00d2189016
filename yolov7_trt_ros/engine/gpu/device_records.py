"""Records shared by kernels and host, as numpy dtypes; they match engine/device/kernels."""

from __future__ import annotations

import math

import numpy as np

from yolov7_trt_ros.core.decode import CLASS_LIMIT
from yolov7_trt_ros.core.defaults import MAX_DETECTIONS_LIMIT
from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.forms.model_spec import OutputLayout
from yolov7_trt_ros.core.letterbox import AxisSamples, Letterbox

MAX_CLASSES = CLASS_LIMIT
"""Kernels cannot distinguish class ids from here on."""

TAP = np.dtype([('first', np.int32), ('second', np.int32), ('weight', np.float32)])
"""Two source samples and the weight of the second, of one scaled column or row."""

GEOMETRY = np.dtype([
    ('offset_xy', np.float64, 2), ('scale_xy', np.float64, 2), ('source_wh', np.float64, 2),
])
"""From network pixels to source pixels, of one image."""

HEAD = np.dtype([
    ('data', np.uint64),
    ('is_half', np.int32),
    ('first_row', np.int32),
    ('cells', np.int32),
    ('width', np.int32),
    ('image_step', np.int32),
    ('anchor_step', np.int32),
    ('cell_step', np.int32),
    ('value_step', np.int32),
    ('stride', np.float32),
    ('anchors_wh', np.float32, (3, 2)),
    ('unused', np.int32),
])
"""A raw head: where its logits lie, how they are laid out, and what they stand for."""

SETTINGS = np.dtype([
    ('score_threshold', np.float32),
    ('objectness_floor', np.float32),
    ('iou_threshold', np.float32),
    ('max_detections', np.int32),
    ('max_candidates', np.int32),
    ('class_agnostic', np.int32),
    ('per_class', np.int32),
    ('class_thresholds', np.float32, MAX_CLASSES),
])
"""What of `DetectSettings` the kernels read."""

COUNTERS = np.dtype([
    ('candidates', np.int32),
    ('bad_objectness', np.int32),
    ('bad_scores', np.int32),
    ('bad_boxes', np.int32),
    ('bad_classes', np.int32),
])

RESULT = np.dtype([
    ('count', np.int32),
    ('candidates', np.int32),
    ('bad_objectness', np.int32),
    ('bad_scores', np.int32),
    ('bad_boxes', np.int32),
    ('bad_classes', np.int32),
    ('unused', np.int32, 2),
    ('boxes', np.float32, (MAX_DETECTIONS_LIMIT, 4)),
    ('scores', np.float32, MAX_DETECTIONS_LIMIT),
    ('class_ids', np.int32, MAX_DETECTIONS_LIMIT),
])
"""The detections of one image: `count` of them, and how many unusable values were met."""


def tap_records(samples: AxisSamples, numbers: np.ndarray | None = None) -> np.ndarray:
    """
    Return the sampling of one axis as TAP records (n,).

    `numbers` (source samples,) renumbers the samples, where only some of them are uploaded.

    """
    records = np.empty(len(samples.first), TAP)
    records['first'] = samples.first if numbers is None else numbers[samples.first]
    records['second'] = samples.second if numbers is None else numbers[samples.second]
    records['weight'] = samples.weight
    return records


def geometry_record(letterbox: Letterbox) -> np.ndarray:
    """Return the way back to source pixels as one GEOMETRY record ()."""
    record = np.zeros((), GEOMETRY)
    record['offset_xy'] = letterbox.offset_xy
    record['scale_xy'] = letterbox.scale_xy
    record['source_wh'] = letterbox.source_wh
    return record


def settings_record(settings: DetectSettings, layout: OutputLayout) -> np.ndarray:
    """Return what the kernels read of `settings` as one SETTINGS record ()."""
    record = np.zeros((), SETTINGS)
    for name in ('iou_threshold', 'max_detections', 'class_agnostic'):
        record[name] = getattr(settings, name)
    record['score_threshold'] = settings.least_score
    record['max_candidates'] = min(settings.max_candidates, np.iinfo(np.int32).max)
    record['objectness_floor'] = _objectness_floor(settings.least_score, layout)
    if settings.class_ids is not None or settings.class_thresholds:
        record['per_class'] = 1
        record['class_thresholds'] = _class_thresholds(settings)
    return record


def _class_thresholds(settings: DetectSettings) -> np.ndarray:
    """Return the least score of each class (MAX_CLASSES,), infinite for one not wanted."""
    thresholds = np.full(MAX_CLASSES, settings.score_threshold, np.float32)
    for class_id, score in settings.class_thresholds:
        thresholds[class_id:class_id + 1] = score
    if settings.class_ids is not None:
        unwanted = np.ones(MAX_CLASSES, bool)
        unwanted[[index for index in settings.class_ids if index < MAX_CLASSES]] = False
        thresholds[unwanted] = np.inf
    return thresholds


def _objectness_floor(score_threshold: float, layout: OutputLayout) -> float:
    """Return the threshold in the terms of the model's objectness: a score, or a logit."""
    if layout is not OutputLayout.RAW_HEADS:
        return score_threshold
    if score_threshold <= 0:
        return -math.inf
    return math.inf if score_threshold >= 1 else math.log(score_threshold / (1 - score_threshold))
