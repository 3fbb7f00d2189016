"""Policies for the clocks of a simulated board: a power mode, the governor, or an oracle."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
import math
from typing import Protocol

from governor_simulation.simulated_board import (
    clock_states,
    overlapped,
    TOP,
    Workload,
)
from governor_simulation.simulated_trace import Trace
from yolov7_trt_ros.power.governor.governor import decide
from yolov7_trt_ros.power.governor.inputs import FrameWindow, Limits, Readings
from yolov7_trt_ros.power.governor.state import GovernorState
from yolov7_trt_ros.power.governor.table import ClockState


class Policy(Protocol):
    """
    Whoever chooses the clocks.

    Attributes
    ----------
    kernel
        Whether the kernel's governor moves the clocks below the wanted ones; otherwise they are
        locked there.
    cpu_awake
        Whether jetson_clocks keeps the CPU from sleeping.

    """

    name: str
    kernel: bool
    cpu_awake: bool

    def first(self) -> ClockState:
        """Return the clocks at the start."""

    def propose(self, readings: Readings, frames: FrameWindow) -> ClockState:
        """Return the clocks from now on."""


@dataclass
class Fixed:
    """The same limits all the time: a power mode, with jetson_clocks or the kernel's governor."""

    name: str
    clocks: ClockState
    kernel: bool = False
    cpu_awake: bool = True

    def first(self) -> ClockState:
        """Return the clocks at the start."""
        return self.clocks

    def propose(self, readings: Readings, frames: FrameWindow) -> ClockState:
        """Return the clocks from now on."""
        return self.clocks


@dataclass
class Governed:
    """
    The governor of this package.

    Parameters
    ----------
    every_s
        Frames lead to a decision at most this often; 0: each does.
    sample_s
        Power, temperature and alarms are looked at this often; 0: with each decision.

    """

    limits: Limits
    name: str = 'governor'
    kernel: bool = False
    cpu_awake: bool = False
    every_s: float = 0.0
    sample_s: float = 0.0
    candidates: tuple[ClockState, ...] = field(default_factory=clock_states)

    def __post_init__(self) -> None:
        """Begin with nothing learned."""
        self.state = GovernorState.start(self.candidates)
        self.reasons: dict[str, int] = {}
        self._latencies: list[tuple[str, float]] = []
        self._dropped, self._last_s = 0, -math.inf
        self._sample = Readings(-math.inf)

    def first(self) -> ClockState:
        """Return the clocks at the start."""
        return self.state.clocks

    def propose(self, readings: Readings, frames: FrameWindow) -> ClockState:
        """Return the clocks from now on."""
        self._latencies += frames.by_source
        self._dropped += frames.dropped
        if readings.time_s - self._last_s < self.every_s:
            return self.state.clocks
        window = FrameWindow(
            tuple(one for _, one in self._latencies), self._dropped, frames.period_ms,
            sources=tuple(source for source, _ in self._latencies),
        )
        self._latencies, self._dropped, self._last_s = [], 0, readings.time_s
        self.state, decision = decide(self.state, self._seen(readings), window, self.limits)
        if decision.changed:
            self.reasons[decision.reason] = self.reasons.get(decision.reason, 0) + 1
        return self.state.clocks

    def _seen(self, readings: Readings) -> Readings:
        """Return the board as it was looked at last."""
        if readings.time_s - self._sample.time_s >= self.sample_s:
            self._sample = readings
            return readings
        return replace(self._sample, time_s=readings.time_s, is_new=False)


def oracle(trace: Trace, margin: float = 1.05) -> dict[Workload, ClockState]:
    """
    Return the best fixed clocks for each workload, with all that only the simulator knows.

    A yardstick: nobody can do much better without knowing the noise of the next frame.

    """
    best = {}
    for _, workload in trace.segments:
        def mean_w(clocks: ClockState, workload: Workload = workload) -> float:
            compute_ms, memory_ms, cpu_ms = workload.parts_ms(clocks)
            share = (overlapped(compute_ms, memory_ms) + cpu_ms) / 1e3 / trace.period_s
            return trace.board.idle_w(clocks, False) + min(1.0, share) * trace.board.busy_w(
                clocks, workload)

        def fits(clocks: ClockState, workload: Workload = workload) -> bool:
            compute_ms, memory_ms, cpu_ms = workload.parts_ms(clocks)
            needed_ms = (overlapped(compute_ms, memory_ms) + cpu_ms) * margin
            return needed_ms <= min(trace.deadline_ms, trace.period_s * 1e3)

        best[workload] = min(
            filter(fits, clock_states()), key=mean_w, default=TOP
        )
    return best


@dataclass
class Oracle:
    """Sets the best fixed clocks of each workload at the moment it begins."""

    trace: Trace
    margin: float = 1.05
    name: str = 'oracle (knows the future)'
    kernel: bool = False
    cpu_awake: bool = False

    def __post_init__(self) -> None:
        """Look up all workloads."""
        self._best = oracle(self.trace, self.margin)

    def first(self) -> ClockState:
        """Return the clocks at the start."""
        return self._best[self.trace.workload(0.0)]

    def propose(self, readings: Readings, frames: FrameWindow) -> ClockState:
        """Return the clocks from now on, a frame ahead of the workload."""
        return self._best[self.trace.workload(readings.time_s + self.trace.period_s)]
