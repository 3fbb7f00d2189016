"""EngineLane: one engine of several, with its worker thread and its frames."""

from __future__ import annotations

import collections
from collections.abc import Callable, Hashable, Sequence
import dataclasses

from yolov7_trt_ros.bank.update.background import Background
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.detector import DetectSettings, FrameTimings
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.errors import InferenceError

Found = tuple[list[Detections], FrameTimings]
Run = Callable[[Sequence[ImageView], DetectSettings], tuple[Found, tuple[str, ...]]]
"""Returns the names of the classes too, by id: a first engine has others after an update."""


@dataclasses.dataclass(eq=False)
class Ticket:
    """
    Frames for the engines of a team.

    Attributes
    ----------
    probe
        Whether they are a copy for measuring an engine, whose result is not used.
    error
        The error of an engine, if another one retries the frames.
    suspect
        That engine; it counts as faulty if the other one succeeds.
    outcome
        Detections or error; None while an engine works on them.
    engine, class_names
        The engine that the outcome comes from, and what the class ids in it mean.

    """

    images: Sequence[ImageView]
    settings: DetectSettings
    probe: bool = False
    error: Exception | None = None
    suspect: int | None = None
    outcome: Found | Exception | None = None
    engine: int | None = None
    class_names: tuple[str, ...] = ()

    @property
    def kind(self) -> Hashable:
        """Return how many images of what sizes they are."""
        return tuple(sorted(image.size_wh for image in self.images))

    def found(self) -> Found:
        """Return the outcome; raises what the engine raised."""
        assert self.outcome is not None  # there is one
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@dataclasses.dataclass(eq=False)
class Attempt:
    """
    One attempt of an engine at a ticket.

    Attributes
    ----------
    outcome, class_names, ended_ns
        Its result, what the class ids in it mean, and the time.
    given_up
        Whether the outcome is no longer used because the engine hangs.

    """

    ticket: Ticket
    outcome: Found | Exception | None = None
    class_names: tuple[str, ...] = ()
    ended_ns: int = 0
    given_up: bool = False


class EngineLane:
    """
    Runs attempts one after the other, in a thread started with the first of them.

    Parameters
    ----------
    run
        Runs the engine.
    clock
        Monotonic nanoseconds.
    new_background
        Returns the thread.
    on_end
        Called in that thread when an attempt has ended.

    Attributes
    ----------
    attempts
        Attempts begun and not yet settled, oldest first; for the detection thread.

    """

    def __init__(
        self, run: Run, clock: Callable[[], int], new_background: Callable[[], Background],
        on_end: Callable[[], None],
    ) -> None:
        self._run, self._clock, self._on_end = run, clock, on_end
        self._new_background = new_background
        self._background: Background | None = None
        self._has_ended = True
        self.attempts: collections.deque[Attempt] = collections.deque()

    @property
    def hangs(self) -> bool:
        """Whether the engine still works on frames that were given up."""
        return any(each.given_up for each in self.attempts)

    def submit(self, ticket: Ticket) -> None:
        """Have the engine run frames."""
        attempt = Attempt(ticket)
        self.attempts.append(attempt)
        if self._background is None:
            self._background = self._new_background()
        self._background.submit(lambda: self._work(attempt))

    def run_here(self, ticket: Ticket) -> Attempt:
        """Run frames in the calling thread; the lane must be empty."""
        attempt = Attempt(ticket)
        self._attempt(attempt)
        return attempt

    def take_ended(self) -> Attempt | None:
        """Return the oldest attempt, if it has ended."""
        if not self.attempts or self.attempts[0].outcome is None:
            return None
        return self.attempts.popleft()

    def close(self, timeout_s: float) -> bool:
        """End the thread after its attempts; return whether it has ended."""
        background, self._background = self._background, None
        if background is not None:
            background.stop()
            self._has_ended = background.join(timeout_s)
        return self._has_ended

    def _work(self, attempt: Attempt) -> None:
        self._attempt(attempt)
        self._on_end()

    def _attempt(self, attempt: Attempt) -> None:
        ticket = attempt.ticket
        outcome: Found | Exception
        try:
            if attempt.given_up:
                raise InferenceError('nobody waits for these frames any more')
            outcome, attempt.class_names = self._run(ticket.images, ticket.settings)
        except Exception as exc:  # whatever an engine raises
            outcome = exc
        attempt.ended_ns = self._clock()
        attempt.outcome = outcome
