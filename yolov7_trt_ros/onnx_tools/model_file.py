"""Load ONNX files with their weights, or report in one line why that fails."""

from __future__ import annotations

from collections.abc import Iterator
import math
import os
from pathlib import Path, PurePosixPath
from typing import Any

from yolov7_trt_ros.errors import MissingDependencyError, ModelFormatError

_SHOWN = 300
_MESSAGE_BYTES = 2**31
"""A protobuf message holds no more, so neither does a model with its weights."""

_ITEM_BYTES = {
    'FLOAT': 4, 'FLOAT16': 2, 'BFLOAT16': 2, 'DOUBLE': 8, 'BOOL': 1, 'INT8': 1, 'UINT8': 1,
    'INT16': 2, 'UINT16': 2, 'INT32': 4, 'UINT32': 4, 'INT64': 8, 'UINT64': 8,
}
"""Of the types that may be stored as bytes; those below a byte are not checked."""

_IR_OF_CONSTANTS = 4
"""The first version of ONNX's format in which a stored tensor need not be an input."""


def load_model(path: Path, *, weights: bool = True, data: bytes | None = None) -> Any:
    """
    Return the ModelProto of a file, with the weights that lie in other files beside it.

    Stored tensors are not among its inputs, where older exporters list them as well.

    Such files are found as ONNX Runtime finds them, through links as in a Hugging Face cache: the
    place that the model names is looked up in the folder of `path` as it was given.

    Parameters
    ----------
    path
        The file.
    weights
        Read weights from other files too; without them the graph is whole, its numbers are not.
    data
        What is in the file, if it was read before.

    Raises
    ------
    MissingDependencyError
        The `onnx` package is not installed.
    ModelFormatError
        The file cannot be read, is not ONNX, or its weights are not there or damaged.

    """
    onnx = import_onnx(f'{path} is read with it')
    from google.protobuf.message import Error as ProtobufError

    try:
        model = (
            onnx.load(str(path), load_external_data=False) if data is None
            else onnx.load_model_from_string(data)
        )
    except (ProtobufError, OSError, ValueError, TypeError) as exc:
        raise ModelFormatError(f'{path} is not a readable ONNX file: {_one_line(exc)}') from exc
    _drop_stored_inputs(model)
    if not model.graph.node or not model.graph.input:
        raise ModelFormatError(f'{path} is not an ONNX model: it has no nodes or no inputs')
    if not all(isinstance(text, str) for text in _texts(model)):
        raise ModelFormatError(f'{path} is damaged: a name or text in it is not UTF-8')
    if weights:
        read_weights(path, model)
    return model


def _check_stored(onnx: Any, path: Path, model: Any) -> None:
    """Refuse stored tensors whose numbers are not those of their shapes."""
    sizes = {
        getattr(onnx.TensorProto, name): size for name, size in _ITEM_BYTES.items()
    }
    for tensor in model.graph.initializer:
        if not tensor.HasField('raw_data'):
            try:
                onnx.numpy_helper.to_array(tensor)
            except (ValueError, TypeError, KeyError, OverflowError) as exc:
                raise ModelFormatError(
                    f'{path} is damaged: its weights {tensor.name!r} cannot be read: '
                    f'{_one_line(exc)}'
                ) from exc
        elif tensor.data_type in sizes:
            found, shape = len(tensor.raw_data), list(tensor.dims)
            expected = math.prod(shape) * sizes[tensor.data_type]
            if found != expected or min(shape, default=0) < 0:
                raise ModelFormatError(
                    f'{path} is damaged: its weights {tensor.name!r} have {found} bytes, expected '
                    f'{expected} for the shape {"x".join(map(str, shape))}'
                )


def _drop_stored_inputs(model: Any) -> None:
    """Take stored tensors out of the inputs, where old exporters list them as well."""
    graph = model.graph
    stored = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in stored]
    if len(inputs) < len(graph.input):
        del graph.input[:]
        graph.input.extend(inputs)
        model.ir_version = max(model.ir_version, _IR_OF_CONSTANTS)


def read_weights(path: Path, model: Any) -> bool:
    """
    Put weights that lie in other files into the model of a file; returns whether there are any.

    Raises
    ------
    ModelFormatError
        They are not there, or some weights of the model are damaged.

    """
    onnx = import_onnx()
    room, found = _MESSAGE_BYTES, False
    for tensor in _outside_tensors(onnx, model):
        room -= _read_outside(onnx, path, tensor, room)
        found = True
    _check_stored(onnx, path, model)
    return found


