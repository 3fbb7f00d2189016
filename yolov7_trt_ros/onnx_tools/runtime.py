"""ONNX Runtime on the CPU: sessions, and its errors translated; the only import of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import os
from pathlib import Path
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from yolov7_trt_ros.core.forms.model_spec import check_input, TensorInfo
from yolov7_trt_ros.errors import InferenceError, ModelFormatError

# ONNX Runtime raises one class per status code, without a common base; which ones there are
# depends on its version. Its binding adds those of Python.
ORT_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,  # also UnicodeDecodeError: an error message that quotes a damaged file
    TypeError,
    OverflowError,
    MemoryError,
    *(
        value
        for value in vars(ort_errors).values()
        if isinstance(value, type) and issubclass(value, Exception)
    ),
)
VERSION = str(onnxruntime.__version__)
_NOTHING_LOGGED = 4
"""Errors are raised and translated, so nothing is logged."""

_STATUS = re.compile(r'^\[ONNXRuntimeError\] : \d+ : (\w+) : ')
_SOURCE_PLACE = re.compile(
    r'/\S+\.(?:cc|h|cpp):\d+ [^()]*\([^()]*\)(?: const)?(?: \[with [^\]]*\])? '
)
_HEAD, _TAIL = 200, 400


def open_session(model: str | bytes, name: object, threads: int = 0) -> Any:
    """
    Return a session.

    Parameters
    ----------
    model
        Path of a file, or a serialised model.
    name
        What errors call it.
    threads
        CPU threads; 0 takes one per core that this process may use.

    Raises
    ------
    ModelFormatError
        ONNX Runtime cannot load it.

    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.log_severity_level = _NOTHING_LOGGED
    try:
        return onnxruntime.InferenceSession(
            _readable(model), options, providers=['CPUExecutionProvider'],
            enable_fallback=0,  # it would try again, and print that to where our JSON goes
        )
    except ORT_ERRORS as exc:
        raise ModelFormatError(
            f'{name} is not a model ONNX Runtime can load: {reason(exc)}'
        ) from exc


def _readable(model: str | bytes) -> str | bytes:
    """Return what ONNX Runtime can open: of a path that is no UTF-8 what the file holds."""
    if isinstance(model, str) and not model.isascii():
        try:
            model.encode()
        except UnicodeEncodeError:
            try:
                return Path(model).read_bytes()
            except OSError as exc:
                raise ModelFormatError(f'{model} cannot be read: {exc.strerror}') from exc
    return model


def run_session(
    session: Any, outputs: Sequence[str] | None, feed: Mapping[str, NDArray[Any]]
) -> list[NDArray[Any]]:
    """
    Run a session; `outputs` None gives all.

    Raises
    ------
    InferenceError
        ONNX Runtime refused the input or failed.

    """
    try:
        return [np.asarray(value) for value in session.run(outputs, feed)]
    except ORT_ERRORS as exc:
        raise InferenceError(f'ONNX Runtime failed: {reason(exc)}') from exc


def metadata_of(session: Any) -> dict[str, str]:
    """
    Return the text that a model carries.

    Raises
    ------
    ModelFormatError
        It is no text.

    """
    try:
        return dict(session.get_modelmeta().custom_metadata_map)
    except ORT_ERRORS as exc:
        raise ModelFormatError(
            f'the metadata of the model cannot be read: {reason(exc)}'
        ) from exc


def usable_cores() -> int:
    """Return the cores this process may use; ONNX Runtime takes those of the whole machine."""
    return len(os.sched_getaffinity(0))


def session_inputs(session: Any) -> list[TensorInfo]:
    """
    Return the inputs of a session as declared.

    Raises
    ------
    ModelFormatError
        Their names are no text.

    """
    try:
        return [_tensor_info(value) for value in session.get_inputs()]
    except ORT_ERRORS as exc:
        raise ModelFormatError(f'the inputs of the model cannot be read: {reason(exc)}') from exc


def probed_outputs(session: Any, values: Sequence[NDArray[Any]]) -> list[TensorInfo]:
    """Return the outputs of a session with the shapes and types of what a run of it gave."""
    return [
        TensorInfo(output.name, tuple(value.shape), str(value.dtype))
        for output, value in zip(session.get_outputs(), values, strict=True)
    ]


def _tensor_info(value: Any) -> TensorInfo:
    shape = tuple(dim if isinstance(dim, int) else None for dim in value.shape)
    dtype = value.type.removeprefix('tensor(').removesuffix(')')
    return TensorInfo(value.name, shape, {'float': 'float32'}.get(dtype, dtype))


def reason(exc: BaseException) -> str:
    """
    Return the text of an ONNX Runtime error on one line, without its source locations.

    Of a long text the beginning and the end are kept: the cause stands at the end.

    """
    text = ' '.join(str(exc).split()) or type(exc).__name__
    text = _SOURCE_PLACE.sub('', _STATUS.sub('', text))
    if len(text) > _HEAD + _TAIL:
        text = f'{text[:_HEAD]} ... {text[-_TAIL:]}'
    if 'model IR version' in text:
        text += (
            f' (this is onnxruntime {VERSION}: install a newer one, or export the '
            'model with an older onnx or a lower opset)'
        )
    return text


class OnnxSession:
    """
    A model in ONNX Runtime, images in and tensors out: no more than timing it needs.

    Parameters
    ----------
    path
        ONNX file with one image input.
    threads
        CPU threads; 0 takes one per core that this process may use.
    data
        What is in the file, or what was made of it.

    Raises
    ------
    ModelFormatError
        ONNX Runtime cannot load it.
    ModelLayoutError
        Its input is not one of images (B, 3, H, W).

    """

    def __init__(
        self, path: Path, *, threads: int = 0, data: bytes | None = None
    ) -> None:
        self._session: Any = open_session(data or str(path), path.name, threads)
        self.input: TensorInfo = check_input(session_inputs(self._session))

    def run(self, images: NDArray[Any]) -> list[NDArray[Any]]:
        """
        Return every output for images (B, 3, H, W) of the input's dtype.

        Raises
        ------
        InferenceError
            ONNX Runtime refused them or failed, or the session is closed.

        """
        if self._session is None:
            raise InferenceError('the session is closed')
        return run_session(self._session, None, {self.input.name: images})

    def close(self) -> None:
        """Free the session; calling it twice is harmless."""
        self._session = None
