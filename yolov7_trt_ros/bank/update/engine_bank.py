"""EngineBank: a Detector whose engine can be replaced between two frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import dataclasses
import functools
from functools import partial
import threading
import time
from typing import TypeVar

from yolov7_trt_ros.bank.bank_settings import judged_score, settings_for
from yolov7_trt_ros.bank.class_map import class_names_of, ClassMap, missing_classes
from yolov7_trt_ros.bank.looks.in_parts import detect_in_parts
from yolov7_trt_ros.bank.looks.second_look import SecondLook
from yolov7_trt_ros.bank.update.background import Background, BackgroundThread
from yolov7_trt_ros.bank.update.shadow_tally import compare, FrameComparison
from yolov7_trt_ros.bank.update.update_machine import (
    IMMEDIATE,
    ModelId,
    Phase,
    UpdateLimits,
    UpdateMachine,
    UpdateStatus,
)
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.detector import BatchDetector, Detector, DetectSettings, FrameTimings
from yolov7_trt_ros.core.forms.model_spec import ModelSpec
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.looks.crops import Crop
from yolov7_trt_ros.errors import DeviceLostError, SettingError, Yolov7TrtError

T = TypeVar('T')

_JOIN_S = 5.0


@dataclasses.dataclass(eq=False)
class OpenModel:
    """
    An open model.

    Attributes
    ----------
    model, detector
        The model and its engine.
    sha256
        Of its file, '' if unknown.
    users, closed
        Number of threads that run it, and whether it may no longer be run.

    """

    model: ModelId
    detector: Detector
    sha256: str
    users: int = 0
    closed: bool = False
    _asked: DetectSettings | None = None
    _given: DetectSettings | None = None

    @functools.cached_property
    def class_names(self) -> tuple[str, ...]:
        """Return what the class ids of its detections mean."""
        return class_names_of(self.detector.spec)

    def given(self, settings: DetectSettings) -> DetectSettings:
        """Return settings with the class ids of this model."""
        if self._given is None or settings is not self._asked:
            self._given = settings_for(settings, self.class_names)
            self._asked = settings
        return self._given

    def run(
        self, images: Sequence[ImageView], settings: DetectSettings,
        crops: Sequence[Sequence[Crop]] = (),
    ) -> tuple[list[Detections], FrameTimings]:
        """
        Detect, in as many batches as this engine needs.

        With a second look, and crops of each image, in these: another model has chosen them.

        """
        detector = self.detector
        if isinstance(detector, SecondLook) and len(crops) == len(images) <= detector.max_batch:
            return detector.detect_at(images, self.given(settings), crops)
        return detect_in_parts(self.detector, images, self.given(settings))


@dataclasses.dataclass(frozen=True)
class _Served:
    """The frames that were answered last; with a second look also the crops of each."""

    by: OpenModel
    images: Sequence[ImageView]
    settings: DetectSettings
    found: list[Detections]
    took_ns: int
    crops: Sequence[Sequence[Crop]]


class EngineBank(BatchDetector):
    """
    The engine that serves, and the one that is to take its place or had it before.

    A Detector for the thread that detects; everything else may be called by any thread, and calls
    nothing back but `on_change`. A frame is answered by one engine from beginning to end.

    Parameters
    ----------
    detector, model, sha256
        What serves at first, its name and the hash of its file.
    limits
        How updates go.
    on_change
        Called when an update has got further, in any thread.
    clock
        Monotonic nanoseconds.
    new_background
        Gives what runs a candidate beside the engine that serves.
    close_engine
        Closes an engine after an update, in a background.

    """

    def __init__(
        self,
        detector: Detector,
        model: str,
        sha256: str = '',
        limits: UpdateLimits | None = None,
        *,
        on_change: Callable[[], None] = lambda: None,
        clock: Callable[[], int] = time.monotonic_ns,
        new_background: Callable[[], Background] = BackgroundThread,
        close_engine: Callable[[Detector], None] = lambda detector: detector.close(),
    ) -> None:
        self._machine = UpdateMachine(model, limits or UpdateLimits())
        self._lock = threading.Lock()  # of the machine, the engines and who uses them
        first = OpenModel(self._machine.serving, detector, sha256)
        self._engines = {first.model.number: first}
        self._answered = first
        self._served: _Served | None = None
        self._background: Background | None = None
        self._is_closed = False
        self._on_change, self._clock, self._new_background = on_change, clock, new_background
        self._close_engine = close_engine

    # ---- the Detector

    @property
    def spec(self) -> ModelSpec:
        """Return the spec of the model that answered last, else of the serving one."""
        return self._answered.detector.spec

    @property
    def backend(self) -> str:
        """Return what runs that one."""
        return self._answered.detector.backend

    @property
    def max_batch(self) -> int:
        """Return the batch size of the engine that answered last; more images run in parts."""
        return self._answered.detector.max_batch

    @property
    def answered(self) -> OpenModel:
        """Return who has answered last; for the thread that detects."""
        return self._answered

    @property
    def serving(self) -> OpenModel:
        """Return who answers the next frame."""
        with self._lock:
            return self._engines[self._machine.serving.number]

    def detect_batch(
        self, images: Sequence[ImageView], settings: DetectSettings
    ) -> tuple[list[Detections], FrameTimings]:
        """
        Find objects in several images.

        Where a new model fails, the former one answers, and serves from then on.

        Raises
        ------
        SettingError
            No image.
        InferenceError, or what else an engine raises
            The engine failed, and there is no other or that failed too.

        """
        if not images:
            raise SettingError('expected an image at least, got none')
        engine = self._begin_serving()
        return self._answer(engine, images, settings, lambda: engine.run(images, settings))

    @property
    def is_updating(self) -> bool:
        """Whether there is another model than the one that serves."""
        return self._machine.phase is not Phase.STEADY

    def status(self) -> dict[str, str]:
        """Return the status of the serving engine."""
        return self.serving.detector.status()

    def close(self) -> None:
        """Close all engines; called twice is harmless. One that hangs is left as it is."""
        with self._lock:
            background, self._background = self._background, None
            self._is_closed = True
            if background is not None:
                background.stop()
        if background is not None:
            background.join(_JOIN_S)
        with self._lock:
            self._machine.end()  # a candidate that hangs is closed if it ever answers
            engines = [
                each for each in self._engines.values() if not each.closed and not each.users
            ]
            for engine in engines:
                engine.closed = True
        self._served = None
        for engine in engines:
            engine.detector.close()

    def _begin_serving(self) -> OpenModel:
        engine = self._begin(lambda machine: machine.serving)
        assert engine is not None  # there is always one that serves
        return engine

    def _answer(
        self, engine: OpenModel, images: Sequence[ImageView], settings: DetectSettings,
        run: Callable[[], tuple[list[Detections], FrameTimings]],
    ) -> tuple[list[Detections], FrameTimings]:
        """Run an engine in use, then release it; another one answers if it fails."""
        self._served = None
        try:
            found, timings = run()
        except Exception as exc:  # whatever an engine raises
            self._end(engine)
            engine, found, timings = self._run_substitute(engine, images, settings, exc)
        else:
            kind = tuple(sorted(image.size_wh for image in images))
            self._end(engine, lambda machine: machine.served(engine.model, kind, timings.total_ns))
        self._answered = engine
        if self._background is not None:
            crops = engine.detector.looked_at if isinstance(engine.detector, SecondLook) else ()
            self._served = _Served(engine, images, settings, found, timings.total_ns, crops)
        return found, timings

    def _run_substitute(
        self, failed: OpenModel, images: Sequence[ImageView], settings: DetectSettings,
        error: Exception,
    ) -> tuple[OpenModel, list[Detections], FrameTimings]:
        """Let the former model answer; if it fails too, the frame is the cause."""
        engine = None
        if not isinstance(error, DeviceLostError):
            engine = self._begin(lambda machine: machine.substitute(failed.model))
        if engine is None:
            raise error
        try:
            found, timings = engine.run(images, settings)
        except BaseException:
            self._end(engine)
            raise
        self._end(engine, lambda machine: machine.substituted(
            failed.model, f'it failed: {error_text(error)}'
        ))
        return engine, found, timings

    # ---- updates

    def check(self, model: str, limits: UpdateLimits | None = None) -> None:
        """Check that a model may be requested; raises SettingError as `UpdateMachine.check`."""
        with self._lock:
            self._machine.check(model, self._clock(), limits)

    def ask(self, model: str, limits: UpdateLimits | None = None) -> ModelId | None:
        """Begin an update; returns what is to be opened, as `UpdateMachine.ask`."""
        return self._change(lambda machine: machine.ask(model, self._clock(), limits))

    def opened(self, model: ModelId, detector: Detector, sha256: str = '') -> bool:
        """
        Take an opened candidate, which is the bank's from now on.

        Returns whether it is wanted; one that is not is closed.

        """
        candidate = OpenModel(model, detector, sha256)
        with self._lock:
            former = self._engines[self._machine.serving.number].detector.spec
            self._engines[model.number] = candidate
        lost = missing_classes(former, detector.spec)
        if lost and self._machine.limits.mode != IMMEDIATE:
            self.failed(model, f'it does not have the classes {lost}; with update:=immediate it '
                        'is taken all the same')
            return False
        return self._change(lambda machine: machine.opened(model, self._clock()))

    def failed(self, model: ModelId, reason: str) -> None:
        """Give up a candidate."""
        self._change(lambda machine: machine.failed(model, reason))

    def promote(self) -> str:
        """Let the candidate serve; raises SettingError as `UpdateMachine.promote`."""
        return self._change(lambda machine: machine.promote(self._clock()))

    def roll_back(self) -> str:
        """Go back; raises SettingError as `UpdateMachine.roll_back`."""
        return self._change(lambda machine: machine.roll_back())

    def limit(self, limits: UpdateLimits) -> None:
        """Take other limits, also for an update that is under way."""
        self._change(lambda machine: machine.limit(limits, self._clock()))

    def tick(self) -> None:
        """Do what is due by time; to be called about once a second."""
        self._change(lambda machine: machine.tick(self._clock()))

    def update_status(self) -> UpdateStatus:
        """Return the state of an update."""
        with self._lock:
            return self._machine.status(self._clock())

    def compare_last(self, has_waiting: Callable[[], bool] = lambda: False) -> None:
        """
        Have the candidate see the frames that were answered last, if it is its turn.

        For the thread that detects, once they are published. The candidate runs in a thread of
        its own on a copy, so a frame that comes meanwhile need not wait.

        Parameters
        ----------
        has_waiting
            Whether another frame waits; then there is no comparison.

        """
        served, self._served = self._served, None  # its images are in memory of others
        if served is None or has_waiting():
            return
        candidate = self._begin(lambda machine: machine.begin_comparison(self._clock()))
        if candidate is None:
            return
        try:
            images = [
                dataclasses.replace(image, pixels=image.pixels.copy()) for image in served.images
            ]
        except MemoryError:
            self._end_comparison(candidate, 'there is no memory to compare it')
            return
        self._submit(candidate, dataclasses.replace(served, images=images))

    def _submit(self, candidate: OpenModel, served: _Served) -> None:
        with self._lock:
            background = self._background
            if background is not None:  # else it was given up meanwhile
                background.submit(lambda: self._compare(candidate, served))
                return
        self._end(candidate)

    def _compare(self, candidate: OpenModel, served: _Served) -> None:
        """Run the candidate on frames that were served; in the background's thread."""
        try:
            found, timings = candidate.run(served.images, served.settings, served.crops)
            outcome = compare(
                served.found, found,
                ClassMap(served.by.class_names, candidate.class_names),
                judged_score(served.settings),
                served_ns=served.took_ns, candidate_ns=timings.total_ns,
            )
        except Exception as exc:  # whatever an engine raises: the candidate is to blame
            self._end_comparison(candidate, f'it failed on a frame: {error_text(exc)}')
        else:
            self._end_comparison(candidate, outcome)

    def _end_comparison(self, candidate: OpenModel, outcome: FrameComparison | str) -> None:
        self._end(candidate, lambda machine: machine.end_comparison(
            candidate.model, outcome, self._clock()
        ))

    # ---- who uses which engine

    def _begin(self, choose: Callable[[UpdateMachine], ModelId | None]) -> OpenModel | None:
        """Take an engine into use: it is not closed before `_end`."""
        with self._lock:
            model = choose(self._machine)
            if model is None:
                return None
            engine = self._engines[model.number]
            engine.users += 1
            return engine

    def _end(
        self, engine: OpenModel, tell: Callable[[UpdateMachine], None] = lambda _: None
    ) -> None:
        """Release an engine, and report its result to the machine."""
        def ended(machine: UpdateMachine) -> None:
            engine.users -= 1
            tell(machine)

        self._change(ended)

    def _change(self, act: Callable[[UpdateMachine], T]) -> T:
        """Let the machine change, then open and close what that asks for."""
        machine = self._machine
        with self._lock:
            before = (machine.phase, machine.serving, machine.last)
            result = act(machine)
            self._follow_phase()
            unused = self._take_unused()
            changed = before != (machine.phase, machine.serving, machine.last)
        for engine in unused:
            closing = self._new_background()
            closing.submit(partial(self._close_engine, engine.detector))
            closing.stop()
        if changed:
            self._on_change()
        return result

    def _follow_phase(self) -> None:
        """Have a background for each candidate that is compared, and none else."""
        compares = self._machine.phase is Phase.SHADOW and not self._is_closed
        if compares and self._background is None:
            self._background = self._new_background()
        elif not compares and self._background is not None:
            self._background.stop()
            self._background = None

    def _take_unused(self) -> list[OpenModel]:
        """Remove and return the unused engines."""
        resident = self._machine.resident
        unused = [
            each for number, each in self._engines.items()
            if number not in resident and not each.users and not each.closed
        ]
        for each in unused:
            del self._engines[each.model.number]
        return unused


def error_text(error: Exception) -> str:
    """Return the message of an error; of those that are not ours with the type."""
    return str(error) if isinstance(error, Yolov7TrtError) else f'{type(error).__name__}: {error}'