def _texts(model: Any) -> Iterator[Any]:
    """Yield the names and texts of a model; protobuf gives bytes for what is no UTF-8."""
    for entry in model.metadata_props:
        yield from (entry.key, entry.value)
    graph = model.graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        yield value.name
        yield from (side.dim_param for side in value.type.tensor_type.shape.dim)
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (entry.name for entry in node.attribute)
    for tensor in graph.initializer:
        yield tensor.name
        for entry in tensor.external_data:
            yield from (entry.key, entry.value)


def import_onnx(why: str = 'ONNX files are read and changed with it') -> Any:
    """
    Return the `onnx` package, which is optional on a robot: nothing else in this room imports it.

    Raises
    ------
    MissingDependencyError
        It is not installed; the message has the purpose that needs it.

    """
    try:
        import onnx
    except (ImportError, TypeError) as exc:  # TypeError: protobuf is too new for it
        raise MissingDependencyError(
            f'the onnx package cannot be imported ({exc}): {why}; install it with: '
            'pip install onnx'
        ) from exc
    return onnx


def infer_shapes(model: Any) -> Any:
    """
    Return the graph of a model with the types and shapes of its tensors.

    Raises
    ------
    ModelFormatError
        Types or shapes contradict each other, an operator is unknown, or the model is too large.

    """
    onnx = import_onnx()
    from google.protobuf.message import Error as ProtobufError

    try:
        return onnx.shape_inference.infer_shapes(model).graph
    except (
        onnx.shape_inference.InferenceError, ProtobufError, ValueError, TypeError, RuntimeError,
    ) as exc:
        raise ModelFormatError(
            f'the shapes of the model cannot be told: {_one_line(exc)}'
        ) from exc


def metadata_of_model(model: Any) -> dict[str, str]:
    """Return the text that a loaded model carries."""
    return {entry.key: entry.value for entry in model.metadata_props}


def serialise(model: Any) -> bytes:
    """
    Return a model as bytes.

    Raises
    ------
    ModelFormatError
        It has more than the 2 GiB that one protobuf message holds, or texts that are not UTF-8.

    """
    from google.protobuf.message import Error as ProtobufError

    try:
        data: bytes = model.SerializeToString()
    except (ProtobufError, ValueError) as exc:
        raise ModelFormatError(
            f'the model cannot be written as one message (2 GiB at most): {_one_line(exc)}'
        ) from exc
    return data


# ---- weights in other files


def _outside_tensors(onnx: Any, model: Any) -> Iterator[Any]:
    """Yield the stored tensors whose numbers lie in another file."""
    waiting = [model.graph]
    while waiting:
        graph = waiting.pop()
        yield from (t for t in graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL)
        for node in graph.node:
            for entry in node.attribute:
                waiting += [entry.g, *entry.graphs] if entry.HasField('g') else entry.graphs
                if entry.t.data_location == onnx.TensorProto.EXTERNAL:
                    yield entry.t


def _read_outside(onnx: Any, path: Path, tensor: Any, room: int) -> int:
    """Put the numbers of a tensor into it; returns their bytes, `room` at most."""
    place = {entry.key: entry.value for entry in tensor.external_data}
    file = _weights_file(path, place.get('location', ''))
    offset = _whole_number(path, tensor, place.get('offset', '0'))
    try:
        size = os.stat(file).st_size
        length = _whole_number(path, tensor, place.get('length', str(max(0, size - offset))))
        if offset + length > size:
            raise ModelFormatError(
                f'{path}: its weights {tensor.name!r} lie beyond the end of {file} ({size} '
                'bytes); the file is truncated, or belongs to another model'
            )
        if length > room:
            raise ModelFormatError(
                f'{path} has more than {_MESSAGE_BYTES >> 30} GiB of weights, which cannot be '
                'loaded as one model here'
            )
        with open(file, 'rb') as stream:
            stream.seek(offset)
            tensor.raw_data = stream.read(length)
    except OSError as exc:
        raise ModelFormatError(
            f'{path} keeps its weights in {file}, which cannot be read ({exc.strerror}); copy '
            'that file beside the model as well'
        ) from exc
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]
    return length


def _weights_file(path: Path, location: str) -> Path:
    """Return the file of weights that a model names, which must not leave the model's folder."""
    parts = PurePosixPath(location.replace('\\', '/'))
    if not location or '\0' in location or parts.is_absolute() or '..' in parts.parts:
        raise ModelFormatError(
            f'{path} names a file of weights outside of its folder: {location[:_SHOWN]!r}'
        )
    return path.parent / parts


def _whole_number(path: Path, tensor: Any, text: str) -> int:
    if not text.isdecimal() or len(text) > 18:
        raise ModelFormatError(
            f'{path}: the place of its weights {tensor.name!r} is no number: {text[:_SHOWN]!r}'
        )
    return int(text)


def _one_line(exc: BaseException) -> str:
    return ' '.join(str(exc).split())[:_SHOWN] or type(exc).__name__
