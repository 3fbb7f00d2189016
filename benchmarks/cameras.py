"""
One detector node with 1, 2, 4 and 8 cameras: throughput, latency and lost images.

    python benchmarks/cameras.py --rate 30 --seconds 8 -- --backend tensorrt --model tiny.plan

Runs node_latency.py once for each number of cameras and each `--max-batch`; what follows `--` goes
to it. Each camera is a process of its own, so the machine needs a core for each. Cameras publish
bytes that are ready, as `--publishers serialized` there; with `--publishers message` behind the
`--` they publish message objects.

"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
import subprocess
import sys
import tempfile
from typing import Any

from measured_on import save

HERE = Path(__file__).parent


def measure(cameras: int, max_batch: int, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the rows of one number of cameras, one for each way to publish."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, 'result.json')
        command = [
            sys.executable, str(HERE / 'node_latency.py'), '--cameras', str(cameras),
            '--size', args.size, '--rate', str(args.rate), '--seconds', str(args.seconds),
            '--max-batch', str(max_batch), '--publishers', 'serialized', *args.node,
            '-o', str(output),
        ]
        subprocess.run(command, check=True, stdout=sys.stderr)
        result = json.loads(output.read_text())
    return [
        {'cameras': cameras, 'max_batch': max_batch, 'publisher': publisher}
        | summary(measured, result['seconds'])
        for publisher, measured in result['publishers'].items()
    ]


def summary(result: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Return what all cameras of one run have in sum."""
    each = result['cameras']
    return {
        'sent_per_s': round(sum(row['sent'] for row in each) / seconds, 1),
        'detections_per_s': round(sum(row['received'] for row in each) / seconds, 1),
        'least_boxes_per_frame': min(row['boxes_per_frame'] for row in each),
        'lost': sum(row['lost'] for row in each),
        'least_from_one_camera': min(row['received'] for row in each),
        'most_from_one_camera': max(row['received'] for row in each),
        'latency_ms': result['latency_ms'],
        'images_per_batch': max(row['images_per_batch'] for row in each),
        'node_cpu_percent': result['node_cpu_percent'],
        'backend': result['node'].get('backend', ''),
    }


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').strip().partition('\n')[0])
    parser.add_argument('--cameras', type=int, nargs='+', default=[1, 2, 4, 8])
    parser.add_argument('--max-batch', type=int, nargs='+', default=[1])
    parser.add_argument('--size', default='640x480')
    parser.add_argument('--rate', type=float, default=30.0)
    parser.add_argument('--seconds', type=float, default=8.0)
    parser.add_argument('-o', '--output', type=Path, default=HERE / 'results' / 'cameras.json')
    own, _, node = ' '.join(sys.argv[1:]).partition(' -- ')
    args = parser.parse_args(own.split())
    args.node = node.split()
    rows = []
    for max_batch in args.max_batch:
        for cameras in args.cameras:
            for row in measure(cameras, max_batch, args):
                rows.append(row)
                print(*(f'{name} {value}' for name, value in row.items()), sep=', ', flush=True)
            save(args.output, {
                'size': args.size, 'rate_hz': args.rate, 'seconds': args.seconds, 'rows': rows,
            })


if __name__ == '__main__':
    main()
