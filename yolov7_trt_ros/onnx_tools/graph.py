"""Query the graph of an ONNX model: producers and readers of tensors, convolutions."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.errors import (
    MissingDependencyError,
    ModelFormatError,
    ModelLayoutError,
    SettingError,
)
from yolov7_trt_ros.onnx_tools.model_file import import_onnx, load_model

_SHOWN_NAMES = 5


class Graph:
    """
    Makers and readers of the tensors of a model, as they were when it was made.

    Attributes
    ----------
    model
        The ModelProto.
    order
        Its nodes, in the order of the graph.
    producers
        Tensor name to the node that makes it.
    consumers
        Tensor name to the nodes that read it.
    outputs
        Names of the model's outputs.
    stored
        Stored tensors by name.

    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.order: tuple[Any, ...] = tuple(model.graph.node)
        self.producers: dict[str, Any] = {
            name: node for node in self.order for name in node.output
        }
        self.consumers: dict[str, list[Any]] = {}
        for node in self.order:
            for name in dict.fromkeys(node.input):
                self.consumers.setdefault(name, []).append(node)
        self.outputs = {value.name for value in model.graph.output}
        self.stored: dict[str, Any] = {tensor.name: tensor for tensor in model.graph.initializer}

    @property
    def image(self) -> Any:
        """Return the image input."""
        return next(value for value in self.model.graph.input if value.name not in self.stored)

    def readers(self, tensor: str) -> list[Any]:
        """Return the nodes that read a tensor."""
        return self.consumers.get(tensor, [])

    def is_stored(self, tensor: str) -> bool:
        """Whether a tensor is a stored weight."""
        return tensor in self.stored

    def needed_for(
        self, tensors: Iterable[str], ends: Collection[str] = ()
    ) -> tuple[list[Any], set[str]]:
        """Return the nodes that make `tensors` of `ends`, in order, and what else they read."""
        waiting, chosen, read = list(tensors), set(), set()
        while waiting:
            name = waiting.pop()
            if not name or name in ends:
                continue
            node = self.producers.get(name)
            if node is None:
                read.add(name)
            elif id(node) not in chosen:
                chosen.add(id(node))
                waiting += node.input
        return [node for node in self.order if id(node) in chosen], read


class FloatModel(Graph):
    """
    A normalised model (`float_source.load_source`), which is never changed.

    Attributes
    ----------
    nodes
        By their names, in the order of the graph.
    convs
        Names of the convolutions whose weights are stored, in the order of the graph.
    heads
        Those of them that no other convolution follows: they feed the decoding.

    Raises
    ------
    ModelLayoutError
        There is no convolution with stored weights.

    """

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.nodes: dict[str, Any] = {node.name: node for node in self.order}
        self.convs = tuple(
            node.name for node in self.order
            if node.op_type == 'Conv' and node.input[1] in self.stored
        )
        if not self.convs:
            raise ModelLayoutError('the model has no Conv nodes whose weights are stored in it')
        self.heads = tuple(name for name in self.convs if not self._conv_follows(name))

    def weight(self, conv: str) -> NDArray[np.float32]:
        """Return the weights of a convolution, (out, in / groups, kernel height, width)."""
        stored = self.stored[self.nodes[conv].input[1]]
        return np.asarray(import_onnx().numpy_helper.to_array(stored), np.float32)

    def find_convs(self, pattern: str) -> tuple[str, ...]:
        """
        Return the convolutions whose name a regular expression finds.

        Raises
        ------
        SettingError
            It is not one, or finds none.

        """
        try:
            expression = re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as exc:
            raise SettingError(f'--keep {pattern!r} is not a regular expression: {exc}') from exc
        found = tuple(name for name in self.convs if expression.search(name))
        if not found:
            raise SettingError(
                f'--keep {pattern!r} finds none of the {len(self.convs)} Conv nodes; the last are '
                + ', '.join(self.convs[-_SHOWN_NAMES:])
            )
        return found

    def _conv_follows(self, conv: str) -> bool:
        waiting, seen = list(self.nodes[conv].output), set()
        while waiting:
            for node in self.readers(waiting.pop()):
                if node.op_type == 'Conv':
                    return True
                if node.name not in seen:
                    seen.add(node.name)
                    waiting += node.output
        return False


def convs_by_type(model: Any) -> dict[int | None, list[str]]:
    """Return the names of the convolutions by the type of their weights, None for not stored."""
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    found: dict[int | None, list[str]] = {}
    for node in model.graph.node:
        if node.op_type == 'Conv':
            kind = types.get(node.input[1]) if len(node.input) > 1 else None
            found.setdefault(kind, []).append(str(node.name))
    return found


def is_quantised(model: Any) -> bool:
    """Whether a model has explicit Q/DQ nodes."""
    return any(node.op_type == 'QuantizeLinear' for node in model.graph.node)


def onnx_precision(path: Path) -> str:
    """
    Return what the convolutions of an ONNX file run in: `int8` (Q/DQ), `fp16`, `mixed`, `fp32`.

    '' if the file cannot be read, or the package onnx is not installed. Weights that are kept
    in half precision and cast before use run in single precision.

    """
    try:
        half = import_onnx('it is needed to read a precision').TensorProto.FLOAT16
        model = load_model(path, weights=False)
    except (MissingDependencyError, ModelFormatError):
        return ''
    if is_quantised(model):
        return 'int8'
    kinds = set(convs_by_type(model))
    if half not in kinds:
        return 'fp32'
    return 'fp16' if kinds == {half} else 'mixed'
