"""
Cost and gain of the size and shape of the network input, on the CPU.

    python benchmarks/tuning.py --images val2017/images --annotations instances.json -m yolov7-nano

For each size and each of rectangle and square: average precision over all images, and the median
CPU time per frame of the network and of everything, on one thread, over the first images. CPU
time, not elapsed time, so that other processes of the machine count little.

"""

from __future__ import annotations

import argparse
from pathlib import Path
import statistics
import time
from typing import Any

from measured_on import save

from yolov7_trt_ros.cli import labels
from yolov7_trt_ros.core.detector import Detector, DetectSettings
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.engine.open import open_detector
from yolov7_trt_ros.engine.options import DetectorOptions
from yolov7_trt_ros.replay.pictures import load_picture
from yolov7_trt_ros.report.accuracy import average_precision as accuracy
from yolov7_trt_ros.report.accuracy.coco import CocoAnnotations, evaluate_coco
from yolov7_trt_ros.report.accuracy.labels import CocoImage

RESULTS = Path(__file__).resolve().parent / 'results' / 'tuning.json'
SHAPES = ('rectangle', 'square')


def median_cpu_ms(detector: Detector, views: list[ImageView], settings: DetectSettings) -> float:
    """Return the median CPU milliseconds of this thread per frame."""
    detector.detect(views[0], settings)
    samples = []
    for view in views:
        start = time.thread_time_ns()
        detector.detect(view, settings)
        samples.append((time.thread_time_ns() - start) / 1e6)
    return statistics.median(samples)


def precision(
    detector: Detector, annotations: CocoAnnotations, images: list[CocoImage], folder: Path
) -> dict[str, float]:
    """Return AP and AP50 over the images."""
    failures: list[Exception] = []
    categories = labels.labelled_categories(annotations, detector.spec.class_names)
    pictures = labels.labelled_pictures(annotations)
    records = accuracy.detect_labelled(
        images, folder, detector, accuracy.accuracy_settings(), categories,
        pictures=pictures, found=lambda *_: None, failed=failures.append,
    )
    if failures:
        raise failures[0]
    labels.warn_of_notes(pictures)
    result = evaluate_coco(records, annotations, images, categories)
    return {'ap': round(result['ap'], 4), 'ap50': round(result['ap50'], 4)}


def measure(args: argparse.Namespace, model: str) -> list[dict[str, Any]]:
    """Return a row for each size and shape of one model."""
    annotations = labels.open_annotations(args.annotations)
    images = labels.find_labelled(annotations, args.images, allow_missing=False)
    views = [load_picture(args.images / image.file_name) for image in images[:args.timed]]
    rows = []
    for size in args.sizes:
        for shape in args.shapes:
            detector = open_detector(DetectorOptions(
                model=model, backend='onnx', threads=1, network_size=size,
                rectangular=shape == 'rectangle',
            ))
            row: dict[str, Any] = {'model': Path(model).name, 'network_size': size, 'shape': shape}
            row['cpu_ms_per_frame'] = round(median_cpu_ms(detector, views, DetectSettings()), 2)
            row |= precision(detector, annotations, images, args.images)
            detector.close()
            print(row, flush=True)
            rows.append(row)
    return rows


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--images', type=Path, required=True)
    parser.add_argument('--annotations', type=Path, required=True)
    parser.add_argument('-m', '--models', nargs='+', default=['yolov7-nano'])
    parser.add_argument('--sizes', type=int, nargs='+', default=[320, 480, 640])
    parser.add_argument('--shapes', nargs='+', choices=SHAPES, default=SHAPES)
    parser.add_argument('--timed', type=int, default=40, help='images whose time is taken')
    parser.add_argument('--out', type=Path, default=RESULTS)
    args = parser.parse_args()
    rows = [row for model in args.models for row in measure(args, model)]
    save(args.out, {'images': len(CocoAnnotations(args.annotations).images), 'rows': rows})


if __name__ == '__main__':
    main()
