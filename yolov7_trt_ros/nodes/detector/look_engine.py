"""Engines that open and build detectors with a second look or with tiles."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from yolov7_trt_ros.bank.looks.look_trial import open_looks
from yolov7_trt_ros.bank.looks.tiled_look import TiledLook
from yolov7_trt_ros.core.detector import Detector
from yolov7_trt_ros.core.looks.look_options import LookOptions
from yolov7_trt_ros.core.looks.tiles import TileOptions
from yolov7_trt_ros.engine.looks import look_engines, tiled_engine
from yolov7_trt_ros.engine.options import DetectorOptions
from yolov7_trt_ros.errors import PlanError
from yolov7_trt_ros.nodes.detector.plan_build import Build, Engine


def with_tiles(engine: Engine, tiles: TileOptions) -> Engine:
    """Return an Engine whose detectors also detect in tiles, if there are any."""
    if tiles.is_off:
        return engine

    def open_tiled(options: DetectorOptions) -> Detector:
        return TiledLook(engine.open_detector(tiled_engine(options, tiles)), tiles)

    def with_tiles(build: Build) -> Build:
        return lambda options, *arguments: build(tiled_engine(options, tiles), *arguments)

    return Engine(open_tiled, with_tiles(engine.build), with_tiles(engine.build_apart))


def with_look(engine: Engine, look: LookOptions, report: Callable[[str], None]) -> Engine:
    """
    Return an Engine whose detectors use the second look of the options.

    Parameters
    ----------
    engine
        Opens and builds for one look.
    look
        Options of the second look.
    report
        Called with the choice of `auto` and its reason, in the thread that opens.

    """
    if look.is_off:
        return engine

    def open_twice(options: DetectorOptions) -> Detector:
        engines = look_engines(options, look)
        return open_looks(
            look, say=report,
            once=partial(engine.open_detector, engines.once),
            first=partial(engine.open_detector, engines.first),
            second=partial(engine.open_detector, engines.second),
        )

    return Engine(
        open_twice, _building_each(engine, look, engine.build),
        _building_each(engine, look, engine.build_apart),
    )


def _building_each(engine: Engine, look: LookOptions, build: Build) -> Build:
    """Return a function that builds the missing plans one after the other."""
    def build_missing(
        options: DetectorOptions, report: Callable[[str, float | None], None],
        cancelled: Callable[[], bool],
    ) -> Path:
        plan = Path(options.model)
        for needed in look_engines(options, look).needed(look):
            try:
                engine.open_detector(needed).close()
            except PlanError:
                plan = build(needed, report, cancelled)
        return plan

    return build_missing
