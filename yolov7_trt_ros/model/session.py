"""Run a model, or the part of it that some tensors need, on ONNX Runtime's CPU."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.errors import InferenceError
from yolov7_trt_ros.model.float_model import FloatModel
from yolov7_trt_ros.model.onnx_source import sub_model
from yolov7_trt_ros.model.session_door import open_session, ORT_ERRORS


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
        image = FloatModel(model).image
        self._input = image.name
        self._batch = image.type.tensor_type.shape.dim[0].dim_value or 1
        # The image itself may be asked for; ONNX Runtime gives outputs of nodes only.
        self._tensors = list(tensors)
        self._inner = [name for name in tensors if name != image.name]
        self._session = open_session(
            sub_model(model, self._inner), 'the model',
            threads=threads or len(os.sched_getaffinity(0)),
        )

    def run(self, blob: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """
        Return the tensors that one image (1, 3, H, W) gives; a fixed batch is filled with it.

        Raises
        ------
        InferenceError
            ONNX Runtime failed.

        """
        image = np.repeat(blob, self._batch, axis=0) if self._batch != 1 else blob
        try:
            values = self._session.run(self._inner, {self._input: image})
        except ORT_ERRORS as exc:
            raise InferenceError(f'ONNX Runtime failed: {exc}') from exc
        found = dict(zip(self._inner, values, strict=True))
        return {name: found.get(name, image) for name in self._tensors}
