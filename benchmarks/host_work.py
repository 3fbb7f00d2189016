"""
Python time per frame on the GPU path, without GPU, copy and network: microseconds.

    python benchmarks/host_work.py --frames 2000

The device is the emulated one of test/kernel_host with every launch and copy left out, so what is
left is our own code: the view of a message, the settings check, the bucket, the slot, the launch,
unpacking. The driver's own time for a launch and the copy of the pixels come on top on a real one.
CPU time of the thread, so that other work on the machine disturbs less.

"""

from __future__ import annotations

import argparse
from collections.abc import Callable
import cProfile
import importlib
import io
from pathlib import Path
import pstats
import statistics
import struct
import sys
import tempfile
import time
from typing import Any

from measured_on import save

from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.messages.image_message import view_message
from yolov7_trt_ros.core.messages.serialized_image import read_image
from yolov7_trt_ros.engine.plan.shape_range import ShapeRange

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT / 'test' / 'kernel_host'), str(ROOT / 'test')]
SIZE_WH = (1920, 1080)
SIDE, BOXES, WARM_UP = 64, 10, 50
SETTINGS = DetectSettings()


class NoKernels:
    """Stands in for engine.device.kernels.Kernels and for a kernel: nothing is run."""

    def __init__(self, architecture: str = '') -> None:
        self.architecture = architecture

    def function(self, name: str, types: str) -> NoKernels:
        """Return a kernel."""
        return self

    def prepared_async_call(self, *arguments: Any) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def open_detector(folder: Path) -> Any:
    """Return a detector whose device does nothing from now on, with `BOXES` in each result."""
    import emulated_cuda
    import onnx_models

    cuda = emulated_cuda.install()
    load = importlib.import_module
    trt_detector, graphs, upload = (
        load(f'yolov7_trt_ros.engine.gpu.{name}') for name in ('trt_detector', 'graphs', 'upload')
    )
    trt_detector.Kernels = NoKernels
    graphs.driver = emulated_cuda.EmulatedDriver(cuda.state)
    model = onnx_models.brightness_grid(folder / 'grid.onnx', num_classes=3)
    profiles = (ShapeRange(*[(1, 3, SIDE, SIDE)] * 3),)
    detector = trt_detector.TrtDetector(
        model, model.read_bytes(), api=emulated_cuda.EmulatedApi(cuda.state, profiles),
        network_size=SIDE, memory='staged',
    )
    upload.copy_rows = cuda.memcpy_htod_async = emulated_cuda.EmulatedContext.enqueue = skip
    graphs.driver.cuGraphLaunch = lambda *_: (0,)
    with detector._device:
        slot = detector.staging_pool.acquire(SIZE_WH[0] * SIZE_WH[1] * 3, 1)
    slot.results[0].header[:] = [BOXES, 0, 0, 0, 0, 0]
    detector.staging_pool.release(slot)
    return detector


def skip(*_: Any) -> None:
    """Do nothing."""


def serialised_image() -> bytes:
    """Return an Image message as a subscription gives it, written by hand: no ROS is needed."""
    width, height = SIZE_WH
    octets = width * height * 3
    return struct.pack(
        '<4s iI I4s II I5s B2x I I', b'\0\1\0\0', 1, 2, 4, b'cam\0', height, width, 5,
        b'bgr8\0', 0, width * 3, octets,
    ) + bytes(octets)


def median_us(work: Callable[[], Any], frames: int) -> float:
    """Return the median microseconds of CPU time."""
    samples = []
    for index in range(WARM_UP + frames):
        start = time.thread_time_ns()
        work()
        if index >= WARM_UP:
            samples.append(time.thread_time_ns() - start)
    return round(statistics.median(samples) / 1e3, 1)


def most_expensive(work: Callable[[], Any], frames: int, lines: int = 25) -> str:
    """Return the functions that take most, by cProfile, which makes all of them slower."""
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(frames):
        work()
    profile.disable()
    text = io.StringIO()
    pstats.Stats(profile, stream=text).sort_stats('tottime').print_stats(lines)
    return text.getvalue()


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').strip().partition('\n')[0])
    parser.add_argument('--frames', type=int, default=2000)
    parser.add_argument('--profile', action='store_true', help='print what takes most as well')
    results = Path(__file__).parent / 'results'
    parser.add_argument('-o', '--output', type=Path, default=results / 'host_work.json')
    args = parser.parse_args()
    message = serialised_image()
    with tempfile.TemporaryDirectory() as folder:
        detector = open_detector(Path(folder))
    image = view_message(read_image(message))

    def view() -> ImageView:
        return view_message(read_image(message))

    def detect() -> Any:
        return detector.detect(image, SETTINGS)

    found, _ = detect()
    assert len(found) == BOXES, len(found)
    result = {'view_us': median_us(view, args.frames), 'detect_us': median_us(detect, args.frames)}
    print(result)
    if args.profile:
        print(most_expensive(lambda: detector.detect(view(), SETTINGS), args.frames))
    detector.close()
    save(args.output, {'frames': args.frames, 'size': '1920x1080', 'boxes': BOXES, **result})


if __name__ == '__main__':
    main()
