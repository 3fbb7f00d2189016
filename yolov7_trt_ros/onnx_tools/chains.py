"""
Find convolutions followed by an activation that TensorRT could fuse.

A chain is a convolution and what follows it element by element: batch normalisation, an activation
of one node (LeakyRelu, Relu, ...) or of several (SiLU as Sigmoid and Mul, Mish), a residual Add.

"""

from __future__ import annotations

from collections.abc import Iterable
import dataclasses
from pathlib import Path
from typing import Any

from yolov7_trt_ros.errors import ModelFormatError
from yolov7_trt_ros.onnx_tools.graph import Graph
from yolov7_trt_ros.onnx_tools.model_file import load_model
from yolov7_trt_ros.records import from_record, Limits

ACTIVATIONS = (
    'LeakyRelu', 'Relu', 'Clip', 'PRelu', 'Elu', 'HardSwish', 'HardSigmoid', 'Sigmoid', 'Tanh',
    'Gelu', 'Swish', 'Mish', 'Softplus',
)
"""Activations of a single node."""

_STILL = ('Cast', 'Identity')
_QUANTISERS = ('QuantizeLinear', 'DequantizeLinear')
_MORE = {'Sigmoid': ('Mul', 'SiLU'), 'HardSigmoid': ('Mul', 'HardSwish')}


@dataclasses.dataclass(frozen=True)
class ChainNode:
    """An ONNX node of a chain: operator, and all names that TensorRT may call it by."""

    operator: str
    names: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Chain:
    """
    A convolution and what could run in its kernel.

    Attributes
    ----------
    kind
        `Conv + LeakyRelu`, `Conv + SiLU`, `Conv + Add + Relu`, ...
    nodes
        The convolution first.
    feeds
        Who reads the result, `Concat row6`; `output` for an output of the model.
    also_read_by
        Others who read what lies inside the chain, so that it cannot stay inside.
    quantised_inside
        Q/DQ nodes stand between the convolution and the rest.

    """

    kind: str
    nodes: tuple[ChainNode, ...]
    feeds: tuple[str, ...] = ()
    also_read_by: tuple[str, ...] = ()
    quantised_inside: bool = False

    @property
    def name(self) -> str:
        """Return what the convolution is called."""
        return self.nodes[0].names[0]

    def to_record(self) -> dict[str, Any]:
        """Return it JSON-ready."""
        return dataclasses.asdict(self)

    @classmethod
    def from_record(cls, record: object) -> Chain:
        """
        Return what `to_record` gave.

        Raises
        ------
        ModelFormatError
            It is no such record.

        """
        try:
            chain = from_record(cls, record, 'a chain', Limits(optional=frozenset()))
            if not chain.nodes or not all(node.names for node in chain.nodes):
                raise ValueError('a chain without nodes, or a node without names')
            return chain
        except ValueError as exc:
            raise ModelFormatError(
                f'"Chains" of the layers is not what --save-layers writes ({exc}); save them '
                'again, or name the model with --onnx'
            ) from exc


def load_chains(path: Path) -> tuple[Chain, ...]:
    """
    Find the chains of an ONNX file, in the order of its convolutions.

    Raises
    ------
    ModelFormatError
        Not a readable ONNX model.
    MissingDependencyError
        The onnx package is not installed.

    """
    return find_chains(load_model(path, weights=False))


def find_chains(model: Any) -> tuple[Chain, ...]:
    """Return the chains of a loaded ONNX model; convolutions without any are left out."""
    graph = _Reading(model)
    taken: set[int] = set()
    chains = []
    # from the last: of two convolutions that are added, the one that runs later can take the Add
    for node in reversed(graph.order):
        if node.op_type in ('Conv', 'ConvTranspose'):
            chain = _follow(graph, node, taken)
            if chain is not None:
                chains.append(chain)
    return tuple(reversed(chains))


