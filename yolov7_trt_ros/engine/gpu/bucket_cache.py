"""BucketCache: the shape buckets of a detector with their contexts and CUDA graphs."""

from __future__ import annotations

import collections

from yolov7_trt_ros.core.letterbox import Letterbox
from yolov7_trt_ros.engine.device.memory import DeviceBuffer
from yolov7_trt_ros.engine.gpu.frame_layout import plan_sources
from yolov7_trt_ros.engine.gpu.graphs import GraphCache
from yolov7_trt_ros.engine.gpu.network_shapes import NetworkShapes
from yolov7_trt_ros.engine.gpu.trt_buckets import Bucket, BucketKey, BucketTools
from yolov7_trt_ros.engine.trt.api import TrtContext, TrtEngine
from yolov7_trt_ros.errors import DeviceMemoryError

_MOST = 16


class BucketCache:
    """
    Keeps the buckets used last. Everything here wants the CUDA context to be current.

    Contexts belong to network shapes, as TensorRT asks for where graphs are captured, and share
    one block of activations, since a stream runs one frame after another.

    """

    def __init__(
        self,
        engine: TrtEngine,
        activations: DeviceBuffer,
        tools: BucketTools,
        graphs: GraphCache,
        shapes: NetworkShapes,
    ) -> None:
        self._engine, self._activations = engine, activations
        self._tools, self._graphs, self._shapes = tools, graphs, shapes
        self._buckets: collections.OrderedDict[BucketKey, Bucket] = collections.OrderedDict()
        self._contexts: dict[tuple[int, int, int], TrtContext] = {}
        self._latest: Bucket | None = None

    def find(self, key: BucketKey) -> Bucket:
        """
        Return the bucket of a key, made now if need be.

        Where memory is short, all others are dropped first.

        Raises
        ------
        DeviceMemoryError
            There is too little memory even so.
        InferenceError
            The plan does not take these images.

        """
        bucket = self._latest
        if bucket is not None and bucket.key == key:
            return bucket
        bucket = self._buckets.get(key) or self._add(key)
        self._buckets.move_to_end(key)
        self._latest = bucket
        return bucket

    def make(self, key: BucketKey) -> Bucket:
        """Return a new bucket that is not kept here; its context is."""
        letterboxes = self._shapes.letterboxes([source.size_wh for source in key.sources])
        shape, context = self._context_for(len(key.sources), letterboxes[0])
        return Bucket(self._tools, key, plan_sources(key.sources, letterboxes), shape, context)

    def drop(self, keep: int = 0) -> None:
        """Drop the buckets used least, with their graphs; the stream is waited for."""
        if len(self._buckets) <= keep:
            return
        self._tools.stream.synchronize()
        self._latest = None
        while len(self._buckets) > keep:
            bucket = self._buckets.popitem(last=False)[1]
            self._graphs.drop(lambda key, gone=bucket: key[0] is gone)  # type: ignore[misc]
            bucket.close()

    def drop_contexts(self) -> None:
        """Close the contexts that no bucket uses; the stream must be idle."""
        used = {bucket.shape for bucket in self._buckets.values()}
        for shape in [shape for shape in self._contexts if shape not in used]:
            self._contexts.pop(shape).close()

    def close(self) -> None:
        """Drop everything without waiting, for a stream that is idle or lost."""
        self._graphs.drop()
        for bucket in self._buckets.values():
            bucket.close()
        self._buckets.clear()
        self._latest = None
        self.drop_contexts()

    def _add(self, key: BucketKey) -> Bucket:
        try:
            bucket = self._make_and_invalidate(key)
        except DeviceMemoryError:
            self.drop()
            self.drop_contexts()
            bucket = self._make_and_invalidate(key)
        self._buckets[key] = bucket
        if len(self._buckets) > _MOST:
            self.drop(keep=_MOST)
            self.drop_contexts()
        return bucket

    def _make_and_invalidate(self, key: BucketKey) -> Bucket:
        """Make a bucket; if that moved the workspace, the others' addresses are void."""
        before = self._tools.workspace.generation
        try:
            return self.make(key)
        finally:
            if self._tools.workspace.generation != before:
                self.drop()

    def _context_for(
        self, images: int, box: Letterbox
    ) -> tuple[tuple[int, int, int], TrtContext]:
        width, height = box.network_wh
        profile = self._shapes.profile_for(images, height, width)
        shape = (max(images, self._engine.profiles[profile].minimum[0]), height, width)
        context = self._contexts.get(shape)
        if context is None:
            context = self._engine.create_context(profile, self._tools.stream.handle)
            context.set_device_memory(self._activations.address, self._activations.size_bytes)
            self._contexts[shape] = context
        return shape, context
