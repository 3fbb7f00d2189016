"""PlanBuild: build and open a TensorRT plan in a thread beside the executor."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import os
from pathlib import Path
import sys
import threading
import time

from yolov7_trt_ros.bank.update.background import THREAD_NAME
from yolov7_trt_ros.core.detector import Detector
from yolov7_trt_ros.core.units import NS_PER_S
from yolov7_trt_ros.engine.build_process import build_apart
from yolov7_trt_ros.engine.model_files import ModelFile
from yolov7_trt_ros.engine.open import build_needed_plan, open_detector
from yolov7_trt_ros.engine.options import DetectorOptions
from yolov7_trt_ros.errors import BuildError, ModelError, PlanError, Yolov7TrtError
from yolov7_trt_ros.nodes.one_line import describe_error

_THREAD_NAME = 'plan_build'
_POLL_S = 0.1
# Two builds would share the GPU and spoil each other's timings; and one that was cancelled may
# still be on its way to where it can stop.
_ONE_AT_A_TIME = threading.Lock()
# Nothing stops the opening of a file: without this, each candidate that takes the place of another
# one that is being opened would add one more to the memory and the threads.
_ONE_CANDIDATE = threading.Lock()


Build = Callable[
    [DetectorOptions, Callable[[str, float | None], None], Callable[[], bool]], Path
]


@dataclasses.dataclass(frozen=True)
class Engine:
    """
    The functions of engine/ that the node uses.

    Attributes
    ----------
    open_detector
        Opens a detector.
    build, build_apart
        Build the plan for a detector: in this process, or in a separate one with low priority.

    """

    open_detector: Callable[[DetectorOptions], Detector] = open_detector
    build: Build = build_needed_plan
    build_apart: Build = build_apart


class PlanBuild:
    """
    One build in a separate thread, from the plan to the opened detector.

    All methods are for the executor's thread. After `cancel` there is no result: `on_end` is not
    called, and a detector that was opened is closed.

    Parameters
    ----------
    engine, options
        What to build and open with.
    on_end
        Called once, in the build's thread, when `take` has a result.

    """

    def __init__(
        self, engine: Engine, options: DetectorOptions, on_end: Callable[[], None]
    ) -> None:
        self._engine, self._options, self._on_end = engine, options, on_end
        self._started_ns = time.monotonic_ns()
        self._phase: tuple[str, float | None] = ('start', None)
        self._cancelled = threading.Event()
        self._lock = threading.Lock()  # of the outcome: the three below
        self._ended = False
        self._detector: Detector | None = None
        self._error: Yolov7TrtError = BuildError('the build thread ended with an unexpected error')
        # A daemon: TensorRT cannot stop everywhere at once, and the process must end all the same.
        self._thread = threading.Thread(target=self._run, name=_THREAD_NAME, daemon=True)
        self._thread.start()

    def progress(self) -> str:
        """Return `building a plan: tactics 43 %, 95 s`: phase, its share if known, time so far."""
        return f'building a plan: {self._progress()}'

    def _progress(self) -> str:
        phase, fraction = self._phase
        share = '' if fraction is None else f' {100 * fraction:.0f} %'
        seconds = (time.monotonic_ns() - self._started_ns) / NS_PER_S
        return f'{phase}{share}, {seconds:.0f} s'

    def take(self) -> Detector | None:
        """
        Return the detector, now the caller's; None while the build runs.

        Raises
        ------
        Yolov7TrtError
            Why there is none.

        """
        with self._lock:
            detector, self._detector = self._detector, None
            if self._ended and detector is None:
                raise self._error
            return detector

    def cancel(self, timeout_s: float) -> bool:
        """
        Cancel, and wait at most this long for the thread; return whether it has ended.

        Otherwise it ends by itself later, and its result is dropped.

        """
        with self._lock:
            self._cancelled.set()
            detector, self._detector = self._detector, None
        if detector is not None:
            detector.close()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        detector, error = None, self._error
        try:
            detector = self._build_and_open()
        except Yolov7TrtError as exc:
            error = exc
        except Exception as exc:  # of TensorRT or ours: the reason is passed on
            error = BuildError(
                f'the build thread ended with an unexpected error: {describe_error(exc)}'
            )
        finally:
            self._end(detector, error)

    def _build_and_open(self) -> Detector | None:
        """Return the detector, None when cancelled in between."""
        if not self._acquire(_ONE_AT_A_TIME, 'waiting for another build'):
            return None
        try:
            self._engine.build(self._options, self._report, self._cancelled.is_set)
        finally:
            _ONE_AT_A_TIME.release()
        self._report('open', None)
        return None if self._cancelled.is_set() else self._engine.open_detector(self._options)

    def _acquire(self, lock: threading.Lock, waiting: str) -> bool:
        """Wait for a lock, and report that; return False when cancelled meanwhile."""
        while not lock.acquire(timeout=_POLL_S):
            self._report(waiting, None)
            if self._cancelled.is_set():
                return False
        return True

    def _report(self, phase: str, fraction: float | None) -> None:
        self._phase = (phase, fraction)

    def _end(self, detector: Detector | None, error: Yolov7TrtError) -> None:
        with self._lock:
            wanted = not self._cancelled.is_set()
            if wanted:
                self._ended, self._detector, self._error = True, detector, error
                self._on_end()
        if detector is not None and not wanted:
            detector.close()


class CandidateOpening(PlanBuild):
    """
    Opens a new model while another one serves; builds its plan first if needed.

    Parameters
    ----------
    engine, options, on_end
        As for PlanBuild.
    may_build
        Whether to build a plan that is missing or does not fit.
    prepare
        Called in the build's thread with the opened detector; if it raises an error of ours,
        opening has failed for that reason.

    Attributes
    ----------
    sha256
        Of the model's file, once it is open.

    """

    def __init__(
        self, engine: Engine, options: DetectorOptions, on_end: Callable[[], None], *,
        may_build: bool, prepare: Callable[[Detector], None] = lambda _: None,
    ) -> None:
        self._may_build, self._builds, self._prepare = may_build, False, prepare
        self.sha256 = ''
        apart = dataclasses.replace(engine, build=engine.build_apart)
        super().__init__(apart, options, on_end)

    def progress(self) -> str:
        """Return `open, 2 s`, or `building a plan: tactics 43 %, 95 s`."""
        return super().progress() if self._builds else self._progress()

    def _build_and_open(self) -> Detector | None:
        if not self._acquire(_ONE_CANDIDATE, 'waiting for a model that is still being opened'):
            return None
        try:
            return None if self._cancelled.is_set() else self._open_candidate()
        finally:
            _ONE_CANDIDATE.release()

    def _open_candidate(self) -> Detector | None:
        file = ModelFile(self._options.model)
        detector = self._open_or_build()
        if detector is not None:
            try:
                self._prepare(detector)
                self.sha256 = file.sha256()
                if file.has_changed:
                    raise ModelError(
                        f'{self._options.model} was written to while it was opened: copy it under '
                        'another name, then set that'
                    )
            except BaseException:  # whatever it is: nobody else would close it
                detector.close()
                raise
        return detector

    def _open_or_build(self) -> Detector | None:
        self._report('open', None)
        try:
            return self._engine.open_detector(self._options)
        except PlanError:
            if not self._may_build:
                raise
        self._builds = True
        return super()._build_and_open()


def exit_despite_builds(code: int) -> int:
    """
    Return `code`, or end the process with it where a build, or a new model, still runs.

    Python's own way out unloads TensorRT under that thread's native code, which crashes.

    """
    if any(thread.name in (_THREAD_NAME, THREAD_NAME) for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code
