"""
The table of a model on this GPU: plans built side by side, then measured in sequence.

    python benchmarks/model_table.py --row 'TensorRT FP16=tiny.onnx:fp16' \
        --row 'TensorRT INT8=tiny_int8.onnx:mixed' --row 'PyTorch=tiny.pt' --level 1 \
        --images val2017 --annotations instances.json -o table

Each row is one of `yolov7_trt bench`; those with a precision are built first, by `yolov7_trt
build` in a process each, and one that is not ready after --build-minutes is left out. Then follow
`fusion`, which keeps the layers of each plan and times them, and `bench`. Their files are in the
output folder, beside builds.json, which says how long each build took. With --only-build it ends
before `bench`, whose command it prints.

"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
import shlex
import subprocess
import sys
import time
from typing import Any

from measured_on import measured_on

from yolov7_trt_ros.engine.options import PRECISIONS

PROGRAM = [sys.executable, '-m', 'yolov7_trt_ros']


class Build:
    """A plan that is built in a process of its own."""

    def __init__(self, name: str, onnx: Path, precision: str, args: argparse.Namespace) -> None:
        self.name, self.precision, self.onnx = name, precision, onnx
        self.plan = args.output / 'plans' / f'{onnx.stem}_{precision}.plan'
        self.plan.parent.mkdir(parents=True, exist_ok=True)
        self._log = self.plan.with_suffix('.log').open('w')
        self._started = time.monotonic()
        self._process = subprocess.Popen(
            [*PROGRAM, 'build', str(onnx), '-o', str(self.plan), '--precision', precision,
             '--opt-level', str(args.level), '--min', args.min, '--opt', args.opt,
             '--max', args.max],
            stdout=self._log, stderr=subprocess.STDOUT,
        )

    def wait(self, deadline: float) -> bool:
        """Wait for the end, or end it at a time; return whether there is a plan."""
        try:
            self._process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.seconds = round(time.monotonic() - self._started, 1)
        self._log.close()
        return self._process.returncode == 0

    def record(self) -> dict[str, Any]:
        """Return what there is to tell, JSON-ready."""
        lines = self.plan.with_suffix('.log').read_text().strip().splitlines()
        return {
            'name': self.name, 'onnx': self.onnx.name, 'precision': self.precision,
            'seconds': self.seconds, 'built': self._process.returncode == 0,
            'last_line': lines[-1] if lines and self._process.returncode else '',
        }


def parse_row(text: str) -> tuple[str, Path, str]:
    """Return name, file and precision ('' without one) of NAME=FILE[:PRECISION]."""
    name, _, file = text.partition('=')
    path, _, precision = file.rpartition(':')
    if precision in PRECISIONS and path.endswith('.onnx'):
        return name, Path(path), precision
    return name, Path(file), ''


def build_all(rows: list[tuple[str, Path, str]], args: argparse.Namespace) -> list[str]:
    """Build what has a precision; return the rows for `bench`, those without a plan left out."""
    builds = [Build(*row, args) for row in rows if row[2]]
    deadline = time.monotonic() + 60 * args.build_minutes
    plans = {build.name: build.plan for build in builds if build.wait(deadline)}
    record = {
        'measured_on': measured_on(), 'level': args.level,
        'shapes': [args.min, args.opt, args.max], 'side_by_side': len(builds),
        'builds': [build.record() for build in builds],
    }
    (args.output / 'builds.json').write_text(json.dumps(record, indent=2) + '\n')
    for build in record['builds']:
        print(*(f'{name} {value}' for name, value in build.items()), sep=', ', flush=True)
    for build in builds:  # one by one: their layers are timed
        if build.name in plans:
            subprocess.run([
                *PROGRAM, 'fusion', str(build.plan), '--onnx', str(build.onnx),
                '--time', args.max, '--save-layers', str(build.plan.with_suffix('.layers.json')),
                '--html', str(build.plan.with_suffix('.html')),
            ])
    return [
        f'{name}={plans.get(name, path)}' for name, path, precision in rows
        if not precision or name in plans
    ]


def main() -> int:
    """Build, check and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--row', action='append', required=True, metavar='NAME=FILE[:PRECISION]')
    parser.add_argument('--images', required=True)
    parser.add_argument('--annotations', required=True)
    parser.add_argument('--level', type=int, default=3, help='optimisation level of the builds')
    parser.add_argument('--min', default='1x3x640x640')
    parser.add_argument('--opt', default='8x3x640x640')
    parser.add_argument('--max', default='8x3x640x640')
    parser.add_argument('--build-minutes', type=float, default=60.0)
    parser.add_argument('--only-build', action='store_true', help='end before `bench`')
    parser.add_argument('--seconds', default='3')
    parser.add_argument('--title', default='Benchmark')
    parser.add_argument('-o', '--output', type=Path, required=True)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    rows = build_all([parse_row(text) for text in args.row], args)
    options = [part for row in rows for part in ('--row', row)]
    command = [
        *PROGRAM, 'bench', *options, '--images', args.images, '--annotations', args.annotations,
        '--seconds', args.seconds, '--batch', '1,8', '--title', args.title, '-o', str(args.output),
    ]
    if args.only_build:
        print(shlex.join(command))
        return 0
    return subprocess.run(command).returncode


if __name__ == '__main__':
    sys.exit(main())
