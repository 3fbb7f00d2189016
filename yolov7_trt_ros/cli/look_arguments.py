"""Arguments of second look, tiles and engines, and detectors opened so. Light imports."""

from __future__ import annotations

import argparse
from functools import partial
import sys
from typing import Any, TYPE_CHECKING

from yolov7_trt_ros.cli import (
    build_display,
    engine_arguments,
    open_detectors,
    output,
    track_arguments,
)
from yolov7_trt_ros.cli.effects import model_effects
from yolov7_trt_ros.cli.effects.given_options import refuse_without_effect
from yolov7_trt_ros.core.defaults import DEFAULT_TILE_OVERLAP, MOST_TILE_OVERLAP
from yolov7_trt_ros.core.looks.look_options import MODES, ON
from yolov7_trt_ros.core.topics import split_names
from yolov7_trt_ros.errors import SettingError

if TYPE_CHECKING:
    from yolov7_trt_ros.core.detector import Detector, DetectSettings
    from yolov7_trt_ros.core.looks.look_options import LookOptions
    from yolov7_trt_ros.core.looks.tiles import TileOptions
    from yolov7_trt_ros.engine.options import DetectorOptions
    from yolov7_trt_ros.replay.run import RunSummary

SECOND_LOOK, TILES, ENGINES = WAYS = ('second look', 'tiles', 'more engines')
"""Ways to use a model, besides one look with one engine."""

_READS = {'float': float, 'int': int}


