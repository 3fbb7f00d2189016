"""Run a model on ONNX Runtime, or only the part that some tensors need."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.onnx_tools.edit import sub_model
from yolov7_trt_ros.onnx_tools.graph import Graph
from yolov7_trt_ros.onnx_tools.model_file import serialise
from yolov7_trt_ros.onnx_tools.runtime import open_session, run_session


class TensorSession:
    """
    Gives tensors from inside a model.

    Parameters
    ----------
    model
        A ModelProto with named nodes.
    tensors
        Names of what `run` is to give.
    threads
        CPU threads; 0 takes one per core that this process may use.

    Raises
    ------
    ModelFormatError
        ONNX Runtime cannot load it.

    """

    def __init__(self, model: Any, tensors: list[str], *, threads: int = 0) -> None:
        image = Graph(model).image
        self._input = image.name
        self._batch = image.type.tensor_type.shape.dim[0].dim_value or 1
        # The image itself may be asked for; ONNX Runtime gives outputs of nodes only.
        self._tensors = list(tensors)
        self._inner = [name for name in tensors if name != image.name]
        part = serialise(sub_model(model, self._inner))
        self._session = open_session(part, 'the model', threads)

    def run(self, blob: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """
        Return the tensors that one image (1, 3, H, W) gives; a fixed batch is filled with it.

        Raises
        ------
        InferenceError
            ONNX Runtime failed.

        """
        image = np.repeat(blob, self._batch, axis=0) if self._batch != 1 else blob
        values = run_session(self._session, self._inner, {self._input: image})
        found = dict(zip(self._inner, values, strict=True))
        return {name: found.get(name, image) for name in self._tensors}
