"""Buffers on the device and in page-locked host memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
import pycuda.driver as cuda

from yolov7_trt_ros.engine.device.cuda_device import out_of_memory


class DeviceBuffer:
    """Memory on the device, freed by `free()`. Made and freed with the context current."""

    def __init__(self, size_bytes: int) -> None:
        try:
            self._memory: Any = cuda.mem_alloc(max(size_bytes, 16))
        except cuda.MemoryError as exc:
            raise out_of_memory(size_bytes, exc) from exc
        self.address = int(self._memory)
        self.size_bytes = size_bytes

    def free(self) -> None:
        """Free the memory; calling it twice is harmless."""
        if self._memory is not None:
            self._memory.free()
            self._memory = None


class PinnedBuffer:
    """Page-locked host memory as bytes (n,), mapped into the device's address space."""

    def __init__(self, size_bytes: int) -> None:
        try:
            flags = cuda.host_alloc_flags.DEVICEMAP
            self.bytes: NDArray[np.uint8] = cuda.pagelocked_empty(
                max(size_bytes, 16), np.uint8, mem_flags=flags
            )
        except cuda.MemoryError as exc:
            raise out_of_memory(size_bytes, exc) from exc
        self._base: Any = self.bytes.base
        self.device_address = int(self._base.get_device_pointer())
        self.size_bytes = size_bytes

    def free(self) -> None:
        """Free the memory; views of it must not be used any more. Twice is harmless."""
        if self._base is not None:
            self._base.free()
            self._base = None
