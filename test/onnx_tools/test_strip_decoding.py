"""Grid models run without their decoding where ours does the same, and only there."""

from __future__ import annotations

import json
from pathlib import Path
import sys
from typing import Any

import numpy as np
import onnx
import onnx_models
import pytest

from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.forms.model_spec import ANCHOR_SETS, ModelSpec, OutputLayout
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.preprocess import decode_compressed
from yolov7_trt_ros.engine import onnx_detector
from yolov7_trt_ros.engine.model_files import find_model
from yolov7_trt_ros.engine.onnx_detector import OnnxDetector
from yolov7_trt_ros.onnx_tools.strip_decoding import load_without_decoding, strip_decoding

NANO = find_model('yolov7-nano')
BOTH = DetectSettings(score_threshold=1e-4, iou_threshold=0.9, multi_label=True)


def images(count: int = 4) -> list[ImageView]:
    random = np.random.default_rng(3)
    return [
        ImageView.from_array(random.integers(0, 256, (90 + 20 * n, 160, 3), np.uint8))
        for n in range(count)
    ]


def spec_of(path: Path) -> ModelSpec:
    detector = OnnxDetector(path, network_size=96, keep_grid=True)
    detector.close()
    return detector.spec


def layouts(path: Path, **options: Any) -> tuple[OutputLayout, OutputLayout]:
    """Return what a model is said to be, and what runs."""
    detector = OnnxDetector(path, **options)
    detector.close()
    return detector.spec.layout, detector._runs.layout


def assert_same_detections(path: Path, pictures: list[ImageView], **options: Any) -> None:
    cut, kept = OnnxDetector(path, **options), OnnxDetector(path, keep_grid=True, **options)
    assert (cut._runs.layout, kept._runs.layout) == (OutputLayout.RAW_HEADS, OutputLayout.GRID)
    found = 0
    for image in pictures:
        ours, theirs = cut.detect(image, BOTH)[0], kept.detect(image, BOTH)[0]
        assert len(ours) == len(theirs)
        for box, score, kind in zip(ours.boxes_xyxy, ours.scores, ours.class_ids, strict=True):
            apart = np.abs(theirs.boxes_xyxy - box).max(axis=1) + np.abs(theirs.scores - score)
            assert apart[theirs.class_ids == kind].min() < 1e-2  # of equal scores any is first
        found += len(ours)
    assert found > 0


# ---- what is cut


def test_the_embedded_model() -> None:
    model = onnx.load(str(NANO))
    nodes = len(model.graph.node)
    spec = strip_decoding(model, spec_of(NANO))
    assert spec is not None
    assert spec.layout is OutputLayout.RAW_HEADS
    assert spec.anchors == ANCHOR_SETS['yolov7-tiny']
    assert spec.outputs == tuple(value.name for value in model.graph.output)
    assert len(model.graph.node) < nodes - 80
    onnx.checker.check_model(model, full_check=True)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata['anchors'])[2][2] == [373, 326]
    assert 'person' in metadata['names']  # what it said before it still says
    read = {name for node in model.graph.node for name in node.input}
    assert {tensor.name for tensor in model.graph.initializer} <= read
    assert_same_detections(NANO, images(), network_size=160)


@pytest.mark.parametrize('form', ['grid', 'grid_dynbatch'])
def test_another_exporter(shared_data: Path, form: str) -> None:
    path = shared_data / f'vision/models/yolov5n_640_{form}.onnx'
    folder = shared_data / 'vision/val2017/images'
    pictures = [decode_compressed(each.read_bytes()) for each in sorted(folder.glob('*.jpg'))[:4]]
    assert_same_detections(path, pictures)
    found = load_without_decoding(path, spec_of(path))
    assert found is not None and found[1].anchors == ANCHOR_SETS['yolov7-tiny']


