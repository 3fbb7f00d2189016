"""
Show which layers of a model TensorRT fused.

A chain is a convolution with the activation, batch normalisation or residual sum after it. The
report shows which chains became one layer, and the visible reasons for the others. It also shows
the precision of each layer as far as TensorRT states it, the reformats in between, and the bytes
that all layers read and write, which fusion and INT8 should reduce. The exit status is 1 if less
than --min-fused of the chains are fused.

MODEL is a plan (read with TensorRT's engine inspector, on the GPU it is for), a JSON file of
layers (from --save-layers or trtexec --exportLayerInfo), or an ONNX model, which is built first;
TensorRT-RTX also builds without a GPU. The chains are those of the ONNX model: --onnx, else the
model in the plan's manifest, else those in the saved layers.

With --time the plan runs on noise and TensorRT's profiler times each layer: whether INT8 pays
off, and what reformats and float layers cost. It waits between layers, so the sum is longer than
the network takes.

Examples
--------
  yolov7_trt fusion yolov7.plan --min-fused 0.95
  yolov7_trt fusion yolov7.plan --onnx yolov7.onnx --html fusion.html --save-layers layers.json
  yolov7_trt fusion int8.plan --time 8x3x640x640 --save-layers int8.json
  yolov7_trt fusion layers.json --svg fusion.svg --json -
  yolov7_trt fusion yolov7.onnx --precision fp16 --shape 1x3x384x640

"""

from __future__ import annotations

import argparse
import collections
from collections.abc import Sequence
import json
from pathlib import Path
from typing import Any, TYPE_CHECKING

from yolov7_trt_ros.cli import (
    arguments,
    build_display,
    exit_status,
    interruption,
    output,
    output_paths,
)
from yolov7_trt_ros.cli.effects.given_options import refuse_without_effect
from yolov7_trt_ros.engine.options import DetectorOptions, PRECISIONS
from yolov7_trt_ros.errors import ModelFormatError, SettingError
from yolov7_trt_ros.home_folder import expand_home

if TYPE_CHECKING:
    from yolov7_trt_ros.onnx_tools.chains import Chain
    from yolov7_trt_ros.report.fusion.fusion_report import FusionReport
    from yolov7_trt_ros.report.fusion.timed_layers import TimedLayers

