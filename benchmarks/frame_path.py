"""
CPU cost of a frame outside the network, beside the usual Python code, in one run.

    python benchmarks/frame_path.py

The usual code: copy the message as cv_bridge does, cv2 letterbox to a square, transpose and
divide in numpy, the model's own decoding, and NMS as a numpy loop. Its cost depends on how
glibc handles its large buffers, which differs between equal processes: so each variant runs in
five processes: ours as in the node, the usual one unchanged, and the usual one with the malloc
settings of our node. The network's output is recorded once per process, so that its threads do
not disturb the rest.

Also: decoding and NMS alone, of raw maps and of dense grids, and throughput against bare ONNX
Runtime.

"""

from __future__ import annotations

import argparse
import array
from collections.abc import Callable
import multiprocessing
from multiprocessing.pool import Pool
from pathlib import Path
import statistics
import time
from typing import Any

import cv2
from measured_on import save
import numpy as np
import onnxruntime
from plain_way import plain_detections, plain_input
import skimage.data

from yolov7_trt_ros.core.decode import decode_outputs, select_detections
from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.preprocess import Preprocessor
from yolov7_trt_ros.engine.model_files import find_model
from yolov7_trt_ros.engine.onnx_detector import OnnxDetector
from yolov7_trt_ros.nodes.process.process_setup import tune_malloc

MODEL = 'yolov7-nano'
SETTINGS = DetectSettings()
SIZES_WH = ((1920, 1080), (1280, 720), (640, 480))
WAYS = ('ours', 'usual', 'usual_tuned_malloc')


def median_cpu_ms(function: Callable[[], Any], repeats: int) -> float:
    """Return the median CPU time of the process per call, in milliseconds."""
    function()
    samples = []
    for _ in range(repeats):
        start = time.process_time_ns()
        function()
        samples.append((time.process_time_ns() - start) / 1e6)
    return statistics.median(samples)


def run(detector: OnnxDetector, blob: np.ndarray) -> list[np.ndarray]:
    """Return what the network that the detector runs makes of a blob."""
    return detector._run(detector._runs.outputs, blob)


def our_way(data: Any, width: int, height: int) -> Callable[[], Any]:
    """Return our path of a message's bytes, without the network."""
    detector, preprocessor = OnnxDetector(find_model(MODEL)), Preprocessor()
    letterbox = detector.letterbox((width, height))

    def prepare() -> np.ndarray:
        view = ImageView.from_buffer(
            data, width=width, height=height, encoding='bgr8', step=width * 3
        )
        return preprocessor.prepare(view, letterbox)

    output = run(detector, prepare())

    def frame() -> Any:
        prepare()
        return select_detections(
            decode_outputs(detector._runs, output, SETTINGS), letterbox, SETTINGS
        )

    return frame


def usual_way(data: Any, width: int, height: int) -> Callable[[], Any]:
    """Return the usual path of a message's bytes, without the network."""
    session = onnxruntime.InferenceSession(
        str(find_model(MODEL)), providers=['CPUExecutionProvider']
    )
    name = session.get_inputs()[0].name
    grid = session.run(None, {name: plain_input(data, width, height)})[0][0]

    def frame() -> Any:
        plain_input(data, width, height)
        return plain_detections(grid, width, height, SETTINGS)

    return frame


def measure_way(way: str, width: int, height: int, repeats: int) -> float:
    """Return the CPU milliseconds per frame of one variant, to be run in a new process."""
    if way != 'usual':
        tune_malloc()
    picture = cv2.cvtColor(skimage.data.astronaut()[:384], cv2.COLOR_RGB2BGR)
    data = array.array('B', cv2.resize(picture, (width, height)).tobytes())
    frame = (our_way if way == 'ours' else usual_way)(data, width, height)
    assert len(frame()), 'nothing found'
    return median_cpu_ms(frame, repeats)


def measure_outside_network(
    processes: Pool, width: int, height: int, repeats: int, rounds: int
) -> dict[str, Any]:
    """Return CPU milliseconds per frame outside the network: median, least, most of processes."""
    told = [  # in turns, so that a slow spell of the machine meets all
        {way: processes.apply(measure_way, (way, width, height, repeats)) for way in WAYS}
        for _ in range(rounds)
    ]
    result: dict[str, Any] = {'size': f'{width}x{height}'}
    for way in WAYS:
        values = sorted(each[way] for each in told)
        result[f'{way}_cpu_ms'] = [
            round(value, 3) for value in (statistics.median(values), values[0], values[-1])
        ]
    ratios = [each['ours'] / each['usual_tuned_malloc'] for each in told]
    return result | {'ours_of_usual_tuned_malloc': round(statistics.median(ratios), 3)}


