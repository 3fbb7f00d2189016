"""
Time saved on the CPU by running a grid model without its decoding.

    python benchmarks/decoding_cut.py --model yolov7-nano yolov7-tiny.onnx --pictures val2017

Each model runs both ways in turns, the decoding inside and cut off, on the same pictures, and both
must find the same. Milliseconds are medians: the network, and the whole frame from a decoded
picture to detections.

"""

from __future__ import annotations

import argparse
from pathlib import Path
import statistics
import sys
from typing import Any

from measured_on import save
import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from yolov7_trt_ros.core.detections import Detections  # noqa: E402  (its folder was just added)
from yolov7_trt_ros.core.detector import DetectSettings  # noqa: E402
from yolov7_trt_ros.core.image import ImageView  # noqa: E402
from yolov7_trt_ros.engine.model_files import find_model  # noqa: E402
from yolov7_trt_ros.engine.onnx_detector import OnnxDetector  # noqa: E402
from yolov7_trt_ros.replay.pictures import find_pictures, load_picture  # noqa: E402

SETTINGS = DetectSettings()


def measure(model: Path, pictures: list[ImageView], repeats: int, threads: int) -> dict[str, Any]:
    """Return the medians of one model."""
    detectors = {
        'inside': OnnxDetector(model, keep_grid=True, threads=threads),
        'cut off': OnnxDetector(model, threads=threads),
    }
    network: dict[str, list[float]] = {name: [] for name in detectors}
    frame: dict[str, list[float]] = {name: [] for name in detectors}
    found: dict[str, list[Detections]] = {name: [] for name in detectors}
    for repeat in range(repeats + 1):
        for name, detector in detectors.items():  # in rounds: threads of the other one spin on
            for picture in pictures:
                detections, timings = detector.detect(picture, SETTINGS)
                found[name].append(detections)
                if repeat:  # the first round warms up
                    network[name].append(timings.infer_ns / 1e6)
                    frame[name].append(timings.total_ns / 1e6)
    worst_px = 0.0
    for one, other in zip(*found.values(), strict=True):
        if not np.array_equal(one.class_ids, other.class_ids):
            raise SystemExit(f'{model}: the two ways find something else')
        apart_px = np.abs(one.boxes_xyxy - other.boxes_xyxy).max(initial=0)
        worst_px = max(worst_px, float(apart_px))
    row: dict[str, Any] = {'model': model.name, 'largest_difference_px': round(worst_px, 6)}
    for name in detectors:
        row[name] = {
            'network_ms': round(statistics.median(network[name]), 2),
            'frame_ms': round(statistics.median(frame[name]), 2),
        }
    return row


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--model', nargs='+', default=['yolov7-nano'])
    parser.add_argument('--pictures', required=True, type=Path)
    parser.add_argument('--count', type=int, default=40, help='pictures')
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--threads', type=int, default=0, help='one per core')
    parser.add_argument('--json', type=Path)
    args = parser.parse_args()
    pictures = [load_picture(path) for path in find_pictures(args.pictures)[: args.count]]
    rows = [measure(find_model(model), pictures, args.repeats, args.threads)
            for model in args.model]
    for row in rows:
        print(*(f'{name} {value}' for name, value in row.items()), sep=', ')
    if args.json:
        save(args.json, {'pictures': len(pictures), 'repeats': args.repeats, 'rows': rows})


if __name__ == '__main__':
    main()
