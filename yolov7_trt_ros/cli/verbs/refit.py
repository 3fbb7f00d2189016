"""
Put new weights into a copy of a TensorRT plan, without a build.

PLAN was built here with --refittable, and MODEL differs from its source only in weights, such as
after further training. Another layer, shape or int8 scale is refused; build a plan then. The
outputs of the new plan are compared with those of ONNX Runtime before it is written: on --images,
or on noise without them.

A node that serves a refittable plan does the same when its model is set to such a model.

Examples
--------
  yolov7_trt build v7.onnx -o v7.plan --refittable
  yolov7_trt refit v7.plan v7_finetuned.onnx -o v8.plan --images pictures

"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from yolov7_trt_ros.cli import build_display, interruption, output, output_paths
from yolov7_trt_ros.cli.arguments import (
    add_json_argument,
    add_model_argument,
    check_at_least,
    chosen_model,
)
from yolov7_trt_ros.cli.effects.given_options import refuse_without_effect
from yolov7_trt_ros.cli.work.output_file import OutputFile
from yolov7_trt_ros.errors import InputError, SettingError
from yolov7_trt_ros.home_folder import expand_home

if TYPE_CHECKING:
    from yolov7_trt_ros.core.image import ImageView

DEFAULT_COUNT = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument(
        'plan', type=Path, metavar='PLAN', help='the refittable plan; it is not changed'
    )
    add_model_argument(parser, 'ONNX file with the new weights')
    parser.add_argument(
        '--output', '-o', required=True, type=Path, metavar='PLAN',
        help='file to write, ending in .plan or .engine',
    )
    parser.add_argument(
        '--images', type=Path, metavar='PATH',
        help='images to compare outputs on: a picture, folder, video or bag',
    )
    parser.add_argument(
        '--count', type=int, default=DEFAULT_COUNT, metavar='N',
        help='maximum number of images to compare (default: %(default)s)',
    )
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the verb."""
    from yolov7_trt_ros.engine.file_kind import is_plan, PLAN_SUFFIXES
    from yolov7_trt_ros.engine.model_files import find_onnx_model

    plan, written = expand_home(args.plan), expand_home(args.output)
    for flag, path in (('PLAN', plan), ('--output', written)):
        if not is_plan(path):
            raise SettingError(f'{flag} must end in {" or ".join(PLAN_SUFFIXES)}, got {path}')
    onnx = find_onnx_model(chosen_model(args))
    output_paths.check_file('--output', written, 'plan', [plan, onnx, args.images])
    output_paths.check_json(args.json, [plan, onnx, written], made=[written.parent])
    images = read_images(args.images, args.count)
    if args.images is None:
        refuse_without_effect(args, ['--count'], 'without --images')
    with interruption.explain(OutputFile(written).describe):
        return _refit(args, plan, onnx, written, images)


def _refit(
    args: argparse.Namespace, plan: Path, onnx: Path, written: Path, images: list[ImageView]
) -> int:
    from yolov7_trt_ros.engine.building.refit import refit_plan
    from yolov7_trt_ros.engine.device.find_gpu import find_target
    from yolov7_trt_ros.engine.trt.api import TrtApi

    api = TrtApi.load()
    with build_display.BuildDisplay() as display:
        done = refit_plan(
            plan, onnx, written, api=api, machine=find_target(api), report=display.report,
            cancelled=display.cancelled, images=images,
        )
    output.warn_of_doubts(done.manifest.spec)
    compared = f'{done.images} {"image" if done.images == 1 else "images"}' if images else 'noise'
    rows = [
        *output.manifest_rows(written, done.manifest),
        ('weights', f'{done.changed} of {done.weights} are new'),
        ('outputs', f'{done.error:.4f} standard deviations off ONNX Runtime at most, {compared}'),
    ]
    with output.report_last(output.format_table(rows), args.json):
        if args.json:
            output.write_json(args.json, {
                'file': str(written), **done.manifest.to_record(),
                'changed_weights': done.changed, 'largest_error': done.error,
                'images': len(images),
            })
    return 0


def read_images(path: Path | None, count: int) -> list[ImageView]:
    """
    Return the first images of a source, none without a source.

    Raises
    ------
    InputError
        It cannot be opened, or holds no image that can be read.
    SettingError
        `count` is below 1.

    """
    check_at_least('--count', count)
    if path is None:
        return []
    from yolov7_trt_ros.replay.frames import Frame
    from yolov7_trt_ros.replay.sources import open_frames

    images: list[ImageView] = []
    reason = 'it holds no images'
    for item in open_frames(path):
        if not isinstance(item, Frame):
            reason = str(item.error)
            continue
        images.append(item.image)
        if len(images) == count:
            break
    if not images:
        raise InputError(f'--images {path}: {reason}')
    return images
