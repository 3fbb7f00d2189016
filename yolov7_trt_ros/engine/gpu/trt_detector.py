"""
TrtDetector: YOLOv7 on an NVIDIA GPU, from image bytes to detections in one stream.

Per frame the host copies the image into page-locked memory, launches one CUDA graph (transfer,
letterbox, network, decoding, NMS, which writes the results into page-locked memory) and waits for
it. Nothing is allocated while sizes and encodings repeat.

"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import contextlib
import dataclasses
from pathlib import Path
import time

import numpy as np
import pycuda.driver as cuda

from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.detector import DetectSettings, FrameTimings
from yolov7_trt_ros.core.forms.model_spec import Anchors, ModelSpec
from yolov7_trt_ros.core.image import ImageView, PixelLayout
from yolov7_trt_ros.core.letterbox import Letterbox
from yolov7_trt_ros.core.preprocess import to_bgr
from yolov7_trt_ros.core.stable_memory import StableMemory
from yolov7_trt_ros.core.units import MS_PER_S, NS_PER_MS
from yolov7_trt_ros.engine.device.cuda_device import CudaDevice, LOST_CURE
from yolov7_trt_ros.engine.device.kernels import Kernels
from yolov7_trt_ros.engine.device.memory import DeviceBuffer
from yolov7_trt_ros.engine.device.memory_choice import UploadSample
from yolov7_trt_ros.engine.device.page_locks import PageLocks
from yolov7_trt_ros.engine.gpu.bucket_cache import BucketCache
from yolov7_trt_ros.engine.gpu.device_records import SETTINGS
from yolov7_trt_ros.engine.gpu.engine_spec import find_spec
from yolov7_trt_ros.engine.gpu.frame_layout import SourceKey
from yolov7_trt_ros.engine.gpu.frame_results import read_detections
from yolov7_trt_ros.engine.gpu.graphs import GraphCache
from yolov7_trt_ros.engine.gpu.network_shapes import NetworkShapes
from yolov7_trt_ros.engine.gpu.plan_probe import probe_plan
from yolov7_trt_ros.engine.gpu.settings_upload import SettingsUpload
from yolov7_trt_ros.engine.gpu.stage_times import event_times_ms, measure_stages
from yolov7_trt_ros.engine.gpu.staging import join_pool, leave_pool, StagingPool, StagingSlot
from yolov7_trt_ros.engine.gpu.trt_buckets import Bucket, BucketKey, BucketTools, Workspace
from yolov7_trt_ros.engine.gpu.upload import choose_strategy, kept_choice, Strategy
from yolov7_trt_ros.engine.plan.plan_file import PlanManifest
from yolov7_trt_ros.engine.trt.api import TrtApi
from yolov7_trt_ros.errors import DeviceLostError, InferenceError, SettingError

_MEASURED_WH = (1280, 720)
_MEASURED_ROUNDS = 24
_WARM_UP_ROUNDS = 4
_LEAST_BAYER = 3
_NETWORK_WARM_UP = 3


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
        What `yolov7_trt build` noted; without one the model is run once and recognised.
    class_names, anchors
        Override the model's own.
    network_size
        Longer side of the network input in pixels, for plans with a free input size.
    rectangular
        Letterbox to the smallest rectangle of stride multiples instead of a square.
    memory
        `auto`, `staged`, `locked`, `mapped` or `direct` (engine/gpu/upload.py).
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
    Used by one thread at a time, which may be any thread. After DeviceLostError only `close()` is
    left, and another process.

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
        self._precision = manifest.precision if manifest else 'as built'
        self._in_flight = 0
        self._closed = False
        self._resources = contextlib.ExitStack()
        self._device = CudaDevice()
        try:
            with self._device:
                self._load(plan_bytes, api, cuda_graph)
                self.spec: ModelSpec = find_spec(
                    self._engine, manifest,
                    lambda light: probe_plan(self._engine, self._activations, self._stream, light),
                    class_names=class_names, anchors=anchors,
                )
                self._shapes = NetworkShapes(
                    self.spec, self._engine.profiles, network_size=network_size,
                    rectangular=rectangular, plan=str(plan),
                )
                self._prepare(memory)
        except BaseException:
            self.close()
            raise
        self.backend = (
            f'{api.flavour} {api.version} ({self._precision}) on {self._device.name}, '
            f'{self._strategy.name} memory'
        )
        self.max_batch: int = max(profile.maximum[0] for profile in self._engine.profiles)
        """Most images that `submit` and `detect_batch` run at once."""

    def _load(self, plan_bytes: bytes, api: TrtApi, cuda_graph: bool) -> None:
        """Load the engine; what is taken goes onto `_resources` at once."""
        take = self._resources.callback
        self._stream = self._resources.enter_context(self._device.lent_stream())
        self._copy_stream = self._resources.enter_context(self._device.lent_stream())
        self._graphs = GraphCache(self._stream, enabled=cuda_graph)
        self._workspace = Workspace(self._before_free)
        take(self._workspace.free)
        self._engine = api.deserialize(plan_bytes)
        take(self._engine.close)
        self._activations = DeviceBuffer(self._engine.device_memory_bytes)
        take(self._activations.free)

    def _prepare(self, memory: str) -> None:
        """Set up buckets and staging memory."""
        outputs = {tensor.name: tensor.dtype for tensor in self._engine.outputs}
        self._settings = SettingsUpload(self.spec.layout, self._stream)
        self._resources.callback(self._settings.free)
        self._settings_address = self._workspace.reserve('settings', SETTINGS.itemsize)
        kernels = Kernels(self._device.architecture)
        self._resources.callback(kernels.close)
        tools = BucketTools(self.spec, outputs, kernels, self._workspace, self._stream)
        self._buckets = BucketCache(
            self._engine, self._activations, tools, self._graphs, self._shapes
        )
        self._resources.callback(self._buckets.close)
        self._strategy, self.memory_choice = choose_strategy(
            memory, self._device, self._measure, kept_choice(self._device)
        )
        self._pool = join_pool(
            on_host=self._strategy.uses_staging, on_device=self._strategy.uses_device_copy
        )
        self._resources.callback(lambda: leave_pool(self._pool, lost=self._device.lost))
        self._resources.callback(self._finish)

    def _finish(self) -> None:
        """Wait for the frames in flight, if they can still end."""
        if not self._device.lost:
            self._stream.synchronize()
            self._copy_stream.synchronize()

    def _before_free(self) -> None:
        """Make sure that nothing uses the workspace any more."""
        self._stream.synchronize()
        self._graphs.drop()

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
        start = time.perf_counter_ns()
        self._check_usable(images)
        with self._device:
            slot, bucket, kept = self._enqueue(images, settings)
            submitted = time.perf_counter_ns()
            try:
                self._stream.synchronize()
                del kept  # the GPU has read them
                ready = time.perf_counter_ns()
                found = _unpack(slot, bucket)
            finally:
                self._pool.release(slot)
        done = time.perf_counter_ns()
        return found, FrameTimings(submitted - start, ready - submitted, done - ready)

    @property
    def staging_pool(self) -> StagingPool:
        """Return the staging memory, shared with the other detectors of the process."""
        return self._pool

    def status(self) -> dict[str, str]:
        """Return what diagnostics show: precision, memory strategy, graph counters."""
        graphs = self._graphs
        graph = f'{graphs.hits} replays, {graphs.misses} captures, {graphs.fallbacks} without'
        if graphs.fallbacks and graphs.reason:
            graph += f' ({graphs.reason})'
        return {
            'precision': self._precision,
            'memory': self._strategy.name,
            'memory chosen': self.memory_choice.why,
            'CUDA graph': graph,
            **self._strategy.status(),
            **({'page-locking': problem} if (problem := self._pool.locks.problem) else {}),
        }

    def close(self) -> None:
        """Free everything; calling it twice, or on a lost device, is harmless."""
        if self._closed:
            return
        self._closed = True
        self._device.is_alive()
        with self._device:
            self._resources.close()

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
            slot, bucket, kept = self._enqueue(images, settings)
            slot.done.record(self._stream)
        self._in_flight += 1
        return Ticket(slot, bucket, kept, time.perf_counter_ns() - start)

    def collect(self, ticket: Ticket) -> tuple[list[Detections], FrameTimings]:
        """
        Wait for a frame and return what was found, one Detections an image.

        Raises
        ------
        InferenceError
            As for `detect`; the frame is over then as well.

        """
        if self._closed:
            raise InferenceError('the detector is closed')
        if ticket.collected:
            raise InferenceError('this frame was collected before')
        ticket.collected = True
        start = time.perf_counter_ns()
        try:
            with self._device:
                ticket.slot.done.synchronize()
            ready = time.perf_counter_ns()
            found = _unpack(ticket.slot, ticket.bucket)
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

        Keys: letterbox, network, decoding (with NMS), outside (letterbox and decoding),
        decoding_graph, network_graph and frame_graph: the last four as graphs, where possible.

        """
        self._check_usable(images)
        with self._device:
            images = [self._acceptable(image) for image in images]
            bucket = self._bucket_for(images, settings)
            self._settings.send(settings, self._settings_address)
            slot = self._acquire(bucket)
            graphs = GraphCache(self._stream, enabled=self._graphs.enabled)
            try:
                self._strategy.send(slot, bucket.items(images), self._stream)
                bucket.enqueue(slot)
                return measure_stages(bucket, slot, graphs, self._stream, repeats)
            finally:
                self._stream.synchronize()
                graphs.drop()
                self._pool.release(slot)

    def time_network(
        self, images: Sequence[ImageView], settings: DetectSettings, repeats: int = 8
    ) -> list[int]:
        """
        Return the nanoseconds of some runs of the network alone, between CUDA events.

        It runs as in a frame (as a graph where there are graphs), on what the letterbox made of
        the images.

        Raises
        ------
        SettingError, InferenceError
            As for `detect_batch`.

        """
        self._check_usable(images)
        with self._device:
            slot, bucket, kept = self._enqueue(images, settings)

            def network() -> None:
                self._graphs.launch((bucket, 'network alone'), bucket.enqueue_network)

            try:
                times = event_times_ms(network, self._stream, repeats, _NETWORK_WARM_UP)
                return [round(time_ms * NS_PER_MS) for time_ms in times]
            finally:
                self._stream.synchronize()
                del kept  # the GPU has read them
                self._pool.release(slot)

    def _enqueue(
        self, images: Sequence[ImageView], settings: DetectSettings
    ) -> tuple[StagingSlot, Bucket, Sequence[ImageView]]:
        """Upload and enqueue; returns the images as well, which have to live until the end."""
        images = [self._acceptable(image) for image in images]
        bucket = self._bucket_for(images, settings)
        self._settings.send(settings, self._settings_address)
        slot = self._acquire(bucket)
        try:
            self._start(slot, bucket, images)
        except BaseException:
            self._finish()
            self._pool.release(slot)
            raise
        return slot, bucket, images

    def _start(self, slot: StagingSlot, bucket: Bucket, images: Sequence[ImageView]) -> None:
        """Upload and enqueue; beside the frames in flight where there are any."""
        strategy, items = self._strategy, bucket.items(images)

        def rest_and_frame() -> None:
            strategy.send_rest(slot, bucket.uploads, self._stream)
            bucket.enqueue(slot)

        if self._in_flight:
            strategy.send(slot, items, self._copy_stream)
            slot.uploaded.record(self._copy_stream)
            self._stream.wait_for_event(slot.uploaded)
        elif strategy.send(slot, items, self._stream, rest=False):
            self._graphs.launch((bucket, slot.serial, 'rest and frame'), rest_and_frame)
            return
        self._graphs.launch((bucket, slot.serial, 'frame'), lambda: bucket.enqueue(slot))

    def _check_usable(self, images: Sequence[ImageView]) -> None:
        if self._closed:
            raise InferenceError('the detector is closed')
        if self._device.lost:
            raise DeviceLostError(f'the CUDA context is lost; {LOST_CURE}')
        if not 1 <= len(images) <= self.max_batch:
            raise SettingError(
                f'expected 1 to {self.max_batch} images at once, got {len(images)}; a plan built '
                f'with --max {len(images)}x3x... takes as many'
            )

    def _acceptable(self, image: ImageView) -> ImageView:
        """Return the image in a form the kernels read: Bayer mosaics have a least size."""
        if image.encoding.layout is PixelLayout.BAYER and min(image.size_wh) < _LEAST_BAYER:
            return ImageView.from_array(to_bgr(image))
        if self._strategy.uses_staging:
            return image
        rows = image.pixels
        if rows.dtype.byteorder == '>' or rows.strides[1] != image.encoding.pixel_bytes:
            native = rows.astype(rows.dtype.newbyteorder('='), order='C')
            return dataclasses.replace(image, pixels=native)
        return image

    def letterbox(self, source_wh: tuple[int, int]) -> Letterbox:
        """Return the placement of an image of `source_wh` pixels in the network input."""
        return self._shapes.letterboxes([source_wh])[0]

    def _bucket_for(self, images: Sequence[ImageView], settings: DetectSettings) -> Bucket:
        in_place = not self._strategy.uses_staging
        sources = tuple([_source_key(image, in_place) for image in images])
        return self._buckets.find(BucketKey(sources, settings.multi_label))

    def _acquire(self, bucket: Bucket) -> StagingSlot:
        return self._pool.acquire(bucket.staging_bytes, len(bucket.parts))

    def _measure(self, strategies: Sequence[Strategy]) -> dict[str, list[UploadSample]]:
        """Return uploads and letterboxes with each strategy, in turns."""
        noise = np.random.default_rng(0).integers(0, 256, (*_MEASURED_WH[::-1], 3), np.uint8)
        memory = StableMemory(noise.ctypes.data, noise.nbytes)
        image = dataclasses.replace(ImageView.from_array(noise), memory=memory)
        with contextlib.ExitStack() as stack:
            stack.callback(memory.release)
            uploads = [self._measured_upload(each, image, stack) for each in strategies]
            samples: dict[str, list[UploadSample]] = {each.name: [] for each in strategies}
            for turn in range(_WARM_UP_ROUNDS + _MEASURED_ROUNDS):
                for place in range(len(uploads)):
                    index = (turn + place) % len(uploads)
                    sample = uploads[index]()
                    if turn >= _WARM_UP_ROUNDS:
                        samples[strategies[index].name].append(sample)
        return samples

    def _measured_upload(
        self, strategy: Strategy, image: ImageView, stack: contextlib.ExitStack
    ) -> Callable[[], UploadSample]:
        """Return a function that uploads once and returns the time; the stack frees its memory."""
        source = _source_key(image, in_place=not strategy.uses_staging)
        bucket = self._buckets.make(BucketKey((source,), multi_label=False))
        stack.callback(bucket.close)
        locks = PageLocks()
        stack.callback(locks.clear)
        slot = StagingSlot(bucket.staging_bytes, strategy.uses_device_copy, 1, locks)
        stack.callback(slot.free)
        items, begun, ended = bucket.items((image,)), cuda.Event(), cuda.Event()

        def upload() -> UploadSample:
            start = time.perf_counter()
            strategy.send(slot, items, self._stream)
            begun.record(self._stream)
            bucket.enqueue_letterbox(slot.cells.address)
            ended.record(self._stream)
            self._stream.synchronize()
            whole_s = time.perf_counter() - start
            return UploadSample(whole_s, ended.time_since(begun) / MS_PER_S)

        return upload


def _source_key(image: ImageView, in_place: bool) -> SourceKey:
    pitch = image.pixels.strides[0] if in_place else None
    return SourceKey((image.width, image.height), image.encoding.name, pitch)


def _unpack(slot: StagingSlot, bucket: Bucket) -> list[Detections]:
    """Copy the detections of all images out of a slot."""
    return [
        read_detections(views, part.letterbox.source_wh)
        for views, part in zip(slot.results, bucket.parts, strict=False)
    ]
