"""
AP50 lost by int8, for each calibration method, on labelled pictures held out of calibration.

    python benchmarks/quantize.py --model yolov7-tiny_fp16w.onnx --json results/quantize_tiny.json

Calibrates on the training pictures of the two .npz shards in --train (split 0) and scores on the
326 exactly labelled val2017 images, letterboxed to squares as `eval` does it: the float model,
each method alone, and the best with its most sensitive convolutions left float. Needs numpy,
onnx, onnxruntime, OpenCV and pycocotools.

"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
import hashlib
from pathlib import Path
import sys
import time
from typing import Any

import cv2
from measured_on import save
import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from yolov7_trt_ros.cli.model_steps import quantize_steps  # noqa: E402  (its folder was added)
from yolov7_trt_ros.cli.model_steps.calibration_pictures import (  # noqa: E402
    FilePictures,
    PictureSets,
    spread,
)
from yolov7_trt_ros.core.image import ImageView  # noqa: E402
from yolov7_trt_ros.engine.model_files import find_model  # noqa: E402
from yolov7_trt_ros.replay.pictures import find_pictures  # noqa: E402

DATA = REPOSITORY.parent / 'shared' / 'data'
_TRAIN_SPLIT = 0


class ShardPictures:
    """Training pictures out of the .npz shards, spread evenly over them."""

    def __init__(self, folder: Path, count: int) -> None:
        self.failed = 0
        shards = [np.load(path) for path in sorted(folder.glob('shard*.npz'))]
        if not shards:
            raise SystemExit(f'{folder} holds no shard*.npz')
        found = [
            (shard, index) for shard in shards
            for index in np.flatnonzero(shard['split'] == _TRAIN_SPLIT)
        ]
        chosen = [found[index] for index in spread(len(found), min(count, len(found)))]
        self._pictures = []
        for shard in shards:
            data, offsets, ids = shard['data'], shard['offsets'], shard['ids']
            self._pictures += [
                (str(ids[index]), data[offsets[index]:offsets[index + 1]].copy())
                for owner, index in chosen if owner is shard
            ]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._pictures)

    def __iter__(self) -> Iterator[tuple[str, ImageView]]:
        """Yield COCO id and pixels."""
        for name, encoded in self._pictures:
            yield name, ImageView.from_array(cv2.imdecode(encoded, cv2.IMREAD_COLOR))


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Run the tournament and return its table."""
    options = quantize_steps.QuantizeOptions(
        method=args.method, keep=args.keep, weight_range=args.weights, network_size=args.size,
        threads=args.threads,
    )
    path = find_model(args.model)
    model = quantize_steps.load_model(path)
    files = find_pictures(args.images)
    scoring = FilePictures([files[index] for index in spread(
        len(files), min(args.limit or len(files), len(files))
    )])
    pictures = PictureSets(ShardPictures(args.train, args.count), scoring, True)
    score = quantize_steps.choose_score(scoring, args.annotations, options)
    start = time.monotonic()
    tournament = quantize_steps.quantize_model(
        path, model, pictures, score, options,
        lambda text: print(f'{time.monotonic() - start:6.0f} s  {text}', flush=True),
    )
    for row in quantize_steps.tournament_rows(tournament, len(model.convs), score.measure):
        print(f'{row[0]:<24} {row[1]}')
    if args.output is not None:
        data = quantize_steps.serialise_winner(tournament, len(pictures.calibration), args.weights)
        args.output.write_bytes(data)
    return {
        'model': path.name,
        'model_sha256': hashlib.sha256(path.read_bytes()).hexdigest(),
        'network_size': args.size,
        'weights': args.weights,
        'calibrated_on': f'{len(pictures.calibration)} training pictures',
        'scored_on': f'{len(scoring)} val2017 images, none of them among the former',
        'convs': len(model.convs),
        'float_ap50': tournament.reference,
        'entries': [quantize_steps.entry_record(entry) for entry in tournament.entries],
        'winner': tournament.winner.name,
        'sensitivity': dict(tournament.sensitivity),
        'seconds': round(time.monotonic() - start, 1),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--model', default='yolov7-nano')
    parser.add_argument('--method', choices=('auto', *quantize_steps.METHODS), default='auto')
    parser.add_argument('--weights', choices=('max', 'mse'), default='max')
    parser.add_argument('--keep', help='Conv nodes that stay float as well')
    parser.add_argument('--count', type=int, default=300, help='pictures to calibrate on')
    parser.add_argument('--limit', type=int, default=0, help='images to score on; 0 for all')
    parser.add_argument('--size', type=int, default=640)
    parser.add_argument('--threads', type=int, default=0)
    parser.add_argument('--train', type=Path, default=DATA / 'train')
    parser.add_argument('--images', type=Path, default=DATA / 'vision/val2017/images')
    parser.add_argument(
        '--annotations', type=Path, default=DATA / 'vision/val2017/instances.json'
    )
    parser.add_argument('--output', type=Path, help='write the winner here, as ONNX')
    parser.add_argument(
        '--json', type=Path, default=Path(__file__).parent / 'results' / 'quantize.json'
    )
    args = parser.parse_args()
    save(args.json, measure(args))


if __name__ == '__main__':
    main()
