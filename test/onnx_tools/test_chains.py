"""Chains of convolution and activation in ONNX models."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper, numpy_helper, TensorProto
import pytest

from yolov7_trt_ros.engine.model_files import find_model
from yolov7_trt_ros.errors import ModelFormatError
from yolov7_trt_ros.onnx_tools.chains import Chain, find_chains, load_chains


def model(*nodes: Any, outputs: tuple[str, ...] = ('y',)) -> Any:
    """Return a model of nodes; what is called `w...` is a constant."""
    constants = sorted({name for node in nodes for name in node.input if name.startswith('w')})
    values = [numpy_helper.from_array(np.ones(1, np.float32), name) for name in constants]
    graph = helper.make_graph(
        list(nodes), 'g', [helper.make_tensor_value_info('x', TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs], values,
    )
    return helper.make_model(graph)


def node(operator: str, inputs: str, output: str) -> Any:
    return helper.make_node(operator, inputs.split(), [output], name=f'{operator}_{output}')


def found(*nodes: Any, outputs: tuple[str, ...] = ('y',)) -> list[Chain]:
    return list(find_chains(model(*nodes, outputs=outputs)))


CONV = node('Conv', 'x w0', 'c')


@pytest.mark.parametrize(
    'operator', ['LeakyRelu', 'Relu', 'Clip', 'HardSwish', 'PRelu', 'Sigmoid']
)
def test_an_activation_of_one_node(operator: str) -> None:
    (chain,) = found(CONV, node(operator, 'c', 'y'))
    assert chain.kind == f'Conv + {operator}'
    assert chain.name == 'Conv_c'
    assert [each.names for each in chain.nodes] == [
        ('Conv_c', 'c', 'node_of_c'), (f'{operator}_y', 'y', 'node_of_y')
    ]
    assert chain.feeds == ('output',)
    assert (chain.also_read_by, chain.quantised_inside) == ((), False)


def test_nodes_without_names_are_called_by_their_output() -> None:
    nodes = [helper.make_node('Conv', ['x', 'w0'], ['c']), helper.make_node('Relu', ['c'], ['y'])]
    (chain,) = found(*nodes)
    assert chain.nodes[0].names == ('c', 'node_of_c')


@pytest.mark.parametrize('swapped', [False, True])
def test_silu_is_two_nodes(swapped: bool) -> None:
    factors = 's c' if swapped else 'c s'
    (chain,) = found(CONV, node('Sigmoid', 'c', 's'), node('Mul', factors, 'y'))
    assert chain.kind == 'Conv + SiLU'
    assert [each.operator for each in chain.nodes] == ['Conv', 'Sigmoid', 'Mul']
    assert chain.also_read_by == ()


def test_mish_is_three_nodes() -> None:
    (chain,) = found(CONV, node('Softplus', 'c', 's'), node('Tanh', 's', 't'),
                     node('Mul', 'c t', 'y'))
    assert chain.kind == 'Conv + Mish'


def test_a_sigmoid_times_something_else_is_no_silu() -> None:
    (chain,) = found(CONV, node('Sigmoid', 'c', 's'), node('Mul', 's x', 'y'))
    assert chain.kind == 'Conv + Sigmoid'
    assert chain.feeds == ('Mul Mul_y',)


def test_batch_normalisation_belongs_to_it() -> None:
    normalised = node('BatchNormalization', 'c w1 w2 w3 w4', 'b')
    (chain,) = found(CONV, normalised, node('Relu', 'b', 'y'))
    assert chain.kind == 'Conv + Relu'
    assert [each.operator for each in chain.nodes] == ['Conv', 'BatchNormalization', 'Relu']
    assert found(CONV, node('BatchNormalization', 'c w1 w2 w3 w4', 'y')) == []


def test_a_residual_sum_goes_to_the_later_convolution() -> None:
    (chain,) = found(
        CONV, node('Conv', 'x w1', 'd'), node('Add', 'c d', 'a'), node('Relu', 'a', 'y')
    )
    assert chain.kind == 'Conv + Add + Relu'
    assert chain.name == 'Conv_d'


def test_a_constant_that_is_added_is_no_residual() -> None:
    assert found(CONV, node('Add', 'c w1', 'y')) == []


def test_no_chain_without_an_activation() -> None:
    assert found(CONV, node('Reshape', 'c w1', 'y')) == []
    assert found(CONV, node('MaxPool', 'c', 'p'), node('Relu', 'p', 'y')) == []


def test_who_else_reads() -> None:
    (chain,) = found(CONV, node('Relu', 'c', 'y'), node('MaxPool', 'c', 'z'), outputs=('y', 'z'))
    assert chain.also_read_by == ('MaxPool_z',)


def test_what_reads_the_result_is_found_past_casts_and_quantisation() -> None:
    (chain,) = found(
        CONV, node('Relu', 'c', 'r'), node('QuantizeLinear', 'r w1', 'q'),
        node('DequantizeLinear', 'q w1', 'd'), node('Concat', 'd x', 'y'),
    )
    assert chain.feeds == ('Concat Concat_y',)
    assert not chain.quantised_inside


def test_casts_may_stand_inside_and_quantisation_is_noted() -> None:
    (chain,) = found(CONV, node('Cast', 'c', 'h'), node('Relu', 'h', 'y'))
    assert (chain.kind, chain.quantised_inside) == ('Conv + Relu', False)
    (chain,) = found(
        CONV, node('QuantizeLinear', 'c w1', 'q'), node('DequantizeLinear', 'q w1', 'd'),
        node('LeakyRelu', 'd', 'y'),
    )
    assert (chain.kind, chain.quantised_inside) == ('Conv + LeakyRelu', True)


def test_the_embedded_model() -> None:
    chains = load_chains(find_model('yolov7-nano'))
    assert collections.Counter(chain.kind for chain in chains) == {'Conv + LeakyRelu': 55}
    by_name = {chain.name: chain for chain in chains}
    assert by_name['model.4.conv'].feeds == ('Conv model.5.conv', 'Concat model.6')
    assert sum(any(r.startswith('Concat') for r in chain.feeds) for chain in chains) == 41


def test_there_and_back() -> None:
    for chain in load_chains(find_model('yolov7-nano')):
        assert Chain.from_record(chain.to_record()) == chain


@pytest.mark.parametrize('record', [
    {}, [], 'a', {'kind': 'x', 'nodes': 3}, {'kind': 'x', 'nodes': [3], 'feeds': []},
    {'kind': 'x', 'nodes': [], 'feeds': [], 'also_read_by': [], 'quantised_inside': False},
    {'kind': 'x', 'nodes': [{'operator': 'Conv', 'names': []}], 'feeds': [], 'also_read_by': [],
     'quantised_inside': False},
])
def test_records_that_are_something_else(record: Any) -> None:
    with pytest.raises(ModelFormatError, match='save them again'):
        Chain.from_record(record)


def test_files_that_are_something_else(tmp_path: Path) -> None:
    path = tmp_path / 'm.onnx'
    path.write_bytes(b'no model')
    with pytest.raises(ModelFormatError, match=r'm\.onnx is not a readable ONNX file'):
        load_chains(path)


def test_yolov5_has_silu_chains(shared_data: Path) -> None:
    chains = load_chains(shared_data / 'vision' / 'models' / 'yolov5n_640_grid.onnx')
    assert collections.Counter(chain.kind for chain in chains) == {'Conv + SiLU': 57}
