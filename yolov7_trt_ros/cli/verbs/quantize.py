"""
Quantise an ONNX model to int8, or make it mixed float16.

The int8 model has explicit Q/DQ nodes, which ONNX Runtime runs and TensorRT builds (`build
--precision mixed`). Activation ranges are calibrated on pictures like those that the robot sees:
a folder, a video, a bag, or an .npy array (N, 3, H, W), RGB, uint8 or 0..1. The heads and the
nodes that match --keep stay float.

Each result is scored on held-out pictures: by AP50 if --annotations are given, otherwise by the
agreement of its detections with those of the float model. --method auto tries all methods, then
keeps the most sensitive Conv nodes of the best one float, and writes the winner.

--mixed needs no calibration: it writes a model with a float16 backbone and float32 heads, which
`build --precision fp16` leaves unchanged.

Examples
--------
  yolov7_trt quantize yolov7-tiny.onnx --images drive.mcap -o yolov7-tiny.int8.onnx
  yolov7_trt quantize v7.onnx --images val2017 --annotations instances.json -o v7.int8.onnx
  yolov7_trt quantize v7.onnx --images calib_data.npy --method mse --score-count 0 -o q.onnx
  yolov7_trt quantize v7.onnx --images pictures --keep 'row(0|1)[.]' -o v7.int8.onnx
  yolov7_trt quantize yolov7-tiny.onnx --mixed -o yolov7-tiny.mixed.onnx

"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, TYPE_CHECKING

from yolov7_trt_ros.cli import arguments, interruption, output, output_paths
from yolov7_trt_ros.cli.effects import model_effects
from yolov7_trt_ros.cli.effects.given_options import refuse_without_effect
from yolov7_trt_ros.cli.model_steps import quantize_steps
from yolov7_trt_ros.cli.work.output_file import OutputFile
from yolov7_trt_ros.core.plain_text import listed
from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.home_folder import expand_home

if TYPE_CHECKING:
    from yolov7_trt_ros.cli.model_steps.calibration_pictures import PictureSets
    from yolov7_trt_ros.cli.model_steps.model_scores import ModelScore
    from yolov7_trt_ros.cli.model_steps.quantize_steps import QuantizeOptions
    from yolov7_trt_ros.model.quantize.tournament import Tournament
    from yolov7_trt_ros.onnx_tools.graph import FloatModel

DEFAULT_COUNT = 200
DEFAULT_SCORE_COUNT = 100
_SHOWN_CONVS = 8
_OF_CALIBRATION = (
    '--count', '--score-count', '--class-names', '--anchors', '--size', '--weights', '--threads',
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    arguments.add_model_argument(
        parser, 'float32 ONNX file of any YOLOv7 export, or an embedded model'
    )
    parser.add_argument(
        '--output', '-o', required=True, type=Path, metavar='ONNX', help='file to write'
    )
    parser.add_argument(
        '--images', type=Path, metavar='PATH',
        help='pictures to calibrate on: folder, video, bag, or .npy',
    )
    parser.add_argument(
        '--method', choices=('auto', *quantize_steps.METHODS), default='auto',
        help='calibration method of activation ranges (default: %(default)s, the best of all)',
    )
    parser.add_argument(
        '--mixed', action='store_true', help='float16 backbone and float32 heads instead of int8'
    )
    parser.add_argument(
        '--keep', metavar='REGEX', help='Conv nodes whose names match stay float as well'
    )
    _add_picture_arguments(parser)
    group = parser.add_argument_group('model')
    arguments.add_naming_arguments(group)
    arguments.add_size_argument(group)
    group.add_argument(
        '--weights', choices=('max', 'mse'), default='max',
        help='how the ranges of weights are chosen (default: %(default)s)',
    )
    arguments.add_threads_argument(group)
    arguments.add_json_argument(parser)


def _add_picture_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('pictures')
    group.add_argument(
        '--count', type=int, default=DEFAULT_COUNT, metavar='N',
        help='maximum number of calibration pictures, spread over the source '
        '(default: %(default)s)',
    )
    group.add_argument(
        '--score-count', type=int, default=DEFAULT_SCORE_COUNT, metavar='N',
        help='maximum number of held-out pictures for scores; 0 for no scores '
        '(default: %(default)s)',
    )
    group.add_argument(
        '--annotations', type=Path, metavar='FILE',
        help='labels of the pictures in COCO instances format',
    )


def run(args: argparse.Namespace) -> int:
    """Run the verb; the exit status is 1 if a picture could not be used."""
    from yolov7_trt_ros.engine.model_files import find_onnx_model

    _check(args)
    args.model = arguments.chosen_model(args)
    path = find_onnx_model(args.model)
    read = [path, args.images, args.annotations]
    output_paths.check_file('--output', args.output, 'ONNX', read)
    output_paths.check_json(args.json, [*read, args.output], made=[args.output.parent])
    with interruption.explain(OutputFile(args.output).describe):
        return _run(args, path)


def _run(args: argparse.Namespace, path: Path) -> int:
    model = quantize_steps.load_model(path)
    return _run_mixed(args, model) if args.mixed else _run_int8(args, path, model)


def _check(args: argparse.Namespace) -> None:
    if args.output.suffix.lower() != '.onnx':
        raise SettingError(f'--output must end in .onnx, got {args.output}')
    if args.mixed:
        if args.method != 'auto' or args.annotations is not None or args.images is not None:
            raise SettingError(
                '--mixed needs no calibration: leave out --images, --annotations and --method'
            )
        refuse_without_effect(args, _OF_CALIBRATION, 'with --mixed, which needs no calibration')
        return
    if args.images is None:
        raise SettingError('int8 needs --images to calibrate on; --mixed does not')
    if args.method == 'auto' and args.score_count == 0:
        raise SettingError(
            '--method auto needs scores: choose a method, or leave out --score-count'
        )
    if args.score_count == 0:
        refuse_without_effect(args, ['--annotations'], 'with --score-count 0')


def _run_mixed(args: argparse.Namespace, model: FloatModel) -> int:
    from yolov7_trt_ros.atomic_file import atomic_write
    from yolov7_trt_ros.model.quantize.qdq import describe
    from yolov7_trt_ros.onnx_tools.half_precision import make_mixed

    kept = quantize_steps.kept_convs(model, args.keep)
    mixed = make_mixed(model, kept)
    describe(mixed, '{"method": "float16 backbone, float32 heads"}')
    data = mixed.SerializeToString()
    atomic_write(expand_home(args.output), data)
    rows = [
        ('written', f'{args.output} ({len(data) / 1e6:.1f} MB)'),
        ('float16', f'{len(model.convs) - len(kept)} of {len(model.convs)} Conv'),
        ('float32', listed(kept, _SHOWN_CONVS)),
    ]
    with output.report_last(output.format_table(rows), args.json):
        if args.json:
            output.write_json(args.json, {
                'file': str(args.output), 'size_bytes': len(data), 'method': 'mixed',
                'float_convs': list(kept), 'versions': output.installed_versions(),
            })
    return 0


def _run_int8(args: argparse.Namespace, path: Path, model: FloatModel) -> int:
    from yolov7_trt_ros.atomic_file import atomic_write
    from yolov7_trt_ros.cli.model_steps.calibration_pictures import open_pictures

    options = _options(args)
    quantize_steps.kept_convs(model, args.keep)  # raises for a bad pattern before any work
    pictures = open_pictures(args.images, count=args.count, score_count=args.score_count)
    score = None
    if args.score_count:
        score = quantize_steps.choose_score(pictures.scoring, args.annotations, options)
    stream = output.report_stream(args.json)
    tournament = quantize_steps.quantize_model(
        path, model, pictures, score, options,
        lambda text: print(f'... {text}', file=stream, flush=True),
    )
    used = len(pictures.calibration) - pictures.calibration.failed
    data = quantize_steps.serialise_winner(tournament, used, options.weight_range)
    atomic_write(expand_home(args.output), data)
    rows = [
        ('written', f'{args.output} ({len(data) / 1e6:.1f} MB)'),
        ('size', 'as in float32: weights are float32 before their Q/DQ nodes, and int8 in a plan '
         'built from it'),
        ('float', listed(tournament.winner.kept, _SHOWN_CONVS)),
    ]
    tables = [] if score is None else [_table(tournament, model, pictures, score)]
    with output.report_last('\n'.join([*tables, output.format_table(rows)]), args.json):
        if args.json:
            output.write_json(args.json, {
                'file': str(args.output), 'size_bytes': len(data),
                **_record(tournament, pictures, score),
                'versions': output.installed_versions(),
            })
    return 1 if pictures.calibration.failed or pictures.scoring.failed else 0


def _options(args: argparse.Namespace) -> QuantizeOptions:
    return quantize_steps.QuantizeOptions(
        method=args.method, keep=args.keep, weight_range=args.weights, network_size=args.size,
        asked_size=model_effects.asked_size(args), threads=args.threads,
        class_names=args.class_names, anchors=args.anchors,
    )


def _table(
    tournament: Tournament, model: FloatModel, pictures: PictureSets, score: ModelScore
) -> str:
    used = len(pictures.calibration) - pictures.calibration.failed
    rows = list(quantize_steps.tournament_rows(tournament, len(model.convs), score.measure))
    relation = 'no picture in both' if pictures.held_out else 'the same one, which is optimistic'
    rows.append(('pictures', f'{used} calibrated, {score.used} scored: {relation}'))
    if tournament.sensitivity:
        worst = [f'{name} {error:.2g}' for name, error in tournament.sensitivity[:_SHOWN_CONVS]]
        rows.append(('most sensitive', ', '.join(worst)))
    return output.format_table(rows)


def _record(
    tournament: Tournament, pictures: PictureSets, score: ModelScore | None
) -> dict[str, Any]:
    record: dict[str, Any] = {
        'winner': quantize_steps.entry_record(tournament.winner),
        'calibrated': len(pictures.calibration) - pictures.calibration.failed,
        'scored': score.used if score else 0,
        'held_out': pictures.held_out,
        'undecodable': pictures.calibration.failed + pictures.scoring.failed,
        'measure': score.measure if score else None,
    }
    if score is not None:
        record['float_score'] = tournament.reference
        record['entries'] = [quantize_steps.entry_record(each) for each in tournament.entries]
        record['sensitivity'] = [
            {'conv': name, 'error': error} for name, error in tournament.sensitivity
        ]
    return record
