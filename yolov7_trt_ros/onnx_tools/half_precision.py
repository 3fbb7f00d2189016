"""
Float16 into an ONNX model: for TensorRT whose precisions are those of the model.

What leads to a convolution becomes float16. What follows the last ones, where boxes are decoded
into pixels, stays float32: float16 knows only whole and half pixels beyond 512.

"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

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


def convert_to_half(onnx: Any, model: Any, kept: Collection[str]) -> None:
    """
    Convert a model in place; inputs and outputs keep their types.

    Parameters
    ----------
    onnx
        The package.
    model
        A ModelProto whose nodes have names.
    kept
        Names of nodes that stay float32.

    """
    _Conversion(onnx, model.graph, _float32_tensors(onnx, model)).run(
        _half_nodes(model.graph, kept)
    )


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
        self._drop_unused_weights()

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

    def _drop_unused_weights(self) -> None:
        used = {name for node in self._graph.node for name in node.input}
        used |= {value.name for value in self._graph.output}
        for name in self._half_weights:
            if name not in used:
                self._graph.initializer.remove(self._weights[name])


def _half_nodes(graph: Any, kept: Collection[str]) -> set[str]:
    """Return the names of the nodes that lead to a convolution, or are one."""
    producers = {name: node for node in graph.node for name in node.output}
    waiting = [node for node in graph.node if node.op_type in _MULTIPLYING]
    found = set()
    while waiting:
        node = waiting.pop()
        if node.name not in found:
            found.add(node.name)
            waiting += [producers[name] for name in node.input if name in producers]
    by_name = {node.name: node for node in graph.node}
    return {
        name for name in found - set(kept)
        if by_name[name].op_type in _HALF_OPS and not by_name[name].domain
    }


def _float32_tensors(onnx: Any, model: Any) -> set[str]:
    """Return the names of all float32 tensors."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = [*inferred.value_info, *inferred.input, *inferred.output]
    floats = {
        value.name for value in values
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
    return floats | {
        tensor.name for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
    }
