"""PipelinedTeam: a team whose first engine starts the next frame while it works on one."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Any

from yolov7_trt_ros.bank.team.engine_lane import Attempt, Found, Ticket
from yolov7_trt_ros.bank.team.engine_schedule import FIRST
from yolov7_trt_ros.bank.team.engine_team import EngineTeam
from yolov7_trt_ros.bank.update.pipelined_bank import PipelinedBank
from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.image import ImageView


class PipelinedTeam(EngineTeam):
    """
    An EngineTeam that is a PipelinedDetector too: while `alone`, frames of the first overlap.

    Where several engines are at work each of them does one frame after the other.

    """

    def __init__(self, bank: PipelinedBank, *arguments: Any, **named: Any) -> None:
        super().__init__(bank, *arguments, **named)
        self._pipeline = bank
        self._flights: collections.deque[Ticket] = collections.deque()

    def submit(
        self, images: Sequence[ImageView], settings: DetectSettings
    ) -> tuple[Ticket, Any]:
        """Start on frames with the first engine."""
        ticket = Ticket(images, settings)
        if self._begin_in_thread(ticket):
            return ticket, None
        if not self._flights:
            self._begun(FIRST, ticket)
        self._flights.append(ticket)
        return ticket, self._pipeline.submit(images, settings)

    def collect(self, ticket: tuple[Ticket, Any]) -> Found:
        """Wait for frames, the oldest first; see `detect_batch`."""
        mine, begun = ticket
        if begun is None:
            return self._wait_for(mine)
        self._flights.remove(mine)
        attempt = Attempt(mine)
        try:
            attempt.outcome = self._pipeline.collect(begun)
            attempt.class_names = self._pipeline.answered.class_names
        except Exception as exc:  # whatever an engine raises
            attempt.outcome = exc
        attempt.ended_ns = self._clock()
        self._take(FIRST, attempt)
        if self._flights:
            self._begun(FIRST, self._flights[0])
        return self._wait_for(mine)
