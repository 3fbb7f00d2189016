"""
Compare our detectors with others on one GPU, in one run: image bytes in pageable memory to boxes.

    python benchmarks/peers.py --plan grid.plan --end2end-plan nms.plan --checkpoint tiny.pt

All run one class of engine: the same model in FP16, 640 x 640, built at the same level. `--plan`
has a grid as its output and runs ours and the usual Python way; trtutils needs the NMS plugin
inside (`--end2end-plan`); PyTorch runs the checkpoint in a process of its own, with the Python of
`--torch-python`. Blocks of frames alternate, so that a slow spell of the machine meets all; the
first two frames of a block are not counted. Each peer has its row in the result and in the table,
with the reason where it could not run, and with how far its boxes agree with ours: a peer that
finds something else is no comparison. The exit status is 3 where a row is missing that `--without`
does not name.

"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
import contextlib
import functools
import importlib.util
from pathlib import Path
import sys
from typing import Any

from measured_on import save
from peers_parts.other_interpreter import environment_of, PeerElsewhere
from peers_parts.timed import (
    Bgr,
    from_rows,
    NotRunError,
    Peer,
    PeerHere,
    run_detector,
    SETTINGS,
)
from peers_parts.trtutils_peer import COPYING, MAPPED, open_first, Way, where_raised
from photographs import add_arguments, check_boxes, describe, load_frames

from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.latency import percentiles_ms
from yolov7_trt_ros.errors import Yolov7TrtError
from yolov7_trt_ros.records import to_record
from yolov7_trt_ros.report.compare.agreement import measure_agreement

SIZES_WH = ((1920, 1080), (1280, 720), (640, 480))
WARM_UP, BLOCK, LEAD_IN = 30, 10, 2
OURS = 'ours'


def open_ours(args: argparse.Namespace) -> Peer:
    """Return this package's detector on the plan."""
    from yolov7_trt_ros.engine.open import open_detector
    from yolov7_trt_ros.engine.options import DetectorOptions

    return PeerHere(run_detector(open_detector(DetectorOptions(
        model=needed(args.plan, '--plan'), backend='tensorrt', rectangular=False,
        memory=args.memory,
    ))))


def open_usual(args: argparse.Namespace) -> Peer:
    """Return what Python code around TensorRT usually does, on the same plan."""
    from plain_gpu import PlainGpu

    from yolov7_trt_ros.engine.plan.plan_file import read_manifest, read_plan
    from yolov7_trt_ros.engine.trt.api import TrtApi

    path = Path(needed(args.plan, '--plan'))
    plain = PlainGpu(TrtApi.load(), read_plan(path, read_manifest(path)))

    def run(bgr: Bgr) -> Detections:
        return from_rows(plain.detect(bgr, SETTINGS), bgr)

    return PeerHere(run)


def open_trtutils(
    args: argparse.Namespace, preprocessor: str = 'cuda', ways: tuple[Way, ...] = COPYING
) -> Peer:
    """Return trtutils' detector of release 0.6."""
    return open_first(needed(args.end2end_plan, '--end2end-plan'), preprocessor, ways)


def open_torch(args: argparse.Namespace, way: str = 'plain') -> Peer:
    """Return PyTorch on the checkpoint, in FP16 on a GPU; a process of its own."""
    checkpoint = Path(needed(args.checkpoint, '--checkpoint')).resolve()
    python = args.torch_python
    if not python:
        if importlib.util.find_spec('torch') is None:
            raise ImportError('No module named torch; --torch-python names a Python that has it')
        python = sys.executable
    return PeerElsewhere([
        python, '-m', 'peers_parts.torch_child', '--checkpoint', str(checkpoint),
        '--device', args.torch_device, '--way', way,
    ], environment_of(python))


PEERS: dict[str, Callable[[argparse.Namespace], Peer]] = {
    OURS: open_ours, 'usual Python': open_usual, 'trtutils': open_trtutils,
    'trtutils, mapped memory': functools.partial(open_trtutils, ways=MAPPED),
    'trtutils, preprocessing in TensorRT': functools.partial(open_trtutils, preprocessor='trt'),
    'trtutils, preprocessing on the CPU': functools.partial(open_trtutils, preprocessor='cpu'),
    'PyTorch': open_torch, 'PyTorch, compiled': functools.partial(open_torch, way='compiled'),
}


