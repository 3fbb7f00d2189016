"""One door to ONNX Runtime: open a model that is in memory, name what can go wrong."""

from __future__ import annotations

from typing import Any

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from yolov7_trt_ros.errors import ModelFormatError

# ONNX Runtime raises one class per status code, without a common base.
ORT_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    UnicodeDecodeError,  # an error message that quotes a damaged file
    *(
        value for value in vars(ort_errors).values()
        if isinstance(value, type) and issubclass(value, Exception)
    ),
)


def open_session(model: Any, what: object, *, threads: int = 0) -> Any:
    """
    Return a session on the CPU; `what` names the model in the error.

    The model is a ModelProto, or the path of its file as a text. With `threads` 0 ONNX Runtime
    chooses how many it takes.

    Raises
    ------
    ModelFormatError
        ONNX Runtime cannot load it.

    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what fails is raised, and said in our own words
    source = model if isinstance(model, str) else model.SerializeToString()
    try:
        return onnxruntime.InferenceSession(source, options, providers=['CPUExecutionProvider'])
    except ORT_ERRORS as exc:
        reason = ' '.join(str(exc).split())[:300]
        raise ModelFormatError(f'ONNX Runtime cannot load {what}: {reason}') from exc
