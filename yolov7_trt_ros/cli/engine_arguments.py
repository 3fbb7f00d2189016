"""The argument `--engines`: several engines that share the frames of a run. Light imports."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any, TYPE_CHECKING

from yolov7_trt_ros.cli import build_display, output
from yolov7_trt_ros.cli.effects import model_effects
from yolov7_trt_ros.cli.work.work_settings import engine_records
from yolov7_trt_ros.core.looks.look_options import LOOK_ONCE, OFF
from yolov7_trt_ros.errors import SettingError

if TYPE_CHECKING:
    from yolov7_trt_ros.core.detector import Detector
    from yolov7_trt_ros.engine.engine_list import NamedEngine
    from yolov7_trt_ros.engine.options import DetectorOptions

_ALIKE = 'the same model with the same options: it does not matter which of them gets a frame'
_UNLIKE = (
    'the engines are unlike, and which of them gets a frame depends on their speed: another run '
    'may find other objects'
)


def add_engines_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--engines`."""
    group = parser.add_argument_group('several engines')
    group.add_argument(
        '--engines', default='', metavar='E',
        help='more engines, which share the frames with that of --model: models separated by '
        'commas, or a YAML file, as the node parameter engines; not with --tiles',
    )


def named_engines(args: argparse.Namespace, options: DetectorOptions) -> list[NamedEngine]:
    """Return the engines beside that of the options; raises SettingError."""
    if not args.engines:
        return []
    from yolov7_trt_ros.engine.engine_list import read_engines

    return read_engines(args.engines, options)


def check_engines(args: argparse.Namespace) -> None:
    """Raise SettingError if several processes would each open all engines."""
    if getattr(args, 'engines', '') and (args.workers is not None or args.dask is not None):
        raise SettingError(
            '--engines are those of one process, and each worker would open all of them: give '
            'either --engines, or --workers or --dask'
        )


def with_engines(
    args: argparse.Namespace, options: DetectorOptions, first: Detector, warned: set[str]
) -> Detector:
    """
    Return the detector of the arguments that shares frames among its engines, or `first`.

    Raises
    ------
    Yolov7TrtError
        An engine cannot be opened, or does not go with the first; `first` is closed then.

    """
    from yolov7_trt_ros.bank.team.open_engines import open_engines
    from yolov7_trt_ros.bank.team.shared_work import SharedWork

    try:
        named = named_engines(args, options)
        if not named:
            return first
        others = open_engines(first.spec, [
            (each.name, partial(_open_engine, args, options, each, warned)) for each in named
        ])
    except BaseException:
        first.close()
        raise
    if args.second_look != OFF:
        output.warn(LOOK_ONCE)
    if not _are_alike(args, options, named):
        output.warn(_UNLIKE)
    return SharedWork(first, options.model, others)


def _open_engine(
    args: argparse.Namespace, options: DetectorOptions, named: NamedEngine, warned: set[str]
) -> Detector:
    """Open an engine; a size that its file gives and that it cannot have is refused."""
    detector = build_display.open_model(named.options, warned)
    size = named.options.network_size
    if size == options.network_size:
        model_effects.warn_of_size(detector.spec, named.name, model_effects.asked_size(args))
        return detector
    try:
        model_effects.check_size(detector.spec, named.name, size, 'network_size')
    except BaseException:
        detector.close()
        raise
    return detector


def engine_files(args: argparse.Namespace, options: DetectorOptions) -> list[str]:
    """Return the files that the engines are opened from, to notice their replacement."""
    named = named_engines(args, options)
    return [
        *([args.engines] if named else []),
        *(file for each in named for file in (each.options.model, each.options.class_names)),
    ]


def engine_record(
    args: argparse.Namespace, options: DetectorOptions, detector: Detector
) -> dict[str, Any]:
    """Return what the JSON of a run states about its engines; nothing for a single one."""
    from yolov7_trt_ros.bank.team.shared_work import SharedWork

    if not isinstance(detector, SharedWork):
        return {}
    named = named_engines(args, options)
    states, answered = detector.engine_texts(), detector.answered()
    alike = _are_alike(args, options, named)
    return {'engines': {
        'alike': alike,
        'told': _ALIKE if alike else _UNLIKE,
        'of': [
            {'name': name, 'frames': answered[name], 'told': states[name], **record}
            for name, record in zip(
                detector.names, engine_records([options, *(each.options for each in named)]),
                strict=True,
            )
        ],
    }}


def engine_rows(detector: Detector) -> list[tuple[str, str]]:
    """Return the table rows of a run about its engines; warn of those that are out of service."""
    from yolov7_trt_ros.bank.team.shared_work import SharedWork

    if not isinstance(detector, SharedWork):
        return []
    for text in detector.out():
        output.warn(text)
    frames = (f'{name} {count}' for name, count in detector.answered().items())
    return [('engines', f'{", ".join(frames)} frames')]


def _are_alike(
    args: argparse.Namespace, options: DetectorOptions, named: list[NamedEngine]
) -> bool:
    """Whether it does not matter which engine a frame gets: the same model, run the same way."""
    records = engine_records([options, *(each.options for each in named)])
    for each in records:
        del each['model']
    return args.second_look == 'off' and all(each == records[0] for each in records)
