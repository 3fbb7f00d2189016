"""ONNX nodes for NMS: TensorRT's plugin or the standard operator."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from yolov7_trt_ros.model.export.onnx_writer import Dimensions, GraphWriter, PLUGIN_DOMAIN
from yolov7_trt_ros.model.export.options import NmsSettings
from yolov7_trt_ros.onnx_tools.nms_plugin import PLUGIN

Output = tuple[str, int, Dimensions | None]

BOXES, SCORES = 'boxes', 'scores'
"""Boxes (B, rows, 4) and scores (B, rows, classes) before NMS, in either form."""

_CENTRES = 1
_NO_CLASS = -1


def write_plugin_nms(
    writer: GraphWriter, rows: str, num_classes: int, settings: NmsSettings, batch: int | str
) -> list[Output]:
    """Write TensorRT's EfficientNMS on rows (B, rows, 5 + classes); return the outputs."""
    box, scores = _write_parts(writer, rows, num_classes, BOXES)
    most = settings.max_detections
    outputs: list[Output] = [
        ('num_dets', TensorProto.INT32, (batch, 1)),
        ('det_boxes', TensorProto.FLOAT, (batch, most, 4)),
        ('det_scores', TensorProto.FLOAT, (batch, most)),
        ('det_classes', TensorProto.INT32, (batch, most)),
    ]
    writer.nodes(
        PLUGIN, [box, scores], [name for name, _, _ in outputs], domain=PLUGIN_DOMAIN,
        background_class=_NO_CLASS, box_coding=_CENTRES, class_agnostic=0,
        iou_threshold=settings.iou_threshold, max_output_boxes=most, plugin_version='1',
        score_activation=0, score_threshold=settings.score_threshold,
    )
    return outputs


def write_standard_nms(
    writer: GraphWriter, rows: str, num_classes: int, settings: NmsSettings
) -> list[Output]:
    """
    Write the standard operator on rows (B, rows, 5 + classes); return the output (n, 7).

    A row counts for its best class alone, as when `DetectSettings.multi_label` is off. The
    operator limits detections per class, not per image.

    """
    centres, scores = _write_parts(writer, rows, num_classes, 'boxes.centres')
    boxes = _write_corners(writer, centres)
    by_class = _write_best_class_scores(writer, scores, num_classes)
    limits = [
        writer.integers(settings.max_detections),
        writer.const('nms.iou_threshold', [settings.iou_threshold], np.float32),
        writer.const('nms.score_threshold', [settings.score_threshold], np.float32),
    ]
    chosen = writer.node('NonMaxSuppression', [boxes, by_class, *limits], 'nms.chosen')
    columns = [_column(writer, chosen, index) for index in range(3)]
    numbers = [writer.node('Cast', [columns[index]], f'nms.{index}.float', to=TensorProto.FLOAT)
               for index in (0, 1)]
    place = writer.node('Concat', [columns[0], columns[2]], 'nms.place', axis=1)
    corners = writer.node('GatherND', [boxes, place], 'nms.boxes')
    kept = writer.node('GatherND', [by_class, chosen], 'nms.kept_scores')
    score = writer.node('Reshape', [kept, writer.integers(-1, 1)], 'nms.scores')
    output = writer.node('Concat', [numbers[0], corners, numbers[1], score], 'output', axis=1)
    return [(output, TensorProto.FLOAT, ('detections', 7))]


def _write_parts(
    writer: GraphWriter, rows: str, num_classes: int, boxes: str
) -> tuple[str, str]:
    """Split rows into boxes (centre and size) and scores with the objectness multiplied in."""
    if num_classes == 1:  # YOLOv7 trains no class loss then: the score is the objectness
        writer.split(rows, (4, 1, 1), (boxes, SCORES, 'class.unused'))
        return boxes, SCORES
    writer.split(rows, (4, 1, num_classes), (boxes, 'objectness', 'classes'))
    return boxes, writer.node('Mul', ['classes', 'objectness'], SCORES)


def _write_corners(writer: GraphWriter, centres: str) -> str:
    writer.split(centres, (2, 2), ('boxes.centre', 'boxes.size'))
    half = writer.node('Mul', ['boxes.size', writer.number(0.5)], 'boxes.half')
    low = writer.node('Sub', ['boxes.centre', half], 'boxes.low')
    high = writer.node('Add', ['boxes.centre', half], 'boxes.high')
    return writer.node('Concat', [low, high], BOXES, axis=-1)


def _write_best_class_scores(writer: GraphWriter, scores: str, num_classes: int) -> str:
    """Return scores (B, classes, rows) that are 0 but for the best class of each row."""
    best = writer.node('ArgMax', [scores], 'best.class', axis=-1, keepdims=1)
    classes = writer.const('class_numbers', np.arange(num_classes), np.int64)
    is_best = writer.node('Equal', [classes, best], 'best.mask')
    mask = writer.node('Cast', [is_best], 'best.factor', to=TensorProto.FLOAT)
    masked = writer.node('Mul', [scores, mask], 'best.scores')
    return writer.node('Transpose', [masked], 'best.by_class', perm=[0, 2, 1])


def _column(writer: GraphWriter, chosen: str, index: int) -> str:
    return writer.node('Gather', [chosen, writer.integers(index)], f'nms.{index}', axis=1)
