"""
Upload image bytes to the GPU: four strategies, and the choice of the fastest.

    staged   copied into page-locked memory in stripes, each sent on while the next is copied
    locked   sent from where it is, if that memory stays and can be page-locked; else staged
    mapped   copied into page-locked memory that the GPU reads in place (integrated GPUs)
    direct   not copied: the GPU reads the caller's pageable memory (where it can)

Which one wins is a property of the machine: measured when a detector is opened there for the first
time, and kept (memory_choice.py).

"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
import os
import platform
from typing import Any, Protocol

import pycuda.driver as cuda

from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.engine.cache_folder import cache_folder
from yolov7_trt_ros.engine.device.cuda_device import CudaDevice
from yolov7_trt_ros.engine.device.memory_choice import (
    decide,
    KeptChoice,
    MemoryChoice,
    UploadSample,
)
from yolov7_trt_ros.engine.gpu.frame_layout import copy_rows, image_rows, StripeTarget, UploadPart
from yolov7_trt_ros.engine.gpu.staging import StagingSlot
from yolov7_trt_ros.errors import SettingError

Items = Sequence[tuple[UploadPart, ImageView]]
"""The images of a frame, each with where it goes."""


class Strategy(Protocol):
    """One way of an image to the GPU."""

    name: str
    uses_staging: bool
    uses_device_copy: bool

    def send(
        self, slot: StagingSlot, items: Items, stream: cuda.Stream, *, rest: bool = True
    ) -> bool:
        """
        Put the images where the cells of the slot point, in stream order.

        Without `rest` a part may be left out that a CUDA graph can do as well; then the answer is
        True, and `send_rest` has to follow.

        """

    def status(self) -> dict[str, str]:
        """Return the text that diagnostics show beside the name."""

    def send_rest(
        self, slot: StagingSlot, parts: Sequence[UploadPart], stream: cuda.Stream
    ) -> None:
        """Send what `send` left out; it needs nothing but the slot's memory."""


class Staged:
    """Page-locked memory, then the device's own: discrete GPUs."""

    name = 'staged'
    uses_staging = uses_device_copy = True

    def send(
        self, slot: StagingSlot, items: Items, stream: cuda.Stream, *, rest: bool = True
    ) -> bool:
        """Copy a stripe and send it; the next is copied while it travels."""
        self._point_cells(slot, items, stream)
        left_out = None if rest else slot.targets(items[-1][0])[-1]
        for part, image in items:
            self._send_stripes(slot, part, image, stream, left_out)
        return not rest

    def _point_cells(self, slot: StagingSlot, items: Items, stream: cuda.Stream) -> None:
        assert slot.device is not None
        address = slot.device.address
        slot.point_cells([address + part.offset for part, _ in items], stream)

    def _send_stripes(
        self, slot: StagingSlot, part: UploadPart, image: ImageView, stream: cuda.Stream,
        left_out: StripeTarget | None,
    ) -> None:
        source = image_rows(image)
        for target in slot.targets(part):
            copy_rows(source, target)
            if target is not left_out:
                cuda.memcpy_htod_async(target.address, target.flat, stream)

    def send_rest(
        self, slot: StagingSlot, parts: Sequence[UploadPart], stream: cuda.Stream
    ) -> None:
        """Send the last stripe."""
        target = slot.targets(parts[-1])[-1]
        cuda.memcpy_htod_async(target.address, target.flat, stream)

    def status(self) -> dict[str, str]:
        """Return an empty text: the name is enough."""
        return {}


