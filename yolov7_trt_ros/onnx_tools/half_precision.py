"""
Convert an ONNX model to float16, for strongly typed TensorRT and for mixed models.

What leads to a convolution becomes float16. What follows the last ones, where boxes are decoded
into pixels, stays float32: float16 knows only whole and half pixels beyond 512.

"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from yolov7_trt_ros.errors import ExportError
from yolov7_trt_ros.onnx_tools.edit import drop_unused
from yolov7_trt_ros.onnx_tools.graph import FloatModel, Graph
from yolov7_trt_ros.onnx_tools.model_file import import_onnx, infer_shapes

_LARGEST_HALF = 65504.0

_MULTIPLYING = frozenset({'Conv', 'ConvTranspose', 'Gemm', 'MatMul'})

_HALF_OPS = _MULTIPLYING | frozenset({
    'Add', 'AveragePool', 'BatchNormalization', 'Clip', 'Concat', 'DequantizeLinear', 'Div', 'Elu',
    'Exp', 'Flatten', 'GlobalAveragePool', 'HardSigmoid', 'HardSwish', 'Identity', 'LeakyRelu',
    'MaxPool', 'Mul', 'Neg', 'Pad', 'PRelu', 'QuantizeLinear', 'ReduceMean', 'Relu', 'Reshape',
    'Resize', 'Sigmoid', 'Slice', 'Softplus', 'Split', 'Squeeze', 'Sub', 'Tanh', 'Transpose',
    'Unsqueeze', 'Upsample',
})
"""Operators that take float16 and lose little by it."""

_FLOAT32_INPUTS = {'Resize': (1, 2), 'Upsample': (1,)}
"""Inputs that are float32 whatever the data is: scales and regions."""


def convert_to_half(model: Any, kept: Collection[str]) -> None:
    """
    Convert a model in place; inputs and outputs keep their types.

    Parameters
    ----------
    model
        A ModelProto whose nodes have names.
    kept
        Names of nodes that stay float32.

    """
    onnx = import_onnx()
    _Conversion(onnx, model.graph, _float32_tensors(onnx, model)).run(_half_nodes(model, kept))


def make_mixed(model: FloatModel, kept: Collection[str]) -> Any:
    """
    Return a new ModelProto whose backbone is float16; its inputs and outputs stay float32.

    Parameters
    ----------
    model
        What to convert; it stays as it is.
    kept
        Names of the convolutions that stay float32: the heads, and what else is to stay. What
        follows the last ones, where boxes are decoded into pixels, stays float32 anyway.

    Raises
    ------
    ExportError
        A weight is beyond what float16 can hold.

    """
    onnx = import_onnx()
    mixed = onnx.ModelProto()
    mixed.CopyFrom(model.model)
    with np.errstate(over='ignore'):  # found below, and reported with the name
        convert_to_half(mixed, tuple(kept))
    for tensor in mixed.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT16:
            values = onnx.numpy_helper.to_array(tensor)
            if not np.isfinite(values).all():
                raise ExportError(
                    f'{tensor.name.removesuffix(".half")} has values beyond float16\'s '
                    f'{_LARGEST_HALF:.0f}; keep its convolution in float32 with --keep'
                )
    return mixed


class _Conversion:
    """Casts where float32 and float16 meet; weights are converted themselves."""

    def __init__(self, onnx: Any, graph: Any, floats: set[str]) -> None:
        self._onnx = onnx
        self._graph = graph
        self._floats = floats
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        self._half_weights: dict[str, str] = {}
        self._casts: dict[str, str] = {}
        self._nodes: list[Any] = []

    def run(self, half: set[str]) -> None:
        """Convert the nodes of these names."""
        made = {
            name: f'{name}.half'
            for node in self._graph.node if node.name in half
            for name in node.output if name in self._floats
        }
        for node in list(self._graph.node):
            if node.name in half:
                self._feed_half(node, made)
                node.output[:] = [made.get(name, name) for name in node.output]
            else:
                self._feed_float(node, made)
            self._nodes.append(node)
        for value in self._graph.output:
            if value.name in made:
                self._cast(made[value.name], value.name, 'FLOAT')
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        del self._graph.value_info[:]  # of the old types
        drop_unused(self._graph, self._half_weights)

    def _feed_half(self, node: Any, made: dict[str, str]) -> None:
        exempt = _FLOAT32_INPUTS.get(node.op_type, ())
        for index, name in enumerate(node.input):
            if name not in self._floats:
                continue
            if index in exempt:
                node.input[index] = self._widened(name, made)
            elif name in made:
                node.input[index] = made[name]
            elif name in self._weights:
                node.input[index] = self._half_weight(name)
            else:
                node.input[index] = self._cast_once(name, f'{name}.half', 'FLOAT16')

    def _feed_float(self, node: Any, made: dict[str, str]) -> None:
        for index, name in enumerate(node.input):
            node.input[index] = self._widened(name, made)

    def _widened(self, name: str, made: dict[str, str]) -> str:
        """Return a float32 tensor of the same content; the name of an output is its own."""
        if name not in made:
            return name
        return self._cast_once(made[name], f'{name}.float', 'FLOAT')

    def _cast_once(self, source: str, target: str, kind: str) -> str:
        if source not in self._casts:
            self._cast(source, target, kind)
            self._casts[source] = target
        return self._casts[source]

    def _cast(self, source: str, target: str, kind: str) -> None:
        to = getattr(self._onnx.TensorProto, kind)
        self._nodes.append(
            self._onnx.helper.make_node('Cast', [source], [target], name=f'{target}.cast', to=to)
        )

    def _half_weight(self, name: str) -> str:
        if name not in self._half_weights:
            helper = self._onnx.numpy_helper
            narrow = helper.to_array(self._weights[name]).astype('float16')
            self._graph.initializer.append(helper.from_array(narrow, f'{name}.half'))
            self._half_weights[name] = f'{name}.half'
        return self._half_weights[name]


def _half_nodes(model: Any, kept: Collection[str]) -> set[str]:
    """Return the names of the nodes that lead to a convolution, or are one."""
    graph = Graph(model)
    ends = [
        name for node in graph.order if node.op_type in _MULTIPLYING for name in node.output
    ]
    return {
        node.name for node in graph.needed_for(ends)[0]
        if node.op_type in _HALF_OPS and not node.domain and node.name not in kept
    }


def _float32_tensors(onnx: Any, model: Any) -> set[str]:
    """Return the names of all float32 tensors."""
    inferred = infer_shapes(model)
    values = [*inferred.value_info, *inferred.input, *inferred.output]
    floats = {
        value.name for value in values
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
    return floats | {
        tensor.name for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
    }
