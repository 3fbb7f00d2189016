"""
Cost of a frame on a GPU, from image bytes to detections, beside its parts and the usual code.

    python benchmarks/gpu_path.py --plan yolov7-tiny_fp16.plan --pictures val2017

The plan takes batches of 1 to 8 at up to 640 x 640. Everything is measured in one run on the same
machine. Stage times are medians between CUDA events; latencies run from bytes in pageable memory
to Detections, over different frames in turn; energy comes from NVML.

"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
import dataclasses
import functools
import os
from pathlib import Path
import statistics
import tempfile
import time
from typing import Any
import unittest.mock

from measured_on import save
import numpy as np
import photographs
from plain_gpu import PlainGpu
import pycuda.driver as cuda

from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.engine.device.cuda_device import CudaDevice, find_target
from yolov7_trt_ros.engine.device.memory import DeviceBuffer, PinnedBuffer
from yolov7_trt_ros.engine.gpu.frame_layout import copy_rows, image_rows
from yolov7_trt_ros.engine.gpu.trt_detector import TrtDetector
from yolov7_trt_ros.engine.plan.plan_file import read_manifest, read_plan
from yolov7_trt_ros.engine.trt.api import TrtApi

SETTINGS = DetectSettings()
SIZES_WH = ((1920, 1080), (1280, 720), (640, 480))
FRAMES, BLOCK = 12, 50
STRATEGIES = ('staged', 'locked', 'mapped')


def quantiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    """Return median and 99th percentile in milliseconds."""
    p50, p99 = np.percentile(np.asarray(seconds) * 1e3, [50, 99])
    return {'p50': round(float(p50), 4), 'p99': round(float(p99), 4)}


def timed(work: Callable[[int], Any], repeats: int, warm_up: int = 20) -> list[float]:
    """Return the seconds of each call; the argument counts calls."""
    seconds = []
    for index in range(warm_up + repeats):
        start = time.perf_counter()
        work(index)
        seconds.append(time.perf_counter() - start)
    return seconds[warm_up:]


class Plan:
    """A plan on disk, opened as often as needed."""

    def __init__(self, path: Path) -> None:
        self.api = TrtApi.load()
        self.path = path
        self.manifest = read_manifest(path)
        self.data = read_plan(path, self.manifest)

    def open_detector(self, **options: Any) -> TrtDetector:
        """Open a detector on it."""
        return TrtDetector(
            self.path, self.data, api=self.api, manifest=self.manifest, **options
        )


def measure_stages(detector: TrtDetector, frames: dict[Any, list[ImageView]]) -> dict[str, Any]:
    """Return GPU milliseconds a stage; also with every row a candidate."""
    result = {}
    for size, images in frames.items():
        samples = [detector.measure_stages([image], SETTINGS, 100) for image in images[:4]]
        box = detector.letterbox(size)
        result[f'{size[0]}x{size[1]} as {box.network_wh[0]}x{box.network_wh[1]}'] = {
            name: round(statistics.median(sample[name] for sample in samples), 4)
            for name in samples[0]
        }
    everything = DetectSettings(score_threshold=0.0)
    image = frames[SIZES_WH[0]][0]
    dense = detector.measure_stages([image], everything, 100)
    result['every row a candidate: decoding_graph'] = round(dense['decoding_graph'], 4)
    return result


def measure_upload(device: CudaDevice, image: ImageView) -> dict[str, float]:
    """Return ms of one memcpy of a frame into page-locked memory, and of its transfer."""
    source = image.pixels.reshape(-1)
    with device:
        pinned, target = PinnedBuffer(source.nbytes), DeviceBuffer(source.nbytes)
        staging = pinned.bytes[: source.nbytes]
        copies = [np.array(source) for _ in range(FRAMES)]
        stream = cuda.Stream()

        def transfer(_: int) -> None:
            cuda.memcpy_htod_async(target.address, staging, stream)
            stream.synchronize()

        memcpy = timed(lambda index: np.copyto(staging, copies[index % FRAMES]), 200)
        h2d = timed(transfer, 200)
        pinned.free()
        target.free()
    return {'memcpy': quantiles_ms(memcpy)['p50'], 'h2d': quantiles_ms(h2d)['p50']}


def measure_latency(
    detector: TrtDetector, device: CudaDevice, frames: dict[Any, list[ImageView]]
) -> dict[str, Any]:
    """Return end-to-end latency beside what it cannot be less than."""
    result = {}
    for size, images in frames.items():
        seconds = timed(
            lambda i, images=images: detector.detect(images[i % FRAMES], SETTINGS), 1000
        )
        graph = detector.measure_stages([images[0]], SETTINGS, 100)['network_graph']
        upload = measure_upload(device, images[0])
        latency = quantiles_ms(seconds)
        bound = graph + 1.2 * (upload['memcpy'] + upload['h2d'])
        result[f'{size[0]}x{size[1]}'] = {
            'latency_ms': latency,
            'network_graph_ms': round(graph, 4),
            'memcpy_ms': upload['memcpy'],
            'h2d_ms': upload['h2d'],
            'over_graph_plus_1.2_uploads': round(latency['p50'] / bound, 3),
            'over_network_graph': round(latency['p50'] / graph, 3),
        }
    return result


def measure_strategies(plan: Plan, frames: dict[Any, list[ImageView]]) -> dict[str, Any]:
    """Return the latency of each memory strategy, in blocks that alternate."""
    detectors = {name: plan.open_detector(memory=name) for name in STRATEGIES}
    result = {}
    for size, images in frames.items():
        seconds: dict[str, list[float]] = {name: [] for name in STRATEGIES}
        for block in range(1 + 1000 // BLOCK):
            for name in STRATEGIES[block % 3:] + STRATEGIES[:block % 3]:
                times = timed(
                    lambda i, d=detectors[name], images=images: d.detect(
                        images[i % FRAMES], SETTINGS
                    ), BLOCK, warm_up=5,
                )
                seconds[name] += times if block else []  # blocks are page-locked in the first
        result[f'{size[0]}x{size[1]}'] = {
            name: quantiles_ms(each) for name, each in seconds.items()
        }
    result['facts'] = {name: each.status() for name, each in detectors.items()}
    for each in detectors.values():
        each.close()
    return result


def boxes_per_frame(detector: TrtDetector, images: list[ImageView]) -> float:
    """Return the mean number of detections."""
    found = [len(detector.detect(image, SETTINGS)[0]) for image in images]
    return round(sum(found) / len(found), 2)


def measure_host(
    detector: TrtDetector, frames: dict[Any, list[ImageView]], *, copied: bool = True
) -> dict[str, Any]:
    """
    Return the host's milliseconds a frame: until the GPU has its work, and unpacking.

    `copy` is the copying of the rows alone, into the same memory; `without_copy` is the rest:
    views, settings check, transfers and launch by the driver, unpacking.

    """
    result = {}
    for size, images in frames.items():
        timings = [detector.detect(images[i % FRAMES], SETTINGS)[1] for i in range(1050)][50:]
        with detector._device:
            bucket = detector._bucket_for([images[0]], SETTINGS)
            slot = detector._acquire(bucket)
            targets = slot.targets(bucket.uploads[0])
            copies = timed(lambda i, images=images, targets=targets: [
                copy_rows(image_rows(images[i % FRAMES]), target) for target in targets
            ], 1000) if copied else [0.0]
            detector._pool.release(slot)
        parts = {
            'before_gpu': statistics.median(each.preprocess_ns for each in timings) / 1e6,
            'unpack': statistics.median(each.postprocess_ns for each in timings) / 1e6,
            'copy': statistics.median(copies) * 1e3,
        }
        parts['without_copy'] = parts['before_gpu'] + parts['unpack'] - parts['copy']
        result[f'{size[0]}x{size[1]}'] = {name: round(ms, 4) for name, ms in parts.items()}
    return result


def measure_choices(plan: Plan, times: int = 6) -> list[dict[str, Any]]:
    """Return what `memory: auto` chooses in each of several openings, none of which is kept."""
    choices = []
    for _ in range(times):
        with tempfile.TemporaryDirectory() as folder, unittest.mock.patch.dict(
            os.environ, {'XDG_CACHE_HOME': folder}
        ):
            detector = plan.open_detector(memory='auto')
        choices.append(dataclasses.asdict(detector.memory_choice))
        detector.close()
    return choices


def pipelined(detector: TrtDetector, frames: list[list[ImageView]], repeats: int) -> float:
    """Return frames per second with two submissions in flight."""
    flying: list[Any] = []
    images = 0
    for index in range(repeats + 20):
        if index == 20:
            start, images = time.perf_counter(), 0
        flying.append(detector.submit(frames[index % len(frames)], SETTINGS))
        images += len(frames[0])
        if len(flying) > 1:
            detector.collect(flying.pop(0))
    while flying:
        detector.collect(flying.pop(0))
    return images / (time.perf_counter() - start)


def upload_once(
    detector: TrtDetector, slot: Any, bucket: Any, images: list[ImageView], index: int
) -> None:
    """Upload one frame as the detector does, and wait for it."""
    detector._strategy.send(slot, bucket.items([images[index % FRAMES]]), detector._stream)
    detector._stream.synchronize()


def measure_throughput(
    detector: TrtDetector, frames: dict[Any, list[ImageView]]
) -> dict[str, Any]:
    """Return frames per second of submit/collect beside the slowest stage alone."""
    result = {}
    for size, images in frames.items():
        stages = detector.measure_stages([images[0]], SETTINGS, 100)
        with detector._device:
            bucket = detector._bucket_for([images[0]], SETTINGS)
            slot = detector._acquire(bucket)

            upload_ms = quantiles_ms(timed(functools.partial(
                upload_once, detector, slot, bucket, images
            ), 300))['p50']
            detector._pool.release(slot)
        slowest = max(upload_ms, stages['frame_graph'])
        fps = pipelined(detector, [[image] for image in images], 1000)
        result[f'{size[0]}x{size[1]}'] = {
            'fps': round(fps, 1),
            'upload_ms': upload_ms,
            'gpu_ms': round(stages['frame_graph'], 4),
            'of_slowest_stage': round(fps * slowest / 1e3, 3),
        }
    return result


def measure_batch(detector: TrtDetector, images: list[ImageView]) -> dict[str, Any]:
    """Return frames per second of batches of 8 cameras beside the network alone."""
    cameras = [[images[(start + i) % FRAMES] for i in range(8)] for start in range(FRAMES)]
    stages = detector.measure_stages(cameras[0], SETTINGS, 100)
    fps = pipelined(detector, cameras, 300)
    alone = 8 / stages['network_graph'] * 1e3
    return {
        'fps': round(fps, 1), 'network_graph_ms': round(stages['network_graph'], 4),
        'frame_graph_ms': round(stages['frame_graph'], 4),
        'network_alone_fps': round(alone, 1), 'ratio': round(fps / alone, 3),
    }


def measure_plain_way(plan: Plan, frames: dict[Any, list[ImageView]]) -> dict[str, Any]:
    """Return the latency of the usual Python pipeline on the same plan, 640 x 640, no graph."""
    plain = PlainGpu(plan.api, plan.data)
    result = {}
    for size, images in frames.items():
        seconds = timed(
            lambda i, images=images: plain.detect(images[i % FRAMES].pixels, SETTINGS), 150
        )
        result[f'{size[0]}x{size[1]}'] = quantiles_ms(seconds)
    plain.close()
    return result


def measure_energy(
    plan: Plan, images: list[ImageView], seconds: float, rates_hz: Sequence[float]
) -> dict[str, Any]:
    """Return latency and joules a frame with CUDA graphs and without, through NVML."""
    import pynvml

    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    start = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    time.sleep(3)
    idle_w = (pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) - start) / 3e3
    result: dict[str, Any] = {'idle_w': round(idle_w, 1)}
    for cuda_graph in (True, False, True, False):
        detector = plan.open_detector(cuda_graph=cuda_graph, memory='staged')
        timed(lambda i, d=detector: d.detect(images[i % FRAMES], SETTINGS), 200)
        for rate in rates_hz:
            joules, latencies = _paced(detector, images, seconds, rate, handle)
            name = f'{"graph" if cuda_graph else "no graph"}, ' + (
                f'{rate:g} Hz' if rate else 'as fast as possible'
            )
            result.setdefault(name, []).append({
                'frames': len(latencies), 'joules_per_frame': round(joules / len(latencies), 5),
                'watts': round(joules / seconds, 1), 'latency_ms': quantiles_ms(latencies),
            })
        detector.close()
    return result


def _paced(
    detector: TrtDetector, images: list[ImageView], seconds: float, rate_hz: float, handle: Any
) -> tuple[float, list[float]]:
    import pynvml

    latencies: list[float] = []
    before = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    begin = time.perf_counter()
    while (now := time.perf_counter()) - begin < seconds:
        detector.detect(images[len(latencies) % FRAMES], SETTINGS)
        latencies.append(time.perf_counter() - now)
        if rate_hz:
            time.sleep(max(0.0, begin + len(latencies) / rate_hz - time.perf_counter()))
    energy_mj = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) - before
    return energy_mj / 1e3, latencies


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--plan', type=Path, required=True)
    parser.add_argument(
        '--grid-plan', type=Path,
        help='the same model built with --keep-grid, for the usual code, else left out',
    )
    photographs.add_arguments(parser)
    parser.add_argument('--energy-seconds', type=float, default=5.0, help='0 leaves energy out')
    parser.add_argument(
        '-o', '--output', type=Path, default=Path(__file__).parent / 'results' / 'gpu_path.json'
    )
    args = parser.parse_args()
    plan, device = Plan(args.plan), CudaDevice()
    frames = {
        size: [photographs.in_own_memory(each)
               for each in photographs.load_frames(args, *size, FRAMES)]
        for size in SIZES_WH
    }
    square = plan.open_detector(rectangular=False, memory='staged')
    free = plan.open_detector(memory='staged')
    boxes = {f'{w}x{h}': boxes_per_frame(free, images) for (w, h), images in frames.items()}
    photographs.check_boxes(min(boxes.values()), args.least_boxes)
    result: dict[str, Any] = {
        'machine': str(find_target(plan.api)),
        'plan': plan.manifest.to_record() if plan.manifest else None,
        'pictures': photographs.describe(args),
        'boxes_per_frame': boxes,
        'memory_auto': measure_choices(plan),
        'facts': free.status(),
    }

    def note(name: str, value: Any) -> None:
        result[name] = value
        print(name, value, flush=True)

    note('stages_square', measure_stages(square, frames))
    note('stages_rectangular', measure_stages(free, frames))
    note('latency_square', measure_latency(square, device, frames))
    note('latency_rectangular', measure_latency(free, device, frames))
    note('latency_rectangular_in_turns', measure_strategies(plan, frames))
    locked = plan.open_detector(memory='locked')
    note('host_work_rectangular_locked', measure_host(locked, frames, copied=False))
    locked.close()
    note('host_work_rectangular', measure_host(free, frames))
    note('throughput_rectangular', measure_throughput(free, frames))
    note('batch_8_square_640x480', measure_batch(square, frames[(640, 480)]))
    if args.grid_plan is not None:
        note('plain_way_square', measure_plain_way(Plan(args.grid_plan), frames))
    if args.energy_seconds:
        note('energy_640x480', measure_energy(
            plan, frames[(640, 480)], args.energy_seconds, (0.0, 60.0)
        ))
    save(args.output, result)


if __name__ == '__main__':
    main()