def measure_nms(detector: OnnxDetector, whole: OnnxDetector, repeats: int) -> dict:
    """
    Return milliseconds of decoding and of NMS at 640 x 640.

    Of raw maps and of the grid of 25,200 x 85 for a real picture, and of a grid that passes whole.

    """
    letterbox = detector.letterbox((640, 640))
    picture = cv2.cvtColor(cv2.resize(skimage.data.astronaut(), (640, 640)), cv2.COLOR_RGB2BGR)
    blob = Preprocessor().prepare(ImageView.from_array(picture), letterbox)
    random = np.random.default_rng(0)
    dense = random.random((1, 25200, 85), np.float32)
    dense[0, :, :4] *= 300
    dense[0, :, 4] = 0.3 + 0.7 * dense[0, :, 4]
    cases = {
        'raw_maps': (detector._runs, run(detector, blob)),
        'grid': (whole.spec, run(whole, blob)),
        'dense_grid': (whole.spec, [dense]),
    }
    result: dict[str, Any] = {}
    for name, (spec, outputs) in cases.items():
        assert sum(output.size for output in outputs) == dense.size
        candidates = decode_outputs(spec, outputs, SETTINGS)
        result[name] = {
            'candidates': len(candidates.scores),
            'decode_ms': round(median_cpu_ms(
                lambda spec=spec, outputs=outputs: decode_outputs(spec, outputs, SETTINGS),
                repeats), 3),
            'nms_ms': round(median_cpu_ms(
                lambda found=candidates: select_detections(found, letterbox, SETTINGS),
                repeats), 3),
        }
    return result


def measure_throughput(detector: OnnxDetector, whole: OnnxDetector, repeats: int) -> dict:
    """
    Return frames per second of detect() at 640 x 480, and of bare ONNX Runtime beside it.

    Bare: the network that detect() runs, and the model as its file has it, decoding included.

    """
    picture = cv2.resize(cv2.cvtColor(skimage.data.astronaut(), cv2.COLOR_RGB2BGR), (640, 480))
    image = ImageView.from_array(picture)
    blob = Preprocessor().prepare(image, detector.letterbox((640, 480)))

    def frames_per_s(function: Callable[[], Any]) -> float:
        function()  # the threads of the one before spin on for a while
        start = time.perf_counter()
        for _ in range(repeats):
            function()
        return repeats / (time.perf_counter() - start)

    ways = {
        'detect': lambda: detector.detect(image, SETTINGS),
        'bare_network': lambda: run(detector, blob),
        'bare_model': lambda: run(whole, blob),
    }
    rounds = [{name: frames_per_s(way) for name, way in ways.items()} for _ in range(7)]
    result = {
        f'{name}_fps': round(statistics.median(each[name] for each in rounds), 2) for name in ways
    }
    for name in ('bare_network', 'bare_model'):
        ratios = [each['detect'] / each[name] for each in rounds]
        result[f'of_{name}'] = round(statistics.median(ratios), 3)
    return result


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--repeats', type=int, default=60)
    parser.add_argument('--processes', type=int, default=5, help='of each way and size')
    parser.add_argument(
        '-o', '--output', type=Path,
        default=Path(__file__).parent / 'results' / 'frame_path.json',
    )
    args = parser.parse_args()
    model = find_model(MODEL)
    detector, whole = OnnxDetector(model), OnnxDetector(model, keep_grid=True)
    with multiprocessing.get_context('spawn').Pool(1, maxtasksperchild=1) as processes:
        outside_network = [
            measure_outside_network(processes, *size_wh, args.repeats, args.processes)
            for size_wh in SIZES_WH
        ]
    result = {
        'outside_network': outside_network,
        'decode_and_nms': measure_nms(detector, whole, args.repeats),
        'throughput_640x480': measure_throughput(detector, whole, args.repeats // 2),
    }
    for name, value in result.items():
        print(name, value)
    save(args.output, result)


if __name__ == '__main__':
    main()
