"""
One look or two on a GPU: milliseconds and joules of a frame, in turns.

    python benchmarks/second_look_gpu.py --plan tiny.plan --pictures val2017 --tiles 3
    python benchmarks/second_look_gpu.py --plan int8.plan --second-plan fp16.plan ...

Compared are the whole frame at the full network size (by the precise plan), at the first size, and
at the first size with up to 1, 3 and 6 crops in one batch. Frames are photographs in memory that
stays, so `--memory locked` has the GPU fetch them. Each way runs as fast as it can in blocks that
alternate; NVML's energy counter is read around each block. `gpu_wait_ms` is the part of a frame in
which the host waits for the GPU. An ONNX model runs without a GPU, on the CPU.

"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
import contextlib
import dataclasses
from functools import partial
import math
from pathlib import Path
import time
from typing import Any

from measured_on import save
import numpy as np
import photographs

from yolov7_trt_ros.bank.looks.second_look import look_twice, SecondLook
from yolov7_trt_ros.core.detector import Detector, DetectSettings, FrameTimings
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.looks.look_options import LookOptions
from yolov7_trt_ros.core.units import MS_PER_S, NS_PER_MS, NS_PER_S
from yolov7_trt_ros.engine.looks import look_engines
from yolov7_trt_ros.engine.open import open_detector
from yolov7_trt_ros.engine.options import DetectorOptions, MEMORIES
from yolov7_trt_ros.errors import Yolov7TrtError
from yolov7_trt_ros.power.nvml.library import load_nvml, NvmlDevice

SIZES_WH = ((1920, 1080), (1280, 960))
FRAMES = 12
CROPS = (1, 3, 6)
SETTINGS = DetectSettings()
LEAST_OF_CROPS = 0.5
MJ_PER_J = 1000.0
_WARM_UP_FRAMES = 5

Json = dict[str, Any]


class Joules:
    """The energy counter of GPU 0; `problem` says why there is none."""

    def __init__(self) -> None:
        self.problem = ''
        self._device: NvmlDevice | None = None
        try:
            self._device = NvmlDevice(load_nvml())
            self.read()
        except Yolov7TrtError as exc:
            self.problem, self._device = str(exc), None

    def read(self) -> float:
        """Return joules since some time before; NaN without a counter."""
        if self._device is None:
            return math.nan
        ask = partial(self._device.demand, 'nvmlDeviceGetTotalEnergyConsumption')
        return float(self._device.guarded('energy', ask)) / MJ_PER_J

    def idle_w(self, seconds: float) -> float:
        """Return the power while nothing is done."""
        before = self.read()
        time.sleep(seconds)
        return round((self.read() - before) / seconds, 1)


@dataclasses.dataclass
class Way:
    """A way of looking, and what its blocks took."""

    name: str
    detector: Detector
    wall_ms: list[float] = dataclasses.field(default_factory=list)
    timings: list[FrameTimings] = dataclasses.field(default_factory=list)
    joules: float = 0.0
    seconds: float = 0.0

    def run_block(self, images: Sequence[ImageView], seconds: float, energy: Joules) -> None:
        """Detect as fast as possible for a time."""
        for index in range(_WARM_UP_FRAMES):
            self.detector.detect(images[index % len(images)], SETTINGS)
        joules, frames = energy.read(), 0
        began = now = time.perf_counter()
        while now - began < seconds:
            _, timings = self.detector.detect(images[frames % len(images)], SETTINGS)
            after = time.perf_counter()
            self.wall_ms.append((after - now) * MS_PER_S)
            self.timings.append(timings)
            now, frames = after, frames + 1
        self.joules += energy.read() - joules
        self.seconds += now - began

    def to_record(self) -> Json:
        """Return what was measured."""
        record: Json = {
            'way': self.name, 'frames': len(self.wall_ms), 'latency_ms': quantiles(self.wall_ms),
            'gpu_wait_ms': quantiles([each.infer_ns / NS_PER_MS for each in self.timings]),
            'host_before_gpu_ms': quantiles(
                [each.preprocess_ns / NS_PER_MS for each in self.timings]
            ),
        }
        if not math.isnan(self.joules):
            record['joules_per_frame'] = round(self.joules / len(self.wall_ms), 5)
            record['watts'] = round(self.joules / self.seconds, 1)
        return record


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Return median and 99th percentile."""
    p50, p99 = np.percentile(np.asarray(values), [50, 99])
    return {'p50': round(float(p50), 4), 'p99': round(float(p99), 4)}


def ways_of(
    args: argparse.Namespace, open_one: Callable[[DetectorOptions], Detector]
) -> list[Way]:
    """Open the engines of all that is compared: one each for both sizes, and one for crops."""
    look = LookOptions(
        mode='on', model=str(args.second_plan or ''), first_size=args.first_size,
        crop_px=args.crop_px, crop_size=args.crop_size, object_px=args.object_px,
        max_crops=max(args.crops), full_frames=0,
    )
    engines = look_engines(DetectorOptions(
        str(args.plan), network_size=args.full_size, memory=args.memory, threads=args.threads
    ), look)
    once, first, second = map(open_one, engines)
    crops = f'crops of {args.crop_px} px at {args.crop_size}'
    return [
        Way(f'whole frame, {args.full_size}', once), Way(f'whole frame, {args.first_size}', first),
        *(Way(
            f'{args.first_size} + up to {most} {crops}',
            look_twice(first, second, dataclasses.replace(look, max_crops=most)),
        ) for most in args.crops),
    ]


