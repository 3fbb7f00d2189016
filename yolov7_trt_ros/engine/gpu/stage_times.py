"""GPU time of the stages of a frame, measured with CUDA events."""

from __future__ import annotations

from collections.abc import Callable
import statistics

import pycuda.driver as cuda

from yolov7_trt_ros.engine.gpu.graphs import GraphCache
from yolov7_trt_ros.engine.gpu.staging import StagingSlot
from yolov7_trt_ros.engine.gpu.trt_buckets import Bucket

_WARM_UP = 10


def measure_stages(
    bucket: Bucket, slot: StagingSlot, graphs: GraphCache, stream: cuda.Stream, repeats: int
) -> dict[str, float]:
    """Return median milliseconds by stage; the image is uploaded, a context is current."""
    def letterbox() -> None:
        bucket.enqueue_letterbox(slot.cells.address)

    def decoding() -> None:
        bucket.enqueue_decoding(slot)

    def outside() -> None:
        letterbox()
        decoding()

    plain = {
        'letterbox': letterbox,
        'network': bucket.enqueue_network,
        'decoding': decoding,
    }
    as_graph: dict[str, Callable[[], None]] = {
        'outside': outside,
        'decoding_graph': decoding,
        'network_graph': bucket.enqueue_network,
        'frame_graph': lambda: bucket.enqueue(slot),
    }
    times = {name: _median_ms(work, stream, repeats) for name, work in plain.items()}
    for name, work in as_graph.items():
        times[name] = _median_ms(_replaying(graphs, name, work), stream, repeats)
    return times


def _replaying(graphs: GraphCache, name: str, work: Callable[[], None]) -> Callable[[], None]:
    return lambda: graphs.launch(name, work)


def _median_ms(work: Callable[[], None], stream: cuda.Stream, repeats: int) -> float:
    return float(statistics.median(event_times_ms(work, stream, repeats, _WARM_UP)))


def event_times_ms(
    work: Callable[[], None], stream: cuda.Stream, repeats: int, warm_up: int
) -> list[float]:
    """Return the milliseconds between CUDA events around each run of some work on a stream."""
    start, end = cuda.Event(), cuda.Event()
    samples = []
    for index in range(warm_up + repeats):
        start.record(stream)
        work()
        end.record(stream)
        end.synchronize()
        if index >= warm_up:
            samples.append(end.time_since(start))
    return samples
