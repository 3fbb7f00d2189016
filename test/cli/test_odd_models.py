"""Models of odd exporters: stored tensors among the inputs, operators that nobody knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper
import pytest

from yolov7_trt_ros.cli.main import main
from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.engine.model_files import find_model
from yolov7_trt_ros.engine.onnx_detector import OnnxDetector
from yolov7_trt_ros.errors import ModelFormatError
from yolov7_trt_ros.onnx_tools.float_source import load_source
from yolov7_trt_ros.onnx_tools.model_file import load_model


def with_stored_inputs(path: Path) -> Path:
    model = onnx.load(find_model('yolov7-nano'))
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(
            tensor.name, tensor.data_type, list(tensor.dims)))
    path.write_bytes(model.SerializeToString())
    return path


def test_such_a_model_detects_the_same_and_can_be_edited(
    tmp_path: Path, photographs: Path
) -> None:
    import cv2

    image = ImageView.from_array(cv2.imread(str(photographs / 'astronaut.jpg')))
    odd = with_stored_inputs(tmp_path / 'odd.onnx')
    found = []
    for path in (find_model('yolov7-nano'), odd):
        detector = OnnxDetector(path, network_size=320)
        found.append(detector.detect(image, DetectSettings())[0])
        detector.close()
    assert len(found[0])
    np.testing.assert_allclose(found[1].boxes_xyxy, found[0].boxes_xyxy, atol=0.01)
    assert found[1].class_ids.tolist() == found[0].class_ids.tolist()
    assert [value.name for value in load_source(odd).graph.input] == ['images']


def test_a_model_of_which_all_inputs_are_stored_is_none(tmp_path: Path) -> None:
    path = tmp_path / 'model.onnx'
    stored = numpy_helper.from_array(np.zeros((1, 3, 64, 64), np.float32), 'images')
    value = helper.make_tensor_value_info('images', 1, (1, 3, 64, 64))
    out = helper.make_tensor_value_info('out', 1, (1, 3, 64, 64))
    graph = helper.make_graph(
        [helper.make_node('Relu', ['images'], ['out'])], 'g', [value], [out], [stored])
    path.write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(ModelFormatError, match='no nodes or no inputs'):
        load_model(path)


def test_an_operator_that_nobody_knows_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(find_model('yolov7-nano'))
    next(node for node in model.graph.node if node.op_type == 'Conv').domain = 'of.somebody'
    path = tmp_path / 'model.onnx'
    path.write_bytes(model.SerializeToString())
    assert main(['quantize', str(path), '--mixed', '-o', str(tmp_path / 'mixed.onnx')]) == 1
    said = capsys.readouterr().err
    assert 'error: the shapes of the model cannot be told: ' in said and 'of.somebody' in said


def test_a_batch_that_no_memory_holds_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(find_model('yolov7-nano'))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2**40
    path = tmp_path / 'model.onnx'
    path.write_bytes(model.SerializeToString())
    for words in (['info', str(path)], ['export', str(path), '-o', str(tmp_path / 'copy.onnx')]):
        assert main(words) == 1
        assert 'expected an image input of at most 1073741824 values' in capsys.readouterr().err
