"""
How image bytes reach the GPU: device and page-locked buffers, upload strategies, staging slots.

    staged   copied into page-locked memory in stripes, each sent on while the next is copied
    mapped   copied into page-locked memory that the GPU reads in place (integrated GPUs)
    direct   not copied: the GPU reads the caller's pageable memory (where it can)

Which one wins is a property of the machine and measured at start (`fastest`). Only source rows
that the letterbox samples are copied: of 1080 rows scaled to 360, every third.

"""

from __future__ import annotations

import itertools
import statistics
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import pycuda.driver as cuda
from numpy.typing import NDArray

from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.engine.cuda_device import CudaDevice, out_of_memory
from yolov7_trt_ros.engine.device_records import RESULT
from yolov7_trt_ros.engine.frame_layout import (
    StripeTarget,
    UploadPart,
    copy_rows,
    image_rows,
    stripe_targets,
)
from yolov7_trt_ros.engine.frame_results import view_results
from yolov7_trt_ros.errors import SettingError

STRATEGIES = ('staged', 'mapped', 'direct')
_GRAIN_BYTES = 1 << 20
_SERIALS = itertools.count()


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


class StagingSlot:
    """What one frame in flight occupies: staging memory, result memory, events."""

    def __init__(self, staging_bytes: int, on_device: bool, images: int) -> None:
        self.serial = next(_SERIALS)
        """Never given twice: what was captured for a slot is void without it."""
        self.staging = PinnedBuffer(staging_bytes)
        self.device = DeviceBuffer(staging_bytes) if on_device else None
        self.images = images
        self._cells_pinned = PinnedBuffer(images * 8)
        self.cells = DeviceBuffer(images * 8)
        """Device addresses of the images, which the letterbox kernels follow."""
        self._cell_values: list[int] = []
        self.result = PinnedBuffer(images * RESULT.itemsize)
        self.results = view_results(self.result.bytes, images)
        self.uploaded = cuda.Event(cuda.event_flags.DISABLE_TIMING)
        self.done = cuda.Event(cuda.event_flags.DISABLE_TIMING)

    def targets(self, part: UploadPart) -> tuple[StripeTarget, ...]:
        """Return where the stripes of an image go in this slot."""
        found = part.targets.get(self.serial)
        if found is None:
            address = self.device.address if self.device is not None else 0
            found = stripe_targets(part, self.staging.bytes, address)
            part.targets[self.serial] = found
        return found

    @property
    def staging_bytes(self) -> int:
        """Size of the staging memory."""
        return self.staging.size_bytes

    def point_cells(self, addresses: list[int], stream: cuda.Stream) -> None:
        """Make the cells hold these addresses; nothing is done when they do already."""
        if addresses != self._cell_values:
            pinned = self._cells_pinned.bytes.view(np.uint64)
            pinned[: len(addresses)] = addresses
            cuda.memcpy_htod_async(self.cells.address, pinned[: len(addresses)], stream)
            self._cell_values = addresses

    def free(self) -> None:
        """Free everything; calling it twice is harmless."""
        for buffer in (self.staging, self.device, self._cells_pinned, self.cells, self.result):
            if buffer is not None:
                buffer.free()


class Strategy(Protocol):
    """One way of an image to the GPU."""

    name: str
    uses_staging: bool
    uses_device_copy: bool

    def send(
        self,
        slot: StagingSlot,
        parts: Sequence[UploadPart],
        images: Sequence[ImageView],
        stream: cuda.Stream,
    ) -> None:
        """Put the images where the cells of the slot point, in stream order."""


class Staged:
    """Page-locked memory, then the device's own: discrete GPUs."""

    name = 'staged'
    uses_staging = uses_device_copy = True

    def send(
        self,
        slot: StagingSlot,
        parts: Sequence[UploadPart],
        images: Sequence[ImageView],
        stream: cuda.Stream,
    ) -> None:
        """Copy a stripe and send it; the next is copied while it travels."""
        assert slot.device is not None
        address = slot.device.address
        slot.point_cells([address + part.offset for part in parts], stream)
        for part, image in zip(parts, images, strict=True):
            source = image_rows(image)
            for target in slot.targets(part):
                copy_rows(source, target)
                cuda.memcpy_htod_async(target.address, target.flat, stream)


class Mapped:
    """Page-locked memory that the GPU reads in place: integrated GPUs."""

    name = 'mapped'
    uses_staging = True
    uses_device_copy = False

    def send(
        self,
        slot: StagingSlot,
        parts: Sequence[UploadPart],
        images: Sequence[ImageView],
        stream: cuda.Stream,
    ) -> None:
        """Copy; there is nothing to send."""
        address = slot.staging.device_address
        slot.point_cells([address + part.offset for part in parts], stream)
        for part, image in zip(parts, images, strict=True):
            source = image_rows(image)
            for target in slot.targets(part):
                copy_rows(source, target)


