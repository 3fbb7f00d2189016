"""Arguments of the second look and of tiles, and detectors opened with them. Light imports."""

from __future__ import annotations

import argparse
from functools import partial
import sys
from typing import Any, TYPE_CHECKING

from yolov7_trt_ros.cli import build_display, open_detectors, output
from yolov7_trt_ros.core.defaults import DEFAULT_TILE_OVERLAP
from yolov7_trt_ros.core.looks.look_options import MODES
from yolov7_trt_ros.core.topics import split_names
from yolov7_trt_ros.errors import SettingError

if TYPE_CHECKING:
    from yolov7_trt_ros.core.detector import Detector
    from yolov7_trt_ros.core.looks.look_options import LookOptions
    from yolov7_trt_ros.core.looks.tiles import TileOptions
    from yolov7_trt_ros.engine.options import DetectorOptions

_READS = {'float': float, 'int': int}


def add_look_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the second look and of tiles."""
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
        'crop_px, crop_size, classes, min_score, max_score, object_px, max_crops, budget_ms, '
        'full_frames; may be repeated',
    )
    group = parser.add_argument_group('tiles')
    group.add_argument(
        '--tiles', default='', metavar='CxR',
        help='detect in whole images and in all their tiles: columns x rows (2x2), or tile width '
        'x height in image pixels (640x640); not with --second-look',
    )
    group.add_argument(
        '--tile-overlap', type=float, default=DEFAULT_TILE_OVERLAP, metavar='SHARE',
        help='share of a tile that overlaps the next one (default: %(default)s)',
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
        They are invalid, or combined with a second look.

    """
    from yolov7_trt_ros.core.looks.tiles import read_tiles, TileOptions

    tiles = TileOptions(read_tiles(args.tiles), args.tile_overlap)
    tiles.check_alone(second_look=args.second_look != MODES[0])
    return tiles


def open_looking(args: argparse.Namespace, options: DetectorOptions) -> Detector:
    """Open the detector of the arguments; the choice of `auto` is printed on stderr."""
    from yolov7_trt_ros.bank.looks.look_trial import open_looks
    from yolov7_trt_ros.bank.looks.tiled_look import TiledLook
    from yolov7_trt_ros.engine.looks import look_engines, tiled_engine

    look, tiles = look_options(args), tile_options(args)
    warned: set[str] = set()
    if not tiles.is_off:
        return TiledLook(build_display.open_model(tiled_engine(options, tiles), warned), tiles)
    engines = look_engines(options, look)
    return open_looks(
        look, say=lambda text: output.say(f'yolov7_trt: {text}', file=sys.stderr),
        once=partial(build_display.open_model, engines.once, warned),
        first=partial(build_display.open_model, engines.first, warned),
        second=partial(build_display.open_model, engines.second, warned),
    )


def kept_looking(args: argparse.Namespace, options: DetectorOptions) -> Detector:
    """Return the detector of `open_looking`, which this thread may have opened before."""
    look = look_options(args)
    key = repr((options, look, tile_options(args)))
    files = options.model, options.class_names, look.model
    return open_detectors.opened(key, files, partial(open_looking, args, options))


def look_record(args: argparse.Namespace, detector: Detector) -> dict[str, Any]:
    """Return what the JSON of a run states about second look or tiles; nothing without."""
    import dataclasses

    tiles = tile_options(args)
    if not tiles.is_off:
        status = detector.status().get('tiles', '')
        return {'tiles': {'layout': tiles.text, 'overlap': tiles.overlap, 'told': status}}
    look = look_options(args)
    if look.is_off:
        return {}
    status = detector.status().get('second look', 'auto looks once')
    return {'second_look': dataclasses.asdict(look) | {'told': status}}
