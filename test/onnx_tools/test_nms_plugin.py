"""Models that end in TensorRT's EfficientNMS plugin: cut, and run with our own NMS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import AttributeProto
import pytest

from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.forms.model_spec import OutputLayout
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.engine.onnx_detector import OnnxDetector
from yolov7_trt_ros.errors import ModelFormatError, ModelLayoutError
from yolov7_trt_ros.onnx_tools.nms_plugin import strip_nms_plugin

IMAGE = ImageView.from_array(np.zeros((64, 64, 3), np.uint8))
CORNERS = [[10, 20, 30, 40], [40, 10, 60, 30]]
CENTRES = [[0, 0, 25, 40], [10, 0, 64, 25]]  # the same numbers read as centre and size, clipped


@pytest.mark.parametrize(('attributes', 'boxes'), [
    ({}, CORNERS),
    ({'box_coding': 0}, CORNERS),
    ({'box_coding': [0]}, CORNERS),
    ({'box_coding': 1}, CENTRES),
    ({'box_coding': [1], 'background_class': [-1], 'score_activation': [0]}, CENTRES),
])
def test_box_coding_is_read_as_int_and_as_ints(
    build: Any, attributes: dict[str, Any], boxes: list[list[float]]
) -> None:
    path = build('ends_in_plugin', num_classes=3, **attributes)
    detector = OnnxDetector(path)
    assert detector.spec.layout is OutputLayout.BOXES_AND_SCORES
    found, _ = detector.detect(IMAGE, DetectSettings())
    assert found.boxes_xyxy.tolist() == boxes
    assert found.scores.tolist() == [0.75, 0.5]
    assert found.class_ids.tolist() == [1, 2]


def test_the_built_models_have_both_attribute_types(build: Any) -> None:
    """The test above is worth something only if they do."""
    from onnx import load

    kinds = set()
    for value in (1, [1]):
        model = load(build('ends_in_plugin', box_coding=value))
        kinds.add(model.graph.node[-1].attribute[0].type)
    assert kinds == {AttributeProto.INT, AttributeProto.INTS}


@pytest.mark.parametrize('scores_first', [False, True])
def test_four_classes_are_not_ambiguous_since_the_plugin_tells(
    build: Any, scores_first: bool
) -> None:
    path = build('ends_in_plugin', num_classes=4, scores_first=scores_first)
    found, _ = OnnxDetector(path).detect(IMAGE, DetectSettings())
    assert found.class_ids.tolist() == [1, 3]
    assert found.boxes_xyxy.tolist() == CORNERS


def test_a_float16_model(build: Any) -> None:
    detector = OnnxDetector(build('ends_in_plugin', half=True))
    found, _ = detector.detect(IMAGE, DetectSettings())
    assert found.boxes_xyxy.tolist() == CORNERS
    assert found.scores.tolist() == [0.75, 0.5]


@pytest.mark.parametrize('activation', [1, [1]])
def test_a_plugin_that_applies_a_sigmoid_is_refused(build: Any, activation: Any) -> None:
    with pytest.raises(ModelLayoutError, match='score_activation'):
        OnnxDetector(build('ends_in_plugin', score_activation=activation))


def test_a_model_without_the_plugin_is_left_alone(build: Any) -> None:
    assert strip_nms_plugin(build('brightness_grid')) is None


@pytest.mark.parametrize('content', [b'\xff' * 50, b'no model'])
def test_what_is_not_onnx_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / 'broken.onnx'
    path.write_bytes(content)
    with pytest.raises(ModelFormatError, match='broken.onnx is not a readable ONNX file'):
        strip_nms_plugin(path)
