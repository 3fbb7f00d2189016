"""
Build a TensorRT plan from an ONNX model, for this GPU.

A manifest, PLAN.json, is written beside the plan: its source, versions, and what it fits. Models
with a free input size accept 1x3x320x320 to 4x3x1280x1280 and are tuned for 1x3x640x640, unless
--min, --opt and --max are given; repeat all three for several profiles. With --opt alone the plan
accepts that one shape.

With --dla-core N --report nothing is built: it lists the layers that this accelerator would leave
to the GPU, what in the model causes it, and the number of tensors that go between both. With
--max-transitions, a build or report with more of them fails. Without a DLA this is an estimate
from NVIDIA's documentation. None of it was tried on a DLA. Jetson Thor has none.

int8 needs a model with Q/DQ nodes. TensorRT needs a GPU and builds for that GPU; TensorRT-RTX
also builds without a GPU, then for every one it supports. Ctrl-C stops a build; TensorRT 8 only
if pressed twice.

Examples
--------
  yolov7_trt build yolov7-tiny.onnx -o tiny.plan
  yolov7_trt build v7.onnx -o v7.plan --min 1x3x320x320 --opt 1x3x640x640 --max 8x3x1280x1280
  yolov7_trt build yolov7.onnx -o yolov7.plan --opt-level 5 --timing-cache timings.cache
  yolov7_trt build yolov7_qdq.onnx -o yolov7.plan --precision mixed --keep-fp32 'model[.]105'
  yolov7_trt build yolov7-tiny.onnx --dla-core 0 --report --opt 1x3x640x640
  yolov7_trt build yolov7.onnx --saveEngine=yolov7.engine --fp16 --optShapes=images:1x3x384x640

"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from yolov7_trt_ros.cli import arguments, build_display, interruption, output, output_paths
from yolov7_trt_ros.cli.work.output_file import OutputFile
from yolov7_trt_ros.engine.options import PRECISIONS
from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.home_folder import expand_home

if TYPE_CHECKING:
    from yolov7_trt_ros.engine.building.build_options import BuildOptions
    from yolov7_trt_ros.engine.plan.shape_range import ShapeRange

_MOST_DLA_CORE = 1  # no Jetson has more than two


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    arguments.add_model_argument(parser, 'ONNX file of any YOLOv7 export, or an embedded model')
    parser.add_argument(
        '--output', '-o', '--saveEngine', type=Path, metavar='PLAN',
        help='file to write, ending in .plan or .engine; not needed with --report',
    )
    _add_precision_arguments(parser)
    group = parser.add_argument_group('input shapes, batch x 3 x height x width')
    for name, meaning in (('min', 'smallest'), ('opt', 'tuned for'), ('max', 'largest')):
        group.add_argument(
            f'--{name}', f'--{name}Shapes', dest=f'{name}_shapes', action='append', default=[],
            metavar='SHAPE', help=f'{meaning}; also as images:1x3x640x640',
        )
    _add_builder_arguments(parser)
    group = parser.add_argument_group('model')
    arguments.add_naming_arguments(group)
    group.add_argument(
        '--keep-nms-plugin', action='store_true',
        help='keep EfficientNMS_TRT with its fixed thresholds',
    )
    group.add_argument(
        '--keep-grid', action='store_true',
        help='keep the decoding, for programs that expect the grid; ours decodes raw maps',
    )
    arguments.add_json_argument(parser)


def _add_precision_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('precision')
    group.add_argument(
        '--precision', choices=PRECISIONS, metavar='P',
        help='fp32, fp16 (default), int8, or mixed: int8 where the model has Q/DQ, fp16 elsewhere',
    )
    group.add_argument('--fp16', action='store_true', help='as --precision fp16')
    group.add_argument(
        '--int8', action='store_true', help='as --precision int8; with --fp16 as mixed'
    )
    group.add_argument('--best', action='store_true', help='as --precision mixed')
    group.add_argument(
        '--keep-fp32', metavar='REGEX',
        help='keep nodes whose names match in float32, such as the heads',
    )


def _add_builder_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('builder')
    group.add_argument(
        '--workspace-mib', type=int, metavar='MIB', help='maximum GPU memory of one layer'
    )
    group.add_argument(
        '--opt-level', type=int, metavar='0..5',
        help='effort: lower builds faster, higher may run faster',
    )
    group.add_argument(
        '--timing-cache', type=Path, metavar='FILE',
        help='file that keeps measurements for the next build (not for TensorRT-RTX)',
    )
    group.add_argument(
        '--dla-core', type=arguments.whole_number(0, _MOST_DLA_CORE), metavar='N',
        help=f'build for this deep learning accelerator, 0..{_MOST_DLA_CORE}; other layers run '
        'on the GPU',
    )
    group.add_argument(
        '--report', action='store_true',
        help='list the layers that would not run on the DLA, and why; build nothing',
    )
    group.add_argument(
        '--max-transitions', type=int, metavar='N',
        help='maximum number of tensors that go between DLA and GPU',
    )
    for flag, meaning in (
        ('--refittable', 'weights can be replaced later (see refit)'),
        ('--version-compatible', 'later versions of TensorRT can load it too'),
        ('--hardware-compatible', 'every GPU from Ampere on can run it'),
    ):
        group.add_argument(flag, action='store_true', help=meaning)


def run(args: argparse.Namespace) -> int:
    """Run the verb."""
    from yolov7_trt_ros.engine.file_kind import is_plan, PLAN_SUFFIXES
    from yolov7_trt_ros.engine.model_files import find_onnx_model

    options = build_options(args)
    _check_dla_arguments(args)
    if args.report:
        return _report(args, options)
    if args.output is None:
        raise SettingError('give the file to write: -o PLAN')
    plan = expand_home(args.output)
    if not is_plan(plan):
        raise SettingError(f'--output must end in {" or ".join(PLAN_SUFFIXES)}, got {plan}')
    args.model = arguments.chosen_model(args)
    onnx = find_onnx_model(args.model)
    output_paths.check_file('--output', plan, 'plan', [onnx])
    output_paths.check_file('--timing-cache', options.timing_cache, 'timing cache', [onnx, plan])
    output_paths.check_json(args.json, [onnx, plan, options.timing_cache], made=[plan.parent])
    with interruption.explain(OutputFile(plan).describe):
        return _build(args, onnx, plan, options)


def _build(args: argparse.Namespace, onnx: Path, plan: Path, options: BuildOptions) -> int:
    from yolov7_trt_ros.engine.building.builder import build_plan, find_build_target
    from yolov7_trt_ros.engine.trt.api import TrtApi

    api = TrtApi.load()
    machine = find_build_target(api)
    with build_display.BuildDisplay() as display:
        manifest = build_plan(
            onnx, plan, options, api=api, machine=machine, report=display.report,
            cancelled=display.cancelled, max_transitions=args.max_transitions,
        )
    output.warn_of_doubts(manifest.spec)
    with output.report_last(output.format_table(output.manifest_rows(plan, manifest)), args.json):
        if args.json:
            output.write_json(args.json, {'file': str(plan), **manifest.to_record()})
    return 0


def _check_dla_arguments(args: argparse.Namespace) -> None:
    asked = [
        flag for flag, is_asked in (
            ('--report', args.report), ('--max-transitions', args.max_transitions is not None),
        ) if is_asked
    ]
    if asked and args.dla_core is None:
        raise SettingError(f'{asked[0]} is for a DLA: give --dla-core too')
    arguments.check_at_least('--max-transitions', args.max_transitions, 0)
    if args.report and args.output is not None:
        raise SettingError('--report builds nothing: leave out --output')


def _report(args: argparse.Namespace, options: BuildOptions) -> int:
    """Print which layers a DLA would run."""
    from yolov7_trt_ros.engine.building.builder import report_dla
    from yolov7_trt_ros.engine.model_files import find_onnx_model
    from yolov7_trt_ros.engine.trt.api import TrtApi

    onnx = find_onnx_model(arguments.chosen_model(args))
    output_paths.check_json(args.json, [onnx])
    report = report_dla(onnx, options, api=TrtApi.load())
    with output.report_last(output.format_table(report.rows()), args.json):
        if args.json:
            output.write_json(args.json, report.to_record())
    report.check(args.max_transitions)
    return 0


def build_options(args: argparse.Namespace) -> BuildOptions:
    """
    Return the options of the arguments.

    Raises
    ------
    SettingError
        A value is out of its range, or arguments contradict each other.

    """
    from yolov7_trt_ros.engine.building.build_options import BuildOptions

    return BuildOptions(
        precision=_precision(args),
        profiles=_profiles(args),
        workspace_mib=args.workspace_mib,
        opt_level=args.opt_level,
        timing_cache=None if args.timing_cache is None else expand_home(args.timing_cache),
        dla_core=args.dla_core,
        refittable=args.refittable,
        keep_fp32=args.keep_fp32,
        version_compatible=args.version_compatible,
        hardware_compatible=args.hardware_compatible,
        class_names=args.class_names,
        anchors=args.anchors,
        keep_nms_plugin=args.keep_nms_plugin,
        keep_grid=args.keep_grid,
    )


def _precision(args: argparse.Namespace) -> str:
    asked = set() if args.precision is None else {args.precision}
    if args.best or (args.fp16 and args.int8):
        asked.add('mixed')
    elif args.fp16 or args.int8:
        asked.add('fp16' if args.fp16 else 'int8')
    if len(asked) > 1:
        raise SettingError(f'choose one precision, not {" and ".join(sorted(asked))}')
    return asked.pop() if asked else 'fp16'


def _profiles(args: argparse.Namespace) -> tuple[ShapeRange, ...]:
    from yolov7_trt_ros.engine.plan.shape_range import parse_shape, ShapeRange

    given = {
        name: [parse_shape(text) for text in getattr(args, f'{name}_shapes')]
        for name in ('min', 'opt', 'max')
    }
    if not any(given.values()):
        return ()
    best = given['opt'] or given['max']
    ranges = {'min': given['min'] or best, 'opt': best, 'max': given['max'] or best}
    counts = {name: len(shapes) for name, shapes in ranges.items()}
    if len(set(counts.values())) > 1:
        raise SettingError(
            'each profile needs its --min, --opt and --max: '
            + ', '.join(f'{count} x --{name}' for name, count in counts.items())
        )
    return tuple(ShapeRange(*shapes) for shapes in zip(*ranges.values(), strict=True))
