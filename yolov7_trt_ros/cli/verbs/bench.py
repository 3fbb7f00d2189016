r"""
Measure models side by side: latency, watts, memory, precision.

Each row is a model in an engine: a PyTorch checkpoint (.pt), an ONNX file (ONNX Runtime on the
CPU), a TensorRT plan, or an ONNX file with a precision (tiny.onnx:fp16), whose plan is built
first. The network alone and whole frames (decoded picture in host memory to detections) are timed
on real pictures in turn, at each batch size, while power is metered with the sensors of this
machine. A row that cannot run here shows the reason. Each row states where it was measured; rows
of several machines or environments are joined with --merge. The other rows are compared with the
first. The results are bench.json, bench.md and bench.html.

--second-look, --tiles and --engines each add a row after each ONNX file and plan. The pictures
are single ones: a second look has no hints of frames before. Several engines get frames without
a pause, like the frames of many cameras: such a row has the rate of all together, the time of a
frame in its engine, and no time of the network alone.

Examples
--------
  yolov7_trt bench --model tiny.onnx --model tiny_int8.onnx --images val2017 -o report
  yolov7_trt bench --row 'PyTorch=tiny.pt' --row 'FP16=tiny.onnx:fp16' --row 'INT8=int8.plan' \
      --images val2017 --annotations instances_val2017.json --power auto -o report
  yolov7_trt bench -m tiny.onnx --second-look on --tiles 2x2 --engines engines.yaml \
      --images val2017 -o report
  yolov7_trt bench --merge torch/bench.json tensorrt/bench.json -o report

"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import contextlib
from pathlib import Path
from typing import Any, TYPE_CHECKING

from yolov7_trt_ros.atomic_file import atomic_write
from yolov7_trt_ros.cli import (
    arguments,
    exit_status,
    interruption,
    look_arguments,
    output,
    output_paths,
)
from yolov7_trt_ros.cli.effects.given_options import refuse_without_effect
from yolov7_trt_ros.cli.look_arguments import WAYS
from yolov7_trt_ros.errors import PowerError, SettingError
from yolov7_trt_ros.home_folder import expand_home

if TYPE_CHECKING:
    from yolov7_trt_ros.cli.bench.run import BenchContext
    from yolov7_trt_ros.cli.bench.setup import RowSpec
    from yolov7_trt_ros.power.telemetry.sample import TelemetrySource
    from yolov7_trt_ros.report.bench.row import Bench, BenchRow

_DEFAULT_SECONDS = 5.0
_DEFAULT_TITLE = 'Benchmark'
_OF_MEASURING = (
    '--annotations', '--allow-missing', '--power', '--seconds', '--batch', '--limit', '--size',
    '--threads', '--in-process', '--class-names', '--anchors', '--table', '--activation',
    '--second-look', '--second-look-model', '--tiles', '--tile-overlap', '--engines',
)


class _AppendRow(argparse.Action):
    """Keeps rows in the order of the command line, from `--model` and `--row`."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        rows = [*(getattr(namespace, 'rows', None) or []), (option == '--row', values)]
        namespace.rows = rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.set_defaults(rows=[])
    parser.add_argument(
        '--model', '-m', action=_AppendRow, dest='model', metavar='FILE[:PRECISION]',
        help='a row; :fp32, :fp16, :int8 or :mixed after an ONNX file selects TensorRT; after a '
        '.pt file, :fp16 or :cpu changes how PyTorch runs it',
    )
    parser.add_argument(
        '--row', action=_AppendRow, dest='row', metavar='NAME=FILE[:PRECISION]',
        help='a row with a name',
    )
    parser.add_argument(
        '--merge', nargs='+', type=Path, metavar='JSON', default=[],
        help='join earlier results instead of measuring',
    )
    parser.add_argument('--images', type=Path, metavar='DIR', help='folder of pictures')
    parser.add_argument(
        '--annotations', type=Path, metavar='FILE',
        help='labels of the pictures in COCO instances format, for average precision',
    )
    arguments.add_allow_missing_argument(parser)
    parser.add_argument('-o', '--output', required=True, type=Path, metavar='DIR',
                        help='folder for bench.json, bench.md and bench.html')
    _add_measuring(parser)


