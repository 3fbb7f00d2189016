"""Load an ONNX model and bring it into the one form that the tools of this room change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from yolov7_trt_ros.errors import ModelFormatError, ModelLayoutError
from yolov7_trt_ros.onnx_tools.model_file import load_model

LEAST_OPSET = 11
QUANTISING_OPSET = 13
"""The first whose QuantizeLinear has a scale for each channel."""

_LEAST_IR_VERSION = 7
_AXES_BECAME_INPUTS = {'Squeeze': 'axes', 'Unsqueeze': 'axes', 'ReduceSum': 'axes',
                       'Split': 'split'}
_MEANING_CHANGED = frozenset({'Softmax', 'LogSoftmax', 'Hardmax'})


def load_source(path: Path) -> Any:
    """
    Return the ModelProto of a float32 model: weights widened, BatchNorm folded, nodes named.

    Raises
    ------
    ModelFormatError
        The file cannot be read, is not ONNX, or is older than opset 11.
    ModelLayoutError
        The model is quantised already, or computes in float16.

    """
    model = load_model(path)
    try:
        for tensor in model.graph.initializer:
            onnx.checker.check_tensor(tensor)
    except (ValueError, TypeError, RuntimeError, onnx.checker.ValidationError) as exc:
        raise ModelFormatError(f'{path} is not a readable ONNX file: {exc}') from exc
    _check_operators(path, model)
    normalise(model)
    _check_weights(path, model)
    return model


def normalise(model: Any) -> None:
    """Bring a model into the common form, in place."""
    raise_opset(model)
    name_nodes(model)
    store_constants(model)
    widen_casts(model)
    fold_batch_norms(model)
    drop_unused_weights(model)


def opset_of(model: Any) -> int:
    """Return the version of ONNX's own operators."""
    return max((entry.version for entry in model.opset_import if entry.domain in ('', 'ai.onnx')),
               default=1)


def raise_opset(model: Any) -> None:
    """
    Raise an opset of 11 or 12 to 13, in place; later ones stay as they are.

    Raises
    ------
    ModelFormatError
        The opset is older, or a Softmax means something else from 13 on.

    """
    opset = opset_of(model)
    if opset < LEAST_OPSET:
        raise ModelFormatError(
            f'the model has ONNX opset {opset}, at least {LEAST_OPSET} is needed; export it again '
            f'with --opset {QUANTISING_OPSET}'
        )
    model.ir_version = max(model.ir_version, _LEAST_IR_VERSION)
    if opset >= QUANTISING_OPSET:
        return
    for node in list(model.graph.node):
        if node.domain not in ('', 'ai.onnx'):
            continue
        if node.op_type in _MEANING_CHANGED:
            raise ModelFormatError(
                f'the model has ONNX opset {opset} and the operator {node.op_type}, which means '
                f'something else from opset {QUANTISING_OPSET} on; export it again with '
                f'--opset {QUANTISING_OPSET}'
            )
        if node.op_type in _AXES_BECAME_INPUTS:
            _attribute_to_input(model.graph, node, _AXES_BECAME_INPUTS[node.op_type])
    for entry in model.opset_import:
        if entry.domain in ('', 'ai.onnx'):
            entry.version = QUANTISING_OPSET


def _attribute_to_input(graph: Any, node: Any, name: str) -> None:
    attribute = next((entry for entry in node.attribute if entry.name == name), None)
    if attribute is None:
        return
    values = np.array(attribute.ints, np.int64)
    stored = f'{node.output[0]}.{name}'
    graph.initializer.append(numpy_helper.from_array(values, stored))
    node.input.append(stored)
    node.attribute.remove(attribute)


def name_nodes(model: Any) -> None:
    """Name each node, after its first output if it has no name of its own; names are unique."""
    taken: set[str] = set()
    for index, node in enumerate(model.graph.node):
        name = node.name or next(iter(node.output), node.op_type)
        node.name = f'{name}_{index}' if name in taken else name
        taken.add(node.name)


def store_constants(model: Any) -> None:
    """Turn Constant nodes that hold a float tensor into stored weights, in place."""
    graph = model.graph
    for node in [each for each in graph.node if each.op_type == 'Constant']:
        value = next((entry.t for entry in node.attribute if entry.name == 'value'), None)
        floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
        if value is not None and value.data_type in floats:
            graph.initializer.append(
                numpy_helper.from_array(numpy_helper.to_array(value), node.output[0])
            )
            graph.node.remove(node)


