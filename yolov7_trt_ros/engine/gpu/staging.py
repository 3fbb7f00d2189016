"""
Staging slots of frames in flight, and the pool shared by all engines of a process.

There are as many slots as frames were ever in flight at once, each as large as the largest frame.

"""

from __future__ import annotations

from collections.abc import Sequence
import contextlib
import itertools
import threading
from typing import Any, TypeVar

import numpy as np
import pycuda.driver as cuda

from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.engine.device.memory import DeviceBuffer, PinnedBuffer
from yolov7_trt_ros.engine.device.page_locks import PageLocks
from yolov7_trt_ros.engine.gpu.device_records import RESULT
from yolov7_trt_ros.engine.gpu.frame_layout import (
    find_place,
    stripe_targets,
    StripeTarget,
    UploadPart,
)
from yolov7_trt_ros.engine.gpu.frame_results import view_results

_MOST_PLACES = 64
_GRAIN_BYTES = 1 << 20
_SERIALS = itertools.count()
Buffer = TypeVar('Buffer', PinnedBuffer, DeviceBuffer)


class StagingSlot:
    """
    What one frame in flight occupies: staging memory, result memory, events.

    Parameters
    ----------
    staging_bytes, on_device
        Of the memory for images, and whether the device has as much.
    images
        Most in a frame.
    locks
        Which blocks of images are page-locked.

    """

    def __init__(
        self, staging_bytes: int, on_device: bool, images: int, locks: PageLocks
    ) -> None:
        self.serial = next(_SERIALS)
        """Never given twice: what was captured for a slot is void without it."""
        self.images = images
        self._locks = locks
        self._fetches: dict[tuple[UploadPart, int, int], Sequence[Any]] = {}
        self._cell_values: list[int] = []
        with contextlib.ExitStack() as made:  # freed at once if there is no memory for all of it
            self._resources = made
            self.staging = self._kept(PinnedBuffer(staging_bytes))
            self.device = self._kept(DeviceBuffer(staging_bytes)) if on_device else None
            self._cells_pinned = self._kept(PinnedBuffer(images * 8))
            self.cells = self._kept(DeviceBuffer(images * 8))
            """Device addresses of the images, which the letterbox kernels follow."""
            self.result = self._kept(PinnedBuffer(images * RESULT.itemsize))
            self.uploaded: Any = cuda.Event(cuda.event_flags.DISABLE_TIMING)
            self.done: Any = cuda.Event(cuda.event_flags.DISABLE_TIMING)
            self._resources = made.pop_all()
        self.results = view_results(self.result.bytes, images)

    def targets(self, part: UploadPart) -> tuple[StripeTarget, ...]:
        """Return where the stripes of an image go in this slot."""
        found = part.targets.get(self.serial)
        if found is None:
            address = self.device.address if self.device is not None else 0
            found = stripe_targets(part, self.staging.bytes, address)
            part.targets[self.serial] = found
        return found

    def fetches_of(self, part: UploadPart, image: ImageView) -> Sequence[Any]:
        """Return what fetches an image, called with a stream; nothing if it has to be copied."""
        if image.memory is None or not part.fetches or not self._locks.covers(image.memory):
            return ()
        place = find_place(image)
        if place is None:
            return ()
        fetches = self._fetches.get((part, *place))
        return self._make_fetches(part, image, *place) if fetches is None else fetches

    def _make_fetches(
        self, part: UploadPart, image: ImageView, address: int, pitch: int
    ) -> Sequence[Any]:
        """Make copies of rows, once for each place: cameras use few."""
        assert self.device is not None
        device_address, fetches = self.device.address + part.offset, []
        for rows in part.fetches_from(pitch):
            fetch = cuda.Memcpy2D()
            fetch.set_src_host(image.pixels[rows.first_row])
            fetch.src_pitch = pitch * rows.spacing
            fetch.set_dst_device(device_address + part.pitch * rows.to_row)
            fetch.dst_pitch = part.pitch * rows.step
            fetch.width_in_bytes = part.pitch * rows.run
            fetch.height = rows.repeats
            fetches.append(fetch)
        if len(self._fetches) >= _MOST_PLACES:
            self._fetches.clear()
        self._fetches[part, address, pitch] = fetches
        return fetches

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
        """Free everything, with the context current; calling it twice is harmless."""
        self._resources.close()
        self.uploaded = self.done = None  # PyCUDA destroys an event with the last reference
        self._fetches.clear()

    def _kept(self, buffer: Buffer) -> Buffer:
        """Have a buffer freed with the slot."""
        self._resources.callback(buffer.free)
        return buffer


class StagingPool:
    """
    The staging slots of one kind, shared by every engine and input size of the process.

    More models, profiles or cameras do not multiply them. Thread-safe.

    Parameters
    ----------
    on_host, on_device
        Whether slots have page-locked memory for images, and a copy of it on the device.

    Attributes
    ----------
    locks
        The blocks of other people's memory that are page-locked as well.

    """

    def __init__(self, *, on_host: bool, on_device: bool) -> None:
        self._on_host, self._on_device = on_host, on_device
        self.locks = PageLocks()
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
        needed = staging_bytes if self._on_host else 0
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
            slot = StagingSlot(size, self._on_device, images, self.locks)
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
        self.locks.clear(lost=lost)
        for slot in slots:
            slot.free()
        return True


_POOLS: dict[tuple[bool, bool], StagingPool] = {}
_POOLS_LOCK = threading.Lock()


def join_pool(*, on_host: bool, on_device: bool) -> StagingPool:
    """Return the process's pool of slots of a kind; `leave_pool` when done with it."""
    with _POOLS_LOCK:
        kind = (on_host, on_device)
        pool = _POOLS.setdefault(kind, StagingPool(on_host=on_host, on_device=on_device))
        pool.add_user()
        return pool


def leave_pool(pool: StagingPool, *, lost: bool) -> None:
    """Free the pool's memory if no other engine uses it; the context must be current."""
    with _POOLS_LOCK:
        if pool.remove_user(lost):
            for kind in [kind for kind, each in _POOLS.items() if each is pool]:
                del _POOLS[kind]
