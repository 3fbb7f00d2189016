"""Parameters of tiles: part of the detector's table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yolov7_trt_ros.core.defaults import MOST_TILE_OVERLAP
from yolov7_trt_ros.core.looks.look_options import OFF
from yolov7_trt_ros.core.looks.tiles import read_tiles, TileOptions
from yolov7_trt_ros.nodes.parameter_spec import ParameterSpec

_TILES = TileOptions()

TILE_PARAMETERS = (
    ParameterSpec(
        'tiles', _TILES.text,
        'Detect in whole images and in all tiles of them: columns x rows, as in 2x2, or width x '
        'height in pixels of the image, as in 640x640. Empty: in whole images only.',
        reads=read_tiles,
    ),
    ParameterSpec(
        'tile_overlap', _TILES.overlap,
        'Share of its width and height that a tile has in common with the next one.', 0.0,
        MOST_TILE_OVERLAP,
    ),
)
"""Into which tiles images are cut."""


def tile_options(values: Mapping[str, Any]) -> TileOptions:
    """
    Return into which tiles images are cut.

    Raises
    ------
    SettingError
        Tiles do not go together with other parameters.

    """
    tiles = TileOptions(read_tiles(values['tiles']), values['tile_overlap'])
    tiles.check_alone(second_look=values['second_look'] != OFF, engines=bool(values['engines']))
    return tiles
