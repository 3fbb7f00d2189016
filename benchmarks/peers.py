"""
Compare our detectors with others on one GPU, in one run: image bytes in pageable memory to boxes.

    python benchmarks/peers.py --plan grid.plan --end2end-plan nms.plan --checkpoint tiny.pt

All run one class of engine: the same model in FP16, 640 x 640, built at the same level. `--plan`
has a grid as its output and runs ours and the usual Python way; trtutils needs the NMS plugin
inside (`--end2end-plan`); PyTorch runs the checkpoint. Blocks of frames alternate, so that a slow
spell of the machine meets all. Each peer has its row in the result and in the table, with the
reason where it could not run, and with how far its boxes agree with ours: a peer that finds
something else is no comparison. The exit status is 3 where a row is missing that `--without` does
not name.

"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
import functools
from pathlib import Path
import sys
import time
import traceback
from typing import Any

from measured_on import save
import numpy as np
from photographs import add_arguments, Bgr, check_boxes, describe, load_frames

from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.detector import Detector, DetectSettings
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.latency import percentiles_ms
from yolov7_trt_ros.errors import Yolov7TrtError
from yolov7_trt_ros.records import to_record
from yolov7_trt_ros.report.compare.agreement import measure_agreement

SETTINGS = DetectSettings()
SIZES_WH = ((1920, 1080), (1280, 720), (640, 480))
WARM_UP, BLOCK = 30, 10
OURS = 'ours'

Run = Callable[[Bgr], Detections]


class NotRunError(Exception):
    """A peer cannot run here; the message has the reason."""


def open_ours(args: argparse.Namespace) -> Run:
    """Return this package's detector on the plan."""
    from yolov7_trt_ros.engine.open import open_detector
    from yolov7_trt_ros.engine.options import DetectorOptions

    return run_detector(open_detector(DetectorOptions(
        model=needed(args.plan, '--plan'), backend='tensorrt', rectangular=False,
        memory=args.memory,
    )))


def open_usual(args: argparse.Namespace) -> Run:
    """Return what Python code around TensorRT usually does, on the same plan."""
    from plain_gpu import PlainGpu

    from yolov7_trt_ros.engine.plan.plan_file import read_manifest, read_plan
    from yolov7_trt_ros.engine.trt.api import TrtApi

    path = Path(needed(args.plan, '--plan'))
    plain = PlainGpu(TrtApi.load(), read_plan(path, read_manifest(path)))

    def run(bgr: Bgr) -> Detections:
        return from_rows(plain.detect(bgr, SETTINGS), bgr)

    return run


def open_trtutils(args: argparse.Namespace, preprocessor: str = 'cuda') -> Run:
    """Return trtutils' detector of release 0.6."""
    from trtutils.impls.yolo import YOLO

    detector = YOLO(
        needed(args.end2end_plan, '--end2end-plan'), warmup=True, preprocessor=preprocessor,
        conf_thres=SETTINGS.score_threshold,
    )

    def run(bgr: Bgr) -> Detections:
        found = detector.end2end(bgr)
        return from_rows(np.array([(*box, score, label) for box, score, label in found]), bgr)

    return run


def open_torch(args: argparse.Namespace) -> Run:
    """Return PyTorch in FP16 on the checkpoint, without compilation."""
    from yolov7_trt_ros.model.checkpoint.load import load_network
    from yolov7_trt_ros.model.torch_detector import TorchDetector

    network = load_network(Path(needed(args.checkpoint, '--checkpoint')))
    return run_detector(TorchDetector(network, device='cuda', half=True, rectangular=False))


PEERS = {
    OURS: open_ours, 'usual Python': open_usual, 'trtutils': open_trtutils,
    'trtutils, preprocessing on the CPU': functools.partial(open_trtutils, preprocessor='cpu'),
    'PyTorch': open_torch,
}


def needed(value: str, option: str) -> str:
    """Return the value of an option that a peer cannot do without."""
    if not value:
        raise NotRunError(f'{option} was not given')
    return value


def run_detector(detector: Detector) -> Run:
    """Return how a detector is run on pixels."""
    def run(bgr: Bgr) -> Detections:
        return detector.detect(ImageView.from_array(bgr), SETTINGS)[0]

    return run


def from_rows(rows: np.ndarray, bgr: Bgr) -> Detections:
    """Return Detections of rows (n, 6): box in pixels, score, class."""
    rows = rows.reshape(-1, 6)
    return Detections(
        rows[:, :4].astype(np.float32), rows[:, 4].astype(np.float32),
        rows[:, 5].astype(np.int32), (bgr.shape[1], bgr.shape[0]),
    )


def open_peers(
    openers: Mapping[str, Callable[[argparse.Namespace], Run]], args: argparse.Namespace
) -> tuple[dict[str, Run], dict[str, str]]:
    """Return the peers that run here, and the reasons why others do not."""
    runs, absent = {}, {}
    for name, opener in openers.items():
        try:
            runs[name] = opener(args)
        except ImportError as exc:
            absent[name] = f'not installed: {exc}'
        except Exception as exc:  # noqa: BLE001  (others raise what they like)
            absent[name] = f'cannot run: {exc}{where_raised(exc)}'
        if name in absent:
            print(f'{name}: {absent[name]}', flush=True)
    return runs, absent


