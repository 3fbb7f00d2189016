"""Every way a model is brought into the common form computes the same as before."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
import onnx
from onnx import helper, numpy_helper, TensorProto
import onnxruntime
import pytest
from quantise_networks import branching, NetworkWriter

from yolov7_trt_ros.engine.model_files import find_model
from yolov7_trt_ros.errors import ModelFormatError, ModelLayoutError
from yolov7_trt_ros.model.export.onnx_input import copy_onnx
from yolov7_trt_ros.onnx_tools.edit import sub_model
from yolov7_trt_ros.onnx_tools.float_source import load_source, opset_of
from yolov7_trt_ros.onnx_tools.graph import FloatModel


def blob(side: int = 32) -> NDArray[np.float32]:
    return np.random.default_rng(1).random((1, 3, side, side), np.float32)


def run(model: Any, image: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=['CPUExecutionProvider']
    )
    results: list[NDArray[np.float32]] = session.run(None, {'images': image})
    return results


def test_the_embedded_model_is_widened_and_named() -> None:
    path = find_model('yolov7-nano')
    model = load_source(path)
    kinds = {tensor.data_type for tensor in model.graph.initializer}
    assert TensorProto.FLOAT16 not in kinds
    names = [node.name for node in model.graph.node]
    assert '' not in names and len(set(names)) == len(names)
    assert np.array_equal(run(model, blob(64))[0], run(onnx.load(str(path)), blob(64))[0])


def test_batch_norm_is_folded(tmp_path: Path) -> None:
    net = NetworkWriter()
    rng = np.random.default_rng(3)
    conv = net.conv('images', 'first', (3, 4))
    parts = [net.store(f'bn.{name}', rng.uniform(0.5, 2, 4).astype(np.float32))
             for name in ('scale', 'shift', 'mean', 'variance')]
    norm = net.node('BatchNormalization', [conv, *parts], 'norm', epsilon=1e-3)
    second = net.conv(norm, 'second', (4, 4))
    shared = net.node('BatchNormalization', [second, *parts], 'kept')
    net.node('Add', [shared, second], 'head')
    path = net.save(tmp_path / 'bn.onnx', 'head')
    model = load_source(path)
    assert [node.op_type for node in model.graph.node] == [
        'Conv', 'Conv', 'BatchNormalization', 'Add',  # the last is read twice before its norm
    ]
    assert np.allclose(run(model, blob())[0], run(onnx.load(str(path)), blob())[0], atol=1e-5)


@pytest.mark.parametrize('opset', [11, 12])
def test_older_opsets_are_raised(tmp_path: Path, opset: int) -> None:
    net = NetworkWriter(opset=opset)
    first = net.leaky('images', 'first', (3, 4))
    flat = net.node('Unsqueeze', [first], 'wide', axes=[0])
    back = net.node('Squeeze', [flat], 'narrow', axes=[0])
    halves = [f'half{index}' for index in range(2)]
    net.nodes.append(helper.make_node('Split', [back], halves, axis=1, split=[1, 3]))
    net.node('ReduceSum', [halves[1]], 'reduced', axes=[1], keepdims=1)
    net.conv('reduced', 'head', (1, 2))
    path = net.save(tmp_path / 'old.onnx', 'head')
    model = load_source(path)
    assert opset_of(model) == 13
    assert np.allclose(run(model, blob())[0], run(onnx.load(str(path)), blob())[0], atol=1e-6)


def test_an_operator_that_changed_its_meaning(tmp_path: Path) -> None:
    net = NetworkWriter(opset=12)
    net.conv(net.node('Softmax', ['images'], 'soft'), 'head', (3, 2))
    with pytest.raises(ModelFormatError, match='opset 12 and the operator Softmax.*--opset 13'):
        load_source(net.save(tmp_path / 'old.onnx', 'head'))


def test_later_opsets_stay(tmp_path: Path) -> None:
    assert opset_of(load_source(branching(tmp_path / 'n.onnx'))) == 17


def test_weights_in_constant_nodes_are_found(tmp_path: Path) -> None:
    net = NetworkWriter()
    net.conv(net.leaky('images', 'first', (3, 4)), 'head', (4, 4))
    weight = net.stored.pop(0)
    net.nodes.insert(0, helper.make_node('Constant', [], [weight.name], value=weight))
    model = FloatModel(load_source(net.save(tmp_path / 'n.onnx', 'head')))
    assert model.convs == ('first.conv', 'head')
    assert np.array_equal(model.weight('first.conv'), numpy_helper.to_array(weight))


@pytest.mark.parametrize('form', ['grid', 'grid_dynbatch', 'rawheads', 'end2end_ort',
                                  'end2end_trt'])
def test_official_exports(shared_data: Path, form: str) -> None:
    path = shared_data / f'vision/models/yolov5n_640_{form}.onnx'
    model = FloatModel(load_source(path))
    assert (len(model.convs), len(model.heads), opset_of(model.model)) == (60, 3, 13)
    if form == 'grid_dynbatch':
        wanted, found = run(onnx.load(str(path)), blob(640)), run(model.model, blob(640))
        assert np.allclose(found[0], wanted[0], atol=1e-3)


def test_a_part_has_only_what_it_needs(tmp_path: Path) -> None:
    model = load_source(branching(tmp_path / 'n.onnx'))
    part = sub_model(model, ['joined', 'stem'])
    assert {node.op_type for node in part.graph.node} == {
        'Conv', 'LeakyRelu', 'Sigmoid', 'Mul', 'Concat',
    }
    assert len(part.graph.initializer) == 6
    assert run(part, blob())[0].shape == (1, 8, 32, 32)


# ---- what is refused


def test_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / 'bad.onnx').write_bytes(b'no model')
    with pytest.raises(ModelFormatError, match=r'bad\.onnx'):
        load_source(tmp_path / 'bad.onnx')
    with pytest.raises(ModelFormatError, match='is not a readable ONNX file'):
        load_source(tmp_path / 'missing.onnx')
    (tmp_path / 'empty.onnx').write_bytes(b'')
    with pytest.raises(ModelFormatError, match='no nodes'):
        load_source(tmp_path / 'empty.onnx')


def test_weights_that_are_cut_off_or_not_there(tmp_path: Path) -> None:
    whole, path = onnx.load(str(branching(tmp_path / 'n.onnx'))), tmp_path / 'bad.onnx'
    onnx.save_model(whole, str(path), save_as_external_data=True, location='data',
                    size_threshold=0)
    assert load_source(path).graph.node
    os.truncate(tmp_path / 'data', 100)
    with pytest.raises(ModelFormatError, match='lie beyond the end of .*truncated'):
        load_source(path)
    with pytest.raises(ModelFormatError, match='lie beyond the end of .*truncated'):
        copy_onnx(path, tmp_path / 'copy.onnx')
    short = onnx.load(str(tmp_path / 'n.onnx'))
    short.graph.initializer[0].raw_data = b'123'
    onnx.save(short, str(path))
    with pytest.raises(ModelFormatError, match='is damaged: .* have 3 bytes, expected 864'):
        load_source(path)
    bare = onnx.load(str(tmp_path / 'n.onnx'))
    conv = next(node for node in bare.graph.node if node.op_type == 'Conv')
    del conv.input[1:]
    onnx.save(bare, str(path))
    with pytest.raises(ModelFormatError, match='has no weights'):
        load_source(path)


def test_an_opset_that_is_too_old(tmp_path: Path) -> None:
    path = branching(tmp_path / 'n.onnx')
    model = onnx.load(str(path))
    model.opset_import[0].version = 9
    onnx.save(model, str(path))
    with pytest.raises(ModelFormatError, match='opset 9, at least 11.*--opset 13'):
        load_source(path)


def test_nothing_to_quantise(tmp_path: Path) -> None:
    net = NetworkWriter()
    net.node('Relu', ['images'], 'output')
    with pytest.raises(ModelLayoutError, match='has no Conv nodes.*Relu'):
        load_source(net.save(tmp_path / 'n.onnx', 'output'))


def test_float16_models_are_refused(tmp_path: Path) -> None:
    net = NetworkWriter()
    net.conv('images', 'head', (3, 4), dtype=np.float16)
    path = net.save(tmp_path / 'half.onnx', 'head', TensorProto.FLOAT16)
    with pytest.raises(ModelLayoutError, match='computes in float16.*head has float16 weights'):
        load_source(path)


def test_a_quantised_model_is_refused(tmp_path: Path) -> None:
    net = NetworkWriter()
    scale = net.store('scale', np.array(0.1, np.float32))
    zero = net.store('zero', np.array(0, np.int8))
    net.node('QuantizeLinear', ['images', scale, zero], 'q')
    net.node('DequantizeLinear', ['q', scale, zero], 'dq')
    net.conv('dq', 'head', (3, 4))
    with pytest.raises(ModelLayoutError, match='is quantised already.*QuantizeLinear'):
        load_source(net.save(tmp_path / 'n.onnx', 'head'))