def needed(value: str, option: str) -> str:
    """Return the value of an option that a peer cannot do without."""
    if not value:
        raise NotRunError(f'{option} was not given')
    return value


def open_peers(
    openers: Mapping[str, Callable[[argparse.Namespace], Peer]],
    args: argparse.Namespace,
    ends: contextlib.ExitStack,
) -> tuple[dict[str, Peer], dict[str, str]]:
    """Return the peers that run here, which `ends` closes, and why others do not."""
    peers, absent = {}, {}
    for name, opener in openers.items():
        try:
            peers[name] = opener(args)
            ends.callback(peers[name].close)
        except ImportError as exc:
            absent[name] = f'not installed: {exc}'
        except Exception as exc:  # noqa: BLE001  (others raise what they like)
            absent[name] = f'cannot run: {told(exc)}'
        if name in absent:
            print(f'{name}: {absent[name]}', flush=True)
    return peers, absent


def told(error: Exception) -> str:
    """Return an error, with the foreign functions in which it was raised."""
    ours = isinstance(error, (NotRunError, Yolov7TrtError))
    return str(error) if ours else f'{error}{where_raised(error)}'


def measure_size(
    peers: Mapping[str, Peer], frames: Sequence[Bgr], count: int, least_boxes: float
) -> dict[str, Any]:
    """Return latency, boxes a frame and agreement with the first peer, or why none, for a size."""
    found, failed = {}, {}
    for name, peer in peers.items():
        try:
            found[name] = peer.show(frames)
        except Exception as exc:  # noqa: BLE001  (others raise what they like)
            failed[name] = f'failed: {told(exc)}'
    if found:
        reference = next(iter(found.values()))
        check_boxes(sum(map(len, reference)) / len(frames), least_boxes)
    samples_ns, failed_later = time_in_turns(
        {name: peers[name] for name in found}, len(frames), count
    )
    rows: dict[str, Any] = {
        name: {'not_run': reason} for name, reason in {**failed, **failed_later}.items()
    }
    return rows | {
        name: {
            'latency_ms': to_record(percentiles_ms(taken_ns)),
            'boxes_per_frame': round(sum(map(len, found[name])) / len(frames), 2),
            'agreement_f1': round(measure_agreement(reference, found[name]).f1, 4),
            **peers[name].facts,
        }
        for name, taken_ns in samples_ns.items()
    }


def time_in_turns(
    peers: Mapping[str, Peer], frames: int, count: int
) -> tuple[dict[str, list[int]], dict[str, str]]:
    """
    Run frames by their numbers in blocks that alternate.

    Returns
    -------
    samples_ns
        Nanoseconds of at least `count` frames of each peer.
    failed
        Those that failed on the way, with the reason.

    """
    samples_ns: dict[str, list[int]] = {name: [] for name in peers}
    failed: dict[str, str] = {}

    def run(name: str, first: int, counted: int, before: int) -> None:
        order = [index % frames for index in range(first - before, first + counted)]
        try:
            samples_ns[name] += peers[name].time(order)[before:]
        except Exception as exc:  # noqa: BLE001  (others raise what they like)
            failed[name] = f'failed: {told(exc)}'
            del samples_ns[name]

    for name in peers:
        run(name, 0, 0, WARM_UP)
    for block in range(-(-count // BLOCK)):
        names = list(samples_ns)
        turn = block % max(1, len(names))
        for name in names[turn:] + names[:turn]:
            run(name, block * BLOCK, BLOCK, LEAD_IN)
    return samples_ns, failed


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
    parser.add_argument(
        '--torch-python', default='', metavar='PYTHON',
        help='interpreter that has PyTorch, NumPy and OpenCV (default: this one)',
    )
    parser.add_argument('--torch-device', default='cuda', help='or cpu (default: %(default)s)')
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
    with contextlib.ExitStack() as ends:
        peers, absent = open_peers(PEERS, args, ends)
        if not peers:
            print('nothing ran')
            return 1
        sizes = {}
        for width, height in SIZES_WH:
            frames = load_frames(args, width, height)
            row = measure_size(peers, frames, args.frames, args.least_boxes)
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
