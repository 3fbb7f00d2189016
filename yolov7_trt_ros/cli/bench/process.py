"""
Run each row of a benchmark in a process of its own.

GPU memory is then counted per row, threads and libraries of one engine do not disturb the next,
and a crash affects one row only.

"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
import dataclasses
import os
from pathlib import Path
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import yolov7_trt_ros
from yolov7_trt_ros.cli import output
from yolov7_trt_ros.cli.bench.run import empty_row, publishable, row_heading
from yolov7_trt_ros.cli.effects import model_effects
from yolov7_trt_ros.errors import InputError
from yolov7_trt_ros.parent_process import ends_with_this_process
from yolov7_trt_ros.report.bench.json_file import load_bench
from yolov7_trt_ros.temporary_folder import TemporaryFolder

if TYPE_CHECKING:
    from yolov7_trt_ros.cli.bench.run import BenchContext
    from yolov7_trt_ros.cli.bench.setup import RowSpec
    from yolov7_trt_ros.report.bench.row import BenchRow

ALONE = '--alone'
"""Marks such a process: it measures one row, in the way that is named, and prints nothing."""
_END_TIMEOUT_S = 10.0


def run_rows_apart(
    args: argparse.Namespace, specs: Sequence[RowSpec], context: BenchContext
) -> Iterator[BenchRow]:
    """Measure each row in a process of its own; a failed row has the reason."""
    for number, spec in enumerate(specs, 1):
        output.say(row_heading(spec, number, len(specs), context.plan_s), file=sys.stderr)
        with TemporaryFolder('yolov7_trt_bench_') as folder:
            command = child_command(args, spec, Path(folder))
            ended = _run(command)
            row = _read_row(Path(folder), spec, context, ended)
        if row.error:
            output.warn(f'{row.name}: {row.error}')
        yield row


def child_command(args: argparse.Namespace, spec: RowSpec, folder: Path) -> list[str]:
    """Return the command that measures one row with `args`, into a folder."""
    options = {
        '--row' if spec.named else '--model': spec.text, ALONE: spec.way, '--images': args.images,
        '--annotations': args.annotations, '--output': folder, '--power': args.power,
        '--seconds': args.seconds, '--batch': args.batch, '--limit': args.limit,
        '--size': model_effects.asked_size(args), '--threads': args.threads or None,
        '--class-names': args.class_names, '--anchors': args.anchors,
        '--table': args.table, '--activation': args.activation,
        '--second-look': args.second_look, '--second-look-model': args.second_look_model,
        '--tiles': args.tiles, '--tile-overlap': args.tile_overlap, '--engines': args.engines,
    }
    given_options = [f'{name}={value}' for name, value in options.items() if value is not None]
    flags = [f'--look={text}' for text in args.look]
    flags += ['--allow-missing'] if args.allow_missing else []
    return [sys.executable, '-m', 'yolov7_trt_ros', 'bench', *flags, *given_options]


def _run(command: Sequence[str]) -> int:
    """Run a command with its errors shown; Ctrl-C ends it and is raised again."""
    package = Path(yolov7_trt_ros.__file__).resolve().parents[1]
    found = os.environ.get('PYTHONPATH')
    path = f'{package}{os.pathsep}{found}' if found else str(package)
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        env=os.environ | {'PYTHONPATH': path} | ends_with_this_process(),
    )
    try:
        return process.wait()
    except BaseException:
        _end(process)
        raise


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()  # quiet also while it imports, where Ctrl-C gives a traceback
    try:
        process.wait(_END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _read_row(folder: Path, spec: RowSpec, context: BenchContext, ended: int) -> BenchRow:
    """Return the row that a process wrote, or a row with the reason why it wrote none."""
    try:
        (row,) = load_bench(folder / 'bench.json').rows
    except (InputError, ValueError):
        if ended == -signal.SIGINT or ended == 128 + signal.SIGINT:
            raise KeyboardInterrupt from None
        how = f'signal {-ended}' if ended < 0 else f'status {ended}'
        return publishable(dataclasses.replace(
            empty_row(spec, context),
            error=f'its process ended with {how} before the measurement; its output is '
            'above',
        ))
    return dataclasses.replace(row, where=context.where)