def _add_measuring(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('measuring')
    group.add_argument(
        '--power', choices=('auto', 'none'), default='auto',
        help='meter power with tegrastats, INA3221, NVML or RAPL, whichever is available '
        '(default: %(default)s)',
    )
    group.add_argument(
        '--seconds', type=float, default=_DEFAULT_SECONDS, metavar='S',
        help='seconds for each of network, frames and power, at each batch size, '
        'above 0, below 3600 (default: %(default)s)',
    )
    group.add_argument('--batch', default='1,8', metavar='N,N',
                       help='batch sizes (default: %(default)s)')
    group.add_argument('--limit', type=int, metavar='N',
                       help='maximum number of labelled images (default: all)')
    group.add_argument('--title', default='', help='heading of the pages')
    group.add_argument('--note', action='append', default=[], metavar='TEXT',
                       help='a sentence below the tables; may be repeated')
    arguments.add_size_argument(
        group, 'side of the network input, for models with a free input size'
    )
    arguments.add_threads_argument(group)
    group.add_argument(
        '--in-process', action='store_true',
        help='measure all rows in this process (default: one process per row, so that memory is '
        'separate and a crash affects one row only)',
    )
    group.add_argument('--alone', choices=('', *WAYS), help=argparse.SUPPRESS)
    arguments.add_naming_arguments(parser.add_argument_group('model'))
    arguments.add_checkpoint_arguments(parser)
    look_arguments.add_look_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run the verb; the exit status is 1 if no row could run, 130 after Ctrl-C."""
    folder = expand_home(args.output)
    output_paths.check_folder('-o', folder)
    for name, form in (('bench.json', 'JSON'), ('bench.md', ''), ('bench.html', 'HTML')):
        output_paths.check_file('-o', folder / name, form, args.merge)
    if args.merge:
        return _merge(args)
    specs = _check(args)
    left = interruption.NOTHING_WRITTEN if args.alone is None else ''  # the parent prints it
    with interruption.explain(lambda: left), contextlib.ExitStack() as stack:
        context = _open_context(args, stack)
        return _measure(args, specs, context)


def _check(args: argparse.Namespace) -> list[RowSpec]:
    """Return the rows; raises SettingError."""
    from yolov7_trt_ros.cli.bench.setup import parse_row, wanted_ways, with_ways

    if not args.rows:
        raise SettingError('give at least one --model FILE or --row NAME=FILE (or --merge JSON)')
    if args.images is None:
        raise SettingError('give a folder of pictures with --images')
    if not 0 < args.seconds < 3600:
        raise SettingError(f'--seconds must be more than 0 and below 3600, got {args.seconds}')
    arguments.check_at_least('--limit', args.limit)
    if args.annotations is None:
        refuse_without_effect(args, ['--limit', '--allow-missing'], 'without --annotations')
    if args.alone is None:
        look_arguments.check_effect(args, looks_once=True)
    rows = [parse_row(text, named=named) for named, text in args.rows]
    if args.alone is None and all(row.kind != 'torch' for row in rows):
        refuse_without_effect(
            args, ['--table', '--activation'], 'without a row of a PyTorch checkpoint'
        )
    rows = with_ways(rows, wanted_ways(args, rows))
    return rows if args.alone is None else [row for row in rows if row.way == args.alone]


def _measure(args: argparse.Namespace, specs: Sequence[RowSpec], context: BenchContext) -> int:
    from yolov7_trt_ros.cli.bench.process import run_rows_apart
    from yolov7_trt_ros.cli.bench.run import collect, run_row, run_rows, settings_record
    from yolov7_trt_ros.report.bench.row import Bench

    settings = settings_record(context)

    def make_bench(rows: Sequence[BenchRow]) -> Bench:
        return Bench(args.title or _DEFAULT_TITLE, settings, tuple(rows), tuple(args.note))

    folder = expand_home(args.output)
    if args.alone is not None:
        return _measure_alone(make_bench([run_row(spec, context) for spec in specs]), folder)
    rows = run_rows(specs, context) if args.in_process else run_rows_apart(args, specs, context)
    bench, interrupted = collect(rows, make_bench, folder)
    if interrupted and not bench.rows:
        raise KeyboardInterrupt(interruption.NOTHING_WRITTEN)
    _show(bench, folder)
    if interrupted:
        output.warn(f'interrupted after {len(bench.rows)} of {len(specs)} rows; these are kept')
        return exit_status.INTERRUPTED
    return 0 if any(not row.error for row in bench.rows) else 1


def _measure_alone(bench: Bench, folder: Path) -> int:
    """Pass the row of this process to its parent process."""
    atomic_write(folder / 'bench.json', bench.to_json())
    return 0


def _merge(args: argparse.Namespace) -> int:
    from yolov7_trt_ros.cli.bench.run import write_bench
    from yolov7_trt_ros.report.bench.json_file import load_bench, merge_benches

    if args.rows or args.images:
        raise SettingError('--merge joins results; it takes no --model, --row or --images')
    refuse_without_effect(args, _OF_MEASURING, 'with --merge, which measures nothing')
    paths = [expand_home(path) for path in args.merge]
    bench = merge_benches([(str(path), load_bench(path)) for path in paths], args.title, args.note)
    folder = expand_home(args.output)
    write_bench(bench, folder)
    _show(bench, folder)
    return 0


def _show(bench: Bench, folder: Path) -> None:
    from yolov7_trt_ros.report.bench.markdown import as_markdown

    output.say(as_markdown(bench))
    output.say(f'written: {folder / "bench.html"}, bench.md, bench.json')


def _open_context(args: argparse.Namespace, stack: contextlib.ExitStack) -> BenchContext:
    """Open what the rows share; GPU memory is read before anything uses the GPU."""
    import dataclasses

    from yolov7_trt_ros.cli.bench import setup as bench_setup
    from yolov7_trt_ros.cli.bench.machine_facts import read_where
    from yolov7_trt_ros.cli.bench.power import GpuMemory, SourceMeter
    from yolov7_trt_ros.cli.bench.rows import OpenOptions
    from yolov7_trt_ros.cli.bench.run import BenchContext
    from yolov7_trt_ros.cli.model_steps.checkpoints import CheckpointOptions
    from yolov7_trt_ros.report.bench.machine_load import read_load
    from yolov7_trt_ros.report.bench.measure import BenchPlan

    batches = bench_setup.parse_batches(args.batch)
    warn = _no_warning if args.alone is not None else output.warn
    busy = read_load().warning
    if busy:
        warn(busy)
    folder = expand_home(args.images)
    annotations = args.annotations and expand_home(args.annotations)
    pictures, data = bench_setup.load_pictures(folder, warn)
    labels, labels_error = bench_setup.try_labels(
        annotations, folder, args.limit, allow_missing=args.allow_missing, warn=warn
    )
    if labels is None and annotations is not None:
        warn(labels_error)
    if labels is not None:
        data = dataclasses.replace(
            data, labelled=len(labels.images), labels_sha256=labels.sha256
        )
    gpu_memory = GpuMemory()
    stack.callback(gpu_memory.close)
    source = _open_source(args.power, stack)
    meter = SourceMeter(source, error='no power source: --power none')
    return BenchContext(
        where=read_where(source, idle_watts=_idle_watts(meter, args), busy=busy),
        data=data, pictures=pictures, labels=labels, labels_error=labels_error,
        batches=batches, plan=BenchPlan(args.seconds),
        options=OpenOptions(
            args, args.size, args.threads, batches[-1], CheckpointOptions.of(args)
        ),
        meter=meter, gpu_memory=gpu_memory,
    )


def _no_warning(_: object) -> None:
    """Print nothing: the parent process has printed it."""


def _open_source(power: str, stack: contextlib.ExitStack) -> TelemetrySource | None:
    """Return the power source of this machine, closed with the stack."""
    if power == 'none':
        return None
    from yolov7_trt_ros.power.root.commands import SystemRunner
    from yolov7_trt_ros.power.telemetry.source import find_source

    source = find_source(runner=SystemRunner())
    stack.callback(source.close)
    return source


def _idle_watts(meter: Any, args: argparse.Namespace) -> float | None:
    """Return the power before anything runs; warn if there is no power source."""
    if args.power == 'none' or args.alone is not None:
        return None
    try:
        return float(meter.idle().watts)
    except PowerError as exc:
        output.warn(exc)
        return None