@pytest.mark.parametrize('options', [
    {}, {'num_classes': 1}, {'num_classes': 7}, {'implicit': True},
], ids=str)
def test_anchors_come_from_what_is_cut(tmp_path: Path, options: dict[str, Any]) -> None:
    path = onnx_models.conv_grid(tmp_path / 'model.onnx', **options)
    found = load_without_decoding(path, spec_of(path))
    assert found is not None
    assert found[1].anchors == onnx_models.CONV_ANCHORS
    name = 'shifted_8' if options.get('implicit') else 'conv_8'
    assert found[1].outputs[0] == name
    assert_same_detections(path, images())


def test_half_precision(tmp_path: Path) -> None:
    path = onnx_models.conv_grid(tmp_path / 'model.onnx', half=True)
    found = load_without_decoding(path, spec_of(path))
    assert found is not None
    assert np.allclose(found[1].anchors, onnx_models.CONV_ANCHORS, rtol=1e-3)
    outputs = onnx.load_from_string(found[0]).graph.output
    assert {value.type.tensor_type.elem_type for value in outputs} == {onnx.TensorProto.FLOAT16}
    assert layouts(path) == (OutputLayout.GRID, OutputLayout.RAW_HEADS)


def test_sizes_that_only_the_grid_had_baked_in_are_free(tmp_path: Path) -> None:
    """So is YOLOv7's --dynamic export: free by name, with the grid of one size inside."""
    path = onnx_models.conv_grid(tmp_path / 'model.onnx', sides=(64, 'width'))
    assert OnnxDetector(path, network_size=96, keep_grid=True).spec.fixed_wh == (96, 64)
    square = onnx_models.conv_grid(tmp_path / 'square.onnx', sides=('height', 'width'))
    model = onnx.load(str(square))
    spec = spec_of(path)
    cut = strip_decoding(model, spec)
    assert cut is not None
    (tmp_path / 'cut.onnx').write_bytes(model.SerializeToString())
    free = OnnxDetector(tmp_path / 'cut.onnx', network_size=128)
    assert free.spec.fixed_wh is None
    for image in images():
        free.detect(image, BOTH)


# ---- what is not


@pytest.mark.parametrize('options', [
    {'sizes': 'yolov3'}, {'strides': (32, 16, 8)}, {'reads_image': True}, {'channels': 33},
], ids=str)
def test_another_decoding_stays(tmp_path: Path, options: dict[str, Any]) -> None:
    path = onnx_models.conv_grid(tmp_path / 'model.onnx', **options)
    before = onnx.load(str(path))
    model = onnx.load(str(path))
    assert strip_decoding(model, spec_of(path)) is None
    assert model == before
    assert layouts(path) == (OutputLayout.GRID, OutputLayout.GRID)


def test_no_convolutions(tmp_path: Path) -> None:
    path = onnx_models.brightness_grid(tmp_path / 'model.onnx')
    assert load_without_decoding(path, spec_of(path)) is None


def test_other_forms_are_left_alone(shared_data: Path) -> None:
    path = shared_data / 'vision/models/yolov5n_640_end2end_ort.onnx'
    assert load_without_decoding(path, spec_of(path)) is None


def test_without_the_onnx_package(monkeypatch: pytest.MonkeyPatch) -> None:
    assert OnnxDetector(NANO, network_size=64).status() == {'decoding': 'ours'}
    kept = OnnxDetector(NANO, network_size=64, keep_grid=True)
    assert kept.status() == {'decoding': 'in the model'}
    monkeypatch.setitem(sys.modules, 'onnx', None)
    monkeypatch.setattr(onnx_detector, 'find_spec', lambda name: None)
    assert layouts(NANO, network_size=64) == (OutputLayout.GRID, OutputLayout.GRID)
    assert kept.status() == {'decoding': 'in the model (pip install onnx: ours is faster)'}


def test_a_model_too_large_for_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*_: Any) -> None:
        raise ValueError('exceeds maximum protobuf size of 2GB')

    monkeypatch.setattr(onnx.ModelProto, 'SerializeToString', too_large)
    assert layouts(NANO, network_size=64) == (OutputLayout.GRID, OutputLayout.GRID)