DEFAULT_SHAPE = '1x3x640x640'
_SLOWEST = 5
_MB = 1e6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    arguments.add_model_argument(parser, 'plan, JSON file of layers, ONNX file or embedded model')
    parser.add_argument(
        '--onnx', type=Path, metavar='FILE', help='the ONNX model that the engine was built from'
    )
    parser.add_argument(
        '--min-fused', type=float, metavar='SHARE',
        help='minimum share of fused chains, 0..1; below it the exit status is 1',
    )
    group = parser.add_argument_group('building an ONNX model')
    group.add_argument(
        '--precision', choices=PRECISIONS, default=DetectorOptions.precision,
        help='precision of the plan (default: %(default)s)',
    )
    group.add_argument(
        '--shape', default=DEFAULT_SHAPE, metavar='SHAPE',
        help='input shape, for models with a free input size (default: %(default)s)',
    )
    group = parser.add_argument_group('time')
    group.add_argument(
        '--time', metavar='SHAPE',
        help='run the plan at this shape, such as 8x3x640x640, and time each layer',
    )
    group.add_argument(
        '--profile', type=Path, metavar='FILE',
        help='layer times that trtexec --exportProfile wrote',
    )
    group = parser.add_argument_group('results')
    group.add_argument('--svg', type=Path, metavar='FILE', help='write a drawing of the layers')
    group.add_argument(
        '--html', type=Path, metavar='FILE', help='write a page with zoomable drawing and tables'
    )
    group.add_argument(
        '--save-layers', type=Path, metavar='FILE',
        help='write layers and chains as JSON, which this verb reads on any machine',
    )
    arguments.add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the verb; the exit status is 1 if too few chains are fused."""
    from yolov7_trt_ros.report.fusion.engine_layers import parse_layers
    from yolov7_trt_ros.report.fusion.fusion_report import make_report
    from yolov7_trt_ros.report.fusion.timed_layers import match_times

    args.model = arguments.chosen_model(args)
    if args.min_fused is not None and not 0 <= args.min_fused <= 1:
        raise SettingError(f'--min-fused must be within 0..1, got {args.min_fused}')
    if args.time and args.profile:
        raise SettingError('give only one of --time and --profile')
    _check_targets(args)
    with interruption.explain():  # while it builds or times
        record, onnx = _read_layers(args)
    if args.profile:
        record |= {'Times': _read_profile(args.profile)}
    chains = _find_chains(record, onnx)
    if args.save_layers is not None:  # first: it needed a GPU machine
        kept = record | {'Chains': [chain.to_record() for chain in chains]}
        _write(args.save_layers, json.dumps(kept, indent=1) + '\n')
    layers = parse_layers(record['Layers'])
    if layers and not any(layer.layer_type for layer in layers):
        output.warn('the layers are names only, types and precisions are unknown: build the '
                    'plan with yolov7_trt build, or trtexec --profilingVerbosity=detailed')
    times = match_times(record['Times'], layers) if isinstance(record.get('Times'), dict) else None
    report = make_report(layers, chains, _texts(record.get('Source')), times)
    _write_pictures(args, report)
    if args.json:
        output.write_json(args.json, report.to_record() | {'min_fused': args.min_fused})
    table = output.format_table(_rows(args.model, report))
    output.say(table, file=output.report_stream(args.json))
    return _check(report, args.min_fused)


def _check_targets(args: argparse.Namespace) -> None:
    read = [Path(args.model), args.onnx, args.profile]
    output_paths.check_json(args.json, read)
    for flag, form in (('svg', 'SVG'), ('html', 'HTML'), ('save_layers', 'JSON')):
        output_paths.check_file(f'--{flag.replace("_", "-")}', getattr(args, flag), form, read)
    output_paths.check_apart({
        '--json': args.json, '--svg': args.svg, '--html': args.html,
        '--save-layers': args.save_layers,
    })


def _read_layers(args: argparse.Namespace) -> tuple[dict[str, Any], Path | None]:
    """Return the layers as they are saved, and the ONNX model if one is known."""
    from yolov7_trt_ros.engine.file_kind import is_plan
    from yolov7_trt_ros.engine.model_files import find_model
    from yolov7_trt_ros.report.fusion.engine_layers import load_layers

    onnx = None if args.onnx is None else expand_home(args.onnx)
    path = expand_home(args.model)
    saved = path.suffix == '.json'
    model = path if saved else find_model(args.model)
    if args.time and (saved or not is_plan(model)):
        raise SettingError(
            f'--time needs a plan to run, not {model}; build one with yolov7_trt build'
        )
    if saved or is_plan(model):
        refuse_without_effect(args, ['--precision', '--shape'], 'where no ONNX model is built')
    if saved:
        return load_layers(path), onnx
    if not is_plan(model):
        return _build(model, args), onnx or model
    from yolov7_trt_ros.engine.layers.built_layers import inspect_plan

    record = inspect_plan(model).to_record()
    if args.time:
        record['Times'] = _measure(model, args.time)
    return record, onnx or _onnx_of(model)


def _measure(plan: Path, shape: str) -> dict[str, Any]:
    from yolov7_trt_ros.engine.layers.layer_times import time_layers
    from yolov7_trt_ros.engine.plan.shape_range import parse_shape

    return time_layers(plan, parse_shape(shape)).to_record()


def _read_profile(path: Path) -> dict[str, Any]:
    from yolov7_trt_ros.report.fusion.timed_layers import load_profile

    return load_profile(expand_home(path))


def _build(model: Path, args: argparse.Namespace) -> dict[str, Any]:
    from yolov7_trt_ros.engine.layers.built_layers import build_layers
    from yolov7_trt_ros.engine.plan.shape_range import parse_shape

    with build_display.BuildDisplay() as display:
        return build_layers(
            model, precision=args.precision, shape=parse_shape(args.shape), report=display.report,
            cancelled=display.cancelled,
        ).to_record()


def _onnx_of(plan: Path) -> Path | None:
    """Return the ONNX model that a plan's manifest names, if it is still that file."""
    from yolov7_trt_ros.engine.plan.plan_file import read_manifest
    from yolov7_trt_ros.plain_file import sha256_of

    manifest = read_manifest(plan)
    if manifest is None:
        return None
    onnx = Path(manifest.onnx)
    try:
        same = sha256_of(onnx) == manifest.onnx_sha256
    except (OSError, ModelFormatError):
        same = False
    if not same:
        output.warn(f'{onnx}, from which {plan} was built, is missing or was changed: no chains '
                    'are shown; give it with --onnx')
        return None
    return onnx


