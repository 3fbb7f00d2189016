"""
Export a PyTorch checkpoint of YOLOv7 as ONNX.

Takes the official checkpoints (yolov7-tiny, yolov7, yolov7x, w6, e6, d6, e6e; training and deploy
forms), plain state_dicts and our own network files. Code in a checkpoint is never run: the
checkpoint is refused. Branches are merged, implicit vectors and batch norms folded, auxiliary
maps dropped.

What was found about the checkpoint is printed with its source: table of layers, activation,
averaged weights, anchors, class names. A plain state_dict does not store its activation: the
published one is assumed, unless --table or --activation is given.

Batch, height and width are free unless --dynamic or --static is given. The ONNX model is compared
with the network on three inputs before it is written; nothing is written if they differ by more
than 0.0001 (relative). Networks that amplify rounding are compared in float64 and layer by layer.

An ONNX file is checked and copied with the sizes that it really supports, because the official
exporter declares free sizes for models whose grid has a fixed size.

Examples
--------
  yolov7_trt export yolov7.pt -o yolov7.onnx
  yolov7_trt export yolov7-tiny.pt -o tiny.onnx --static 1x3x384x640 --opset 13
  yolov7_trt export my_state_dict.pt -o mine.onnx --table yolov7-tiny-silu
  yolov7_trt export yolov7.pt -o yolov7.onnx --dynamic batch --static 1x3x640x640
  yolov7_trt export yolov7.pt -o yolov7.onnx --form end2end --nms trt --score-threshold 0.3
  yolov7_trt export downloaded.onnx -o checked.onnx

"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, TYPE_CHECKING

from yolov7_trt_ros.cli import arguments, interruption, output, output_paths
from yolov7_trt_ros.cli.model_steps import checkpoints
from yolov7_trt_ros.cli.work.output_file import OutputFile
from yolov7_trt_ros.core.defaults import (
    DEFAULT_IOU_THRESHOLD,
    DEFAULT_MAX_DETECTIONS,
    DEFAULT_SCORE_THRESHOLD,
)
from yolov7_trt_ros.errors import MissingDependencyError, SettingError
from yolov7_trt_ros.home_folder import expand_home
from yolov7_trt_ros.model.export.options import (
    DEFAULT_OPSET,
    DEFAULT_SHAPE,
    DYNAMIC,
    FORMS,
    LEAST_OPSET,
    MOST_OPSET,
    NMS_KINDS,
)

if TYPE_CHECKING:
    from yolov7_trt_ros.model.export.verify import ExportDifference
    from yolov7_trt_ros.model.network.architecture import Network

_LARGE_BYTES = 2e9


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    arguments.add_model_argument(parser, 'checkpoint (.pt) or ONNX file (.onnx)')
    parser.add_argument(
        '--output', '-o', required=True, type=Path, metavar='ONNX', help='file to write'
    )
    parser.add_argument(
        '--opset', type=int, metavar='11..20',
        help=f'ONNX operator set (default: {DEFAULT_OPSET})',
    )
    parser.add_argument(
        '--dynamic', metavar='batch,hw',
        help='free dimensions: batch, hw (height and width), or both (default: both, unless '
        '--static is given)',
    )
    parser.add_argument(
        '--static', metavar='1x3x640x640', help='fixed sizes, for dimensions not in --dynamic'
    )
    parser.add_argument(
        '--form', choices=FORMS,
        help='grid: decoded rows (default); raw: maps of logits; end2end: with NMS inside',
    )
    parser.add_argument(
        '--half-weights', action='store_true',
        help='store weights rounded to float16: half the file size; computation stays float32',
    )
    arguments.add_naming_arguments(parser)
    arguments.add_checkpoint_arguments(parser)
    _add_nms_arguments(parser)
    arguments.add_json_argument(parser)


def _add_nms_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('end2end: frozen into the model')
    group.add_argument(
        '--nms', choices=NMS_KINDS,
        help="trt: TensorRT's plugin EfficientNMS_TRT; onnx: the standard NonMaxSuppression "
        f'(default: {NMS_KINDS[0]})',
    )
    arguments.add_threshold_arguments(
        group, per_image='maximum number of detections per image, with --nms onnx per class'
    )


def run(args: argparse.Namespace) -> int:
    """Run the verb."""
    from yolov7_trt_ros.engine.file_kind import check_kind, CHECKPOINT, ONNX

    model, target = expand_home(arguments.chosen_model(args)), expand_home(args.output)
    if target.suffix.lower() != '.onnx':
        raise SettingError(f'--output must end in .onnx, got {target}')
    if args.opset is not None and not LEAST_OPSET <= args.opset <= MOST_OPSET:
        raise SettingError(
            f'--opset must be within {LEAST_OPSET}..{MOST_OPSET}, got {args.opset}'
        )
    if args.form != 'end2end':
        _refuse_frozen(args)
    kind = check_kind(model, CHECKPOINT, ONNX) if model.exists() else None
    output_paths.check_file('--output', target, 'ONNX', [model])
    output_paths.check_json(args.json, [model, target], made=[target.parent])
    with interruption.explain(OutputFile(target).describe):
        named_onnx = kind is None and model.suffix.lower() == '.onnx'
        return _run(args, model, target, is_onnx=kind == ONNX or named_onnx)


def _refuse_frozen(args: argparse.Namespace) -> None:
    """Refuse what only a model with NMS inside keeps; elsewhere the user of the model sets it."""
    for option, given, default in (
        ('--nms', args.nms, None),
        ('--score-threshold', args.score_threshold, DEFAULT_SCORE_THRESHOLD),
        ('--iou-threshold', args.iou_threshold, DEFAULT_IOU_THRESHOLD),
        ('--max-detections', args.max_detections, DEFAULT_MAX_DETECTIONS),
    ):
        if given != default:
            raise SettingError(f'{option} has no effect without --form end2end')


def _run(args: argparse.Namespace, model: Path, target: Path, *, is_onnx: bool) -> int:
    try:
        record = (_copy if is_onnx else _export)(args, model, target)
    except ImportError as exc:
        raise MissingDependencyError(
            f'export needs torch, onnx and onnxruntime, and {exc.name} cannot be imported; '
            'install them with: pip install torch onnx onnxruntime'
        ) from exc
    rows = [
        (name.replace('_', ' '), f'{value:.1e}' if isinstance(value, float) else str(value))
        for name, value in record.items() if not isinstance(value, (list, dict))
    ]
    with output.report_last(output.format_table(rows), args.json):
        if args.json:
            output.write_json(args.json, record)
    return 0


def chosen_sizes(
    args: argparse.Namespace,
) -> tuple[frozenset[str], tuple[int, int, int, int]]:
    """
    Return the free dimensions, and the sizes of the fixed ones.

    Raises
    ------
    SettingError
        `--dynamic` names something else than batch and hw, or `--static` is no shape.

    """
    from yolov7_trt_ros.engine.plan.shape_range import parse_shape

    shape = DEFAULT_SHAPE if args.static is None else parse_shape(args.static)
    if args.dynamic is None:
        return frozenset(() if args.static else DYNAMIC), shape
    names = frozenset(name.strip() for name in args.dynamic.split(',') if name.strip())
    if names - set(DYNAMIC):
        raise SettingError(f'--dynamic takes batch, hw or batch,hw, got {args.dynamic!r}')
    return names, shape


def _export(args: argparse.Namespace, model: Path, target: Path) -> dict[str, Any]:
    """Export a checkpoint; return the record of it."""
    from yolov7_trt_ros.model.export.exporter import estimate_memory_bytes, export_onnx
    from yolov7_trt_ros.model.export.options import NmsSettings

    dynamic, shape = chosen_sizes(args)
    nms = args.nms or NMS_KINDS[0]
    settings = NmsSettings(args.score_threshold, args.iou_threshold, args.max_detections)
    opset = DEFAULT_OPSET if args.opset is None else args.opset
    stream = output.report_stream(args.json)
    loaded = checkpoints.load(
        model, checkpoints.CheckpointOptions.of(args),
        lambda text: print(text, file=stream, flush=True),
    )
    network, form = loaded.network, args.form or FORMS[0]
    memory_bytes = estimate_memory_bytes(network, form)
    if memory_bytes > _LARGE_BYTES:
        print(f'needs about {memory_bytes / 1e9:.1f} GB of memory', file=stream, flush=True)
    results = export_onnx(
        network, target, form=form, nms=nms, dynamic=dynamic, shape=shape,
        opset=opset, nms_settings=settings, half_weights=args.half_weights,
    )
    _warn_of_rounding(results)
    return {
        'checkpoint': checkpoints.facts_record(loaded.facts),
        'onnx': str(target),
        'size': f'{target.stat().st_size / 1e6:.1f} MB, opset {opset}',
        'form': f'{form} ({nms})' if form == 'end2end' else form,
        'network': _describe(network),
        'free': ', '.join(sorted(dynamic)) or 'nothing',
        'compared_with_PyTorch': _as_text(results),
        'worst_relative_error': max(result.relative_error for result in results),
        'comparisons': [
            {'shape': list(result.shape), 'output': result.output,
             'relative_error': result.relative_error, 'rounding_of_pytorch': result.rounding,
             'worst_layer': result.layers}
            for result in results
        ],
    }


def _warn_of_rounding(results: list[ExportDifference]) -> None:
    """Warn of a network whose outputs show little, though each of its layers is right."""
    alone = [result for result in results if result.layers is not None]
    if alone:
        output.warn(
            f'the outputs of this network say little about the export ({alone[0]}): it '
            'amplifies rounding, or its outputs are saturated; each layer was compared by itself '
            'and is right. Results can differ by as much between machines'
        )


def _describe(network: Network) -> str:
    weights = sum(value.numel() for value in network.parameters())
    strides = ', '.join(map(str, network.strides))
    return (f'{len(network.rows)} layers, {weights / 1e6:.2f} M weights, '
            f'{network.num_classes} classes, strides {strides}')


def _as_text(results: list[ExportDifference]) -> str:
    return '; '.join(map(str, results))


def _copy(args: argparse.Namespace, model: Path, target: Path) -> dict[str, Any]:
    """Check and copy an ONNX file; return the record of it."""
    from yolov7_trt_ros.core.forms.anchors import choose_anchors
    from yolov7_trt_ros.model.export.onnx_input import copy_onnx

    if args.table is not None or args.activation is not None:
        raise SettingError('--table and --activation are for checkpoints, not for ONNX files')
    if args.half_weights:
        raise SettingError('--half-weights is for checkpoints; an ONNX file keeps its weights')
    if args.class_names != 'auto':
        raise SettingError(
            '--class-names is for checkpoints; give it to the verb that uses this ONNX file'
        )
    if args.opset is not None:
        raise SettingError(
            'an ONNX file keeps its opset; for another one, export the checkpoint it was made from'
        )
    dynamic, shape = chosen_sizes(args)
    asked = args.dynamic is not None or args.static is not None
    copy = copy_onnx(
        model, target, form=args.form, dynamic=dynamic if asked else None, shape=shape,
        must_fit=args.static is not None, anchors=choose_anchors(args.anchors),
    )
    output.warn_of_doubts(copy.spec)
    if copy.baked_hw is not None:
        output.warn(
            f'{model} declares height and width free, but its grid is fixed to '
            f'{copy.baked_hw[0]}x{copy.baked_hw[1]}: so is the copy'
        )
    return {
        'onnx': str(target),
        'size': f'{target.stat().st_size / 1e6:.1f} MB, opset {copy.opset}',
        'form': copy.form,
        'input': str(copy.spec.image),
        'baked_grid': copy.baked_hw is not None,
    }
