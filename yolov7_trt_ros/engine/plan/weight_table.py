"""
WeightTable: kept in a manifest to detect models that differ in weights only.

The graph counts as TensorRT parses it: after our edits, its decoding cut off. A weight is a float
tensor that a layer multiplies or adds. All other stored tensors, such as the scales of int8, are
built into the plan: they must be equal.

"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import dataclasses
import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.core.plain_text import listed
from yolov7_trt_ros.errors import RefitError
from yolov7_trt_ros.onnx_tools.model_file import import_onnx

_SHOWN = 3
_HASH_DIGITS = 16
_AFTER_DATA = ('Conv', 'ConvTranspose', 'Gemm', 'BatchNormalization', 'PRelu')
_ANYWHERE = ('MatMul', 'Add', 'Sub', 'Mul', 'Div')


@dataclasses.dataclass(frozen=True)
class WeightTable:
    """
    Everything of a model but the values of its weights.

    Attributes
    ----------
    graph
        SHA-256 of layers, attributes, inputs and outputs.
    weights
        Of each stored tensor by name: type, shape and a hash of its values, such as
        `float32 32x3x3x3 0123456789abcdef`.

    """

    graph: str
    weights: Mapping[str, str]


def table_of(model: Any) -> WeightTable:
    """Return the table of a ModelProto with all its weights in it."""
    arrays = stored_arrays(model)
    return WeightTable(
        _hash_of_graph(model, arrays),
        {name: f'{_form(array)} {_digest(array)}' for name, array in sorted(arrays.items())},
    )


def stored_arrays(model: Any) -> dict[str, NDArray[Any]]:
    """Return the stored tensors of a model by name."""
    to_array = import_onnx('weights are read with it').numpy_helper.to_array
    return {each.name: to_array(each) for each in model.graph.initializer}


def changed_weights(built: WeightTable, model: Any) -> dict[str, NDArray[Any]]:
    """
    Return the weights of a model whose values are not those that a plan was built from.

    Raises
    ------
    RefitError
        It differs in more than weights; the message names the difference.

    """
    arrays = stored_arrays(model)
    _check_names(built, arrays)
    _check_forms(built, arrays)
    if _hash_of_graph(model, arrays) != built.graph:
        raise RefitError(
            'its layers, or their attributes, inputs or outputs, are not those that the plan was '
            'built from'
        )
    changed = {
        name: array for name, array in arrays.items()
        if _digest(array) != built.weights[name].rpartition(' ')[2]
    }
    if fixed := sorted(set(changed) & set(_fixed(model))):
        raise RefitError(
            f'{listed(fixed, _SHOWN)} differ, which are no weights: scales of int8, and what '
            'else a plan has built in, must be equal'
        )
    return changed


def has_batch_normalization(model: Any) -> bool:
    """Whether TensorRT derives weights of its own from some of the model."""
    return any(node.op_type == 'BatchNormalization' for node in model.graph.node)


def _check_names(built: WeightTable, arrays: Mapping[str, Any]) -> None:
    if missing := sorted(set(built.weights) - set(arrays)):
        raise RefitError(f'it lacks {listed(missing, _SHOWN)}, which the plan was built from')
    if more := sorted(set(arrays) - set(built.weights)):
        raise RefitError(f'it has {listed(more, _SHOWN)}, which the plan was not built from')


def _check_forms(built: WeightTable, arrays: Mapping[str, NDArray[Any]]) -> None:
    known = {name: text.rpartition(' ')[0] for name, text in built.weights.items()}
    others = [
        f'{name} is {_form(array)} and not {known[name]}'
        for name, array in sorted(arrays.items()) if _form(array) != known[name]
    ]
    if others:
        raise RefitError(f'its weights have other shapes or types: {listed(others, _SHOWN)}')


def _fixed(model: Any) -> Iterator[str]:
    """Yield the tensors that some node reads as something else than a weight."""
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            is_weight = (
                node.op_type in _ANYWHERE
                or (node.op_type in _AFTER_DATA and index > 0)
                or (node.op_type == 'QuantizeLinear' and index == 0)
            )
            if not is_weight:
                yield name


def _hash_of_graph(model: Any, arrays: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a graph; texts for people, and free sides' names, do not count."""
    onnx = import_onnx('graphs are compared with it')
    bare = onnx.ModelProto(opset_import=sorted(
        model.opset_import, key=lambda each: str(each.domain)
    ))
    bare.functions.extend(model.functions)
    bare.graph.node.extend(model.graph.node)
    bare.graph.input.extend(each for each in model.graph.input if each.name not in arrays)
    bare.graph.output.extend(model.graph.output)
    for part in (*bare.graph.node, *bare.graph.input, *bare.graph.output):
        part.ClearField('doc_string')
        if 'metadata_props' in part.DESCRIPTOR.fields_by_name:  # of the latest onnx alone
            part.ClearField('metadata_props')
    for value in (*bare.graph.input, *bare.graph.output):
        for side in value.type.tensor_type.shape.dim:
            side.ClearField('denotation')
            if side.HasField('dim_param'):
                side.ClearField('dim_param')
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()


def _form(array: NDArray[Any]) -> str:
    return f'{array.dtype} {"x".join(map(str, array.shape)) or "scalar"}'


def _digest(array: NDArray[Any]) -> str:
    data = np.ascontiguousarray(array).tobytes()
    return hashlib.sha256(data).hexdigest()[:_HASH_DIGITS]
