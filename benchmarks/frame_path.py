"""
What a frame costs on the CPU outside the network, beside the usual Python way, in one run.

    python benchmarks/frame_path.py

The usual way: copy the message as cv_bridge does, cv2 letterbox to a square, transpose and
divide in numpy, and NMS as a numpy loop. The network's output is recorded once per picture and
given to both, so that its threads do not disturb the rest. Also: NMS on dense output, and
throughput against bare ONNX Runtime.

"""

from __future__ import annotations

import argparse
import array
from collections.abc import Callable
from pathlib import Path
import statistics
import time
from typing import Any

import cv2
from measured_on import save
import numpy as np
from plain_way import plain_detections, plain_input
import skimage.data

from yolov7_trt_ros.core.decode import decode_outputs, select_detections
from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.preprocess import Preprocessor
from yolov7_trt_ros.engine.model_files import find_model
from yolov7_trt_ros.engine.onnx_detector import OnnxDetector

SETTINGS = DetectSettings()


def median_cpu_ms(function: Callable[[], Any], repeats: int) -> float:
    """Return the median CPU time of the process per call, in milliseconds."""
    function()
    samples = []
    for _ in range(repeats):
        start = time.process_time_ns()
        function()
        samples.append((time.process_time_ns() - start) / 1e6)
    return statistics.median(samples)


def measure_outside_network(detector: OnnxDetector, width: int, height: int, repeats: int) -> dict:
    """Return CPU milliseconds per frame outside the network, ours and the usual way."""
    picture = cv2.cvtColor(skimage.data.astronaut()[:384], cv2.COLOR_RGB2BGR)
    data = array.array('B', cv2.resize(picture, (width, height)).tobytes())
    spec, preprocessor = detector.spec, Preprocessor()

    def view() -> ImageView:
        return ImageView.from_buffer(
            data, width=width, height=height, encoding='bgr8', step=width * 3
        )

    letterbox = detector.letterbox((width, height))
    ours_output = detector._run(spec.outputs, preprocessor.prepare(view(), letterbox))
    plain_output = detector._run(spec.outputs, plain_input(data, width, height))

    def ours() -> Any:
        preprocessor.prepare(view(), letterbox)
        return select_detections(
            decode_outputs(spec, ours_output, SETTINGS), letterbox, SETTINGS
        )

    def plain() -> Any:
        plain_input(data, width, height)
        return plain_detections(plain_output[0][0], width, height, SETTINGS)

    assert len(ours()) and len(plain())
    # alternate, so that a slow spell of the machine meets both
    pairs = [(median_cpu_ms(ours, repeats), median_cpu_ms(plain, repeats)) for _ in range(5)]
    ours_ms, plain_ms = (statistics.median(side) for side in zip(*pairs, strict=True))
    return {
        'size': f'{width}x{height}', 'ours_cpu_ms': round(ours_ms, 3),
        'plain_cpu_ms': round(plain_ms, 3), 'ratio': round(ours_ms / plain_ms, 3),
    }


def measure_nms(detector: OnnxDetector, repeats: int) -> dict:
    """Return milliseconds of decode + NMS of 25,200 x 85: a real output, and all rows passing."""
    spec = detector.spec
    letterbox = detector.letterbox((640, 640))
    picture = cv2.cvtColor(cv2.resize(skimage.data.astronaut(), (640, 640)), cv2.COLOR_RGB2BGR)
    real = detector._run(
        spec.outputs, Preprocessor().prepare(ImageView.from_array(picture), letterbox)
    )[0]
    random = np.random.default_rng(0)
    dense = random.random((1, 25200, 85), np.float32)
    dense[0, :, :4] *= 300
    dense[0, :, 4] = 0.3 + 0.7 * dense[0, :, 4]
    result = {}
    for name, rows in (('real', real), ('dense', dense)):
        assert rows.shape == (1, 25200, 85)
        candidates = decode_outputs(spec, [rows], SETTINGS)
        result[f'{name}_candidates'] = len(candidates.scores)
        result[f'{name}_decode_ms'] = round(median_cpu_ms(
            lambda rows=rows: decode_outputs(spec, [rows], SETTINGS), repeats), 3)
        result[f'{name}_nms_ms'] = round(median_cpu_ms(
            lambda found=candidates: select_detections(found, letterbox, SETTINGS), repeats), 3)
    return result


def measure_throughput(detector: OnnxDetector, repeats: int) -> dict:
    """Return frames per second of bare ONNX Runtime and of detect() at 640 x 480, alternating."""
    picture = cv2.resize(cv2.cvtColor(skimage.data.astronaut(), cv2.COLOR_RGB2BGR), (640, 480))
    image = ImageView.from_array(picture)
    blob = Preprocessor().prepare(image, detector.letterbox((640, 480)))

    def frames_per_s(function: Callable[[], Any]) -> float:
        start = time.perf_counter()
        for _ in range(repeats):
            function()
        return repeats / (time.perf_counter() - start)

    bare, ours = [], []
    frames_per_s(lambda: detector.detect(image, SETTINGS))
    for _ in range(7):
        bare.append(frames_per_s(lambda: detector._run(detector.spec.outputs, blob)))
        ours.append(frames_per_s(lambda: detector.detect(image, SETTINGS)))
    return {
        'bare_onnxruntime_fps': round(statistics.median(bare), 2),
        'detect_fps': round(statistics.median(ours), 2),
        'ratio': round(statistics.median(o / b for o, b in zip(ours, bare, strict=True)), 3),
    }


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--repeats', type=int, default=60)
    parser.add_argument(
        '-o', '--output', type=Path,
        default=Path(__file__).parent / 'results' / 'frame_path.json',
    )
    args = parser.parse_args()
    detector = OnnxDetector(find_model('yolov7-nano'))
    result = {
        'outside_network': [
            measure_outside_network(detector, width, height, args.repeats)
            for width, height in ((1920, 1080), (1280, 720), (640, 480))
        ],
        'decode_and_nms': measure_nms(detector, args.repeats),
        'throughput_640x480': measure_throughput(detector, args.repeats // 2),
    }
    for name, value in result.items():
        print(name, value)
    save(args.output, result)


if __name__ == '__main__':
    main()