def widen_casts(model: Any) -> int:
    """Fold casts of stored float16 weights into float32 weights; returns how many."""
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    folded = 0
    for node in list(graph.node):
        if node.op_type != 'Cast' or node.input[0] not in stored:
            continue
        weights = stored[node.input[0]]
        target = next(entry.i for entry in node.attribute if entry.name == 'to')
        if (weights.data_type, target) == (onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT):
            wide = numpy_helper.to_array(weights).astype(np.float32)
            graph.initializer.append(numpy_helper.from_array(wide, node.output[0]))
            graph.node.remove(node)
            folded += 1
    return folded


def fold_batch_norms(model: Any) -> int:
    """Fold each BatchNormalization into the convolution that alone feeds it; returns how many."""
    graph = model.graph
    outputs = {value.name for value in graph.output}
    readers: dict[str, int] = {}
    for name in (name for node in graph.node for name in node.input):
        readers[name] = readers.get(name, 0) + 1
    convs = {node.output[0]: node for node in graph.node if node.op_type == 'Conv'}
    folded = 0
    for norm in [node for node in graph.node if node.op_type == 'BatchNormalization']:
        conv = convs.get(norm.input[0])
        if conv is None or readers[norm.input[0]] != 1 or norm.input[0] in outputs:
            continue
        if _fold(graph, conv, norm):
            conv.output[0] = norm.output[0]
            graph.node.remove(norm)
            folded += 1
    return folded


def _fold(graph: Any, conv: Any, norm: Any) -> bool:
    """Give a convolution the scale and shift of its norm; False where they are not constants."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    names = [*conv.input[1:], *norm.input[1:5]]
    if any(name and name not in stored for name in names):
        return False
    weight, *biases = (numpy_helper.to_array(stored[name]).astype(np.float64)
                       for name in conv.input[1:] if name)
    gamma, beta, mean, variance = (
        numpy_helper.to_array(stored[name]).astype(np.float64) for name in norm.input[1:5]
    )
    epsilon = next((entry.f for entry in norm.attribute if entry.name == 'epsilon'), 1e-5)
    scale = gamma / np.sqrt(variance + epsilon)
    shift = beta + ((biases[0] if biases else 0.0) - mean) * scale
    folded = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
    inputs = [conv.input[0]]
    for kind, value in (('weight', folded), ('bias', shift)):
        inputs.append(f'{norm.output[0]}.{kind}')
        graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), inputs[-1]))
    conv.input[:] = inputs
    return True


def drop_unused_weights(model: Any) -> None:
    """Remove stored weights that no node reads."""
    graph = model.graph
    used = {name for node in graph.node for name in node.input}
    used |= {value.name for value in graph.output}
    for tensor in [each for each in graph.initializer if each.name not in used]:
        graph.initializer.remove(tensor)


def sub_model(model: Any, outputs: list[str]) -> Any:
    """Return a model of only those nodes that some tensors need, with these as its outputs."""
    producers = {name: node for node in model.graph.node for name in node.output}
    waiting, needed = list(outputs), set()
    while waiting:
        node = producers.get(waiting.pop())
        if node is not None and node.name not in needed:
            needed.add(node.name)
            waiting += node.input
    part = onnx.ModelProto()
    part.CopyFrom(model)
    del part.graph.node[:]
    part.graph.node.extend(node for node in model.graph.node if node.name in needed)
    del part.graph.output[:]
    # Without a type: ONNX Runtime infers it.
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    del part.graph.value_info[:]
    drop_unused_weights(part)
    return part


def _check_operators(path: Path, model: Any) -> None:
    operators = {node.op_type for node in model.graph.node}
    if quantised := operators & {'QuantizeLinear', 'QLinearConv', 'ConvInteger'}:
        raise ModelLayoutError(
            f'{path} is quantised already: it has {", ".join(sorted(quantised))} nodes; give the '
            'float32 model it was made from'
        )
    if 'Conv' not in operators:
        raise ModelLayoutError(
            f'{path} has no Conv nodes, so there is nothing to quantise; its operators are '
            + ', '.join(sorted(operators)[:10])
        )
    for node in model.graph.node:
        if node.op_type == 'Conv' and len(node.input) < 2:
            raise ModelFormatError(f'{path} is damaged: its Conv {node.name!r} has no weights')


def _check_weights(path: Path, model: Any) -> None:
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == 'Conv' and kinds.get(node.input[1]) == onnx.TensorProto.FLOAT16:
            raise ModelLayoutError(
                f'{path} computes in float16 ({node.name} has float16 weights); give the float32 '
                'export: int8 and float16 are chosen here'
            )
