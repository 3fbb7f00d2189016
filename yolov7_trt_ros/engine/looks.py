"""Detector options for one look and for two, from the options of one detector."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from yolov7_trt_ros.core.looks.look_options import AUTO, LookOptions
from yolov7_trt_ros.core.looks.tiles import TileOptions
from yolov7_trt_ros.engine.options import DetectorOptions, MAX_BATCH_LIMIT

USUAL_TILES = 8
"""Number of tiles that a plan is built for if it depends on the image: 1080p in 640x640."""


def tiled_engine(options: DetectorOptions, tiles: TileOptions) -> DetectorOptions:
    """Return what is opened for tiles: whole images and all their tiles in one pass."""
    views = 1 + (tiles.count or USUAL_TILES)
    return dataclasses.replace(options, max_batch=min(MAX_BATCH_LIMIT, views * options.max_batch))


class LookEngines(NamedTuple):
    """
    Options of each engine.

    Attributes
    ----------
    once
        For whole frames, were there no second look: the precise model at the full network size.
    first, second
        For whole frames before crops, and for crops, all of a frame in one batch where the engine
        takes batches.

    """

    once: DetectorOptions
    first: DetectorOptions
    second: DetectorOptions

    def needed(self, look: LookOptions) -> tuple[DetectorOptions, ...]:
        """Return the options of what a mode opens, each once."""
        engines = (self.first, self.second, *([self.once] if look.mode == AUTO else []))
        return (self.once,) if look.is_off else tuple(dict.fromkeys(engines))


def look_engines(options: DetectorOptions, look: LookOptions) -> LookEngines:
    """Return what is opened, from the options of the detector that looks once."""
    if look.is_off:
        return LookEngines(options, options, options)
    precise = dataclasses.replace(options, model=look.model or options.model)
    return LookEngines(
        once=precise,
        first=dataclasses.replace(options, network_size=look.first_size),
        second=dataclasses.replace(
            precise, network_size=look.crop_size,
            max_batch=min(MAX_BATCH_LIMIT, look.max_crops * options.max_batch),
        ),
    )
