"""Run the package's kernels on a GPU, arrays there and back: the launcher of kernel_cases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pycuda.driver as cuda

from yolov7_trt_ros.engine.device.cuda_device import CudaDevice
from yolov7_trt_ros.engine.device.kernels import Kernels


class GpuLauncher:
    """Launches the package's kernels as the host emulation does: arrays there and back."""

    def __init__(self, device: CudaDevice) -> None:
        self._device = device
        with device:
            self._kernels = Kernels(device.architecture)
        self._images: list[Any] = []

    def launch(self, name: str, grid: Any, block: Any, *arguments: Any) -> None:
        """Run a kernel to its end."""
        letters, values, arrays = '', [], []
        with self._device:
            for argument in arguments:
                if isinstance(argument, np.ndarray):
                    memory = cuda.to_device(argument)
                    arrays.append((argument, memory))
                    argument = int(memory)
                    letters += 'P'
                else:
                    letters += 'f' if argument.dtype.kind == 'f' else 'i'
                values.append(argument)
            function = self._kernels.function(name, letters)
            function.prepared_call(tuple(grid[:2]), tuple(block), *values)
            cuda.Context.synchronize()
            for array, memory in arrays:
                if array.flags.writeable:
                    cuda.memcpy_dtoh(array, memory)
                memory.free()
            for memory in self._images:
                memory.free()
            self._images = []

    def cells(self, arrays: list[np.ndarray]) -> np.ndarray:
        """Put the arrays on the device; return their addresses there."""
        with self._device:
            self._images = [cuda.to_device(np.ascontiguousarray(array)) for array in arrays]
        return np.array([int(memory) for memory in self._images], np.uint64)