class _Reading(Graph):
    """Who reads which tensor, past what changes nothing."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.constants = set(self.stored)
        for node in self.order:
            if node.op_type == 'Constant' or (
                node.input and all(name in self.constants for name in node.input)
            ):
                self.constants |= set(node.output)

    def past_still(self, tensor: str) -> tuple[str, bool]:
        """Follow a tensor through casts and Q/DQ pairs; also whether Q/DQ were among them."""
        quantised = False
        while len(self.readers(tensor)) == 1 and tensor not in self.outputs:
            (node,) = self.readers(tensor)
            if node.op_type not in (*_STILL, *_QUANTISERS):
                break
            quantised |= node.op_type in _QUANTISERS
            tensor = node.output[0]
        return tensor, quantised

    def feeds(self, tensor: str) -> tuple[str, ...]:
        """Return who reads a tensor, past casts and Q/DQ, the model's output included."""
        tensor, _ = self.past_still(tensor)
        found = [f'{node.op_type} {_label(node)}' for node in self.readers(tensor)]
        return (*found, 'output') if tensor in self.outputs else tuple(found)


def _follow(graph: _Reading, convolution: Any, taken: set[int]) -> Chain | None:
    nodes, kinds = [convolution], ['Conv']
    tensor, quantised, also = convolution.output[0], False, []
    while True:
        inside, crossed = graph.past_still(tensor)
        step = _next_step(graph, inside, kinds)
        if step is None or any(id(node) in taken for node in step[1]):
            break
        label, members, result, others = step
        nodes += members
        kinds.append(label)
        also += others
        tensor, quantised = result, quantised or crossed
    if kinds in (['Conv'], ['Conv', 'BatchNormalization']):
        return None
    taken.update(map(id, nodes))
    return Chain(
        ' + '.join(kind for kind in kinds if kind != 'BatchNormalization'),
        tuple(_chain_node(node) for node in nodes), graph.feeds(tensor), tuple(also), quantised,
    )


_Step = tuple[str, list[Any], str, list[str]]


def _next_step(graph: _Reading, tensor: str, kinds: list[str]) -> _Step | None:
    """Return what follows: its label, its nodes, the tensor it gives, and who else reads."""
    if kinds[-1] not in ('Conv', 'BatchNormalization', 'Add'):
        return None  # an activation ends a chain
    readers = graph.readers(tensor)
    for node in readers:
        if (node.op_type == 'BatchNormalization' and kinds == ['Conv']) or (
            node.op_type == 'Add' and 'Add' not in kinds and _adds_a_map(graph, node)
        ):
            if len(readers) == 1:
                return node.op_type, [node], node.output[0], []
            continue
        found = _activation(graph, tensor, node)
        if found is not None:
            label, members, result = found
            others = [_label(other) for other in readers
                      if all(other is not member for member in members)]
            return label, members, result, others
    return None


def _adds_a_map(graph: _Reading, node: Any) -> bool:
    return all(name not in graph.constants for name in node.input)


def _activation(graph: _Reading, tensor: str, node: Any) -> tuple[str, list[Any], str] | None:
    if node.op_type not in ACTIVATIONS:
        return None
    inner, _ = graph.past_still(node.output[0])
    if node.op_type in _MORE:
        operator, label = _MORE[node.op_type]
        for reader in graph.readers(inner):
            if reader.op_type == operator and _joins(graph, reader, tensor):
                return label, [node, reader], reader.output[0]
    if node.op_type == 'Softplus':
        return _mish(graph, tensor, node, inner)
    return node.op_type, [node], node.output[0]


def _joins(graph: _Reading, node: Any, tensor: str) -> bool:
    """Whether a node reads a tensor, or its twin behind casts and Q/DQ."""
    return tensor in node.input or any(
        graph.past_still(reader.output[0])[0] in node.input
        for reader in graph.readers(tensor) if reader.op_type in (*_STILL, *_QUANTISERS)
    )


def _mish(
    graph: _Reading, tensor: str, node: Any, inner: str
) -> tuple[str, list[Any], str] | None:
    for tanh in graph.readers(inner):
        for product in graph.readers(tanh.output[0]) if tanh.op_type == 'Tanh' else ():
            if product.op_type == 'Mul' and tensor in product.input:
                return 'Mish', [node, tanh, product], product.output[0]
    return None


def _label(node: Any) -> str:
    return str(node.name or next(iter(node.output), node.op_type))


def _chain_node(node: Any) -> ChainNode:
    """Return a node with the names TensorRT's parser may give it, its own first."""
    names: Iterable[str] = (node.name, node.output[0], f'node_of_{node.output[0]}')
    return ChainNode(node.op_type, tuple(dict.fromkeys(name for name in names if name)))
