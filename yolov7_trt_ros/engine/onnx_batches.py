"""Run batches of images through an ONNX model; OnnxDetector takes one image at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.core.forms.model_spec import ModelSpec
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.letterbox import fit_letterbox
from yolov7_trt_ros.core.preprocess import Preprocessor
from yolov7_trt_ros.errors import InferenceError, SettingError
from yolov7_trt_ros.onnx_tools.runtime import OnnxSession
from yolov7_trt_ros.onnx_tools.strip_decoding import load_without_decoding


class OnnxBatches:
    """
    Runs batches of one size, and measures the network time of each.

    Parameters
    ----------
    path
        ONNX file with a free batch, or with this one.
    batch
        Images at once.
    network_wh
        Network input in pixels.
    threads
        CPU threads; 0 takes one per core.
    spec
        What the model is: where OnnxDetector runs it without its decoding, so does this.

    Raises
    ------
    SettingError
        The model does not take this batch: it was exported with another one.
    InferenceError
        It declares that it does, but fails on it.
    ModelFormatError, ModelLayoutError
        As for OnnxSession.

    """

    def __init__(
        self, path: Path, batch: int, network_wh: tuple[int, int], *, threads: int = 0,
        spec: ModelSpec | None = None,
    ) -> None:
        cut = None if spec is None else load_without_decoding(path, spec)
        self._session = OnnxSession(path, threads=threads, data=None if cut is None else cut[0])
        self._network_wh = network_wh
        self._preprocessor = Preprocessor(self._session.input.dtype)
        width, height = network_wh
        self._images = np.zeros((batch, 3, height, width), self._session.input.dtype)
        try:
            self._check_batch(batch)
        except BaseException:
            self.close()
            raise

    def prepare(self, images: Sequence[ImageView]) -> NDArray[Any]:
        """Return the network input of a whole batch of images, in newly allocated memory."""
        for slot, image in zip(self._images, images, strict=True):
            letterbox = fit_letterbox(image.size_wh, self._network_wh)
            slot[:] = self._preprocessor.prepare(image, letterbox)[0]
        return self._images

    def infer_ns(self, images: Sequence[ImageView]) -> int:
        """
        Run a batch and return the nanoseconds that the network alone took.

        Raises
        ------
        InferenceError
            ONNX Runtime failed.

        """
        blob = self.prepare(images)
        start = time.perf_counter_ns()
        self._session.run(blob)
        return time.perf_counter_ns() - start

    def close(self) -> None:
        """Free the session; calling it twice is harmless."""
        self._session.close()

    def _check_batch(self, batch: int) -> None:
        fixed = self._session.input.shape[0]
        if fixed not in (None, batch):
            raise SettingError(
                f'the ONNX model has a fixed batch of {fixed}, not {batch}: export it with a '
                'free batch'
            )
        if batch == fixed:
            return
        result = self._session.run(self._images)[0]
        if result.ndim > 2 and result.shape[0] != batch:  # (n, 7) of an end2end model is no batch
            raise InferenceError(
                f'the ONNX model declares a free batch, but gave {result.shape[0]} results for '
                f'{batch} images'
            )
