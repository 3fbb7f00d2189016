"""
Cost and gain of pruning and label-free recovery, with the code of `yolov7_trt prune`.

    python benchmarks/prune.py --model yolov7-tiny.pt --train shard0.npz shard1.npz --flops 0.7
        --minutes 7 --device cuda --amp --val-images val2017 --annotations instances.json --out o

The training pictures come as WebP bytes in .npz files with `ids`, `split`, `wh`, `offsets`,
`data`, `box_offsets` and `boxes` (class, x1, y1, x2, y2 in 0..1, crowd); only those of split 0 are
taken. --minutes counts the training alone; without --annotations no average precision is measured.
Writes prune.json, pruned.pt and pruned.onnx; each as soon as there is something to write.

"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
import tempfile
import time
from typing import Any

from measured_on import measured_on
import numpy as np

from yolov7_trt_ros.cli.model_steps.prune_inputs import load_labels, make_evaluation
from yolov7_trt_ros.cli.model_steps.prune_steps import PruneJob, Pruning
from yolov7_trt_ros.core.class_names import COCO80, COCO80_CATEGORY_IDS
from yolov7_trt_ros.errors import MissingDependencyError
from yolov7_trt_ros.model.prune.choose import PruneTarget
from yolov7_trt_ros.model.prune.distill import RecoverySettings
from yolov7_trt_ros.replay.picture_store import PictureStore

TRAINED_SPLIT = 0
FITTED = 64


def write_pictures(shards: list[Path], folder: Path, most: int | None) -> Path:
    """Write the pictures of split 0 as files, and their labels in COCO's format beside them."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for shard in shards:
        with np.load(shard) as archive:
            record = {name: archive[name] for name in archive.files}
        for index in np.flatnonzero(record['split'] == TRAINED_SPLIT):
            if most is not None and len(images) >= most:
                break
            identifier = int(record['ids'][index])
            name = f'{identifier:012d}.webp'
            start, end = record['offsets'][index:index + 2]
            (folder / name).write_bytes(record['data'][start:end].tobytes())
            width, height = (int(side) for side in record['wh'][index])
            images.append(
                {'id': identifier, 'file_name': name, 'width': width, 'height': height}
            )
            first, last = record['box_offsets'][index:index + 2]
            for row in record['boxes'][first:last]:
                annotations.append(as_annotation(row, images[-1], len(annotations) + 1))
    labels = folder / 'labels.json'
    categories = [
        {'id': number, 'name': name}
        for number, name in zip(COCO80_CATEGORY_IDS, COCO80, strict=True)
    ]
    labels.write_text(json.dumps(
        {'images': images, 'annotations': annotations, 'categories': categories}
    ))
    return labels


def as_annotation(row: np.ndarray, image: dict[str, Any], number: int) -> dict[str, Any]:
    """Return a row of boxes in COCO's format."""
    left, top, right, bottom = (
        float(value) * side
        for value, side in zip(row[1:5], (image['width'], image['height']) * 2, strict=True)
    )
    width, height = right - left, bottom - top
    return {
        'id': number, 'image_id': image['id'], 'bbox': [left, top, width, height],
        'category_id': COCO80_CATEGORY_IDS[int(row[0])], 'area': width * height,
        'iscrowd': int(row[5]),
    }


def evaluation(args: argparse.Namespace) -> Any:
    """Return what measures AP; None, with a line, where that cannot be done."""
    if args.annotations is None:
        return None
    try:
        return make_evaluation(args.annotations, args.val_images, args.size)
    except MissingDependencyError as exc:
        print(f'no average precision: {exc}', flush=True)
        return None


def main() -> None:
    """Prune, fit, recover; write what is known after each step."""
    args = parse_arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()

    def write(report: dict[str, Any]) -> None:
        seconds = round(time.perf_counter() - start, 1)
        record = {
            'measured_on': {**measured_on(), **torch_facts()}, 'seconds': seconds,
            'settings': settings_record(args), **report,
        }
        (args.out / 'prune.json').write_text(json.dumps(record, indent=2) + '\n')

    def say(line: str) -> None:
        print(f'[{time.perf_counter() - start:6.1f} s] {line}', flush=True)

    with tempfile.TemporaryDirectory(prefix='yolov7_trt_train_') as temporary:
        labels = write_pictures(args.train, Path(temporary), args.most)
        with PictureStore(temporary) as store:
            say(f'{len(store)} pictures written')
            job = PruneJob(
                args.model, args.out / 'pruned.pt',
                PruneTarget(flops=args.flops, round_to=args.round_to),
                RecoverySettings(
                    epochs=max(1, args.epochs), minutes=args.minutes, batch=args.batch,
                    amp=args.amp, learning_rate=args.learning_rate,
                ),
                size=args.size, device=args.device,
                onnx=args.out / 'pruned.onnx', resume=args.resume, recover=args.epochs > 0,
                fitted_pictures=FITTED,
            )
            make_labels = load_labels(labels, store, args.size) if args.with_labels else None
            work = Pruning(
                job, store, labels=make_labels, evaluate=evaluation(args), say=say,
                report_changed=write,
            )
            work.run()
            write({**work.report, 'finished': True})
    say(f'written: {args.out}')


def parse_arguments() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--model', type=Path, required=True)
    parser.add_argument('--train', type=Path, nargs='+', required=True)
    parser.add_argument('--most', type=int, help='use only so many pictures')
    parser.add_argument('--flops', type=float, default=0.7)
    parser.add_argument('--round-to', type=int, default=8, help='multiple of channels left')
    parser.add_argument('--epochs', type=int, default=300, help='0 ends after the fit')
    parser.add_argument('--minutes', type=float)
    parser.add_argument('--batch', type=int, default=32)
    parser.add_argument('--learning-rate', type=float, default=3e-4)
    parser.add_argument('--size', type=int, default=640)
    parser.add_argument('--device', default='auto', choices=('auto', 'cpu', 'cuda'))
    parser.add_argument('--amp', action='store_true')
    parser.add_argument('--with-labels', action='store_true')
    parser.add_argument('--val-images', type=Path)
    parser.add_argument('--annotations', type=Path)
    parser.add_argument('--resume', action='store_true')
    parser.add_argument('--out', type=Path, required=True)
    return parser.parse_args()


def settings_record(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments as JSON takes them; of files the names alone."""
    record = {}
    for name, value in vars(args).items():
        if isinstance(value, list):
            value = [path.name for path in value]
        record[name] = value.name if isinstance(value, Path) else value
    return record


def torch_facts() -> dict[str, str]:
    """Return the version of torch and the GPU."""
    import torch

    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else 'none'
    return {'torch': torch.__version__, 'gpu': gpu}


if __name__ == '__main__':
    main()
