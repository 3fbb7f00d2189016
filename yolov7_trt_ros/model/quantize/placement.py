"""
Choose the tensors that get Q/DQ pairs, and those that share a scale.

A pair goes onto the input of each quantised convolution, so after the activation before it, never
between a convolution and its activation: TensorRT fuses those. What only moves numbers (Concat,
MaxPool, nearest Resize) runs in int8 where nothing but quantised nodes reads it; its inputs then
get pairs too, all with the scale of its output, so that no number is scaled twice. Of a residual
Add the input that skips the block gets a pair: TensorRT fuses the sum into the other's
convolution.

"""

from __future__ import annotations

from collections.abc import Collection
import dataclasses
from typing import Any

from yolov7_trt_ros.onnx_tools.graph import FloatModel

_MOVING = frozenset({'Concat', 'MaxPool', 'Resize'})


@dataclasses.dataclass(frozen=True)
class Placement:
    """
    What is to be quantised.

    Attributes
    ----------
    convs
        Names of the convolutions that run in int8.
    reads
        Tensor to the names of the nodes that read it through its Q/DQ pair.
    groups
        The tensors of `reads`, those that share a scale together.
    sources
        For each group, the tensors whose values are all that occur in it.

    """

    convs: tuple[str, ...]
    reads: dict[str, frozenset[str]]
    groups: tuple[tuple[str, ...], ...]
    sources: tuple[tuple[str, ...], ...]


def place(model: FloatModel, kept: Collection[str]) -> Placement:
    """Return where pairs go when the convolutions of the names `kept` stay float."""
    return _Placing(model, kept).result()


class _Placing:

    def __init__(self, model: FloatModel, kept: Collection[str]) -> None:
        self._model = model
        self._convs = tuple(name for name in model.convs if name not in set(kept))
        self._reads: dict[str, set[str]] = {}
        self._leading: dict[str, bool] = {}
        self._running: set[str] = set()

    def result(self) -> Placement:
        nodes = self._model.nodes
        for name in self._convs:
            self._read(nodes[name].input[0], name)
        for node in reversed(nodes.values()):
            if node.op_type == 'Add' and self._leads(node.output[0]):
                self._place_residual(node)
        for node in reversed(nodes.values()):
            if self._moves(node) and self._runs_quantised(node):
                self._running.add(node.name)
                for tensor in moved_inputs(node):
                    self._read(tensor, node.name)
        groups = self._groups()
        return Placement(
            self._convs,
            {tensor: frozenset(names) for tensor, names in self._reads.items()},
            groups,
            tuple(self._sources(group) for group in groups),
        )

    def _read(self, tensor: str, node: str) -> None:
        self._reads.setdefault(tensor, set()).add(node)

    def _place_residual(self, add: Any) -> None:
        """Quantise what skips the block; the other input comes fresh from its convolution."""
        if any(self._model.is_stored(tensor) for tensor in add.input):
            return
        for tensor in add.input:
            producer = self._model.producers.get(tensor)
            is_conv = producer is not None and producer.op_type == 'Conv'
            if len(self._model.consumers[tensor]) > 1 and not is_conv:
                self._read(tensor, add.name)

    def _leads(self, tensor: str) -> bool:
        """Whether a tensor reaches a quantised convolution, itself or moved."""
        if tensor not in self._leading:
            self._leading[tensor] = tensor in self._reads or any(
                self._leads(node.output[0])
                for node in self._model.consumers.get(tensor, []) if self._moves(node)
            )
        return self._leading[tensor]

    def _moves(self, node: Any) -> bool:
        return _only_moves(node) and not any(map(self._model.is_stored, moved_inputs(node)))

    def _runs_quantised(self, node: Any) -> bool:
        tensor = node.output[0]
        readers = self._model.consumers.get(tensor, [])
        return (
            bool(readers) and tensor not in self._model.outputs
            and all(reader.name in self._reads.get(tensor, ()) for reader in readers)
        )

    def _groups(self) -> tuple[tuple[str, ...], ...]:
        """Join the inputs and the output of each moving node that leads to a convolution."""
        parent: dict[str, str] = {}

        def root(tensor: str) -> str:
            while parent.setdefault(tensor, tensor) != tensor:
                tensor = parent[tensor]
            return tensor

        for node in self._model.nodes.values():
            if self._moves(node) and self._leads(node.output[0]):
                for tensor in moved_inputs(node):
                    parent[root(tensor)] = root(node.output[0])
        groups: dict[str, list[str]] = {}
        for tensor in self._reads:
            groups.setdefault(root(tensor), []).append(tensor)
        return tuple(tuple(group) for group in groups.values())

    def _sources(self, group: tuple[str, ...]) -> tuple[str, ...]:
        """Leave out what only repeats the values of other members."""
        producers = self._model.producers
        return tuple(
            tensor for tensor in group
            if tensor not in producers or producers[tensor].name not in self._running
        )


def moved_inputs(node: Any) -> list[str]:
    """Return the inputs of a moving node whose values it moves."""
    return list(node.input) if node.op_type == 'Concat' else [node.input[0]]


def _only_moves(node: Any) -> bool:
    """Whether a node gives only numbers that it was given."""
    if node.op_type == 'Resize':
        mode = next((entry.s for entry in node.attribute if entry.name == 'mode'), b'nearest')
        return bool(mode == b'nearest')
    return node.op_type in _MOVING and len(node.output) == 1