def measure(
    args: argparse.Namespace, ways: list[Way], images: list[ImageView], energy: Joules
) -> list[Json]:
    """Return the rows of one size of frames: blocks that alternate, each round in another turn."""
    for way in ways:  # captures, page locks and the kinds of batches that the frames need
        for image in images * 3:
            way.detector.detect(image, SETTINGS)
    found = [boxes_and_crops(way, images) for way in ways]
    photographs.check_boxes(found[0]['boxes_per_frame'], args.least_boxes)
    check_crops(found, args.crops)
    for round_ in range(args.rounds):
        for place in range(len(ways)):
            ways[(round_ + place) % len(ways)].run_block(images, args.seconds, energy)
    return [way.to_record() | each for way, each in zip(ways, found, strict=True)]


def boxes_and_crops(way: Way, images: list[ImageView]) -> Json:
    """Return how many detections and crops there are in a frame."""
    look = way.detector
    before = look._crops if isinstance(look, SecondLook) else 0
    boxes = [len(look.detect(image, SETTINGS)[0]) for image in images]
    record: Json = {'boxes_per_frame': round(float(np.mean(boxes)), 2)}
    if isinstance(look, SecondLook):
        record['crops_per_frame'] = round((look._crops - before) / len(images), 2)
    return record


def check_crops(found: Sequence[Json], most: Sequence[int]) -> None:
    """Raise SystemExit if frames have too few crops for what the rows are called."""
    told = [each['crops_per_frame'] for each in found if 'crops_per_frame' in each]
    if any(crops < LEAST_OF_CROPS * wanted for crops, wanted in zip(told, most, strict=True)):
        raise SystemExit(
            f'{told} crops a frame were looked at, of {list(most)}: give photographs with more '
            'doubtful objects (--pictures FOLDER, --tiles N), or another --object-px'
        )


def copied_and_fetched(way: Way) -> dict[str, str]:
    """Return what the engines of a way tell of the images' way to the GPU."""
    return {
        name: text for name, text in way.detector.status().items()
        if name.endswith(('memory', 'images page-locked', 'CUDA graph'))
    }


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--plan', type=Path, required=True, help='plan, or ONNX model')
    parser.add_argument('--second-plan', type=Path, help='precise plan: full size and crops')
    photographs.add_arguments(parser)
    parser.add_argument('--full-size', type=int, default=640)
    parser.add_argument('--first-size', type=int, default=LookOptions().first_size)
    parser.add_argument('--crop-px', type=int, default=320)
    parser.add_argument('--crop-size', type=int, default=320)
    parser.add_argument('--object-px', type=int, default=240)
    parser.add_argument('--crops', type=int, nargs='+', default=list(CROPS))
    parser.add_argument('--memory', choices=MEMORIES, default='locked')
    parser.add_argument('--threads', type=int, default=0, help='of ONNX Runtime')
    parser.add_argument('--seconds', type=float, default=0.8, help='of a block')
    parser.add_argument('--rounds', type=int, default=4)
    parser.add_argument(
        '-o', '--output', type=Path,
        default=Path(__file__).parent / 'results' / 'second_look_gpu.json',
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure each size, print and save."""
    args, began = parse(argv), time.perf_counter_ns()
    frames = {
        size: [photographs.in_own_memory(each)
               for each in photographs.load_frames(args, *size, FRAMES)]
        for size in SIZES_WH
    }
    energy = Joules()
    result: Json = {
        'plan': args.plan.name, 'second_plan': args.second_plan and args.second_plan.name,
        'pictures': photographs.describe(args), 'least_boxes': args.least_boxes,
        'memory': args.memory, 'block_seconds': args.seconds, 'rounds': args.rounds,
        'energy': energy.problem or 'energy counter of GPU 0 (NVML)',
    }
    if not energy.problem:
        result['idle_w'] = energy.idle_w(2.0)
    with contextlib.ExitStack() as stack:
        def open_one(options: DetectorOptions) -> Detector:
            detector = open_detector(options)
            stack.callback(detector.close)
            return detector

        ways = ways_of(args, open_one)
        result['backend'] = ways[0].detector.backend
        for size, images in frames.items():
            fresh = [Way(way.name, way.detector) for way in ways]
            name = f'{size[0]}x{size[1]}'
            result[name] = measure(args, fresh, images, energy)
            for row in result[name]:
                print(name, row, flush=True)
        result['uploads'] = {way.name: copied_and_fetched(way) for way in ways}
    result['seconds'] = round((time.perf_counter_ns() - began) / NS_PER_S, 1)
    save(args.output, result)


if __name__ == '__main__':
    main()
