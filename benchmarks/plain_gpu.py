"""The usual Python code for a TensorRT plan with a grid: PyCUDA, pageable copies, no graph."""

from __future__ import annotations

import numpy as np
from plain_way import plain_detections, plain_input
import pycuda.driver as cuda

from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.engine.device.cuda_device import CudaDevice
from yolov7_trt_ros.engine.device.memory import DeviceBuffer
from yolov7_trt_ros.engine.trt.api import TrtApi

_SIDE = 640


class PlainGpu:
    """
    Blocking copies of a square float32 input and of the whole grid, around one engine.

    Parameters
    ----------
    api, plan
        TensorRT and the serialised engine: input `images`, output `output`, 640 x 640 allowed.

    """

    def __init__(self, api: TrtApi, plan: bytes) -> None:
        self._device = CudaDevice()
        with self._device:
            self._stream = cuda.Stream()
            self._engine = api.deserialize(plan)
            self._activations = DeviceBuffer(self._engine.device_memory_bytes)
            self._context = self._engine.create_context(0, self._stream.handle)
            self._context.set_device_memory(
                self._activations.address, self._activations.size_bytes
            )
            self._context.set_input_shape('images', (1, 3, _SIDE, _SIDE))
            shape = self._context.output_shape('output')
            self._grid = np.empty(shape, np.float32)
            self._input = DeviceBuffer(3 * _SIDE * _SIDE * 4)
            self._output = DeviceBuffer(self._grid.nbytes)
            self._context.set_address('images', self._input.address)
            self._context.set_address('output', self._output.address)

    def detect(self, bgr: np.ndarray, settings: DetectSettings) -> np.ndarray:
        """Return boxes (n, 4) in source pixels, score, class of a picture (H, W, 3)."""
        height, width = bgr.shape[:2]
        blob = plain_input(bgr, width, height)
        with self._device:
            cuda.memcpy_htod(self._input.address, blob)
            self._context.enqueue(self._stream.handle)
            self._stream.synchronize()
            cuda.memcpy_dtoh(self._grid, self._output.address)
        return plain_detections(self._grid[0], width, height, settings)

    def close(self) -> None:
        """Free the context."""
        with self._device:
            self._context.close()
