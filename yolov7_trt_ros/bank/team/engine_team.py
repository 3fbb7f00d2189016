"""EngineTeam: a Detector that may run several engines at the same time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import contextlib
import dataclasses
import functools
from functools import partial
import threading
import time

from yolov7_trt_ros.bank.class_map import ClassMap, missing_classes
from yolov7_trt_ros.bank.team.engine_lane import Attempt, EngineLane, Found, Run, Ticket
from yolov7_trt_ros.bank.team.engine_schedule import EngineSchedule, FIRST
from yolov7_trt_ros.bank.update.background import Background, BackgroundThread
from yolov7_trt_ros.bank.update.engine_bank import EngineBank, error_text, OpenModel
from yolov7_trt_ros.core.detector import BatchDetector, DetectSettings
from yolov7_trt_ros.core.forms.model_spec import ModelSpec
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.errors import DeviceLostError, InferenceError

_JOIN_S = 5.0
_HANGS = 'the engine does not answer'
_LOOK_S = 1.0
"""Interval of checks for hanging engines while a frame waits for one."""


class EngineTeam(BatchDetector):
    """
    The engine of an EngineBank and other engines beside it; docs/bank.md.

    As a Detector it is the first engine. If `alone` is false, the detection thread may have
    several engines at work: `choose` returns the engine for a waiting frame, `begin` starts it,
    and after `settle` finished tickets have an outcome. Each engine then works in its own thread.
    If an engine fails or hangs on a frame, another one repeats it. Detections always have the
    class ids of the first engine.

    Parameters
    ----------
    bank
        The first engine; while its model is updated, the others rest.
    others
        The other engines, owned by the team.
    clock
        Monotonic nanoseconds.
    new_background
        Returns the thread that runs an engine.
    new_schedule
        Returns what chooses the engine of a frame, from how many there are.

    Attributes
    ----------
    answered_by
        The engine that the detection of `detect_batch` is from.

    """

    def __init__(
        self, bank: EngineBank, others: Sequence[OpenModel], *,
        clock: Callable[[], int] = time.monotonic_ns,
        new_background: Callable[[], Background] = BackgroundThread,
        new_schedule: Callable[[int], EngineSchedule] = EngineSchedule,
    ) -> None:
        self._bank, self._others, self._clock = bank, list(others), clock
        self._schedule = new_schedule(1 + len(self._others))
        self._lock = threading.Lock()  # of the schedule, which diagnostics read
        self._ended = threading.Event()
        self._wake: Callable[[], None] = lambda: None
        runs: list[Run] = [self._run_first, *(
            partial(self._run_other, number) for number in range(1, 1 + len(self._others))
        )]
        self._lanes = [EngineLane(run, clock, new_background, self._on_end) for run in runs]
        self._model = 0
        self.answered_by: int | None = None
        self._compare_classes()

    # ---- the Detector: the first engine

    @property
    def spec(self) -> ModelSpec:
        """Return what the first engine's model is."""
        return self._bank.spec

    @property
    def backend(self) -> str:
        """Return what runs the first engine."""
        return self._bank.backend

    @property
    def max_batch(self) -> int:
        """Return how many images the first engine takes."""
        return self._bank.max_batch

    def detect_batch(self, images: Sequence[ImageView], settings: DetectSettings) -> Found:
        """
        Find objects in several images with the first engine, or another one if that fails.

        Raises as `EngineBank.detect_batch`.

        """
        ticket = Ticket(images, settings)
        if not self._begin_in_thread(ticket):
            self._begun(FIRST, ticket)
            self._take(FIRST, self._lanes[FIRST].run_here(ticket))
        return self._wait_for(ticket)

    def status(self) -> dict[str, str]:
        """Return the status of the first engine."""
        return self._bank.status()

    def close(self) -> None:
        """Close all engines; called twice is harmless. One that hangs is left as it is."""
        detectors = [self._bank, *(each.detector for each in self._others)]
        with contextlib.ExitStack() as closing:  # all of them, whatever one raises
            for lane, detector in zip(self._lanes, detectors, strict=True):
                if lane.close(_JOIN_S):
                    closing.callback(detector.close)

    # ---- several at once, for the thread that detects

    @property
    def alone(self) -> bool:
        """Whether only the first engine is to begin frames now."""
        if self._bank.is_updating:
            return True
        with self._lock:
            return self._schedule.alone

    @property
    def others_idle(self) -> bool:
        """Whether no engine but the first has a frame whose result is awaited."""
        return all(
            each.given_up or each.ticket.probe for lane in self._lanes[1:]
            for each in lane.attempts
        )

    def choose(self) -> int | None:
        """Return the engine that is to begin a frame that waits; None: let it wait."""
        if self._bank.is_updating:  # until all are out, for what they show is of former classes
            return FIRST if self.others_idle and not self._lanes[FIRST].attempts else None
        self._follow_model()
        with self._lock:
            return self._schedule.choose(self._clock())

    def most(self, engine: int) -> int:
        """Return how many images an engine takes at once."""
        return self.max_batch if engine == FIRST else self._others[engine - 1].detector.max_batch

    def begin(self, engine: int, ticket: Ticket) -> None:
        """Have an engine start on frames; their images live until there is an outcome."""
        lane = self._lanes[engine]
        if lane.hangs:  # it would keep the images of all that wait for it
            ticket.outcome = ticket.error or InferenceError(_HANGS)
            return
        if not lane.attempts:
            self._begun(engine, ticket)
        lane.submit(ticket)

    def wait(self) -> None:
        """Wait until an engine has ended, a second at most."""
        self._ended.wait(_LOOK_S)

    def wake_with(self, wake: Callable[[], None]) -> None:
        """Have this called in any thread whenever an engine has ended."""
        self._wake = wake

    @property
    def has_ended(self) -> bool:
        """Whether an engine has ended since `settle`."""
        return self._ended.is_set()

    def settle(self) -> None:
        """Set the outcome of tickets whose engines have ended; failed ones are retried."""
        self._ended.clear()
        for engine, lane in enumerate(self._lanes):
            while (attempt := lane.take_ended()) is not None:
                self._take(engine, attempt)
                if lane.attempts:
                    self._begun(engine, lane.attempts[0].ticket)
        self._give_up_hanging()

    def found(self, ticket: Ticket) -> Found:
        """
        Return the outcome of a ticket with the class ids of `spec`, as it is now.

        Raises what the engine raised.

        """
        found, timings = ticket.found()
        names = self._bank.answered.class_names
        if ticket.class_names == names:
            return found, timings
        return [_class_map(names, ticket.class_names).of_new(each) for each in found], timings

    def answered(self, arrived_ns: Sequence[int]) -> None:
        """Note that frames were published now, which had arrived then; settles too."""
        self.settle()
        self._follow_model()
        with self._lock:
            now_ns = self._clock()
            self._schedule.answered([now_ns - each for each in arrived_ns], now_ns)

    def overtaken(self, arrived_ns: Sequence[int]) -> None:
        """Note frames that came too late to be published, and had arrived then."""
        with self._lock:
            now_ns = self._clock()
            self._schedule.overtaken([now_ns - each for each in arrived_ns], now_ns)

    def probe(self, images: Sequence[ImageView], settings: DetectSettings) -> None:
        """Have an engine that is to be measured run a copy of frames that were answered."""
        if self._bank.is_updating:
            return
        with self._lock:
            engine = self._schedule.probe(self._clock())
        if engine is None or self._lanes[engine].attempts:
            return
        try:
            copies = [dataclasses.replace(each, pixels=each.pixels.copy()) for each in images]
        except MemoryError:  # another time
            return
        self.begin(engine, Ticket(copies, settings, probe=True))

    # ---- reports, in any thread

    def look(self) -> None:
        """Wake the detection thread if an engine hangs; about once a second."""
        with self._lock:
            overdue = self._schedule.overdue(self._clock())
        if overdue:
            self._on_end()

    def text(self) -> str:
        """Return the state of the team as text."""
        if self._bank.is_updating:
            return 'the others rest while the model is updated'
        with self._lock:
            return self._schedule.text(self._clock())

    def engine_name(self, engine: int) -> str:
        """Return the name of an engine, of the first the model that has answered last."""
        if engine == FIRST:
            return self._bank.answered.model.name
        return self._others[engine - 1].model.name

    def engine_texts(self) -> dict[str, str]:
        """Return the state of each engine, by number and name."""
        names = [self._bank.serving.model.name, *(each.model.name for each in self._others)]
        with self._lock:
            now_ns = self._clock()
            return {
                f'{number + 1}: {name}': self._schedule.engine_text(number, now_ns)
                for number, name in enumerate(names)
            }

    def out(self) -> list[str]:
        """Return messages about the engines that failures have taken out."""
        with self._lock:
            out = self._schedule.out(self._clock())
        return [f'engine {number + 1} is {text}' for number, text in out.items()]

    # ---- what comes of a frame

    def _on_end(self) -> None:
        self._ended.set()
        self._wake()

    def _run_first(
        self, images: Sequence[ImageView], settings: DetectSettings
    ) -> tuple[Found, tuple[str, ...]]:
        found = self._bank.detect_batch(images, settings)
        return found, self._bank.answered.class_names

    def _run_other(
        self, engine: int, images: Sequence[ImageView], settings: DetectSettings
    ) -> tuple[Found, tuple[str, ...]]:
        model = self._others[engine - 1]
        return model.run(images, settings), model.class_names

    def _begun(self, engine: int, ticket: Ticket) -> None:
        with self._lock:
            self._schedule.begin(engine, ticket.kind, self._clock(), probe=ticket.probe)

    def _take(self, engine: int, attempt: Attempt) -> None:
        """Take what came of an attempt."""
        ticket, outcome = attempt.ticket, attempt.outcome
        error = outcome if isinstance(outcome, Exception) else None
        with self._lock:
            self._schedule.end(
                engine, attempt.ended_ns, probe=ticket.probe,
                good=error is None and not attempt.given_up,
            )
        if attempt.given_up:
            return
        if error is None:
            if ticket.suspect is not None and ticket.error is not None:
                self._blame(ticket.suspect, ticket.error)
            ticket.engine, ticket.outcome = engine, outcome
            ticket.class_names = attempt.class_names
        elif ticket.probe:
            ticket.outcome = error
            self._blame(engine, error)
        else:
            self._try_elsewhere(engine, ticket, error, suspect=engine)

    def _try_elsewhere(
        self, engine: int, ticket: Ticket, error: Exception, suspect: int | None = None
    ) -> None:
        """Have another engine run frames that one failed on; else the error is the outcome."""
        others = [each for each in self._ready() if each != engine]
        if ticket.error is not None:  # two engines failed on them: nobody is to blame
            ticket.outcome = ticket.error
        elif not others or self._is_the_end(engine, error):
            ticket.outcome = error
        else:
            ticket.error, ticket.suspect = error, suspect
            self.begin(others[0], ticket)

    def _is_the_end(self, engine: int, error: Exception) -> bool:
        is_lost = engine == FIRST and isinstance(error, DeviceLostError)
        return is_lost and self._schedule.ends_with_first

    def _give_up_hanging(self) -> None:
        """Have the frames of engines that hang run elsewhere."""
        with self._lock:
            overdue = self._schedule.overdue(self._clock())
        for engine in overdue:
            waiting = [each for each in self._lanes[engine].attempts if not each.given_up]
            error = InferenceError(_HANGS)
            if waiting:
                self._blame(engine, error)
            for attempt in waiting:
                attempt.given_up = True
                if not attempt.ticket.probe:
                    self._try_elsewhere(engine, attempt.ticket, error)

    def _blame(self, engine: int, error: Exception) -> None:
        with self._lock:
            self._schedule.fail(
                engine, f'it failed: {error_text(error)}', self._clock(),
                for_good=isinstance(error, DeviceLostError),
            )

    def _begin_in_thread(self, ticket: Ticket) -> bool:
        """
        Begin frames in a thread if the first is busy in its own, or out of service.

        While its model is updated it gets frames anyway: its results decide on the update.

        """
        is_asked = self._bank.is_updating or self._is_in(FIRST)
        if is_asked and not self._lanes[FIRST].attempts:
            return False
        self.begin(next(iter(self._ready()), FIRST), ticket)
        return True

    def _wait_for(self, ticket: Ticket) -> Found:
        while ticket.outcome is None:  # in a thread, or another one is at it
            self.wait()
            self.settle()
        self.answered_by = ticket.engine
        return self.found(ticket)

    # ---- who

    def _is_in(self, engine: int) -> bool:
        with self._lock:
            return engine in self._schedule.ready()

    def _ready(self) -> list[int]:
        with self._lock:
            return self._schedule.ready()

    def _follow_model(self) -> None:
        """Start over if the first engine has another model."""
        if not self._bank.is_updating and self._bank.serving.model.number != self._model:
            self._compare_classes()
            with self._lock:
                self._schedule.restart(self._clock())

    def _compare_classes(self) -> None:
        """Keep out the engines that lack classes of the first."""
        serving = self._bank.serving
        self._model = serving.model.number
        for number, other in enumerate(self._others, 1):
            lost = missing_classes(serving.detector.spec, other.detector.spec)
            reason = f'it lacks the classes {lost}' if lost else ''
            with self._lock:
                self._schedule.bar(number, reason)


@functools.lru_cache(maxsize=64)
def _class_map(first: tuple[str, ...], other: tuple[str, ...]) -> ClassMap:
    return ClassMap(first, other)