def where_raised(error: Exception) -> str:
    """Return the foreign functions in which an error was raised; '' for this package."""
    if isinstance(error, (NotRunError, Yolov7TrtError)):
        return ''
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    return f' (in {" > ".join(frame.name for frame in frames)}, line {frames[-1].lineno})'


def measure_size(
    runs: Mapping[str, Run], frames: Sequence[Bgr], count: int, least_boxes: float
) -> dict[str, Any]:
    """Return latency, boxes a frame and agreement with the first peer, or why none, for a size."""
    found, failed = {}, {}
    for name, run in runs.items():
        try:
            found[name] = [run(frame) for frame in frames]
        except Exception as exc:  # noqa: BLE001  (others raise what they like)
            failed[name] = {'not_run': f'failed: {exc}{where_raised(exc)}'}
    if not found:
        return failed
    reference = next(iter(found.values()))
    check_boxes(sum(map(len, reference)) / len(frames), least_boxes)
    samples_ns = time_in_turns({name: runs[name] for name in found}, frames, count)
    return failed | {
        name: {
            'latency_ms': to_record(percentiles_ms(samples_ns[name])),
            'boxes_per_frame': round(sum(map(len, found[name])) / len(frames), 2),
            'agreement_f1': round(measure_agreement(reference, found[name]).f1, 4),
        }
        for name in found
    }


def time_in_turns(
    runs: Mapping[str, Run], frames: Sequence[Bgr], count: int
) -> dict[str, list[int]]:
    """Return nanoseconds of at least `count` frames of each peer, in blocks that alternate."""
    samples_ns: dict[str, list[int]] = {name: [] for name in runs}
    for run in runs.values():
        for index in range(WARM_UP):
            run(frames[index % len(frames)])
    names = list(runs)
    for block in range(-(-count // BLOCK)):
        for name in names[block % len(names):] + names[: block % len(names)]:
            for index in range(BLOCK):
                frame = frames[(block * BLOCK + index) % len(frames)]
                start = time.perf_counter_ns()
                runs[name](frame)
                samples_ns[name].append(time.perf_counter_ns() - start)
    return samples_ns


def table(sizes: Mapping[str, Mapping[str, Any]]) -> str:
    """Return all rows as Markdown, those that did not run with the reason."""
    lines = ['| p50, ms | ' + ' | '.join(sizes) + ' |', '|---' * (1 + len(sizes)) + '|']
    for name in PEERS:
        cells = [
            str(row[name]['latency_ms']['p50']) if 'latency_ms' in row[name]
            else f'not run: {row[name]["not_run"]}'
            for row in sizes.values()
        ]
        lines.append(' | '.join([f'| {name}', *cells]) + ' |')
    return '\n'.join(lines)


def main() -> int:
    """Measure, print and save; return 1 if nothing ran, 3 if a row is missing without request."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').strip().partition('\n')[0])
    parser.add_argument('--plan', default='', help='of ours and the usual way: grid inside')
    parser.add_argument('--end2end-plan', default='', help='of trtutils: EfficientNMS inside')
    parser.add_argument('--checkpoint', default='', help='of PyTorch')
    parser.add_argument('--memory', default='staged', help='of ours: memory strategy')
    parser.add_argument('--frames', type=int, default=330, help='of each peer and size')
    parser.add_argument(
        '--without', nargs='+', choices=PEERS, default=[], help='rows that may be missing'
    )
    add_arguments(parser)
    parser.add_argument(
        '-o', '--output', type=Path, default=Path(__file__).parent / 'results' / 'peers.json'
    )
    args = parser.parse_args()
    runs, absent = open_peers(PEERS, args)
    if not runs:
        print('nothing ran')
        return 1
    sizes = {}
    for width, height in SIZES_WH:
        frames = load_frames(args, width, height)
        row = measure_size(runs, frames, args.frames, args.least_boxes)
        row |= {name: {'not_run': reason} for name, reason in absent.items()}
        sizes[f'{width}x{height}'] = row
        for name, values in row.items():
            print(f'{width}x{height} {name}:', values, flush=True)
    print(table(sizes))
    missing = {
        name: row[name]['not_run']
        for row in sizes.values() for name in PEERS if 'not_run' in row[name]
    }
    save(args.output, {
        'frames': args.frames, 'memory': args.memory, 'not_run': missing, 'sizes': sizes,
        'pictures': describe(args), 'least_boxes': args.least_boxes,
    })
    unasked = [name for name in missing if name not in args.without]
    if unasked:
        print(f'without {", ".join(unasked)}: this is no comparison of all', file=sys.stderr)
    return 3 if unasked else 0


if __name__ == '__main__':
    raise SystemExit(main())
