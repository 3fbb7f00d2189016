"""
TrtDetector: YOLOv7 on an NVIDIA GPU, from image bytes to detections in one stream.

Per frame the host copies the image into page-locked memory, launches one CUDA graph (letterbox,
network, decoding, NMS, copy of the results) and waits for it. Nothing is allocated while sizes and
encodings repeat.

"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pycuda.driver as cuda

from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.detector import DetectSettings, FrameTimings
from yolov7_trt_ros.core.image import ImageView, PixelLayout
from yolov7_trt_ros.core.letterbox import Letterbox, fit_letterbox, fit_rectangle
from yolov7_trt_ros.core.model_spec import (
    Anchors,
    ModelSpec,
    check_input,
    recognise_model,
)
from yolov7_trt_ros.core.preprocess import to_bgr
from yolov7_trt_ros.engine.cuda_device import CudaDevice, abandon, reset_device
from yolov7_trt_ros.engine.device_records import RESULT, SETTINGS, settings_record
from yolov7_trt_ros.engine.frame_layout import SourceKey, plan_sources
from yolov7_trt_ros.engine.graphs import GraphCache
from yolov7_trt_ros.engine.kernels import Kernels
from yolov7_trt_ros.engine.memory import (
    DeviceBuffer,
    PinnedBuffer,
    StagingPool,
    StagingSlot,
    Strategy,
    choose_strategy,
    join_pool,
    leave_pool,
)
from yolov7_trt_ros.engine.plan import PlanManifest
from yolov7_trt_ros.engine.stage_times import measure_stages
from yolov7_trt_ros.engine.trt_api import TrtApi, TrtContext
from yolov7_trt_ros.engine.trt_buckets import (
    Bucket,
    BucketKey,
    BucketTools,
    Workspace,
)
from yolov7_trt_ros.errors import (
    DeviceLostError,
    DeviceMemoryError,
    InferenceError,
    ModelLayoutError,
    SettingError,
)

_KEPT_BUCKETS = 16
_MEASURED_WH = (1280, 720)
_MEASURED_FRAMES = 12
_LEAST_BAYER = 3
_BAD_VALUES = (
    ('bad_objectness', 'objectness'), ('bad_scores', 'class score'), ('bad_boxes', 'box'),
)


@dataclasses.dataclass(eq=False)
class Ticket:
    """A frame in flight: what `submit` gives and `collect` takes, once."""

    slot: StagingSlot
    bucket: Bucket
    images: Sequence[ImageView]
    """Kept alive until the GPU has read them."""
    submit_ns: int
    collected: bool = False


class TrtDetector:
    """
    A detector on the GPU.

    Parameters
    ----------
    plan_bytes, plan
        The serialised engine and where it came from (for messages).
    api
        The TensorRT that runs it.
    manifest
        What `yolov7_trt build` noted; without one the model is recognised from its tensors.
    class_names, anchors
        Override the model's own.
    network_size
        Longer side of the network input in pixels, for plans with a free input size.
    rectangular
        Letterbox to the smallest rectangle of stride multiples instead of a square.
    memory
        `auto`, `staged`, `mapped` or `direct` (engine/memory.py).
    cuda_graph
        Replay frames as CUDA graphs.

    Raises
    ------
    PlanError, ModelLayoutError
        TensorRT refuses the plan, or it is not a YOLOv7 export's.
    SettingError
        The network size is not within the plan's profiles, or the memory strategy not possible.
    InferenceError
        No device, or it failed.
    MissingDependencyError
        No CUDA compiler for the kernels.

    Notes
    -----
    Used by one thread at a time, which may be any thread. After DeviceLostError: `close()`, and
    open another one in the same process.

    """

    def __init__(
        self,
        plan: Path,
        plan_bytes: bytes,
        *,
        api: TrtApi,
        manifest: PlanManifest | None = None,
        class_names: Sequence[str] | None = None,
        anchors: Anchors | None = None,
        network_size: int = 640,
        rectangular: bool = True,
        memory: str = 'auto',
        cuda_graph: bool = True,
    ) -> None:
        self._plan = plan
        self._network_size, self._rectangular = network_size, rectangular
        self._precision = manifest.precision if manifest else 'as built'
        self._buckets: collections.OrderedDict[BucketKey, Bucket] = collections.OrderedDict()
        self._contexts: dict[tuple[int, int, int], TrtContext] = {}
        self._settings: DetectSettings | None = None
        self._in_flight = 0
        self._closed = False
        self._resources = contextlib.ExitStack()
        self._device = CudaDevice()
        try:
            with self._device:
                self._open(plan_bytes, api, manifest, class_names, anchors, cuda_graph)
                strategy, self.upload_ms = choose_strategy(memory, self._device, self._measure)
                self._pool = join_pool(strategy, RESULT.itemsize)
                self._resources.callback(
                    lambda: leave_pool(self._pool, lost=self._device.lost)
                )
                self._resources.callback(self._finish)
        except BaseException:
            self.close()
            raise
        self.backend = (
            f'{api.flavour} {api.version} ({self._precision}) on {self._device.name}, '
            f'{strategy.name} memory'
        )
        self.max_batch: int = max(profile.maximum[0] for profile in self._engine.profiles)
        """Most images that `submit` and `detect_batch` run at once."""

    def _open(
        self,
        plan_bytes: bytes,
        api: TrtApi,
        manifest: PlanManifest | None,
        class_names: Sequence[str] | None,
        anchors: Anchors | None,
        cuda_graph: bool,
    ) -> None:
        """Load everything; what is taken goes onto `_resources` at once."""
        take = self._resources.callback
        self._stream = cuda.Stream()
        self._copy_stream = cuda.Stream()
        self._graphs = GraphCache(self._stream, enabled=cuda_graph)
        self._workspace = Workspace(self._before_free)
        take(self._workspace.free)
        self._settings_pinned = PinnedBuffer(SETTINGS.itemsize)
        take(self._settings_pinned.free)
        self._engine = api.deserialize(plan_bytes)
        take(self._engine.close)
        self._activations = DeviceBuffer(self._engine.device_memory_bytes)
        take(self._activations.free)
        take(self._close_contexts)
        self.spec: ModelSpec = self._find_spec(manifest, class_names, anchors)
        self._check_network_size()
        self._tools = BucketTools(
            self.spec,
            {tensor.name: tensor.dtype for tensor in self._engine.outputs},
            Kernels(self._device.architecture),
            self._workspace,
            self._stream,
        )

    def _finish(self) -> None:
        """Wait for the frames in flight, where they can still end."""
        if not self._device.lost:
            self._stream.synchronize()
            self._copy_stream.synchronize()

    def _close_contexts(self) -> None:
        """Close graphs, buckets and contexts, before what they use is freed."""
        self._finish()
        self._graphs.drop()
        for bucket in self._buckets.values():
            bucket.close()
        for context in self._contexts.values():
            context.close()
        self._buckets.clear()
        self._contexts.clear()

    # The Detector protocol -----------------------------------------------------------------------

    def detect(
        self, image: ImageView, settings: DetectSettings
    ) -> tuple[Detections, FrameTimings]:
        """
        Find objects in one image.

        `preprocess_ns` is the host's part until the GPU has its work, `infer_ns` the wait for the
        GPU (letterbox to NMS), `postprocess_ns` the unpacking of the results.

        Raises
        ------
        InferenceError
            CUDA or TensorRT failed, or the model gave NaN; the detector stays usable.
        DeviceMemoryError
            Too little GPU memory for this image size; others may still work.
        DeviceLostError
            The CUDA context is gone; close this detector.

        """
        found, timings = self.detect_batch((image,), settings)
        return found[0], timings

    def detect_batch(
        self, images: Sequence[ImageView], settings: DetectSettings
    ) -> tuple[list[Detections], FrameTimings]:
        """
        Find objects in several images of any sizes, in one run of the network.

        Raises
        ------
        SettingError
            More images than `max_batch`, or none.
        InferenceError
            As for `detect`.

        """
        return self.collect(self.submit(images, settings))

    @property
    def staging_pool(self) -> StagingPool:
        """The staging memory, shared with the other detectors of the process."""
        return self._pool

    def facts(self) -> dict[str, str]:
        """Return what diagnostics show: precision, memory strategy, graph counters."""
        graphs = self._graphs
        graph = f'{graphs.hits} replays, {graphs.misses} captures, {graphs.fallbacks} without'
        if graphs.fallbacks and graphs.reason:
            graph += f' ({graphs.reason})'
        return {
            'precision': self._precision,
            'memory': self._pool.strategy.name,
            'CUDA graph': graph,
        }

    def close(self) -> None:
        """
        Free everything; calling it twice is harmless.

        On a lost device the CUDA context is made anew, so that the next detector can be opened.

        """
        if self._closed:
            return
        self._closed = True
        lost = not self._device.is_alive()
        if self._device.was_reset:
            abandon(self, self._resources.pop_all())
            return
        with self._device:
            self._resources.close()
        self._device.release()
        if lost:
            reset_device()

    # Pipelining ----------------------------------------------------------------------------------

    def submit(self, images: Sequence[ImageView], settings: DetectSettings) -> Ticket:
        """
        Start on a frame of one or more images without waiting for it.

        While earlier frames are in flight the upload runs beside them. Two frames in flight keep
        the GPU busy; each one more holds staging memory of its own until it is collected.

        Raises
        ------
        SettingError
            More images than `max_batch`, or none.
        InferenceError
            As for `detect`.

        """
        start = time.perf_counter_ns()
        self._check_usable(images)
        with self._device:
            images = [self._acceptable(image) for image in images]
            bucket = self._bucket_for(images, settings)
            if settings is not self._settings:
                self._send_settings(settings)
            slot = self._acquire(bucket)
            try:
                self._start(slot, bucket, images)
            except BaseException:
                self._stream.synchronize()
                self._pool.release(slot)
                raise
            self._in_flight += 1
        return Ticket(slot, bucket, images, time.perf_counter_ns() - start)

    def collect(self, ticket: Ticket) -> tuple[list[Detections], FrameTimings]:
        """
        Wait for a frame and return what was found, one Detections an image.

        Raises
        ------
        InferenceError
            As for `detect`; the frame is over then as well.

        """
        if ticket.collected:
            raise InferenceError('this frame was collected before')
        ticket.collected = True
        start = time.perf_counter_ns()
        try:
            with self._device:
                ticket.slot.done.synchronize()
            ready = time.perf_counter_ns()
            found = self._unpack(ticket)
        finally:
            self._in_flight -= 1
            self._pool.release(ticket.slot)
        done = time.perf_counter_ns()
        return found, FrameTimings(ticket.submit_ns, ready - start, done - ready)

    def measure_stages(
        self, images: Sequence[ImageView], settings: DetectSettings, repeats: int = 200
    ) -> dict[str, float]:
        """
        Return the GPU time of each stage of a frame, in median milliseconds between events.

        Keys: letterbox, network, decoding (with NMS), outside (letterbox and decoding and the copy
        of the results), network_graph and frame_graph: the last three as graphs, where possible.

        """
        with self._device:
            images = [self._acceptable(image) for image in images]
            bucket = self._bucket_for(images, settings)
            self._send_settings(settings)
            slot = self._acquire(bucket)
            graphs = GraphCache(self._stream, enabled=self._graphs.enabled)
            try:
                self._pool.strategy.send(slot, bucket.uploads, images, self._stream)
                bucket.enqueue(slot)
                return measure_stages(bucket, slot, graphs, self._stream, repeats)
            finally:
                self._stream.synchronize()
                graphs.drop()
                self._pool.release(slot)

    def _start(self, slot: StagingSlot, bucket: Bucket, images: Sequence[ImageView]) -> None:
        """Upload and enqueue; beside the frames in flight where there are any."""
        stream = self._copy_stream if self._in_flight else self._stream
        self._pool.strategy.send(slot, bucket.uploads, images, stream)
        if stream is not self._stream:
            slot.uploaded.record(stream)
            self._stream.wait_for_event(slot.uploaded)
        self._graphs.launch((bucket.key, slot.serial), lambda: bucket.enqueue(slot))
        slot.done.record(self._stream)

    def _unpack(self, ticket: Ticket) -> list[Detections]:
        count = len(ticket.bucket.parts)
        results = ticket.slot.result.bytes[: count * RESULT.itemsize].view(RESULT)
        return [
            _detections(results[index], part.letterbox)
            for index, part in enumerate(ticket.bucket.parts)
        ]

    def _check_usable(self, images: Sequence[ImageView]) -> None:
        if self._closed:
            raise InferenceError('the detector is closed')
        if self._device.lost:
            raise DeviceLostError('the CUDA context is lost; the detector has to be opened again')
        if not 1 <= len(images) <= self.max_batch:
            raise SettingError(
                f'expected 1 to {self.max_batch} images at once, got {len(images)}; a plan built '
                f'with --max {len(images)}x3x... takes as many'
            )

    def _acceptable(self, image: ImageView) -> ImageView:
        """Return the image in a form the kernels read: Bayer mosaics have a least size."""
        if image.encoding.layout is PixelLayout.BAYER and min(image.size_wh) < _LEAST_BAYER:
            return ImageView.from_array(to_bgr(image))
        if self._pool.strategy.uses_staging:
            return image
        rows = image.pixels
        if rows.dtype.byteorder == '>' or rows.strides[1] != image.encoding.pixel_bytes:
            native = rows.astype(rows.dtype.newbyteorder('='), order='C')
            return dataclasses.replace(image, pixels=native)
        return image

    # Buckets -------------------------------------------------------------------------------------

    def letterbox(self, source_wh: tuple[int, int]) -> Letterbox:
        """Return the placement of an image of `source_wh` pixels in the network input."""
        return self._letterboxes([source_wh])[0]

    def _letterboxes(self, sizes_wh: list[tuple[int, int]]) -> list[Letterbox]:
        """Return placements in one network size that suits all of them."""
        fixed_wh = self.spec.fixed_wh
        size = self._network_size
        if fixed_wh is not None:
            return [fit_letterbox(size_wh, fixed_wh) for size_wh in sizes_wh]
        if not self._rectangular:
            return [fit_letterbox(size_wh, (size, size)) for size_wh in sizes_wh]
        boxes = [fit_rectangle(size_wh, size, self.spec.stride) for size_wh in sizes_wh]
        wanted = self._least_fitting(
            max(box.network_wh[0] for box in boxes), max(box.network_wh[1] for box in boxes)
        )
        return [
            box if box.network_wh == wanted else _recentred(box, wanted) for box in boxes
        ]

    def _least_fitting(self, width: int, height: int) -> tuple[int, int]:
        """Return the size itself, or the next larger one that a profile takes."""
        larger = [
            (max(width, profile.minimum[3]), max(height, profile.minimum[2]))
            for profile in self._engine.profiles
            if width <= profile.maximum[3] and height <= profile.maximum[2]
        ]
        return min(larger, key=lambda wh: wh[0] * wh[1]) if larger else (width, height)

    def _bucket_for(self, images: Sequence[ImageView], settings: DetectSettings) -> Bucket:
        in_place = not self._pool.strategy.uses_staging
        sources = tuple(_source_key(image, in_place) for image in images)
        key = BucketKey(sources, settings.multi_label)
        bucket = self._buckets.get(key)
        if bucket is None:
            return self._retrying(lambda: self._add_bucket(key))
        if len(self._buckets) > 1:
            self._buckets.move_to_end(key)
        return bucket

    def _add_bucket(self, key: BucketKey) -> Bucket:
        generation = self._workspace.generation
        bucket = self._make_bucket(key)
        if self._workspace.generation != generation:
            self._drop_buckets(keep=0)  # they hold addresses of memory that is gone
        self._buckets[key] = bucket
        self._drop_buckets(keep=_KEPT_BUCKETS)
        return bucket

    def _make_bucket(self, key: BucketKey) -> Bucket:
        letterboxes = self._letterboxes([source.size_wh for source in key.sources])
        width, height = letterboxes[0].network_wh
        profile = self._profile_for(len(key.sources), height, width)
        batch = max(len(key.sources), self._engine.profiles[profile].minimum[0])
        shape = (batch, height, width)
        context = self._contexts.get(shape)
        if context is None:
            context = self._engine.create_context(profile, self._stream.handle)
            context.set_device_memory(self._activations.address, self._activations.size_bytes)
            self._contexts[shape] = context
        parts = plan_sources(key.sources, letterboxes)
        return Bucket(self._tools, key, parts, shape, context)

    def _profile_for(self, images: int, height: int, width: int) -> int:
        """Return the number of the profile that takes this input and is tuned nearest to it."""
        profiles = self._engine.profiles
        fitting = [
            index for index, profile in enumerate(profiles)
            if images <= profile.maximum[0]
            and profile.minimum[2] <= height <= profile.maximum[2]
            and profile.minimum[3] <= width <= profile.maximum[3]
        ]
        if not fitting:
            raise InferenceError(
                f'{images} image(s) of {width}x{height} network pixels are outside the profiles '
                f'of {self._plan}: {"; ".join(map(str, profiles))}. Rebuild it with '
                f'--max {images}x3x{height}x{width} or larger, or set a smaller network_size'
            )

        def distance(index: int) -> float:
            tuned = profiles[index].optimum
            wanted = (images, 3, height, width)
            return sum(abs(math.log(a / b)) for a, b in zip(tuned, wanted, strict=True))

        return min(fitting, key=distance)

    def _before_free(self) -> None:
        """Make sure that nothing uses the workspace any more."""
        self._stream.synchronize()
        self._graphs.drop()

    def _drop_buckets(self, keep: int) -> None:
        """Drop the least recently used buckets, with their graphs and unused contexts."""
        if len(self._buckets) <= keep:
            return
        self._stream.synchronize()
        while len(self._buckets) > keep:
            key, bucket = self._buckets.popitem(last=False)
            self._graphs.drop(functools.partial(_is_of, key))
            bucket.close()
        if keep:  # with none kept, a bucket just made still uses its context
            self._drop_contexts()

    def _drop_contexts(self) -> None:
        """Close the contexts that no bucket uses."""
        used = {bucket.shape for bucket in self._buckets.values()}
        for shape in [shape for shape in self._contexts if shape not in used]:
            self._contexts.pop(shape).close()

    def _retrying(self, make: Callable[[], _Made]) -> _Made:
        """Make something; where memory is short, once more after dropping all that is kept."""
        try:
            return make()
        except DeviceMemoryError:
            self._drop_buckets(keep=0)
            self._drop_contexts()
            return make()

    def _acquire(self, bucket: Bucket) -> StagingSlot:
        return self._pool.acquire(bucket.staging_bytes, len(bucket.parts))

    def _send_settings(self, settings: DetectSettings) -> None:
        """Put changed settings onto the device, behind the frames that are in flight."""
        if settings != self._settings:
            self._stream.synchronize()
            address = self._workspace.reserve('settings', SETTINGS.itemsize)
            pinned = self._settings_pinned.bytes[: SETTINGS.itemsize]
            pinned.view(SETTINGS)[0] = settings_record(settings, self.spec.layout)
            cuda.memcpy_htod_async(address, pinned, self._stream)
        self._settings = settings

    # Opening -------------------------------------------------------------------------------------

    def _find_spec(
        self,
        manifest: PlanManifest | None,
        class_names: Sequence[str] | None,
        anchors: Anchors | None,
    ) -> ModelSpec:
        """Take the model's description from the manifest, or recognise it from its tensors."""
        image = check_input(self._engine.inputs)
        optimum = self._engine.profiles[0].optimum
        context = self._engine.create_context(0, self._stream.handle)
        try:
            context.set_input_shape(image.name, optimum)
            outputs = [
                dataclasses.replace(tensor, shape=context.output_shape(tensor.name))
                for tensor in self._engine.outputs
            ]
        finally:
            context.close()
        if any(dim < 0 for tensor in outputs for dim in tensor.shape if dim is not None):
            raise ModelLayoutError(
                f'{self._plan} has outputs whose size depends on the image (NMS of ONNX inside); '
                'export the model with --grid, without NMS'
            )
        metadata = {}
        spec = manifest.spec if manifest else None
        if spec is not None:
            metadata = {'names': json.dumps(list(spec.class_names))} if spec.class_names else {}
            if spec.anchors:
                metadata['anchors'] = json.dumps(spec.anchors)
        return recognise_model(
            [image if spec is None else dataclasses.replace(image, shape=spec.input.shape)],
            outputs,
            metadata,
            probe_wh=(optimum[3], optimum[2]),
            class_names=class_names,
            anchors=anchors,
            boxes_name=spec.outputs[0] if spec and len(spec.outputs) == 2 else None,
            boxes_are_centres=spec.boxes_are_centres if spec else False,
        )

    def _check_network_size(self) -> None:
        if self.spec.fixed_wh is not None:
            return
        size = self._network_size
        fit_rectangle((1, 1), size, self.spec.stride)  # refuses sizes off the stride
        largest = max(min(profile.maximum[2:]) for profile in self._engine.profiles)
        if size > largest:
            profiles = '; '.join(map(str, self._engine.profiles))
            raise SettingError(
                f'network_size is {size}, but {self._plan} takes at most {largest} ({profiles}); '
                f'set network_size to {largest}, or rebuild the plan with --max 1x3x{size}x{size}'
            )

    def _measure(self, strategy: Strategy) -> list[float]:
        """Return the seconds of some uploads and letterboxes with a strategy."""
        noise = np.random.default_rng(0).integers(0, 256, (*_MEASURED_WH[::-1], 3), np.uint8)
        image = ImageView.from_array(noise)
        source = _source_key(image, in_place=not strategy.uses_staging)
        bucket = self._make_bucket(BucketKey((source,), multi_label=False))
        slot = StagingSlot(bucket.staging_bytes, strategy.uses_device_copy, 1, RESULT.itemsize)
        seconds = []
        try:
            for _ in range(_MEASURED_FRAMES):
                start = time.perf_counter()
                strategy.send(slot, bucket.uploads, (image,), self._stream)
                bucket.enqueue_letterbox(slot.cells.address)
                self._stream.synchronize()
                seconds.append(time.perf_counter() - start)
        finally:
            slot.free()
            bucket.close()
        return seconds[2:]


