"""A model in ONNX Runtime on the CPU, tensors in and out: no more than timing it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from yolov7_trt_ros.core.model_spec import check_input, TensorInfo
from yolov7_trt_ros.errors import InferenceError, MissingDependencyError, ModelFormatError
from yolov7_trt_ros.onnx_tools.model_file import import_onnx, load_model
from yolov7_trt_ros.onnx_tools.runtime import open_session, run_session, session_inputs


class OnnxSession:
    """
    A session of ONNX Runtime.

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


def onnx_precision(path: Path) -> str:
    """
    Return what the convolutions of an ONNX file run in: `int8` (Q/DQ), `fp16`, `mixed`, `fp32`.

    '' where the file cannot be read, or the package onnx is not installed. Weights that are kept
    in half precision and cast before use run in single precision.

    """
    try:
        onnx = import_onnx('a precision is told by it')
        graph = load_model(path, weights=False).graph
    except (MissingDependencyError, ModelFormatError):
        return ''
    if any(node.op_type == 'QuantizeLinear' for node in graph.node):
        return 'int8'
    types = {value.name: value.data_type for value in graph.initializer}
    used = {
        types.get(node.input[1]) == onnx.TensorProto.FLOAT16
        for node in graph.node if node.op_type == 'Conv'
    }
    return 'mixed' if len(used) == 2 else 'fp16' if True in used else 'fp32'
