"""
Cost of each optional step of a frame outside the network, on and off.

    python benchmarks/frame_extras.py

The frame is that of benchmarks/frame_path.py: a new picture is copied into the message as the
middleware does, then view, letterbox, decoding and NMS of recorded outputs, one frame for each
thing in turn, so that what else the machine does meets all alike. Timed is the thing alone, where
it is done, with the caches as the rest of the frame leaves them. CPU time of the thread.

"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
import itertools
from pathlib import Path
import statistics
import time
from typing import Any

import cv2
from frame_path import MODEL, run, SETTINGS, SIZES_WH
from measured_on import save
import numpy as np
import skimage.data

from yolov7_trt_ros.core.cameras.state import WatchLimits
from yolov7_trt_ros.core.cameras.watch import CameraWatch, LEAST_GAP_NS
from yolov7_trt_ros.core.decode import decode_outputs, select_detections
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.preprocess import Preprocessor
from yolov7_trt_ros.core.units import NS_PER_S
from yolov7_trt_ros.core.zones import read_zones, Zones
from yolov7_trt_ros.engine.model_files import find_model
from yolov7_trt_ros.engine.onnx_detector import OnnxDetector
from yolov7_trt_ros.nodes.process.process_setup import tune_malloc

PICTURES, WARM_UP, DETECTIONS = 11, 10, 20
Extra = Callable[[ImageView], Any]
"""Called with the image before anything else is done with it."""


class Frames:
    """Frames of one size, outside the network."""

    def __init__(self, detector: OnnxDetector, size_wh: tuple[int, int]) -> None:
        self._detector, self._size_wh = detector, size_wh
        self._preprocessor = Preprocessor()
        self._letterbox = detector.letterbox(size_wh)
        picture = cv2.cvtColor(skimage.data.astronaut()[:384], cv2.COLOR_RGB2BGR)
        picture = cv2.resize(picture, size_wh)
        self._pictures = [np.roll(picture, shift, 1).tobytes() for shift in range(PICTURES)]
        self._data = bytearray(self._pictures[0])
        self._output = run(detector, self._prepare(self._view()))
        self._count = 0

    def _view(self) -> ImageView:
        width, height = self._size_wh
        return ImageView.from_buffer(
            self._data, width=width, height=height, encoding='bgr8', step=width * 3
        )

    def _prepare(self, image: ImageView) -> np.ndarray:
        return self._preprocessor.prepare(image, self._letterbox)

    def time_us(self, extra: Extra) -> tuple[float, float]:
        """Return the CPU microseconds of the next frame, and those of something more to do."""
        self._count += 1
        memoryview(self._data)[:] = self._pictures[self._count % PICTURES]
        start_ns = time.thread_time_ns()
        image = self._view()
        viewed_ns = time.thread_time_ns()
        extra(image)
        added_ns = time.thread_time_ns() - viewed_ns
        self._prepare(image)
        candidates = decode_outputs(self._detector._runs, self._output, SETTINGS)
        select_detections(candidates, self._letterbox, SETTINGS)
        return (time.thread_time_ns() - start_ns - added_ns) / 1e3, added_ns / 1e3


def nothing(image: ImageView) -> None:
    """Do nothing: what measuring itself takes."""


def watch_extras() -> dict[str, Extra]:
    """Return a camera that is looked at, one that was a moment ago, and one that never is."""
    on, off = WatchLimits(), WatchLimits(frozen_frames=0, blank_share=0.0)
    watch, later_ns = CameraWatch(), itertools.count(step=LEAST_GAP_NS)
    return {
        'nothing': nothing,
        'camera_watch': lambda image: watch.note_picture(image, on, next(later_ns)),
        'camera_watch_between': lambda image: watch.note_picture(image, on, 0),
        'camera_watch_off': lambda image: watch.note_picture(image, off, next(later_ns)),
    }


def zone_extras() -> dict[str, Extra]:
    """Return what zones do with 20 detections: none, three by centre, three by cover."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 400, (DETECTIONS, 2))
    found = Detections(
        np.concatenate([corners, corners + 60], axis=1).astype(np.float32),
        np.full(DETECTIONS, 0.5, np.float32), np.zeros(DETECTIONS, np.int32), (640, 480),
    )
    polygons = read_zones(
        '0,0 0.3,0 0.3,0.5 0,0.5; 0.6,0.1 0.9,0.2 0.7,0.6; 300,300 400,320 310,450'
    )
    kinds = {
        'zones_off': Zones(), 'zones_by_centre': Zones(polygons),
        'zones_by_cover': Zones(polygons, cover=0.5),
    }
    return {
        name: lambda image, zones=zones: zones.choose(found) if zones else found
        for name, zones in kinds.items()
    }


def measure(frames: Frames, extras: Mapping[str, Extra], repeats: int) -> dict[str, Any]:
    """Return the frame's time, and what each of the extras adds, frame by frame in turns."""
    plain: list[float] = []
    added: dict[str, list[float]] = {name: [] for name in extras}
    for turn in range(WARM_UP + repeats):
        for name, extra in extras.items():
            frame_us, added_us = frames.time_us(extra)
            if turn >= WARM_UP:
                plain.append(frame_us)
                added[name].append(added_us)
    frame_us = statistics.median(plain)
    result: dict[str, Any] = {'frame_us': round(frame_us, 1)}
    for name, values in added.items():
        median, most = statistics.median(values), sorted(values)[int(0.95 * len(values))]
        result[name] = {
            'p50_us': round(median, 1), 'p95_us': round(most, 1),
            'of_frame': round(median / frame_us, 4),
        }
    return result


def stamp_us(repeats: int) -> float:
    """Return the median microseconds of looking at a stamp."""
    watch, samples = CameraWatch(), []
    for index in range(repeats):
        now_ns = index * NS_PER_S // 30
        start_ns = time.perf_counter_ns()
        watch.note_stamp(NS_PER_S + now_ns, NS_PER_S + now_ns, now_ns)
        samples.append((time.perf_counter_ns() - start_ns) / 1e3)
    return round(statistics.median(samples), 2)


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--repeats', type=int, default=400)
    parser.add_argument(
        '-o', '--output', type=Path,
        default=Path(__file__).parent / 'results' / 'frame_extras.json',
    )
    args = parser.parse_args()
    tune_malloc()
    detector = OnnxDetector(find_model(MODEL), threads=1)
    result: dict[str, Any] = {'stamp_us': stamp_us(args.repeats)}
    for size_wh in SIZES_WH:
        extras = watch_extras() | zone_extras()
        frames = Frames(detector, size_wh)
        result['{}x{}'.format(*size_wh)] = measure(frames, extras, args.repeats)
    for name, value in result.items():
        print(name, value)
    save(args.output, result)


if __name__ == '__main__':
    main()