def _find_chains(record: dict[str, Any], onnx: Path | None) -> Sequence[Chain]:
    from yolov7_trt_ros.onnx_tools.chains import Chain, load_chains

    if onnx is not None:
        return load_chains(onnx)
    saved = record.get('Chains', [])
    if not isinstance(saved, list):
        raise ModelFormatError('"Chains" of the layers is not a list; save them again')
    return [Chain.from_record(chain) for chain in saved]


def _texts(source: object) -> dict[str, str]:
    if not isinstance(source, dict):
        return {}
    return {str(key): str(value) for key, value in source.items()}


def _write_pictures(args: argparse.Namespace, report: FusionReport) -> None:
    from yolov7_trt_ros.report.fusion.drawing import draw_svg
    from yolov7_trt_ros.report.fusion.page import as_page

    if args.svg is not None:
        _write(args.svg, draw_svg(report))
    if args.html is not None:
        _write(args.html, as_page(report))


def _write(path: Path, text: str) -> None:
    from yolov7_trt_ros.atomic_file import atomic_write

    atomic_write(expand_home(path), text.encode('utf-8', errors='replace'))


def _check(report: FusionReport, min_fused: float | None) -> int:
    if min_fused is None:
        return 0
    share = report.fused_share
    if share is None:
        raise SettingError(
            '--min-fused needs the chains of the model, and none are known: give the ONNX '
            'model that the engine was built from with --onnx'
        )
    if share >= min_fused:
        return 0
    output.warn(f'{share:.3f} of the chains are fused, {min_fused} were required')
    return exit_status.FAILURE


def _rows(model: str, report: FusionReport) -> list[tuple[str, str]]:
    from yolov7_trt_ros.report.fusion.fusion_report import describe_source

    rows = [('model', model)]
    if source := describe_source(report.source):
        rows.append(('engine', source))
    rows += _chain_rows(report)
    rows += [
        ('layers', f'{len(report.layers)}: ' + _counted(report.kinds)),
        ('precisions', _counted(report.precisions) + ' (reformats not counted)'),
        ('reformats', _reformats(report)),
        ('traffic', _traffic(report)),
    ]
    return rows if report.times is None else rows + _time_rows(report.times)


def _time_rows(times: TimedLayers) -> list[tuple[str, str]]:
    from yolov7_trt_ros.report.fusion.timed_layers import describe_run

    total = times.total_ms or 1.0
    rows = [('time', describe_run(times))]
    rows += [
        (f'  {label}', f'{time_ms:.3f} ms ({time_ms / total:.1%}), {count} layers')
        for label, (count, time_ms) in times.by_label().items()
    ]
    rows += [('  slowest', f'{each.time_ms:.3f} ms: {each.name}, {each.label}')
             for each in times.slowest(_SLOWEST)]
    return rows


def _chain_rows(report: FusionReport) -> list[tuple[str, str]]:
    from yolov7_trt_ros.report.fusion.fusion_report import named_chains

    share = report.fused_share
    if share is None:
        return [('chains', 'none known; give the ONNX model with --onnx')]
    rows = [('fused', f'{report.fused} of {len(report.fates)} chains ({share:.3f})')]
    rows += [(f'  {label}', f'{fused} of {total}')
             for label, (fused, total) in report.by_reader().items() if total]
    rows += [('  not fused', f'{len(fates)}: {reason}: {named_chains(fates)}')
             for reason, fates in report.unfused().items()]
    return rows


def _reformats(report: FusionReport) -> str:
    from yolov7_trt_ros.report.fusion.fusion_report import describe_change

    changes = collections.Counter(describe_change(layer) or 'unknown'
                                  for layer in report.reformats)
    listed = '; '.join(f'{count} x {change}' for change, count in changes.most_common())
    return f'{len(report.reformats)}' + (f': {listed}' if listed else '')


def _traffic(report: FusionReport) -> str:
    moved = report.traffic()
    if not moved:
        return 'unknown'
    parts = ', '.join(f'{size / _MB:.1f} {kind}' for kind, size in moved.items() if size)
    return f'{sum(moved.values()) / _MB:.1f} MB read and written, without weights: {parts}'


def _counted(counts: dict[str, int]) -> str:
    return ', '.join(f'{count} {name}' for name, count in counts.items())