_Made = TypeVar('_Made')


def _is_of(key: BucketKey, graph_key: tuple[BucketKey, int]) -> bool:
    return graph_key[0] == key


def _source_key(image: ImageView, in_place: bool) -> SourceKey:
    pitch = image.pixels.strides[0] if in_place else None
    return SourceKey((image.width, image.height), image.encoding.name, pitch)


def _recentred(box: Letterbox, network_wh: tuple[int, int]) -> Letterbox:
    """Return the same scale, centred in a larger network input."""
    offset_xy = (
        (network_wh[0] - box.resized_wh[0]) // 2, (network_wh[1] - box.resized_wh[1]) // 2
    )
    return dataclasses.replace(box, network_wh=network_wh, offset_xy=offset_xy)


def _detections(result: Any, letterbox: Letterbox) -> Detections:
    """Copy the detections of one image out of its RESULT record."""
    for field, what in _BAD_VALUES:
        bad = int(result[field])
        if bad:
            raise InferenceError(
                f'the model gave {bad} {what} value(s) that are NaN or infinite; an FP16 overflow '
                'or a damaged model: build the plan with --precision fp32, or with --keep-fp32'
            )
    count = int(result['count'])
    return Detections(
        result['boxes'][:count].copy(),
        result['scores'][:count].copy(),
        result['class_ids'][:count].copy(),
        letterbox.source_wh,
    )
