"""Sampler: reads the telemetry of a machine at a steady rate, in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable
import threading
import time
import traceback

from yolov7_trt_ros.errors import PowerError
from yolov7_trt_ros.nodes.one_line import describe_error
from yolov7_trt_ros.power.telemetry.sample import BoardSample, TelemetrySource

_HANG_S, _HANG_PERIODS = 10.0, 3.0
"""A sample that takes longer than both together is a hang."""

_MOST_DEFECTS = 50


class Sampler:
    """
    Opens a source of telemetry and reads it at a steady rate, in a thread of its own.

    Parameters
    ----------
    open_source
        Called in the thread.
    period_s
        Called before each wait.
    take
        Called with each sample, in the thread.
    now_s
        Time for detecting a hang, in seconds.

    """

    def __init__(
        self,
        open_source: Callable[[], TelemetrySource],
        period_s: Callable[[], float],
        take: Callable[[BoardSample], None],
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_source, self._period_s, self._take = open_source, period_s, take
        self._now_s = now_s
        self._source_name = ''
        self._newest: BoardSample | None = None
        self._problem = ''
        self._defects: set[str] = set()  # whose traceback was printed
        self._ended_s: float | None = None  # when it was last read, or started
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name='power_sampler', daemon=True)

    @property
    def source_name(self) -> str:
        """Name of the source; `none` without any power sensor."""
        return self._source_name or 'not open yet'

    @property
    def is_idle(self) -> bool:
        """Whether this machine has no source."""
        return self._source_name == 'none'

    @property
    def newest(self) -> BoardSample | None:
        """Return the newest sample; None if it is outdated."""
        return None if self.problem else self._newest

    @property
    def problem(self) -> str:
        """Why there is no current sample, '' while there is one."""
        if self._problem or self._stopping.is_set() or self._ended_s is None:
            return self._problem
        if not self._thread.is_alive():
            return 'the sampling thread has ended by a defect: restart the node'
        waited_s = self._now_s() - self._ended_s
        if waited_s <= _HANG_S + _HANG_PERIODS * self._period_s():
            return ''
        return f'power has not been read for {waited_s:.0f} s: {self.source_name} does not answer'

    def start(self) -> None:
        """Start the thread."""
        self._ended_s = self._now_s()
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End the thread; one that hangs in the kernel is abandoned."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while (source := self._open()) is None:
            if self._stopping.wait(self._period_s()):
                return
        self._source_name = source.name
        try:
            self._read(source)
            due_s = time.monotonic()
            while not self.is_idle:
                now_s = time.monotonic()
                due_s = max(due_s + self._period_s(), now_s)  # missed samples are not made up for
                if self._stopping.wait(due_s - now_s):
                    return
                self._read(source)
        finally:
            source.close()

    def _open(self) -> TelemetrySource | None:
        """Return the source; None, with the reason in `problem`, if that fails."""
        try:
            return self._open_source()
        except PowerError as exc:
            self._problem = str(exc)
        except Exception as exc:  # of a part of the machine that answers in a new way
            self._note_defect(exc)
        return None

    def _read(self, source: TelemetrySource) -> None:
        try:
            sample = source.read()
            self._ended_s = self._now_s()
            self._newest, self._problem = sample, ''
            self._take(sample)
        except PowerError as exc:
            self._problem = str(exc)
        except Exception as exc:  # of the source or of `take`: the next sample may be another
            self._note_defect(exc)
        finally:
            self._ended_s = self._now_s()

    def _note_defect(self, error: Exception) -> None:
        problem = f'a defect, see stderr: {describe_error(error)}'
        if problem not in self._defects:
            traceback.print_exception(error)
            self._defects = {*list(self._defects)[-_MOST_DEFECTS:], problem}
        self._problem = problem
