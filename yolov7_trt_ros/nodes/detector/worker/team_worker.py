"""TeamWorker: a DetectionWorker for several engines at once; see docs/bank.md."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
from functools import partial
from typing import Any

from vision_msgs.msg import VisionInfo

from yolov7_trt_ros.bank.team.engine_lane import Ticket
from yolov7_trt_ros.bank.team.engine_team import EngineTeam
from yolov7_trt_ros.nodes.conversions import header_to_msg
from yolov7_trt_ros.nodes.detector.worker.detection_worker import DetectionWorker
from yolov7_trt_ros.nodes.detector.worker.flight import Flight, ViewedFrame
from yolov7_trt_ros.nodes.images.image_stream import ReceivedFrame


@dataclasses.dataclass(eq=False)
class _Begun:
    """Frames that an engine has started, and the number of their flight."""

    flight: Flight
    ticket: Ticket
    number: int


class TeamWorker(DetectionWorker):
    """
    Takes frames for the engines of a team.

    While the team is `alone` it is a plain DetectionWorker. Otherwise a frame is taken when an
    engine is ready for it, and published when that engine has finished. The frames of a stream
    are published in order: one that is overtaken is dropped.

    Parameters
    ----------
    team
        The detector.
    arguments, named
        The other arguments of a DetectionWorker.

    """

    def __init__(self, team: EngineTeam, *arguments: Any, **named: Any) -> None:
        super().__init__(team, *arguments, **named)
        self._team = team
        self._begun: list[_Begun] = []
        self._begins = 0
        self._engine: int | None = None  # of a flight that is being published
        self._out: dict[int, int] = {}  # by stream: the flight of which a frame was published last
        team.wake_with(self._slots.wake)

    def _take(self) -> list[ReceivedFrame]:
        if not self._team.alone:
            self._work_together()
        return super()._take()

    def _take_beside(self) -> list[ReceivedFrame]:
        return super()._take_beside() if self._team.alone else []

    def _report_answered(self, published: Sequence[ViewedFrame]) -> None:
        super()._report_answered(published)
        self._publish_engine(published)
        if published:
            self._team.answered([each.frame.received_ns for each in published])
            settings = self._settings().of(published[0].frame.stream.topic)
            self._team.probe([each.image for each in published], settings.asked)

    def _publish_engine(self, published: Sequence[ViewedFrame]) -> None:
        """Publish which engine the detections are from, of one flight."""
        engine = self._team.answered_by if self._engine is None else self._engine
        if engine is None:
            return
        name = self._team.engine_name(engine)
        for each in published:
            self._try_to_publish(each.frame, 'engine', partial(
                each.frame.stream.publish_engine,
                partial(VisionInfo, header=header_to_msg(each.header), method=name),
            ))

    def _work_together(self) -> None:
        """Run several engines until only the first one is to work, or the slots are closed."""
        try:
            while self._begin_or_wait():
                self._publish_ended()
            while self._begun:
                self._team.wait()
                self._publish_ended()
        finally:
            for begun in self._begun:  # nobody else would
                self._drop(begun.flight)
            self._begun.clear()
            self._out.clear()

    def _begin_or_wait(self) -> bool:
        """Start frames or wait for an engine; return False at the end."""
        if self._team.alone and self._team.others_idle:
            return False
        engine = self._team.choose()
        if engine is None:
            self._team.wait()
            return True

        def is_over() -> bool:
            return self._team.has_ended or self._team.choose() != engine

        settings = self._settings()
        most = min(settings.max_batch, self._team.most(engine))
        if self._left:
            frames = self._left.pop(0)
        else:
            taken = self._slots.take(most, settings.batch_max_wait_ns, is_over)
            frames = [frame for _, frame in taken]
        if frames:
            self._begin_on(engine, frames)
        return bool(frames) or is_over()

    def _begin_on(self, engine: int, frames: Sequence[ReceivedFrame]) -> None:
        flight = self._view_all(frames)
        if flight is not None:
            self._begins += 1
            begun = _Begun(flight, Ticket(flight.images, flight.detect), self._begins)
            self._begun.append(begun)
            self._team.begin(engine, begun.ticket)

    def _publish_ended(self) -> None:
        """Publish results in the order in which the frames were started."""
        self._team.settle()
        while ended := [each for each in self._begun if each.ticket.outcome is not None]:
            self._begun.remove(ended[0])
            self._publish_begun(ended[0])  # which may settle more of them

    def _publish_begun(self, begun: _Begun) -> None:
        flight, outcome = begun.flight, begun.ticket.outcome
        wanted = [self._is_next(each, begun.number) for each in flight.viewed]
        late = [
            each for each, is_wanted in zip(flight.viewed, wanted, strict=True) if not is_wanted
        ]
        if late:
            self._drop(dataclasses.replace(flight, viewed=late))
            self._team.overtaken([each.frame.received_ns for each in late])
        viewed = [each for each, is_wanted in zip(flight.viewed, wanted, strict=True) if is_wanted]
        if isinstance(outcome, Exception):
            self._process_failed([each.frame for each in viewed], outcome)
        elif outcome is not None and viewed:
            of_all, timings = self._team.found(begun.ticket)
            found = [each for each, is_wanted in zip(of_all, wanted, strict=True) if is_wanted]
            self._engine = begun.ticket.engine
            self._publish_found(dataclasses.replace(flight, viewed=viewed), found, timings)
            self._engine = None

    def _is_next(self, viewed: ViewedFrame, number: int) -> bool:
        """Whether no later frame of the stream was published, so that this one may be."""
        stream = id(viewed.frame.stream)
        if number < self._out.get(stream, 0):
            return False
        self._out[stream] = number
        return True
