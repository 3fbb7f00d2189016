"""The mixed model: float16 backbone, float32 heads."""

from __future__ import annotations

from pathlib import Path
import re

import numpy as np
import onnx
from onnx import numpy_helper, TensorProto
import onnxruntime
import pytest
from quantise_networks import branching

from yolov7_trt_ros.engine.model_files import find_model
from yolov7_trt_ros.errors import ExportError
from yolov7_trt_ros.onnx_tools.float_source import load_source
from yolov7_trt_ros.onnx_tools.graph import FloatModel
from yolov7_trt_ros.onnx_tools.half_precision import make_mixed
from yolov7_trt_ros.onnx_tools.tensorrt_form import TensorRtOnnx


def test_the_embedded_model() -> None:
    model = FloatModel(load_source(find_model('yolov7-nano')))
    mixed = make_mixed(model, model.heads)
    onnx.checker.check_model(mixed, full_check=True)
    kinds = {tensor.name: tensor.data_type for tensor in mixed.graph.initializer}
    for node in mixed.graph.node:
        if node.op_type == 'Conv':
            wanted = TensorProto.FLOAT if node.name in model.heads else TensorProto.FLOAT16
            assert kinds[node.input[1]] == kinds[node.input[2]] == wanted, node.name
    assert mixed.graph.input == model.model.graph.input
    assert mixed.graph.output == model.model.graph.output
    assert list(mixed.metadata_props) == list(model.model.metadata_props)
    image = np.random.default_rng(0).random((1, 3, 64, 96), np.float32)
    wanted, found = (
        onnxruntime.InferenceSession(
            each.SerializeToString(), providers=['CPUExecutionProvider']
        ).run(None, {'images': image})[0]
        for each in (model.model, mixed)
    )
    difference = np.abs(found - wanted)
    assert 0 < difference[..., 4:].max() < 0.01
    assert difference[..., :4].max() < 1.0  # pixels


def test_a_weight_beyond_float16(tmp_path: Path) -> None:
    source = load_source(branching(tmp_path / 'n.onnx'))
    stored = next(each for each in source.graph.initializer if each.name == 'deep.conv.weight')
    weight = numpy_helper.to_array(stored).copy()
    weight[0, 0, 0, 0] = 1e5
    stored.CopyFrom(numpy_helper.from_array(weight, stored.name))
    model = FloatModel(source)
    with pytest.raises(ExportError, match=r'deep\.conv\.weight has values beyond.*65504.*--keep'):
        make_mixed(model, model.heads)
    mixed = make_mixed(model, (*model.heads, 'deep.conv'))
    assert any(each.name == 'deep.conv.weight' for each in mixed.graph.initializer)


def test_a_build_in_fp16_leaves_the_heads_of_a_mixed_model_alone(tmp_path: Path) -> None:
    model = FloatModel(load_source(find_model('yolov7-nano')))
    path = tmp_path / 'mixed.onnx'
    path.write_bytes(make_mixed(model, model.heads).SerializeToString())
    edit = TensorRtOnnx(path)
    pattern = edit.kept_by_type()
    assert pattern is not None
    convs = [node.name for node in edit.model.graph.node if node.op_type == 'Conv']
    assert {name for name in convs if re.search(pattern, name)} == set(model.heads)
    assert TensorRtOnnx(find_model('yolov7-nano')).kept_by_type() is None
