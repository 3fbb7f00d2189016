"""
Page-lock image memory in place, so that the GPU reads it without a copy.

A block is locked when an image of it comes for the third time, and unlocked when its owner gives
it up. Whether it is locked decides how fast an image is fetched and nothing else: the driver takes
the same call for memory that is not locked, and copies it then. So a lock that is missing, or gone
early, costs time. And no image is fetched by a lock of other memory, for what is fetched lies in a
block that its owner has had without a gap since it was locked.

"""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import pycuda.driver as cuda

from yolov7_trt_ros.core.stable_memory import StableMemory
from yolov7_trt_ros.engine.device.cuda_device import CudaDevice
from yolov7_trt_ros.errors import InferenceError

_SEEN_BEFORE = 2
"""How many images of a block come before it is locked: locking costs as much as some copies."""
_RELAXED = 2  # CU_STREAM_CAPTURE_MODE_RELAXED


class PageLocks:
    """
    The blocks that are page-locked for the GPU. Thread-safe.

    Attributes
    ----------
    problem
        Why a block could not be locked, '' if all could.

    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # the collector of garbage may release within
        self._seen: dict[StableMemory, int] = {}
        self._is_locked: dict[StableMemory, bool] = {}
        """False if the driver has refused."""
        self._device: CudaDevice | None = None
        self._driver: Any = None
        self.problem = ''

    def __len__(self) -> int:
        """Return the number of blocks that are locked."""
        with self._lock:
            return sum(self._is_locked.values())

    def covers(self, memory: StableMemory) -> bool:
        """Whether a block is locked, which it is from its third image on where that can be."""
        known = self._is_locked.get(memory)
        if known is not None:
            return known
        with self._lock:
            return self._count(memory)

    def clear(self, *, lost: bool = False) -> None:
        """Unlock everything; with the device lost there is nothing to unlock any more."""
        with self._lock:
            for memory in list(self._is_locked):
                if self._is_locked.get(memory) and not lost:
                    self._unlock(memory)
                self._is_locked.pop(memory, None)
            self._seen.clear()
            self._device = None

    def _count(self, memory: StableMemory) -> bool:
        seen = self._seen.get(memory, 0)
        if seen == 0 and not memory.on_release(lambda: self._forget(memory)):
            return False  # given up already
        self._seen[memory] = seen + 1
        if seen < _SEEN_BEFORE:
            return False
        self._is_locked[memory] = self._try_lock(memory)
        return self._is_locked[memory]

    def _try_lock(self, memory: StableMemory) -> bool:
        try:
            if self._device is None:
                self._device, self._driver = CudaDevice(), open_driver()
            with self._device:
                status = self._driver.cuMemHostRegister_v2(
                    ctypes.c_void_p(memory.address), ctypes.c_size_t(memory.size_bytes), 0
                )
        except (OSError, AttributeError, cuda.Error, InferenceError) as exc:
            self.problem = f'memory of images cannot be page-locked: {exc}'
            return False
        if status:
            self.problem = (
                f'{memory.size_bytes} bytes could not be page-locked (CUDA error {status}), so '
                'images in them are copied'
            )
        return not status

    def _forget(self, memory: StableMemory) -> None:
        """Unlock a block that its owner gives up."""
        with self._lock:
            self._seen.pop(memory, None)
            if self._is_locked.pop(memory, False):
                self._unlock(memory)

    def _unlock(self, memory: StableMemory) -> None:
        """
        Unlock a block, in whichever thread gives it up.

        The collector of garbage may do so while a graph is captured, which what is not part of
        that work must not disturb. A driver that refuses has lost the context, and the lock.

        """
        if self._device is None:
            return
        mode = ctypes.c_int(_RELAXED)
        try:
            with self._device:
                self._driver.cuThreadExchangeStreamCaptureMode(ctypes.byref(mode))
                self._driver.cuMemHostUnregister(ctypes.c_void_p(memory.address))
                self._driver.cuThreadExchangeStreamCaptureMode(ctypes.byref(mode))
        except (cuda.Error, InferenceError) as exc:
            self.problem = f'memory of images could not be unlocked: {exc}'


def open_driver() -> Any:
    """Return the CUDA driver's own library; OSError without one."""
    return ctypes.CDLL('libcuda.so.1')
