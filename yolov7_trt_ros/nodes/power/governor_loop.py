"""GovernorLoop: passes samples and frames to the governor, and applies its decisions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import threading
import time

from yolov7_trt_ros.nodes.job_thread import Job
from yolov7_trt_ros.power.governor.governor import decide
from yolov7_trt_ros.power.governor.inputs import FrameWindow, Limits, Readings
from yolov7_trt_ros.power.governor.state import GovernorState
from yolov7_trt_ros.power.governor.table import ClockState
from yolov7_trt_ros.power.telemetry.sample import BoardSample
from yolov7_trt_ros.power.units import MW_PER_W

_FRAME_STEP_S = 0.05
"""Least time between two decisions about frames."""


class GovernorLoop:
    """
    Runs the governor while it is on, and has the clock of the GPU set by its decisions.

    Each sample leads to a decision, and so do arriving frames, for a deadline. While a clock is
    being set nothing is decided and frames are ignored, since they do not belong to one clock.

    Parameters
    ----------
    submit_step
        Has the clock of the GPU held at a step, or released (None), in another thread, if the
        given function still returns true then.
    clock_s
        Time for the governor.

    """

    def __init__(
        self,
        submit_step: Callable[[float | None, Callable[[], bool]], Job],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._submit_step, self._clock_s = submit_step, clock_s
        self._lock = threading.Lock()
        self._state: GovernorState | None = None
        self._job: Job | None = None
        self._sample: BoardSample | None = None
        self._decided_s = 0.0
        self._starts = 0
        self._reason = 'off'
        self._problem = ''
        self._unit = ''
        self._fault = ''

    @property
    def fault(self) -> str:
        """Why it ended by itself, '' if it did not."""
        return self._fault

    @property
    def problem(self) -> str:
        """Return the unknown value for which it keeps the clock; '' for none."""
        return f'the governor keeps the clock: {self._problem}' if self._problem else ''

    def describe(self) -> str:
        """Return `918 MHz: deadline met`, `clock released: no frames`, or `off`."""
        state = self._state
        if state is None:
            return self._reason
        if state.is_released:
            return f'clock released: {self._reason}'
        return f'{state.clocks.gpu_mhz:g} {self._unit}: {self._reason}'

    def start(self, steps: Sequence[float], unit: str) -> None:
        """
        Start at the highest of these steps, which is already set.

        A power limit replaces a clock that cannot be held: the governor treats it the same, since
        it slows the GPU at most by its share.

        Raises
        ------
        SettingError
            There is none.

        """
        candidates = [ClockState(step) for step in steps]
        state = GovernorState.start(candidates, self._clock_s())
        self._unit = unit
        self._begin(state, 'starting')

    def stop(self) -> None:
        """Stop deciding."""
        self._begin(None, 'off')

    def step(self, sample: BoardSample, frames: FrameWindow, limits: Limits) -> None:
        """Take a sample and the frames since the previous call."""
        with self._lock:
            self._sample = sample
            if self._state is not None and not self._is_switching():
                readings = self._readings(sample, limits, is_new=True)
                self._decide(self._state, readings, frames, limits)

    def step_frames(
        self,
        take: Callable[[], FrameWindow],
        limits: Callable[[], Limits],
        newest: BoardSample | None,
    ) -> None:
        """
        Decide about new frames, unless it was done very recently.

        Parameters
        ----------
        take
            Returns the frames since the previous call; called only if they are used.
        limits
            Returns the limits; likewise.
        newest
            The newest sample; None if it is outdated: then all it would tell is unknown.

        """
        with self._lock:
            if self._state is None or self._sample is None:
                return
            if self._clock_s() - self._decided_s < _FRAME_STEP_S:
                return
            current = limits()
            if current.governor != 'deadline':
                return
            frames = take()
            if not self._is_switching():
                sample = newest or BoardSample(self._sample.time_ns)
                readings = self._readings(sample, current, is_new=False)
                self._decide(self._state, readings, frames, current)

    def _decide(
        self, state: GovernorState, readings: Readings, frames: FrameWindow, limits: Limits
    ) -> None:
        self._decided_s = readings.time_s
        self._state, decision = decide(state, readings, frames, limits)
        self._reason, self._problem = decision.reason, decision.problem
        if decision.changed:
            now = self._starts
            step = None if decision.clocks is None else decision.clocks.gpu_mhz
            self._job = self._submit_step(step, lambda: self._starts == now)

    def _begin(self, state: GovernorState | None, reason: str) -> None:
        with self._lock:
            self._starts += 1
            self._state, self._job, self._fault, self._reason = state, None, '', reason
            self._problem = ''

    def _is_switching(self) -> bool:
        job = self._job
        if job is None:
            return False
        if job.is_done:
            self._job = None
            if job.error:
                self._state, self._reason, self._problem = None, 'ended', ''
                self._fault = f'the governor has ended: {job.error}'
        return not job.is_done or bool(job.error)

    def _readings(self, sample: BoardSample, limits: Limits, *, is_new: bool) -> Readings:
        gpu_load = sample.loads_percent.get('gpu')
        return Readings(
            time_s=self._clock_s(),
            power_w=None if sample.total_mw is None else sample.total_mw / MW_PER_W,
            temperature_c=_find_heat_c(sample, limits),
            alarms=sample.alarms,
            throttled=bool(sample.alarms),
            is_new=is_new,
            gpu_load=None if gpu_load is None else gpu_load / 100.0,
            emc_mhz=float(round(sample.clocks_mhz.get('emc', 0.0), -1)),
        )


def _find_heat_c(sample: BoardSample, limits: Limits) -> float | None:
    """Return the highest temperature; None if a lost sensor may be over the limit alone."""
    hottest, limit_c = sample.hottest_c, limits.temperature_limit_c
    if hottest is None:
        return None
    is_cool = limit_c is not None and hottest[1] < limit_c
    return None if sample.lost_sensors and is_cool else hottest[1]
