"""PipelinedBank: a bank for engines that start the next frame while they work on one."""

from __future__ import annotations

import collections
from collections.abc import Sequence
import dataclasses
from typing import Any

from yolov7_trt_ros.bank.update.engine_bank import EngineBank, OpenModel
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.detector import DetectSettings, FrameTimings, PipelinedDetector
from yolov7_trt_ros.core.image import ImageView


@dataclasses.dataclass(eq=False)
class _Begun:
    """
    Frames that were begun.

    `ticket` is the engine's, and `error` what it raised instead; without both they run when they
    are collected.

    """

    by: OpenModel
    images: Sequence[ImageView]
    settings: DetectSettings
    ticket: Any = None
    error: Exception | None = None

    def finish(self) -> tuple[list[Detections], FrameTimings]:
        if self.error is not None:
            raise self.error
        if self.ticket is None:
            return self.by.run(self.images, self.settings)
        assert isinstance(self.by.detector, PipelinedDetector)  # it gave the ticket
        return self.by.detector.collect(self.ticket)


class PipelinedBank(EngineBank):
    """
    An EngineBank that is a PipelinedDetector too.

    Frames of one engine overlap, but not around a switch: an engine returns its frames in order,
    so it could not repeat a frame in between that the other engine failed on.

    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._begun: collections.deque[_Begun] = collections.deque()

    def submit(self, images: Sequence[ImageView], settings: DetectSettings) -> _Begun:
        """Start on frames; what an engine raises at that comes out of `collect`."""
        engine = self._begin_serving()
        begun = _Begun(engine, images, settings)
        detector = engine.detector
        alone = all(each.by is engine and each.ticket is not None for each in self._begun)
        if alone and isinstance(detector, PipelinedDetector) and len(images) <= detector.max_batch:
            try:
                begun.ticket = detector.submit(images, engine.given(settings))
            except Exception as exc:  # whatever an engine raises
                begun.error = exc
        self._begun.append(begun)
        return begun

    def collect(self, ticket: _Begun) -> tuple[list[Detections], FrameTimings]:
        """Wait for frames, the oldest first; see `detect_batch`."""
        self._begun.remove(ticket)
        return self._answer(ticket.by, ticket.images, ticket.settings, ticket.finish)
