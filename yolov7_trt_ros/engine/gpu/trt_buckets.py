"""
Shape buckets: everything that a frame of given sizes and encodings needs, allocated once.

A bucket belongs to one combination of source sizes, encodings and network size. What it enqueues
is fixed, so that a CUDA graph can replay it: letterbox kernels, the network, decoding, and NMS
that writes into page-locked memory. The large buffers are the workspace's, which all buckets of a
detector share.

"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import dataclasses
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import pycuda.driver as cuda

from yolov7_trt_ros.core.forms.model_spec import ModelSpec
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.engine.device.kernels import Kernels
from yolov7_trt_ros.engine.device.memory import DeviceBuffer
from yolov7_trt_ros.engine.gpu.decode_plan import OutputTensor, plan_decoding
from yolov7_trt_ros.engine.gpu.device_records import COUNTERS, geometry_record, HEAD, SETTINGS
from yolov7_trt_ros.engine.gpu.frame_layout import SourceKey, SourcePart, UploadPart
from yolov7_trt_ros.engine.gpu.staging import StagingSlot
from yolov7_trt_ros.engine.trt.api import TrtContext

_BLOCK_XY = (32, 8)
_COLLECT_BLOCK = 128
_SUPPRESS_BLOCK = 512
_TABLE_ALIGNMENT = 16


class BucketKey(NamedTuple):
    """What decides everything that a frame enqueues."""

    sources: tuple[SourceKey, ...]
    multi_label: bool


class Workspace:
    """
    Device memory that all buckets of a detector share, by name; it only grows.

    `generation` counts reallocations: older addresses are invalid.

    """

    def __init__(self, before_free: Callable[[], None]) -> None:
        self._buffers: dict[str, DeviceBuffer] = {}
        self._before_free = before_free
        self.generation = 0

    def reserve(self, name: str, size_bytes: int) -> int:
        """Return the address of `size_bytes` of memory called `name`."""
        buffer = self._buffers.get(name)
        if buffer is not None and buffer.size_bytes >= size_bytes:
            return buffer.address
        if buffer is not None:
            self._before_free()
            self.generation += 1
            del self._buffers[name]
            buffer.free()
        buffer = self._buffers[name] = DeviceBuffer(size_bytes)
        cuda.memset_d8(buffer.address, 0, buffer.size_bytes)
        return buffer.address

    @property
    def size_bytes(self) -> int:
        """Device memory in all."""
        return sum(buffer.size_bytes for buffer in self._buffers.values())

    def free(self) -> None:
        """Free everything, and what asked for it; calling it twice is harmless."""
        for buffer in self._buffers.values():
            buffer.free()
        self._buffers.clear()
        self._before_free = _nothing


def _nothing() -> None:
    """Do nothing."""


@dataclasses.dataclass(frozen=True, eq=False)
class BucketTools:
    """What buckets of one detector have in common."""

    spec: ModelSpec
    output_dtypes: dict[str, str]
    kernels: Kernels
    workspace: Workspace
    stream: cuda.Stream


class Bucket:
    """
    Everything for one `BucketKey`. Made with the context current.

    Parameters
    ----------
    parts
        The images.
    shape
        Batch (at least as many as there are parts), height and width of the network input.
    context
        Bound to the bucket's network size; its addresses are set here.

    """

    def __init__(
        self,
        tools: BucketTools,
        key: BucketKey,
        parts: tuple[SourcePart, ...],
        shape: tuple[int, int, int],
        context: TrtContext,
    ) -> None:
        self.key, self.parts, self.shape = key, parts, shape
        self.uploads = tuple(part.upload for part in parts)
        self.staging_bytes = max(part.upload.end for part in parts)
        self._tools, self._context = tools, context
        self._stream = tools.stream
        outputs = self._bind(context)
        self._decoding = plan_decoding(tools.spec, outputs, key.multi_label)
        self._reserve()
        self._tables = self._upload_tables()

    def items(self, images: Sequence[ImageView]) -> list[tuple[UploadPart, ImageView]]:
        """Return the images of a frame with where they go in a slot."""
        return list(zip(self.uploads, images, strict=True))

    def enqueue(self, slot: StagingSlot) -> None:
        """Put the whole frame into the stream: from uploaded image to results in `slot`."""
        self.enqueue_letterbox(slot.cells.address)
        self.enqueue_network()
        self.enqueue_decoding(slot)

    def enqueue_letterbox(self, cells: int) -> None:
        """Convert, scale and normalise the images into the network input."""
        _, network_h, network_w = self.shape
        sample = np.dtype(self._tools.spec.image.dtype)
        block = (*_BLOCK_XY, 1)
        grid = (-(-network_w // block[0]), -(-network_h // block[1]))
        for index, part in enumerate(self.parts):
            function = self._tools.kernels.function(
                f'letterbox_{part.encoding.name}_{sample.name}', 'PiiiPPiiiiPii'
            )
            box = part.letterbox
            function.prepared_async_call(
                grid, block, self._stream,
                cells + 8 * index, part.upload.pitch, *part.key.size_wh,
                *self._tap_addresses[index], *box.resized_wh, *box.offset_xy,
                self._input + index * 3 * network_w * network_h * sample.itemsize,
                network_w, network_h,
            )

    def enqueue_network(self) -> None:
        """Run the network."""
        self._context.enqueue(self._stream.handle)

    def enqueue_decoding(self, slot: StagingSlot) -> None:
        """Decode, filter and suppress; the results go straight into the host memory of `slot`."""
        images = len(self.parts)
        launch = self._decoding.launch
        tensors = launch.tensors if launch.heads is None else (self._heads,)
        self._tools.kernels.function(launch.name, launch.types).prepared_async_call(
            (-(-launch.threads // _COLLECT_BLOCK), images), (_COLLECT_BLOCK, 1, 1),
            self._stream, *tensors, self._settings, self._counters, self._keys,
            self._decoding.capacity, self._boxes, *launch.numbers,
        )
        self._tools.kernels.function('suppress', 'PPPiPiPiiiPP').prepared_async_call(
            (images, 1), (_SUPPRESS_BLOCK, 1, 1), self._stream,
            self._settings, self._counters, self._keys, self._decoding.capacity, self._sorted,
            self._decoding.sorted_capacity, self._boxes, self._decoding.rows,
            self._decoding.class_step, int(self._decoding.finished), self._geometry,
            slot.result.device_address,
        )

    def close(self) -> None:
        """Free the tables; calling it twice is harmless."""
        self._tables.free()

    def _bind(self, context: TrtContext) -> dict[str, OutputTensor]:
        """Set the network's shape and addresses; returns address and shape of each output."""
        spec, reserve = self._tools.spec, self._tools.workspace.reserve
        batch, network_h, network_w = self.shape
        shape: tuple[int, ...] = (batch, 3, network_h, network_w)
        context.set_input_shape(spec.image.name, shape)
        size = int(np.prod(shape)) * np.dtype(spec.image.dtype).itemsize
        self._input = reserve('input', size)
        context.set_address(spec.image.name, self._input)
        outputs = {}
        for name, dtype in self._tools.output_dtypes.items():
            shape = context.output_shape(name)
            address = reserve(f'output {name}', int(np.prod(shape)) * np.dtype(dtype).itemsize)
            context.set_address(name, address)
            outputs[name] = OutputTensor(address, shape, dtype)
        return outputs

    def _reserve(self) -> None:
        reserve, images, decoding = self._tools.workspace.reserve, len(self.parts), self._decoding
        self._settings = reserve('settings', SETTINGS.itemsize)
        self._counters = reserve('counters', images * COUNTERS.itemsize)
        self._keys = reserve('keys', images * decoding.capacity * 8)
        self._sorted = reserve('sorted keys', images * decoding.sorted_capacity * 8)
        self._boxes = reserve('boxes', images * decoding.rows * 16)

    def _upload_tables(self) -> DeviceBuffer:
        """Put geometry, heads and the sampling tables of all images into one buffer."""
        tables = [np.array([geometry_record(part.letterbox) for part in self.parts])]
        launch = self._decoding.launch
        heads = np.zeros(0, HEAD) if launch.heads is None else launch.heads.copy()
        heads['data'] = launch.tensors if launch.heads is not None else 0
        tables += [heads, *(table for part in self.parts for table in (part.columns, part.rows))]
        ends = list(accumulate(-(-table.nbytes // _TABLE_ALIGNMENT) * _TABLE_ALIGNMENT
                               for table in tables))
        host = np.zeros(ends[-1], np.uint8)
        buffer = DeviceBuffer(host.nbytes)
        starts = [0, *ends[:-1]]
        for table, start in zip(tables, starts, strict=True):
            host[start:start + table.nbytes] = table.view(np.uint8)
        self._geometry, self._heads, *taps = (buffer.address + start for start in starts)
        self._tap_addresses = [taps[index:index + 2] for index in range(0, len(taps), 2)]
        try:
            cuda.memcpy_htod(buffer.address, host)
        except cuda.Error:
            buffer.free()
            raise
        return buffer
