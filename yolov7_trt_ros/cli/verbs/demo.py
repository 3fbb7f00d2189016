"""
Watch the detector at work, without any hardware.

Starts the real detector node and two cameras made from photographs (a moving view, one camera in
rgb8, the other in JPEG) on a separate ROS 2 domain and records everything into a bag. Videos and
pictures with boxes, the bag (raw images as JPEG) and a summary are left in the output folder. The
time counts from the first image; Ctrl-C ends the demo early. If TensorRT runs the model, the
first run builds a plan for this GPU, which takes minutes.

The embedded model is small. For the photographs it runs at the size at which it detects them
correctly; for your own source at 640, with the node's default threshold.

Only the results of an earlier demo are replaced in the output folder: the demo is refused if
other files have their names.

Examples
--------
  yolov7_trt demo
  yolov7_trt demo --source street.mp4 --seconds 30
  yolov7_trt demo --source drive.mcap --model my_yolov7.onnx -o out_drive

"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
import contextlib
import importlib.util
import json
from pathlib import Path
from typing import Any

from yolov7_trt_ros.atomic_file import atomic_write
from yolov7_trt_ros.cli import arguments, interruption, output_paths
from yolov7_trt_ros.cli.demo.run import Play, play, Played
from yolov7_trt_ros.cli.demo.source import (
    check_photographs,
    find_source,
    PHOTOGRAPH_SCORE,
    PHOTOGRAPH_SIZE_PX,
    save_photographs,
)
from yolov7_trt_ros.cli.demo.summary import CAMERAS, MODEL_NOTE, summarise, table, what_was_made
from yolov7_trt_ros.cli.effects import model_effects
from yolov7_trt_ros.cli.work.output_file import OutputFile
from yolov7_trt_ros.cli.work.own_files import OwnFiles
from yolov7_trt_ros.core.defaults import DEFAULT_SCORE_THRESHOLD
from yolov7_trt_ros.engine.options import DEFAULT_MODEL, DetectorOptions, NETWORK_SIZE_RANGE
from yolov7_trt_ros.errors import InputError, MissingDependencyError, SettingError
from yolov7_trt_ros.home_folder import expand_home

_OUTPUTS = ('bag', 'log', 'pictures', 'photographs', 'front.mp4', 'rear.mp4', 'summary.json')
_NEEDED = (
    ('rclpy', 'source your ROS 2 setup, or run `make demo` in the source tree'),
    ('vision_msgs', 'sudo apt install ros-$ROS_DISTRO-vision-msgs, or run `make demo`'),
    ('rosbags', 'pip install rosbags'),
    ('rich', 'pip install rich'),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument(
        '--source', metavar='PATH',
        help='picture, folder of pictures, video or bag to play (default: photographs that come '
        'with scikit-image and matplotlib)',
    )
    parser.add_argument(
        '--seconds', type=float, default=20.0,
        help='how long to play, 1..3600 (default: %(default)g)',
    )
    parser.add_argument(
        '--rate', type=float, default=12.0, metavar='HZ',
        help='images per second of each camera, above 0, at most 100 (default: %(default)g)',
    )
    parser.add_argument(
        '--model', '-m', default=DEFAULT_MODEL, help='model (default: %(default)s)',
    )
    parser.add_argument(
        '--size', type=arguments.NETWORK_SIZE, metavar='PX',
        help='longer side of the network input, for models with a free input size, '
        f'{"..".join(map(str, NETWORK_SIZE_RANGE))} (default: '
        f'{DetectorOptions.network_size}; for the photographs {PHOTOGRAPH_SIZE_PX})',
    )
    parser.add_argument(
        '--score-threshold', '-s', type=float, metavar='S',
        help=f'minimum score, 0..1 (default: {DEFAULT_SCORE_THRESHOLD}; for the photographs '
        f'{PHOTOGRAPH_SCORE})',
    )
    parser.add_argument(
        '-o', '--output', type=Path, default=Path('out'), metavar='DIR',
        help='folder for the results (default: %(default)s)',
    )
    parser.add_argument(
        '--domain-id', type=int, default=86,
        help='ROS domain, apart from other robots, '
        f'0..{arguments.LARGEST_DOMAIN_ID} (default: %(default)d)',
    )


def run(args: argparse.Namespace) -> int:
    """Run the verb; the exit status is 1 if the images of a camera were not processed."""
    _check(args)
    source = _find_source(args)
    if args.model == DEFAULT_MODEL:
        print(MODEL_NOTE, flush=True)
    files = [OutputFile(args.output / name) for name in _OUTPUTS]
    with interruption.explain(lambda: _left(args.output, files)), own_outputs(args.output):
        summary = _play(args, source)
        _print_summary(summary, args.output)
        if summary['interrupted']:
            raise KeyboardInterrupt
    return 0 if all(camera['processed'] for camera in summary['cameras'].values()) else 1


def _left(output: Path, files: list[OutputFile]) -> str:
    """Return what an interrupted demo leaves behind."""
    left = [str(file.path.relative_to(output)) for file in files if file.is_written()]
    return f'written to {output} so far: {", ".join(left)}' if left else (
        interruption.NOTHING_WRITTEN
    )


def _play(args: argparse.Namespace, source: Path | None) -> dict[str, Any]:
    """Play; write and return the summary."""
    settings = _detector_settings(args, photographs=source is None)
    played = play(Play(
        source or save_photographs(args.output / 'photographs'), args.output, args.seconds,
        args.rate, settings, args.domain_id,
    ))
    summary = complete_summary(played) | {
        'settings': {'seconds': args.seconds, 'rate_hz': args.rate} | settings,
    }
    text = json.dumps(summary, indent=2, allow_nan=False)
    atomic_write(args.output / 'summary.json', f'{text}\n'.encode())
    return summary


def _detector_settings(args: argparse.Namespace, *, photographs: bool) -> dict[str, object]:
    own = photographs and args.model == DEFAULT_MODEL
    size = PHOTOGRAPH_SIZE_PX if own else DetectorOptions.network_size
    score = PHOTOGRAPH_SCORE if own else DEFAULT_SCORE_THRESHOLD
    return {
        'autostart': True, 'model': args.model,
        'image_topics': [camera.topic for camera in CAMERAS],
        'network_size': size if args.size is None else args.size,
        'score_threshold': score if args.score_threshold is None else args.score_threshold,
    }


def complete_summary(played: Played) -> dict[str, Any]:
    """Return the summary, with the camera rates while images were played."""
    summary = summarise(played.record)
    for camera in summary['cameras'].values():
        camera['rate_in_hz'] = played.rates_in_hz.get(camera['topic'])
    return summary | {'seconds': round(played.seconds, 2), 'interrupted': played.interrupted}


def _check(args: argparse.Namespace) -> None:
    if not 1 <= args.seconds <= 3600:
        raise SettingError(f'--seconds must be within 1..3600, got {args.seconds:g}')
    if not 0 < args.rate <= 100:
        raise SettingError(f'--rate must be above 0 and at most 100 Hz, got {args.rate:g}')
    arguments.check_domain_id(args.domain_id)
    if args.score_threshold is not None and not 0 <= args.score_threshold <= 1:
        raise SettingError(f'--score-threshold must be within 0..1, got {args.score_threshold:g}')
    for module, fix in _NEEDED:
        if importlib.util.find_spec(module) is None:
            raise MissingDependencyError(f'the demo needs {module}, which is not installed; {fix}')
    from yolov7_trt_ros.engine.checkpoint_export import find_or_export
    from yolov7_trt_ros.engine.file_kind import is_plan

    path = find_or_export(args.model)
    if args.size is not None and not is_plan(path):
        _check_size(args.model, args.size)
    output_paths.check_folder('--output', args.output)


def _check_size(model: str, size: int) -> None:
    """Refuse a size that a model with a fixed input cannot have; the node would ignore it."""
    from yolov7_trt_ros.engine.open import open_detector

    detector = open_detector(DetectorOptions(model=model, backend='onnx', network_size=size))
    detector.close()
    model_effects.check_size(detector.spec, model, size)


def _find_source(args: argparse.Namespace) -> Path | None:
    """
    Return the source to play, None for the photographs.

    Raises
    ------
    MissingDependencyError
        The packages that have the photographs are not installed.
    InputError
        It cannot be played, or the demo would write over it.

    """
    if args.source is None:
        check_photographs()
        return None
    given = expand_home(args.source).resolve()
    for name in _OUTPUTS:
        if given.is_relative_to((args.output / name).resolve()):
            raise InputError(
                f'--source {args.source} is where the demo writes; give another folder with -o'
            )
    return find_source(args.source)


@contextlib.contextmanager
def own_outputs(output: Path) -> Iterator[None]:
    """
    Clear the output folder of an earlier demo, and record at the end what was written.

    Raises
    ------
    InputError
        Other files are where the demo writes; nothing was removed.

    """
    own = OwnFiles(output)
    paths = [output / name for name in _OUTPUTS]
    foreign = [str(path.relative_to(output)) for path in own.foreign(paths)]
    if foreign:
        more = f' and {len(foreign) - 1} more' if foreign[1:] else ''
        if own.begun:
            left = ' '.join(name for name in own.begun if (output / name).exists())
            raise InputError(
                f'{output} holds {foreign[0]}{more}, since a demo was killed there: nothing was '
                f'changed; remove what it left ({left}), or give another folder with -o'
            )
        raise InputError(
            f'{output} holds {foreign[0]}{more}, which no demo wrote and which is in the way: '
            'nothing was changed; move it, or give another folder with -o'
        )
    own.remove(paths)
    output.mkdir(parents=True, exist_ok=True)
    own.begin(paths)
    try:
        yield
    finally:
        own.note(paths)


def _print_summary(summary: dict[str, Any], output: Path) -> None:
    from rich.console import Console

    Console().print(table(summary))
    for line in what_was_made(summary, output):
        print(line)
