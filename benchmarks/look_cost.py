"""
Cost of a second look outside the engines: choosing crops, cutting and merging, for one frame.

    python benchmarks/look_cost.py --pictures val2017 --tiles 4

A stream of photographs that move by some pixels is detected by the embedded model once, and what
both looks found is recorded. Then the same frames are looked at again with the recorded results,
so that nothing but the work between the engines is left. Wall time: `p50` and `p95` of all frames
of all passes; `least` is the mean over the frames of the shortest pass of each, where other work
disturbs least. At the thresholds of COCO the images are on their own, as in `eval`.

"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import dataclasses
from pathlib import Path
import time
from typing import Any

from measured_on import save
import numpy as np
import photographs

from yolov7_trt_ros.bank.looks.second_look import SecondLook
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.detector import BatchDetector, Detector, DetectSettings, FrameTimings
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.looks.look_options import LookOptions
from yolov7_trt_ros.core.units import NS_PER_MS
from yolov7_trt_ros.engine.looks import look_engines
from yolov7_trt_ros.engine.open import open_detector
from yolov7_trt_ros.engine.options import DetectorOptions

MODEL = 'yolov7-nano'
SIZES_WH = ((1920, 1080), (1280, 960))
PICTURES, STEP_PX = 3, 4
CROPS = (1, 3, 6)
SETTINGS = {
    'default': DetectSettings(), 'coco': DetectSettings(score_threshold=0.001, multi_label=True),
}
Json = dict[str, Any]


class Recorded(BatchDetector):
    """Gives what an engine has found, in the order of the calls, and takes no time."""

    def __init__(self, engine: Detector) -> None:
        self._engine = engine
        self.found: list[list[Detections]] = []
        self.calls = 0
        self.spec, self.backend, self.max_batch = engine.spec, engine.backend, engine.max_batch
        self.status, self.close = engine.status, engine.close

    def detect_batch(
        self, images: Sequence[ImageView], settings: DetectSettings
    ) -> tuple[list[Detections], FrameTimings]:
        """Return the record of this call, which is made if there is none."""
        if self.calls == len(self.found):
            self.found.append(self._engine.detect_batch(images, settings)[0])
        self.calls += 1
        return self.found[self.calls - 1], FrameTimings(0, 0, 0)


def moving(args: argparse.Namespace, width: int, height: int) -> list[ImageView]:
    """Return frames of pictures that move to the right."""
    frames = []
    for image in photographs.load_frames(args, width, height, PICTURES):
        for index in range(args.frames_each):
            pixels = np.roll(image, index * STEP_PX, axis=1)
            frames.append(dataclasses.replace(ImageView.from_array(pixels), stream='camera'))
    return frames


def measure(
    engines: tuple[Detector, Detector], options: LookOptions, frames: Sequence[ImageView],
    settings: DetectSettings, passes: int,
) -> Json:
    """Return the time of a frame between the engines, and how much there was to do."""
    first, second = map(Recorded, engines)
    taken = np.zeros((passes, len(frames)))
    crops = 0
    for turn in range(1 + passes):  # the first records
        look = SecondLook(first, second, options, clock=time.perf_counter_ns)
        first.calls = second.calls = 0
        for index, image in enumerate(frames):
            _, timings = look.detect_batch([image], settings)
            if turn:
                taken[turn - 1, index] = timings.postprocess_ns / NS_PER_MS
        crops = look._crops
    p50, p95 = np.percentile(taken, [50, 95])
    times = {'p50': p50, 'p95': p95, 'least': taken.min(axis=0).mean()}
    return {
        'ms': {name: round(float(value), 3) for name, value in times.items()},
        'first_look_boxes': mean_boxes(first), 'boxes_per_crop': mean_boxes(second),
        'crops': round(crops / len(frames), 2),
    }


def mean_boxes(engine: Recorded) -> float:
    """Return how many boxes an engine has found in an image."""
    return round(float(np.mean([len(each) for found in engine.found for each in found])), 1)


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    photographs.add_arguments(parser)
    parser.add_argument('--frames-each', type=int, default=8, help='frames of a picture')
    parser.add_argument('--crops', type=int, nargs='+', default=list(CROPS))
    parser.add_argument('--passes', type=int, default=30)
    parser.add_argument(
        '-o', '--output', type=Path,
        default=Path(__file__).parent / 'results' / 'look_cost.json',
    )
    args = parser.parse_args()
    options = LookOptions(
        mode='on', crop_px=320, crop_size=320, object_px=240, max_crops=1, full_frames=0
    )
    _, *pair = look_engines(DetectorOptions(MODEL, threads=1), options)
    first, second = map(open_detector, pair)
    result: Json = {'model': MODEL, 'pictures': photographs.describe(args), 'rows': []}
    for size in SIZES_WH:
        frames = moving(args, *size)
        alone = [dataclasses.replace(frame, stream='') for frame in frames]
        for name, settings in SETTINGS.items():
            for most in args.crops:
                row = {'size': f'{size[0]}x{size[1]}', 'thresholds': name, 'most_crops': most}
                row |= measure(
                    (first, second), dataclasses.replace(options, max_crops=most),
                    frames if name == 'default' else alone, settings, args.passes,
                )
                photographs.check_boxes(row['first_look_boxes'], args.least_boxes)
                print(row, flush=True)
                result['rows'].append(row)
    save(args.output, result)


if __name__ == '__main__':
    main()
