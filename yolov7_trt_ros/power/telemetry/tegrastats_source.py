"""Telemetry from a running tegrastats, for boards whose rails /sys shows not at all or in part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import contextlib
import os
from statistics import fmean
import subprocess
import threading
import time

from yolov7_trt_ros.errors import PowerCommandError, PowerFormatError
from yolov7_trt_ros.power.telemetry.lost_sensors import lost_text, LostSensors
from yolov7_trt_ros.power.telemetry.memory import BoardMemory
from yolov7_trt_ros.power.telemetry.rail_totals import RailTotals
from yolov7_trt_ros.power.telemetry.sample import BoardSample
from yolov7_trt_ros.power.telemetry.tegrastats import parse_line
from yolov7_trt_ros.power.telemetry.tegrastats_values import TegrastatsSample, UnitUse
from yolov7_trt_ros.power.units import MS_PER_S

Interval = int | Callable[[], int]
"""Milliseconds, or a function that returns them and may return others later."""

INTERVAL_MS = 500
"""The rails are averages over about 430 ms: faster lines repeat them."""
FIRST_LINE_S = 5.0
"""The first line comes after one interval; a busy board starts the tool slowly."""
RESTART_S = 5.0
"""Least time between two starts of a tool that ended."""

_END_GRACE_S = 2.0
_MISSED_LINES = 5
_LONGEST_EXCERPT = 200
_LONGEST_LINE = 1 << 13  # characters; what is longer is taken in parts

NO_RAILS = (
    'tegrastats shows no power rail; on several releases it does so for root only: run the node '
    'as root, or start it with sudo'
)


class _Run:
    """A running tegrastats and the newest of its lines; at first that of the run before."""

    def __init__(
        self,
        command: Sequence[str],
        interval_ms: int,
        environment: Mapping[str, str],
        take: Callable[[TegrastatsSample], BoardSample],
        before: _Run | None,
    ) -> None:
        self.interval_ms = interval_ms
        self.newest: BoardSample | None = None if before is None else before.newest
        self.arrived_s = time.monotonic()
        self.last_words = 'nothing was printed'
        self.has_ended = False
        self.has_news = threading.Condition()
        self._sample_of = take
        try:
            self.process = subprocess.Popen(
                (*command, '--interval', str(interval_ms)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding='utf-8',
                errors='replace',
                env={**os.environ, 'LC_ALL': 'C', **environment},
                start_new_session=True,
            )
        except OSError as exc:
            raise PowerCommandError(f'cannot start {command[0]}: {exc}') from exc
        self._thread = threading.Thread(target=self._listen, name='tegrastats', daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        if self.process.stdout is not None:  # it is a pipe
            with self.process.stdout as lines:
                while line := lines.readline(_LONGEST_LINE):
                    self._take(line)
        self.process.wait()
        with self.has_news:
            self.has_ended = True
            self.has_news.notify_all()

    def _take(self, line: str) -> None:
        """Parse and keep a line; any other text is kept for an error message."""
        try:
            sample = self._sample_of(parse_line(line))
        except PowerFormatError:
            self.last_words = line.strip()[:_LONGEST_EXCERPT] or self.last_words
            return
        with self.has_news:
            self.newest, self.arrived_s = sample, time.monotonic()
            self.has_news.notify_all()

    def wait_first(self, timeout_s: float) -> None:
        """Wait for the first line, the end of the tool, or the time limit."""
        with self.has_news:
            self.has_news.wait_for(lambda: self.newest or self.has_ended, timeout_s)

    def end(self) -> None:
        """Terminate the tool, then kill it."""
        self.process.terminate()
        try:
            self.process.wait(_END_GRACE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # else it hangs in the kernel
                self.process.wait(_END_GRACE_S)
        self._thread.join(_END_GRACE_S)


class TegrastatsSource:
    """
    Runs tegrastats and returns the newest of its lines.

    The time of a sample is that of its line, so reading faster than the interval repeats a
    sample.

    Parameters
    ----------
    command
        The tool; ' --interval' is added.
    interval_ms
        Between two lines. If it changes, the tool is started again.
    environment
        Variables for the tool in addition to those of this process.
    first_line_s
        Time limit of the first line, after the interval.
    clock_ns
        Time of a sample.

    """

    def __init__(
        self,
        command: Sequence[str] = ('tegrastats',),
        *,
        interval_ms: Interval = INTERVAL_MS,
        environment: Mapping[str, str] | None = None,
        first_line_s: float = FIRST_LINE_S,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._command = tuple(command)
        self._interval_ms = interval_ms
        self._environment = dict(environment or {})
        self._first_line_s = first_line_s
        self._clock_ns = clock_ns
        self._totals = RailTotals()
        self._lost = LostSensors()
        self._run: _Run | None = None
        self._started_s = -RESTART_S
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """Short name for logs."""
        return 'tegrastats'

    def read(self) -> BoardSample:
        """
        Return the newest line; waits only for the first one.

        Raises
        ------
        PowerCommandError
            The tool cannot be started, has ended, or prints no more lines.

        """
        with self._lock:
            run = self._running()
            run.wait_first(run.interval_ms / MS_PER_S + self._first_line_s)
            return self._newest_of(run)

    def close(self) -> None:
        """End the tool."""
        with self._lock:
            if self._run is not None:
                self._run.end()
            self._run = None

    def _running(self) -> _Run:
        """Return the running tool; start it if it has ended, or has another interval."""
        now_s, run = time.monotonic(), self._run
        interval_ms = self._interval_ms if isinstance(self._interval_ms, int) else (
            self._interval_ms())
        if run is not None and run.interval_ms != interval_ms and not run.has_ended:
            run.end()
            return self._start(interval_ms, run)
        if run is None or (run.has_ended and now_s - self._started_s >= RESTART_S):
            return self._start(interval_ms, None)
        return run

    def _start(self, interval_ms: int, before: _Run | None) -> _Run:
        self._run = None
        self._run = _Run(
            self._command, interval_ms, self._environment, self._take_line, before
        )
        self._started_s = time.monotonic()
        return self._run

    def _take_line(self, line: TegrastatsSample) -> BoardSample:
        return sample_from_tegrastats(line, self._clock_ns(), self._totals, self._lost)

    def _newest_of(self, run: _Run) -> BoardSample:
        interval_s = run.interval_ms / MS_PER_S
        if run.has_ended:
            raise PowerCommandError(
                f'{self._command[0]} ended with status {run.process.returncode}; '
                f'the last it said: {run.last_words}'
            )
        if run.newest is None:
            raise PowerCommandError(
                f'{self._command[0]} should give a line each {interval_s:g} s and gave '
                f'none; its last output: {run.last_words}'
            )
        age_s = time.monotonic() - run.arrived_s
        if age_s > interval_s * _MISSED_LINES + self._first_line_s:
            raise PowerCommandError(
                f'{self._command[0]} has given no line for {age_s:.0f} s; it hangs, probably in '
                'the kernel, as a read of the same files would'
            )
        return run.newest


def sample_from_tegrastats(
    line: TegrastatsSample, time_ns: int, totals: RailTotals | None = None,
    lost_sensors: LostSensors | None = None,
) -> BoardSample:
    """
    Return a sample of a parsed line, without gated sensors and offline cores.

    Parameters
    ----------
    line
        The parsed line.
    time_ns
        Time of the line.
    totals, lost_sensors
        The rails and sensors of earlier lines; None: there were none.

    """
    gated = [name for name, temp in line.temperatures_c.items() if temp is None]
    temperatures = {name: temp for name, temp in line.temperatures_c.items() if temp is not None}
    units = {**_units(line), **{f'cpu{index}': cpu for index, cpu in enumerate(line.cpus)}}
    loads = {
        name: min(100.0, unit.load_percent)
        for name, unit in units.items() if unit.load_percent is not None
    }
    cores = [loads[name] for name in (f'cpu{index}' for index in range(len(line.cpus)))
             if name in loads]
    if cores:
        loads['cpu'] = fmean(cores)
    total = (totals or RailTotals()).total(line.rails)
    reason = total.reason or ('' if line.rails else NO_RAILS)
    lost = (lost_sensors or LostSensors()).find(temperatures, gated)
    return BoardSample(
        time_ns=time_ns,
        rails=dict(line.rails),
        total_mw=total.milliwatt,
        temperatures_c=temperatures,
        clocks_mhz={name: unit.mhz for name, unit in units.items() if unit.mhz is not None},
        loads_percent=loads,
        memory=_memory(line),
        problems=tuple(filter(None, (reason, lost_text(lost)))),
        lost_sensors=lost,
    )


def _memory(line: TegrastatsSample) -> BoardMemory | None:
    ram, swap = line.ram, line.swap
    if ram is None:
        return None
    return BoardMemory(
        ram.total_mib, max(0.0, ram.total_mib - ram.used_mib),
        0.0 if swap is None else swap.total_mib,
        0.0 if swap is None else max(0.0, swap.total_mib - swap.used_mib),
        ram.largest_free_mib, ram.largest_free_count,
    )


def _units(line: TegrastatsSample) -> dict[str, UnitUse]:
    named = {'gpu': line.gpu, 'emc': line.emc}
    units = {name: unit for name, unit in named.items() if unit is not None and unit.on}
    return {**units, **{name.lower(): unit for name, unit in line.engines.items() if unit.on}}
