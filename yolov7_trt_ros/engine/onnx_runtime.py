"""ONNX Runtime on the CPU: sessions, and what it tells and raises."""

from __future__ import annotations

import os
from typing import Any

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from yolov7_trt_ros.core.model_spec import TensorInfo
from yolov7_trt_ros.errors import ModelFormatError

# ONNX Runtime raises one class per status code, without a common base; which ones there are
# depends on its version.
ORT_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    UnicodeDecodeError,  # an error message that quotes a damaged file
    *(
        value
        for value in vars(ort_errors).values()
        if isinstance(value, type) and issubclass(value, Exception)
    ),
)
_ERRORS_ONLY = 3


def open_session(model: str | bytes, name: str, threads: int = 0) -> Any:
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
    options.log_severity_level = _ERRORS_ONLY
    try:
        return onnxruntime.InferenceSession(model, options, providers=['CPUExecutionProvider'])
    except ORT_ERRORS as exc:
        raise ModelFormatError(
            f'{name} is not a model ONNX Runtime can load: {first_line(exc)}'
        ) from exc


def usable_cores() -> int:
    """Return the cores this process may use; ONNX Runtime takes those of the whole machine."""
    return len(os.sched_getaffinity(0))


def tensor_info(value: Any) -> TensorInfo:
    """Return what ONNX Runtime tells of an input or output."""
    shape = tuple(dim if isinstance(dim, int) else None for dim in value.shape)
    dtype = value.type.removeprefix('tensor(').removesuffix(')')
    return TensorInfo(value.name, shape, {'float': 'float32'}.get(dtype, dtype))


def first_line(exc: BaseException) -> str:
    """Return the start of an error of ONNX Runtime, which may have many lines."""
    return str(exc).strip().splitlines()[0][:300] if str(exc).strip() else type(exc).__name__