def add_look_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the second look, of tiles, and of several engines."""
    group = parser.add_argument_group('second look')
    group.add_argument(
        '--second-look', choices=MODES, default=MODES[0],
        help='detect again in crops around doubtful objects: on, or auto (measure with and '
        'without, use the faster) (default: %(default)s)',
    )
    group.add_argument(
        '--second-look-model', default='', metavar='M',
        help='model for the crops (default: that of --model)',
    )
    group.add_argument(
        '--look', action='append', default=[], metavar='NAME=VALUE',
        help='option of the second look, as the node parameter second_look_NAME: first_size, '
        'crop_px, crop_size, classes, min_score, max_score, object_px, min_worth, max_crops, '
        'budget_ms, full_frames; may be repeated',
    )
    group = parser.add_argument_group('tiles')
    group.add_argument(
        '--tiles', default='', metavar='CxR',
        help='detect in whole images and in all their tiles: columns x rows (2x2), or tile width '
        'x height in image pixels (640x640); not with --second-look',
    )
    group.add_argument(
        '--tile-overlap', type=float, metavar='SHARE',
        help=f'share of a tile that overlaps the next one, 0..{MOST_TILE_OVERLAP} '
        f'(default: {DEFAULT_TILE_OVERLAP})',
    )
    engine_arguments.add_engines_argument(parser)


def check_effect(args: argparse.Namespace, *, looks_once: bool = False) -> None:
    """
    Refuse options of what is off: they would have no effect, unnoticed.

    Parameters
    ----------
    args
        The parsed arguments.
    looks_once
        Whether the verb also detects without a second look if that is on.

    Raises
    ------
    SettingError
        Such an option is given.

    """
    needed = {
        '--second-look on or auto': (args.second_look != MODES[0], {
            '--second-look-model': args.second_look_model, '--look': args.look,
        }),
        '--tiles': (args.tiles, {'--tile-overlap': args.tile_overlap is not None}),
        **track_arguments.needed(args),
    }
    for option, (is_on, others) in needed.items():
        for name, is_given in others.items():
            if is_given and not is_on:
                raise SettingError(f'{name} has no effect without {option}')
    if args.second_look == ON and not looks_once and not args.engines:
        refuse_without_effect(
            args, ['--size'],
            'with --second-look on: --look first_size=PX and --look crop_size=PX are the sizes',
        )


def look_options(args: argparse.Namespace) -> LookOptions:
    """
    Return the options of the second look.

    Raises
    ------
    SettingError
        A name or value is unknown, or does not fit the others.

    """
    import dataclasses

    from yolov7_trt_ros.core.looks.look_options import LookOptions

    kinds = {field.name: str(field.type) for field in dataclasses.fields(LookOptions)}
    del kinds['mode'], kinds['model']
    values: dict[str, Any] = {}
    for text in args.look:
        name, equals, value = text.partition('=')
        if not equals or name not in kinds:
            raise SettingError(f'--look is NAME=VALUE with {", ".join(kinds)}, got {text!r}')
        try:
            values[name] = (
                tuple(split_names(value)) if name == 'classes' else _READS[kinds[name]](value)
            )
        except ValueError as exc:
            raise SettingError(f'--look {name} is a number, got {value!r}') from exc
    return LookOptions(mode=args.second_look, model=args.second_look_model, **values)


def tile_options(args: argparse.Namespace) -> TileOptions:
    """
    Return the tiles of the arguments.

    Raises
    ------
    SettingError
        They are invalid, or combined with a second look or other engines.

    """
    from yolov7_trt_ros.core.looks.tiles import read_tiles, TileOptions

    overlap = DEFAULT_TILE_OVERLAP if args.tile_overlap is None else args.tile_overlap
    tiles = TileOptions(read_tiles(args.tiles), overlap)
    tiles.check_alone(second_look=args.second_look != MODES[0], engines=bool(args.engines))
    return tiles


def open_looking(args: argparse.Namespace, options: DetectorOptions) -> Detector:
    """Open the detector of the arguments, with all its engines."""
    engine_arguments.named_engines(args, options)  # refused before anything is opened
    warned: set[str] = set()
    first = _open_first(args, options, warned)
    return engine_arguments.with_engines(args, options, first, warned)


def _open_first(
    args: argparse.Namespace, options: DetectorOptions, warned: set[str]
) -> Detector:
    """Open the engine of `--model`; on stderr: the choice of `auto`, what has no second look."""
    from yolov7_trt_ros.bank.looks.look_trial import open_looks
    from yolov7_trt_ros.bank.looks.tiled_look import TiledLook
    from yolov7_trt_ros.engine.looks import look_engines, tiled_engine

    model_effects.check_engine_options(args, options)
    look, tiles = look_options(args), tile_options(args)
    open_one = partial(_open_checked, args, warned)
    if not tiles.is_off:
        return TiledLook(open_one(tiled_engine(options, tiles)), tiles, warn=output.warn)
    engines = look_engines(options, look)
    return open_looks(
        look, say=lambda text: output.say(f'yolov7_trt: {text}', file=sys.stderr),
        warn=output.warn,
        once=partial(open_one, engines.once),
        first=partial(open_one, engines.first, 'first_size'),
        second=partial(open_one, engines.second, 'crop_size'),
    )


def _open_checked(
    args: argparse.Namespace, warned: set[str], options: DetectorOptions, look_size: str = ''
) -> Detector:
    """
    Open an engine of the detector; a size that it cannot have is refused.

    Parameters
    ----------
    args, warned, options
        As `_open_first` has them.
    look_size
        Option of the second look that gives its size; '' for `--size`.

    """
    detector = build_display.open_model(options, warned)
    if look_size:
        asked = any(text.startswith(f'{look_size}=') for text in args.look)
        flag, size = f'--look {look_size}', options.network_size if asked else None
    else:
        flag, size = '--size', model_effects.asked_size(args)
    try:
        model_effects.check_size(detector.spec, options.model, size, flag)
        model_effects.check_model(args, options, detector)
    except BaseException:
        detector.close()
        raise
    return detector


def kept_looking(args: argparse.Namespace, options: DetectorOptions) -> Detector:
    """Return the detector of `open_looking`, which this thread may have opened before."""
    look = look_options(args)
    engines = engine_arguments.named_engines(args, options)
    key = repr((options, look, tile_options(args), engines))
    files = (options.model, options.class_names, look.model,
             *engine_arguments.engine_files(args, options))
    return open_detectors.opened(key, files, partial(open_looking, args, options))


def run_record(
    args: argparse.Namespace, options: DetectorOptions, detector: Detector,
    settings: DetectSettings, summary: RunSummary,
) -> dict[str, Any]:
    """Return the JSON of a run over recordings: `output.run_record`, looks, engines, tracks."""
    return (
        output.run_record(options, detector.backend, settings, summary)
        | look_record(args, options, detector)
        | track_arguments.track_record(args)
    )


def look_record(
    args: argparse.Namespace, options: DetectorOptions, detector: Detector
) -> dict[str, Any]:
    """Return what the JSON of a run states about looks, tiles and engines; nothing without."""
    engines = engine_arguments.engine_record(args, options, detector)
    return _look_record(args, detector) | engines


def _look_record(args: argparse.Namespace, detector: Detector) -> dict[str, Any]:
    import dataclasses

    tiles = tile_options(args)
    if not tiles.is_off:
        status = _told(detector, 'tiles', '')
        return {'tiles': {'layout': tiles.text, 'overlap': tiles.overlap, 'told': status}}
    look = look_options(args)
    if look.is_off:
        return {}
    once = f'auto looks once, with {look.model}' if look.model else 'auto looks once'
    status = _told(detector, 'second look', once)
    return {'second_look': dataclasses.asdict(look) | {'told': status}}


def _told(detector: Detector, key: str, otherwise: str) -> str:
    """Return what a detector states under a key, and what it was not used for."""
    status = detector.status()
    told = status.get(key, otherwise)
    return f'{told}; left out: {status["left out"]}' if 'left out' in status else told
