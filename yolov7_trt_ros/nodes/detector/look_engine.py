"""Engines that open and build detectors with a second look or with tiles."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
from functools import partial
from pathlib import Path

from yolov7_trt_ros.bank.looks.look_trial import open_looks
from yolov7_trt_ros.bank.looks.second_look import SecondLook
from yolov7_trt_ros.bank.looks.tiled_look import TiledLook
from yolov7_trt_ros.core.detector import Detector
from yolov7_trt_ros.core.looks.look_options import LookOptions, OFF, ON
from yolov7_trt_ros.core.looks.tiles import TileOptions
from yolov7_trt_ros.engine.looks import look_engines, LookEngines, tiled_engine
from yolov7_trt_ros.engine.options import DetectorOptions
from yolov7_trt_ros.errors import PlanError, SettingError
from yolov7_trt_ros.nodes.detector.plan_build import Build, Engine


def with_tiles(engine: Engine, tiles: TileOptions, warn: Callable[[str], None]) -> Engine:
    """
    Return an Engine whose detectors also detect in tiles, if there are any.

    Parameters
    ----------
    engine, tiles
        Opens and builds for whole images; which tiles.
    warn
        Called once with each size of images that have no tiles, in the thread that detects.

    """
    if tiles.is_off:
        return engine

    def open_tiled(options: DetectorOptions) -> Detector:
        engine_of_all = engine.open_detector(tiled_engine(options, tiles))
        return TiledLook(engine_of_all, tiles, warn=warn)

    def with_tiles(build: Build) -> Build:
        return lambda options, *arguments: build(tiled_engine(options, tiles), *arguments)

    return Engine(open_tiled, with_tiles(engine.build), with_tiles(engine.build_apart))


def with_look(
    engine: Engine, look: LookOptions, report: Callable[[Detector, str], None],
    warn: Callable[[str], None],
) -> Engine:
    """
    Return an Engine whose detectors use the second look of the options.

    What `auto` chooses for the first detector holds for those that are to take its place: one look
    could not be compared with two, and would be measured while the other model works.

    Parameters
    ----------
    engine
        Opens and builds for one look.
    look
        Options of the second look.
    report
        Called with a detector that `auto` chose and the reason, in the thread that opens.
    warn
        Called once with each thing that gets no second look, in the thread that detects.

    """
    if look.is_off:
        return engine

    chosen: list[tuple[LookOptions, str]] = []  # by `auto`, with its reason

    def open_twice(options: DetectorOptions) -> Detector:
        engines = look_engines(options, look)
        if not chosen:
            return open_first(engines)
        mode, reason = chosen[0]
        if mode.is_off and look.model:
            raise SettingError(
                f'it would not be used, for second_look auto has left {look.model} alone: {reason}'
            )
        detector = open_by(mode, engines)
        if mode.is_off:
            report(detector, f'{reason} (measured with the first model)')
        return detector

    def open_first(engines: LookEngines) -> Detector:
        reasons: list[str] = []
        detector = open_by(look, engines, reasons.append)
        for reason in reasons:
            mode = ON if isinstance(detector, SecondLook) else OFF
            chosen.append((dataclasses.replace(look, mode=mode), reason))
            report(detector, reason)
        return detector

    def open_by(
        mode: LookOptions, engines: LookEngines, say: Callable[[str], None] = lambda _: None
    ) -> Detector:
        return open_looks(
            mode, say=say, warn=warn,
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
