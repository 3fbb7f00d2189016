"""Edited models compute what they did: weights widened or unfolded, half precision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import platform
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, TensorProto
import onnxruntime
import pytest

from yolov7_trt_ros.engine.model_files import find_model
from yolov7_trt_ros.errors import BuildError, ModelFormatError
from yolov7_trt_ros.onnx_tools.tensorrt_form import TensorRtOnnx

BuildModel = Callable[..., Path]
NANO = find_model('yolov7-nano')

# On x86-64 ONNX Runtime computes float16 in float32: only weights and layers are rounded. On
# aarch64 it adds up in float16 itself: 0.76 px were found.
HALF_PX, HALF_SCORE = (0.5, 0.01) if platform.machine() == 'x86_64' else (1.0, 0.02)


def run(model: bytes | Path, size: int = 64) -> list[np.ndarray]:
    source = model if isinstance(model, bytes) else str(model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(source, options, providers=['CPUExecutionProvider'])
    image = np.random.default_rng(1).random((1, 3, size, size), np.float32)
    return session.run(None, {session.get_inputs()[0].name: image})


def operators(edit: TensorRtOnnx) -> list[str]:
    return [node.op_type for node in edit.model.graph.node]


def test_widened_weights_are_the_same_numbers() -> None:
    edit = TensorRtOnnx(NANO)
    assert edit.widen_casts() == 58
    onnx.checker.check_model(edit.model)
    assert operators(edit).count('Cast') == 6  # those that make cell numbers floats
    kinds = {tensor.data_type for tensor in edit.model.graph.initializer}
    assert TensorProto.FLOAT16 not in kinds
    np.testing.assert_array_equal(run(edit.to_bytes())[0], run(NANO)[0])
    assert edit.widen_casts() == 0


def test_every_node_has_a_name_of_its_own() -> None:
    edit = TensorRtOnnx(NANO)
    names = [node.name for node in edit.model.graph.node]
    assert len(set(names)) == len(names)
    assert edit.node_label(1).endswith(' (Conv)')
    assert edit.node_label(len(names)) == edit.node_label(-1) == ''


def test_names_that_were_given_twice(tmp_path: Path) -> None:
    nodes = [helper.make_node('Relu', ['images'], ['a'], name='relu'),
             helper.make_node('Relu', ['a'], ['b'], name='relu'),
             helper.make_node('Relu', ['b'], ['c'])]
    model = TensorRtOnnx(save(tmp_path, nodes, [], 'c')).model
    assert [node.name for node in model.graph.node] == ['relu', 'relu_1', 'c']


def test_half_precision_is_close_and_ends_at_the_heads() -> None:
    edit = TensorRtOnnx(NANO)
    edit.widen_casts()
    edit.convert_to_half(None)
    onnx.checker.check_model(edit.model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(edit.model).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}
    for node in edit.model.graph.node:
        if node.op_type == 'Conv':
            assert kinds[node.output[0]] == TensorProto.FLOAT16
        if node.op_type in ('Sigmoid', 'Sub'):
            assert kinds[node.output[0]] == TensorProto.FLOAT
    graph = edit.model.graph
    assert [value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)] == [
        TensorProto.FLOAT, TensorProto.FLOAT,
    ]
    expected = run(NANO)[0]
    found = run(edit.to_bytes())[0]
    np.testing.assert_allclose(found[..., :4], expected[..., :4], atol=HALF_PX)
    np.testing.assert_allclose(found[..., 4:], expected[..., 4:], atol=HALF_SCORE)


def test_kept_nodes_stay_float32() -> None:
    edit = TensorRtOnnx(NANO)
    edit.widen_casts()
    edit.convert_to_half('^model[.]7')
    inferred = onnx.shape_inference.infer_shapes(edit.model).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}
    convolutions = {
        node.name: kinds[node.output[0]] for node in edit.model.graph.node
        if node.op_type == 'Conv'
    }
    for name, kind in convolutions.items():
        kept = name.startswith('model.7')
        assert kind == (TensorProto.FLOAT if kept else TensorProto.FLOAT16), name
    found, expected = run(edit.to_bytes())[0], run(NANO)[0]
    np.testing.assert_allclose(found[..., 4:], expected[..., 4:], atol=HALF_SCORE)
    with pytest.raises(BuildError, match="'nothing' finds none of the"):
        TensorRtOnnx(NANO).convert_to_half('nothing')


def test_half_precision_of_a_model_without_convolutions(build: BuildModel) -> None:
    path = build('brightness_grid')
    edit = TensorRtOnnx(path)
    edit.convert_to_half(None)
    np.testing.assert_array_equal(run(edit.to_bytes())[0], run(path)[0])


@pytest.mark.parametrize('per_channel', [False, True])
def test_unfolded_weights_compute_the_same(tmp_path: Path, per_channel: bool) -> None:
    path = quantised_model(tmp_path, per_channel=per_channel)
    edit = TensorRtOnnx(path)
    assert edit.is_quantised
    assert edit.unfold_quantised_weights() == 2
    onnx.checker.check_model(edit.model, full_check=True)
    stored = {tensor.name: tensor.data_type for tensor in edit.model.graph.initializer}
    for node in edit.model.graph.node:
        if node.op_type == 'DequantizeLinear':
            assert node.input[0] not in stored
    np.testing.assert_allclose(run(edit.to_bytes())[0], run(path)[0], atol=1e-6)
    assert edit.unfold_quantised_weights() == 0


def test_quantised_models_in_half_precision(tmp_path: Path) -> None:
    edit = TensorRtOnnx(quantised_model(tmp_path, per_channel=True))
    edit.unfold_quantised_weights()
    edit.convert_to_half(None)
    scales = {node.input[1] for node in edit.model.graph.node if node.op_type == 'QuantizeLinear'}
    kinds = {tensor.name: tensor.data_type for tensor in edit.model.graph.initializer}
    assert {kinds[name] for name in scales} == {TensorProto.FLOAT16}


def test_the_nms_plugin_is_cut_off_or_kept(build: BuildModel) -> None:
    path = build('ends_in_plugin')
    assert not TensorRtOnnx(path).has_nms_plugin
    kept = TensorRtOnnx(path, keep_nms_plugin=True)
    assert kept.has_nms_plugin
    assert [shape for _, shape, _ in kept.output_shapes()][0] == (1, 1)


def test_open_shapes_of_the_kept_plugin_come_from_its_attributes(build: BuildModel) -> None:
    model = onnx.load(str(build('ends_in_plugin', max_output_boxes=[77])))
    for value in model.graph.output:
        for side in value.type.tensor_type.shape.dim:
            side.dim_param = 'open'
    path = build('ends_in_plugin').with_name('open.onnx')
    onnx.save(model, str(path))
    shapes = [shape for _, shape, _ in TensorRtOnnx(path, keep_nms_plugin=True).output_shapes()]
    assert shapes == [(None, 1), (None, 77, 4), (None, 77), (None, 77)]


def test_shape_nodes_with_bounds_become_slices_of_the_whole_shape(tmp_path: Path) -> None:
    bounds = [{}, {'start': 2}, {'start': 1, 'end': 3}, {'end': -1}, {'start': -2}]
    nodes = [
        onnx.helper.make_node('Shape', ['images'], [f'shape{i}'], **each)
        for i, each in enumerate(bounds)
    ]
    names = [f'shape{i}' for i in range(len(bounds))]
    nodes.append(onnx.helper.make_node('Concat', names, ['output'], axis=0))
    graph = onnx.helper.make_graph(
        nodes, 'g',
        [onnx.helper.make_tensor_value_info('images', TensorProto.FLOAT, ('b', 3, 'h', 'w'))],
        [onnx.helper.make_tensor_value_info('output', TensorProto.INT64, ('n',))],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid('', 17)])
    model.ir_version = 8
    path = tmp_path / 'shapes.onnx'
    onnx.save(model, str(path))
    edit = TensorRtOnnx(path)
    assert not any(
        node.attribute for node in edit.model.graph.node if node.op_type == 'Shape'
    )
    image = np.zeros((2, 3, 5, 7), np.float32)
    before, after = (
        onnxruntime.InferenceSession(data, providers=['CPUExecutionProvider']).run(
            None, {'images': image}
        )[0] for data in (path.read_bytes(), edit.to_bytes())
    )
    assert before.tolist() == after.tolist() == [2, 3, 5, 7, 5, 7, 3, 5, 2, 3, 5, 5, 7]


@pytest.mark.parametrize('data', [b'', b'no model', b'\x08\x08', bytes(100)])
def test_what_is_no_model(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / 'bad.onnx'
    path.write_bytes(data)
    with pytest.raises(ModelFormatError, match=r'bad\.onnx is not'):
        TensorRtOnnx(path)
    with pytest.raises(ModelFormatError, match='missing'):
        TensorRtOnnx(tmp_path / 'missing.onnx')


def save(folder: Path, nodes: list[Any], initializers: list[Any], output: str) -> Path:
    image = helper.make_tensor_value_info('images', TensorProto.FLOAT, (1, 3, 64, 64))
    result = helper.make_tensor_value_info(output, TensorProto.FLOAT, tuple('nchw'))
    graph = helper.make_graph(nodes, 'tiny', [image], [result], initializers)
    path = folder / 'tiny.onnx'
    path.write_bytes(helper.make_model(
        graph, opset_imports=[helper.make_opsetid('', 13)], ir_version=8
    ).SerializeToString())
    return path


def quantised_model(folder: Path, *, per_channel: bool) -> Path:
    """One convolution with int8 weights and int32 biases, as ONNX Runtime quantises it."""
    random = np.random.default_rng(0)
    count = 4 if per_channel else 1
    scales = (random.random(count).astype(np.float32) + 0.5) / 100
    zeros = random.integers(-3, 3, count).astype(np.int8)
    if not per_channel:
        scales, zeros = scales.reshape(()), zeros.reshape(())
    weights = random.integers(-127, 127, (4, 3, 3, 3)).astype(np.int8)
    biases = random.integers(-1000, 1000, 4).astype(np.int32)
    arrays = {
        'w': weights, 'w_scale': scales, 'w_zero': zeros, 'b': biases,
        'b_scale': scales, 'x_scale': np.array(1 / 127, np.float32),
        'x_zero': np.array(0, np.int8),
    }
    axis = {'axis': 0} if per_channel else {}
    nodes = [
        helper.make_node('QuantizeLinear', ['images', 'x_scale', 'x_zero'], ['x_q']),
        helper.make_node('DequantizeLinear', ['x_q', 'x_scale', 'x_zero'], ['x']),
        helper.make_node('DequantizeLinear', ['w', 'w_scale', 'w_zero'], ['w_f'], **axis),
        helper.make_node('DequantizeLinear', ['b', 'b_scale'], ['b_f'], **axis),
        helper.make_node('Conv', ['x', 'w_f', 'b_f'], ['output'], kernel_shape=[3, 3]),
    ]
    return save(
        folder, nodes,
        [numpy_helper.from_array(value, name) for name, value in arrays.items()],
        'output',
    )
