"""Where Q/DQ pairs lie, what they hold, and that the model still runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
import onnx
from onnx import numpy_helper
import onnxruntime
import pytest
from quantise_networks import branching, NetworkWriter

from yolov7_trt_ros.engine.model_files import find_model
from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.model.quantize.calibration import calibrate
from yolov7_trt_ros.model.quantize.placement import place
from yolov7_trt_ros.model.quantize.qdq import channel_ranges, describe, quantise
from yolov7_trt_ros.onnx_tools.float_source import load_source
from yolov7_trt_ros.onnx_tools.graph import FloatModel

Q, DQ = 'QuantizeLinear', 'DequantizeLinear'


def blob(side: int = 32, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random((1, 3, side, side), np.float32)


def run(model: Any, image: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=['CPUExecutionProvider']
    )
    result: NDArray[np.float32] = session.run(None, {'images': image})[0]
    return result


def by_output(model: Any) -> dict[str, Any]:
    return {name: node for node in model.graph.node for name in node.output}


@pytest.fixture(scope='module')
def network(tmp_path_factory: pytest.TempPathFactory) -> FloatModel:
    path = tmp_path_factory.mktemp('net') / 'net.onnx'
    return FloatModel(load_source(branching(path)))


@pytest.fixture(scope='module')
def nano() -> FloatModel:
    return FloatModel(load_source(find_model('yolov7-nano')))


@pytest.fixture(scope='module')
def quantised_nano(nano: FloatModel) -> Any:
    calibration = calibrate(nano, [blob(96, seed) for seed in range(2)])
    return quantise(nano, calibration, method='mse', kept=nano.heads)


# ---- placement


def test_what_is_read_through_pairs(network: FloatModel) -> None:
    assert network.heads == ('head',)
    placement = place(network, network.heads)
    reads = {tensor: sorted(names) for tensor, names in placement.reads.items()}
    assert reads == {
        'images': ['stem.conv'],
        'stem': ['left.conv', 'right.conv'],
        'left': ['joined'], 'right': ['joined'], 'joined': ['merged.conv'],
        'merged': ['neck', 'pool'], 'pool': ['deep.conv'],
        'deep': ['up'], 'up': ['neck'], 'neck': ['thin.conv'],
        'thin': ['block.conv', 'sum'],  # the skip of the residual, not the fresh 'block'
        'sum': ['last.conv'],
    }


def test_what_shares_a_scale(network: FloatModel) -> None:
    groups = {frozenset(group) for group in place(network, network.heads).groups}
    assert groups == {
        frozenset(group.split()) for group in (
            'images', 'stem', 'left right joined', 'merged pool deep up neck', 'thin', 'sum',
        )
    }


def test_a_float_reader_leaves_the_join_float(network: FloatModel) -> None:
    reads = place(network, ('head', 'thin.conv')).reads
    assert 'neck' not in reads and 'up' not in reads and 'deep' not in reads
    assert reads['merged'] == {'pool'}
    everything = place(network, network.convs)
    assert not everything.reads and not everything.convs


def test_linear_resize_does_not_share(tmp_path: Path) -> None:
    net = NetworkWriter()
    first = net.leaky('images', 'first', (3, 4))
    scales = net.store('twice', np.array([1, 1, 2, 2], np.float32))
    up = net.node('Resize', [first, '', scales], 'up', mode='linear')
    net.conv(net.leaky(up, 'second', (4, 4)), 'head', (4, 4))
    model = FloatModel(load_source(net.save(tmp_path / 'n.onnx', 'head')))
    placement = place(model, model.heads)
    assert set(placement.reads) == {'images', 'up'}
    assert ('up',) in placement.groups


def test_a_join_with_a_constant_stays_float(tmp_path: Path) -> None:
    net = NetworkWriter()
    first = net.leaky('images', 'first', (3, 4))
    border = net.store('border', np.ones((1, 1, 32, 32), np.float32))
    joined = net.node('Concat', [first, border], 'joined', axis=1)
    net.conv(net.leaky(joined, 'second', (5, 4)), 'head', (4, 4))
    model = FloatModel(load_source(net.save(tmp_path / 'n.onnx', 'head')))
    assert set(place(model, model.heads).reads) == {'images', 'joined'}
    changed = quantise(model, calibrate(model, [blob()]), method='mse', kept=model.heads)
    assert np.allclose(run(changed, blob()), run(model.model, blob()), atol=0.2)


def test_a_sum_of_a_bare_convolution_is_not_split_from_it(tmp_path: Path) -> None:
    net = NetworkWriter()
    first = net.leaky('images', 'first', (3, 4))
    bare = net.conv(first, 'bare', (4, 4))
    total = net.node('Add', [bare, first], 'sum')
    net.conv(net.leaky(total, 'second', (4, 4)), 'head', (4, 4))
    model = FloatModel(load_source(net.save(tmp_path / 'n.onnx', 'head')))
    assert place(model, model.heads).reads['first'] == {'bare', 'sum'}
    assert 'bare' not in place(model, model.heads).reads


def test_kept_names_are_checked(network: FloatModel) -> None:
    assert network.find_convs('left|right') == ('left.conv', 'right.conv')
    with pytest.raises(SettingError, match='finds none of the 9 Conv nodes.*head'):
        network.find_convs('^backbone')
    with pytest.raises(SettingError, match='not a regular expression'):
        network.find_convs('(')


# ---- the pairs of the embedded model


def test_every_pair_is_symmetric_int8(nano: FloatModel, quantised_nano: Any) -> None:
    stored = {tensor.name: tensor for tensor in quantised_nano.graph.initializer}
    pairs = [node for node in quantised_nano.graph.node if node.op_type in (Q, DQ)]
    assert pairs
    for node in pairs:
        scale, zero = (numpy_helper.to_array(stored[name]) for name in node.input[1:])
        assert (scale.dtype, zero.dtype) == (np.float32, np.int8)
        assert (scale > 0).all() and not zero.any()
        axes = [entry.i for entry in node.attribute if entry.name == 'axis']
        assert axes == ([0] if scale.ndim else [])


def test_convolutions_but_the_heads_have_both_inputs_quantised(
    nano: FloatModel, quantised_nano: Any
) -> None:
    made = by_output(quantised_nano)
    convs = {node.name: node for node in quantised_nano.graph.node if node.op_type == 'Conv'}
    assert len(convs) == 58 and nano.heads == ('model.77.m.0', 'model.77.m.1', 'model.77.m.2')
    stored = {tensor.name: tensor for tensor in quantised_nano.graph.initializer}
    for name, conv in convs.items():
        weight = made.get(conv.input[1])
        if name in nano.heads:
            assert weight is None and made[conv.input[0]].op_type == 'LeakyRelu'
            continue
        assert made[conv.input[0]].op_type == weight.op_type == DQ
        channels = len(nano.weight(name))
        assert list(stored[weight.input[1]].dims) == [channels]
        assert stored[conv.input[2]].data_type == onnx.TensorProto.FLOAT


def test_nothing_is_between_a_convolution_and_its_activation(quantised_nano: Any) -> None:
    made = by_output(quantised_nano)
    fused = [node for node in quantised_nano.graph.node if node.op_type == 'LeakyRelu']
    assert len(fused) == 55
    assert {made[node.input[0]].op_type for node in fused} == {'Conv'}


def test_joined_tensors_have_one_scale(quantised_nano: Any) -> None:
    made = by_output(quantised_nano)
    stored = {tensor.name: numpy_helper.to_array(tensor)
              for tensor in quantised_nano.graph.initializer}
    readers: dict[str, list[Any]] = {}
    for node in quantised_nano.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    joins = [node for node in quantised_nano.graph.node
             if node.op_type in ('Concat', 'MaxPool', 'Resize')
             and any(reader.op_type == Q for reader in readers.get(node.output[0], ()))]
    assert len(joins) > 20
    for join in joins:
        inputs = join.input if join.op_type == 'Concat' else join.input[:1]
        scales = {float(stored[made[name].input[1]]) for name in inputs}
        scales |= {float(stored[node.input[1]]) for node in readers[join.output[0]]
                   if node.op_type == Q}
        assert len(scales) == 1, join.name


def test_the_quantised_model_computes_nearly_the_same(
    nano: FloatModel, quantised_nano: Any
) -> None:
    for side in (64, 96):  # its sizes are still free
        image = blob(side, seed=7)
        wanted, found = run(nano.model, image), run(quantised_nano, image)
        assert found.shape == wanted.shape
        difference = np.abs(found - wanted)
        assert 0 < difference[..., 4:].max() < 0.2
        assert np.median(difference[..., :4]) < 1  # pixels


def test_metadata_and_free_axes_stay(nano: FloatModel, quantised_nano: Any) -> None:
    onnx.checker.check_model(quantised_nano, full_check=True)
    assert quantised_nano.graph.input == nano.model.graph.input
    assert quantised_nano.graph.output == nano.model.graph.output
    describe(quantised_nano, 'first')
    describe(quantised_nano, json.dumps({'method': 'mse'}))
    metadata = {entry.key: entry.value for entry in quantised_nano.metadata_props}
    assert json.loads(metadata['names'])[0] == 'person'
    assert metadata['stride'] == '32'
    assert json.loads(metadata['quantisation']) == {'method': 'mse'}


def test_the_float_model_is_not_changed(network: FloatModel) -> None:
    before = network.model.SerializeToString()
    calibration = calibrate(network, [blob()])
    quantise(network, calibration, method='kl', kept=network.heads)
    assert network.model.SerializeToString() == before


# ---- weights


def test_each_channel_has_its_range() -> None:
    weights = np.zeros((3, 2, 1, 1), np.float32)
    weights[0, :, 0, 0] = [1, -4]
    weights[1, :, 0, 0] = [0.001, 0]
    assert np.allclose(channel_ranges(weights, 'max'), [4, 0.001, 0])


def test_mse_weights_round_better() -> None:
    weights = np.random.default_rng(0).normal(0, 1, (8, 64, 3, 3)).astype(np.float32)
    weights[:, 0, 0, 0] = 6
    flat = weights.reshape(8, -1)

    def error(kind: str) -> NDArray[np.float64]:
        step = channel_ranges(weights, kind)[:, None] / 127
        return np.square(flat - np.clip(np.rint(flat / step), -127, 127) * step).sum(axis=1)

    assert (error('mse') <= error('max')).all()
    assert error('mse').sum() < error('max').sum()


def test_a_dead_channel_and_a_dead_input_still_run(tmp_path: Path) -> None:
    net = NetworkWriter()
    first = net.leaky('images', 'first', (3, 4))
    dead = net.node('Mul', [first, net.store('zero', np.zeros(1, np.float32))], 'dead')
    net.conv(net.leaky(dead, 'second', (4, 4)), 'head', (4, 4))
    weight = numpy_helper.to_array(net.stored[0]).copy()
    weight[2] = 0
    net.stored[0].CopyFrom(numpy_helper.from_array(weight, net.stored[0].name))
    model = FloatModel(load_source(net.save(tmp_path / 'n.onnx', 'head')))
    changed = quantise(model, calibrate(model, [blob()]), method='minmax', kept=model.heads)
    assert np.allclose(run(changed, blob()), run(model.model, blob()), atol=1e-3)