class Locked(Staged):
    """As staged, but images whose own memory stays are page-locked there and not copied."""

    name = 'locked'

    def __init__(self) -> None:
        self._fetched = self._copied = 0

    def send(
        self, slot: StagingSlot, items: Items, stream: cuda.Stream, *, rest: bool = True
    ) -> bool:
        """Have the GPU fetch what is page-locked; the rest is copied stripe by stripe."""
        self._point_cells(slot, items, stream)
        left_out = None if rest else slot.targets(items[-1][0])[-1]
        fetches: Sequence[Any] = ()
        for part, image in items:
            fetches = slot.fetches_of(part, image)
            for fetch in fetches:
                fetch(stream)
            if fetches:
                self._fetched += 1
            else:
                self._send_stripes(slot, part, image, stream, left_out)
                self._copied += 1
        return not rest and not fetches

    def status(self) -> dict[str, str]:
        """Return how often it could be done without a copy."""
        return {'images page-locked': f'{self._fetched}, and {self._copied} copied'}


class _SentWhole:
    """What strategies have in common whose `send` leaves nothing out."""

    def send_rest(
        self, slot: StagingSlot, parts: Sequence[UploadPart], stream: cuda.Stream
    ) -> None:
        """Do nothing: `send` leaves nothing out."""

    def status(self) -> dict[str, str]:
        """Return an empty text: the name is enough."""
        return {}


class Mapped(_SentWhole):
    """Page-locked memory that the GPU reads in place: integrated GPUs."""

    name = 'mapped'
    uses_staging = True
    uses_device_copy = False

    def send(
        self, slot: StagingSlot, items: Items, stream: cuda.Stream, *, rest: bool = True
    ) -> bool:
        """Copy; there is nothing to send."""
        address = slot.staging.device_address
        slot.point_cells([address + part.offset for part, _ in items], stream)
        for part, image in items:
            source = image_rows(image)
            for target in slot.targets(part):
                copy_rows(source, target)
        return False


class Direct(_SentWhole):
    """The caller's own memory, on machines whose GPU reads pageable memory."""

    name = 'direct'
    uses_staging = uses_device_copy = False

    def send(
        self, slot: StagingSlot, items: Items, stream: cuda.Stream, *, rest: bool = True
    ) -> bool:
        """Tell the kernels where the images lie. The caller keeps them until the frame is done."""
        slot.point_cells([image.pixels.ctypes.data for _, image in items], stream)
        return False


def available_strategies(device: CudaDevice) -> list[Strategy]:
    """Return what this device can do, the plainest first."""
    found: list[Strategy] = [Staged(), Locked()]
    if device.attribute('CAN_MAP_HOST_MEMORY'):
        found.append(Mapped())
    if device.attribute('PAGEABLE_MEMORY_ACCESS'):
        found.append(Direct())
    return found


def choose_strategy(
    name: str,
    device: CudaDevice,
    measure: Callable[[Sequence[Strategy]], Mapping[str, Sequence[UploadSample]]],
    kept: KeptChoice,
) -> tuple[Strategy, MemoryChoice]:
    """
    Return the strategy called `name`; for `auto` the one that was kept, or measured now.

    Parameters
    ----------
    name
        `auto`, `staged`, `locked`, `mapped` or `direct`.
    device
        Tells what is possible.
    measure
        Returns uploads with each strategy, in turns; called for `auto` without a kept choice.
    kept
        Of this machine.

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
        return possible[name], MemoryChoice(name, {}, 'as asked for')
    choice = kept.load(list(possible))
    if choice is None:
        usual = usual_strategy(device, possible)
        choice = decide(usual, measure(list(possible.values())))
        kept.save(choice)
    return possible[choice.strategy], choice


def usual_strategy(device: CudaDevice, possible: Collection[str]) -> str:
    """Return what is taken unless another wins clearly: in place on a GPU that shares memory."""
    shares = bool(device.attribute('INTEGRATED')) and Mapped.name in possible
    return Mapped.name if shares else Staged.name


def kept_choice(device: CudaDevice) -> KeptChoice:
    """Return where the choice of this machine is kept."""
    return KeptChoice(cache_folder('memory'), {
        'GPU': device.name,
        'architecture': device.architecture,
        'CUDA driver': device.driver_version,
        'machine': platform.machine(),
        'cores': str(os.cpu_count()),
    })
