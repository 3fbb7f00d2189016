"""GovernorLoop: feeds samples and frames to the policy, and has its wishes carried out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from yolov7_trt_ros.nodes.power_worker import Job
from yolov7_trt_ros.power.learning import ClockState
from yolov7_trt_ros.power.policy import FrameWindow, GovernorState, Limits, Readings, decide
from yolov7_trt_ros.power.sample import BoardSample

_MW_PER_W = 1000.0


class GovernorLoop:
    """
    Runs the policy while it is on, and caps the clock of the GPU as it says.

    While a cap is being set nothing is decided and frames are passed over, since they do not
    belong to one clock.

    Parameters
    ----------
    submit_cap
        Has the clock of the GPU capped at so many MHz, in another thread, if the function given
        along still returns true by then.
    clock_s
        Time for the policy.

    """

    def __init__(
        self,
        submit_cap: Callable[[float, Callable[[], bool]], Job],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._submit_cap, self._clock_s = submit_cap, clock_s
        self._lock = threading.Lock()
        self._state: GovernorState | None = None
        self._job: Job | None = None
        self._starts = 0
        self._reason = 'off'
        self._fault = ''

    @property
    def fault(self) -> str:
        """Why it ended by itself, '' where it did not."""
        return self._fault

    def describe(self) -> str:
        """Return `918 MHz: deadline met`, or `off`."""
        state = self._state
        return self._reason if state is None else f'{state.clocks.gpu_mhz:g} MHz: {self._reason}'

    def start(self, frequencies_mhz: Sequence[float]) -> None:
        """
        Start anew at the highest of these clocks, which has been set already.

        Raises
        ------
        SettingError
            There is none.

        """
        candidates = [ClockState(mhz) for mhz in frequencies_mhz]
        state = GovernorState.start(candidates, self._clock_s())
        self._begin(state, 'starting')

    def stop(self) -> None:
        """Decide nothing any more."""
        self._begin(None, 'off')

    def step(self, sample: BoardSample, latencies_ms: tuple[float, ...], limits: Limits) -> None:
        """Take a sample and the frames since the last one."""
        with self._lock:
            if self._state is None or self._is_switching():
                return
            readings = self._readings(sample)
            self._state, decision = decide(
                self._state, readings, FrameWindow(latencies_ms), limits
            )
            self._reason = decision.reason
            if decision.changed:
                now = self._starts
                self._job = self._submit_cap(
                    decision.clocks.gpu_mhz, lambda: self._starts == now
                )

    def _begin(self, state: GovernorState | None, reason: str) -> None:
        with self._lock:
            self._starts += 1
            self._state, self._job, self._fault, self._reason = state, None, '', reason

    def _is_switching(self) -> bool:
        job = self._job
        if job is None:
            return False
        if job.is_done:
            self._job = None
            if job.error:
                self._state, self._reason = None, 'ended'
                self._fault = f'the governor has ended: {job.error}'
        return not job.is_done or bool(job.error)

    def _readings(self, sample: BoardSample) -> Readings:
        hottest = sample.hottest_c
        return Readings(
            time_s=self._clock_s(),
            power_w=None if sample.total_mw is None else sample.total_mw / _MW_PER_W,
            temperature_c=None if hottest is None else hottest[1],
            alarms=sample.alarms,
            throttled=bool(sample.alarms),
        )
