"""One real network (YOLOv5n, COCO) in five export forms finds the same on real photographs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from yolov7_trt_ros.core.boxes import box_iou
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.forms.model_spec import ANCHOR_SETS, OutputLayout
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.preprocess import decode_compressed
from yolov7_trt_ros.engine.onnx_detector import OnnxDetector

# What is baked into the end2end models' NMS nodes.
BAKED = DetectSettings(score_threshold=0.35, iou_threshold=0.65, max_detections=100)
FORMS = {
    'grid_dynbatch': (OutputLayout.GRID, {}),
    'rawheads': (OutputLayout.RAW_HEADS, {'anchors': ANCHOR_SETS['yolov7-tiny']}),
    'end2end_trt': (OutputLayout.BOXES_AND_SCORES, {}),
    'end2end_ort': (OutputLayout.END2END_ORT, {}),
}

Found = Callable[[], list[Detections]]


@pytest.fixture(scope='module')
def photographs(shared_data: Path) -> list[ImageView]:
    """Eight pictures, landscape and portrait; in one of them the network finds nothing."""
    folder = shared_data / 'vision' / 'val2017' / 'images'
    return [decode_compressed(path.read_bytes()) for path in sorted(folder.glob('*.jpg'))[:8]]


@pytest.fixture(scope='module')
def from_grid(shared_data: Path, photographs: list[ImageView]) -> Iterator[list[Detections]]:
    detector = OnnxDetector(shared_data / 'vision/models/yolov5n_640_grid.onnx')
    assert detector.spec.layout is OutputLayout.GRID
    yield [detector.detect(image, BAKED)[0] for image in photographs]
    detector.close()


def assert_same(one: Detections, other: Detections) -> None:
    """Each detection of one is in the other, within half a pixel and 0.005 of the score."""
    assert len(one) == len(other)
    if not len(one):
        return
    pairs = box_iou(one.boxes_xyxy, other.boxes_xyxy)
    pairs[one.class_ids[:, None] != other.class_ids[None, :]] = 0
    match = pairs.argmax(axis=1)
    assert len(set(match.tolist())) == len(one)
    assert np.abs(one.boxes_xyxy - other.boxes_xyxy[match]).max() <= 0.5
    assert np.abs(one.scores - other.scores[match]).max() <= 0.005


@pytest.mark.parametrize('form', FORMS)
def test_the_form_finds_what_the_grid_finds(
    form: str, shared_data: Path, photographs: list[ImageView], from_grid: list[Detections]
) -> None:
    layout, options = FORMS[form]
    path = shared_data / f'vision/models/yolov5n_640_{form}.onnx'
    detector = OnnxDetector(path, **options)
    assert detector.spec.layout is layout
    assert detector.spec.fixed_wh == (640, 640)
    for image, expected in zip(photographs, from_grid, strict=True):
        assert_same(expected, detector.detect(image, BAKED)[0])
    detector.close()


def test_there_is_something_to_find(from_grid: list[Detections]) -> None:
    assert sum(map(len, from_grid)) >= 15
    assert {found.source_wh[0] > found.source_wh[1] for found in from_grid} == {True, False}


def test_a_grid_of_one_anchor_a_cell(shared_data: Path, photographs: list[ImageView]) -> None:
    """YOLOX-Nano in YOLOv7's form, and with each row three times: the same model."""
    one, three = (
        OnnxDetector(shared_data / f'vision/models/yolox_nano_{form}_fp16w.onnx')
        for form in ('as_yolov7', 'rows3')
    )
    assert one.spec.evidence[0] == '8400 rows: 1 anchor a cell, strides 8, 16, 32'
    total = 0
    for image in photographs:
        found, wanted = (each.detect(image, BAKED)[0] for each in (one, three))
        assert_same(found, wanted)
        total += len(found)
    assert total >= 15
