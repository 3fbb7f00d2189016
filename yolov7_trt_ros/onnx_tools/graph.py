"""A float32 model as a graph to ask: who makes a tensor, who reads it, which Convs are heads."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import numpy_helper

from yolov7_trt_ros.errors import ModelLayoutError, SettingError

_SHOWN_NAMES = 5


class FloatModel:
    """
    A normalised model (`float_source.load_source`), which is never changed.

    Attributes
    ----------
    model
        The ModelProto.
    nodes
        By their names, in the order of the graph.
    producers
        Tensor name to the node that makes it.
    consumers
        Tensor name to the nodes that read it.
    outputs
        Names of the model's outputs.
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
        self.model = model
        self.nodes: dict[str, Any] = {node.name: node for node in model.graph.node}
        self.producers: dict[str, Any] = {
            name: node for node in model.graph.node for name in node.output
        }
        self.consumers: dict[str, list[Any]] = {}
        for node in model.graph.node:
            for name in dict.fromkeys(node.input):
                self.consumers.setdefault(name, []).append(node)
        self.outputs = {value.name for value in model.graph.output}
        self._stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self.convs = tuple(
            node.name for node in model.graph.node
            if node.op_type == 'Conv' and node.input[1] in self._stored
        )
        if not self.convs:
            raise ModelLayoutError('the model has no Conv nodes whose weights are stored in it')
        self.heads = tuple(name for name in self.convs if not self._conv_follows(name))

    @property
    def image(self) -> Any:
        """Return the image input."""
        return next(
            value for value in self.model.graph.input if value.name not in self._stored
        )

    def is_stored(self, tensor: str) -> bool:
        """Whether a tensor is a stored weight."""
        return tensor in self._stored

    def weight(self, conv: str) -> NDArray[np.float32]:
        """Return the weights of a convolution, (out, in / groups, kernel height, width)."""
        stored = self._stored[self.nodes[conv].input[1]]
        return np.asarray(numpy_helper.to_array(stored), np.float32)

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
            for node in self.consumers.get(waiting.pop(), []):
                if node.op_type == 'Conv':
                    return True
                if node.name not in seen:
                    seen.add(node.name)
                    waiting += node.output
        return False
