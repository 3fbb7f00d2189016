"""Load a float32 ONNX model and normalise it for calibration and quantisation."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from yolov7_trt_ros.errors import ModelFormatError, ModelLayoutError
from yolov7_trt_ros.onnx_tools.edit import drop_unused, name_nodes, widen_casts
from yolov7_trt_ros.onnx_tools.graph import convs_by_type, Graph
from yolov7_trt_ros.onnx_tools.model_file import import_onnx, load_model

LEAST_OPSET = 11
QUANTISING_OPSET = 13
"""The first whose QuantizeLinear has a scale for each channel."""

_LEAST_IR_VERSION = 7
_AXES_BECAME_INPUTS = {'Squeeze': 'axes', 'Unsqueeze': 'axes', 'ReduceSum': 'axes',
                       'Split': 'split'}
_ITEM_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8}
"""By TensorProto.DataType, of those that numpy has."""
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
    onnx = import_onnx()
    try:
        for tensor in model.graph.initializer:
            onnx.checker.check_tensor(tensor)
            _check_size(tensor)
    except (ValueError, TypeError, RuntimeError, onnx.checker.ValidationError) as exc:
        raise ModelFormatError(f'{path} is not a readable ONNX file: {exc}') from exc
    _check_operators(path, model)
    normalise(model)
    _check_weights(path, model)
    return model


def _check_size(tensor: Any) -> None:
    """Raise ValueError if the bytes are not as many as the shape needs; onnx 1.14 does not."""
    item_bytes = _ITEM_BYTES.get(tensor.data_type)
    if item_bytes is None or not tensor.HasField('raw_data'):
        return
    needed, found = math.prod(tensor.dims) * item_bytes, len(tensor.raw_data)
    if found != needed:
        raise ValueError(f'{tensor.name} has {found} bytes, its shape needs {needed}')


def normalise(model: Any) -> None:
    """Bring a model into the common form, in place."""
    raise_opset(model)
    name_nodes(model)
    store_constants(model)
    widen_casts(model)
    fold_batch_norms(model)
    drop_unused(model.graph)


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
    graph.initializer.append(import_onnx().numpy_helper.from_array(values, stored))
    node.input.append(stored)
    node.attribute.remove(attribute)


def store_constants(model: Any) -> None:
    """Turn Constant nodes that hold a float tensor into stored weights, in place."""
    onnx = import_onnx()
    graph, helper = model.graph, onnx.numpy_helper
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    for node in [each for each in graph.node if each.op_type == 'Constant']:
        value = next((entry.t for entry in node.attribute if entry.name == 'value'), None)
        if value is not None and value.data_type in floats:
            graph.initializer.append(helper.from_array(helper.to_array(value), node.output[0]))
            graph.node.remove(node)


def fold_batch_norms(model: Any) -> int:
    """Fold each BatchNormalization into the convolution that alone feeds it; returns how many."""
    graph = Graph(model)
    folded = 0
    for norm in [node for node in graph.order if node.op_type == 'BatchNormalization']:
        tensor = norm.input[0]
        conv = graph.producers.get(tensor)
        if conv is None or conv.op_type != 'Conv':
            continue
        alone = len(graph.readers(tensor)) == 1 and tensor not in graph.outputs
        if alone and _fold(model.graph, conv, norm):
            conv.output[0] = norm.output[0]
            model.graph.node.remove(norm)
            folded += 1
    return folded


def _fold(graph: Any, conv: Any, norm: Any) -> bool:
    """Give a convolution the scale and shift of its norm; False if they are not constants."""
    helper = import_onnx().numpy_helper
    stored = {tensor.name: tensor for tensor in graph.initializer}
    names = [*conv.input[1:], *norm.input[1:5]]
    if any(name and name not in stored for name in names):
        return False
    weight, *biases = (helper.to_array(stored[name]).astype(np.float64)
                       for name in conv.input[1:] if name)
    gamma, beta, mean, variance = (
        helper.to_array(stored[name]).astype(np.float64) for name in norm.input[1:5]
    )
    epsilon = next((entry.f for entry in norm.attribute if entry.name == 'epsilon'), 1e-5)
    scale = gamma / np.sqrt(variance + epsilon)
    shift = beta + ((biases[0] if biases else 0.0) - mean) * scale
    folded = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
    inputs = [conv.input[0]]
    for kind, value in (('weight', folded), ('bias', shift)):
        inputs.append(f'{norm.output[0]}.{kind}')
        graph.initializer.append(helper.from_array(value.astype(np.float32), inputs[-1]))
    conv.input[:] = inputs
    return True


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
    half = convs_by_type(model).get(import_onnx().TensorProto.FLOAT16)
    if half:
        raise ModelLayoutError(
            f'{path} computes in float16 ({half[0]} has float16 weights); give the float32 '
            'export: int8 and float16 are chosen here'
        )