class Direct:
    """The caller's own memory, on machines whose GPU reads pageable memory."""

    name = 'direct'
    uses_staging = uses_device_copy = False

    def send(
        self,
        slot: StagingSlot,
        parts: Sequence[UploadPart],
        images: Sequence[ImageView],
        stream: cuda.Stream,
    ) -> None:
        """Tell the kernels where the images lie. The caller keeps them until the frame is done."""
        slot.point_cells([image.pixels.ctypes.data for image in images], stream)


def available_strategies(device: CudaDevice) -> list[Strategy]:
    """Return what this device can do, the plainest first."""
    found: list[Strategy] = [Staged()]
    if device.attribute('CAN_MAP_HOST_MEMORY'):
        found.append(Mapped())
    if device.attribute('PAGEABLE_MEMORY_ACCESS'):
        found.append(Direct())
    return found


def choose_strategy(
    name: str, device: CudaDevice, measure: Callable[[Strategy], Sequence[float]]
) -> tuple[Strategy, dict[str, float]]:
    """
    Return the strategy called `name`, or for `auto` the fastest one.

    Parameters
    ----------
    name
        `auto` or one of `STRATEGIES`.
    device
        Tells what is possible.
    measure
        Returns the seconds of some uploads with a strategy; only called for `auto`.

    Returns
    -------
    The strategy, and the median milliseconds of each that was measured.

    Raises
    ------
    SettingError
        The name is unknown, or this device cannot do it.

    """
    possible = {strategy.name: strategy for strategy in available_strategies(device)}
    if name != 'auto':
        if name not in possible:
            raise SettingError(
                f'memory must be auto or one of {", ".join(possible)} on {device.name}, '
                f'got {name!r}'
            )
        return possible[name], {}
    medians = {
        key: statistics.median(measure(strategy)) * 1e3 for key, strategy in possible.items()
    }
    return possible[min(medians, key=lambda key: medians[key])], medians


class StagingPool:
    """
    The staging slots of one strategy, shared by every engine and input size of the process.

    There are as many slots as frames were ever in flight at once, each as large as the largest
    frame: more models, profiles or cameras do not multiply them. Thread-safe.

    """

    def __init__(self, strategy: Strategy) -> None:
        self.strategy = strategy
        self._lock = threading.Lock()
        self._free: list[StagingSlot] = []
        self._all: list[StagingSlot] = []
        self._users = 0

    def acquire(self, staging_bytes: int, images: int) -> StagingSlot:
        """
        Return a free slot that is large enough; the context must be current.

        Raises
        ------
        DeviceMemoryError
            There is no memory for one.

        """
        needed = staging_bytes if self.strategy.uses_staging else 0
        with self._lock:
            for index, slot in enumerate(self._free):
                if slot.staging_bytes >= needed and slot.images >= images:
                    return self._free.pop(index)
            small = self._free.pop() if self._free else None
            if small is not None:
                self._all.remove(small)
                images = max(images, small.images)
                needed = max(needed, small.staging_bytes)
                small.free()
            size = -(-needed // _GRAIN_BYTES) * _GRAIN_BYTES
            on_device = self.strategy.uses_device_copy
            slot = StagingSlot(size, on_device, images)
            self._all.append(slot)
            return slot

    def release(self, slot: StagingSlot) -> None:
        """Give a slot back; whatever used it is done."""
        with self._lock:
            if slot in self._all:
                self._free.append(slot)

    @property
    def slots(self) -> int:
        """How many slots exist."""
        return len(self._all)

    @property
    def staging_bytes(self) -> int:
        """Page-locked staging memory in all."""
        return sum(slot.staging_bytes for slot in self._all)

    def add_user(self) -> None:
        """Count one more detector."""
        with self._lock:
            self._users += 1

    def remove_user(self, lost: bool) -> bool:
        """Count one less; the last one, or the first on a lost device, frees all: then True."""
        with self._lock:
            self._users -= 1
            if self._users > 0 and not lost:
                return False
            slots, self._all, self._free = self._all, [], []
        for slot in slots:
            slot.free()
        return True


_POOLS: dict[str, StagingPool] = {}
_POOLS_LOCK = threading.Lock()


def join_pool(strategy: Strategy) -> StagingPool:
    """Return the process's pool of a strategy; `leave_pool` when done with it."""
    with _POOLS_LOCK:
        pool = _POOLS.setdefault(strategy.name, StagingPool(strategy))
        pool.add_user()
        return pool


def leave_pool(pool: StagingPool, *, lost: bool) -> None:
    """Free the pool's memory if nobody else can use it; the context must be current."""
    with _POOLS_LOCK:
        if pool.remove_user(lost) and _POOLS.get(pool.strategy.name) is pool:
            del _POOLS[pool.strategy.name]
