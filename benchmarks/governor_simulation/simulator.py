"""
Simulate the frames of a detector on a board, to evaluate governors.

Events, not steps: frames arrive, are worked on one at a time, and finish; clocks change some
milliseconds after they were asked for; a kernel governor ticks. A 5 minute trace takes a second.
`emulated_board.simulated_board` says what its numbers were taken from.

"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
import heapq
import math
import random

from governor_simulation.simulated_board import (
    clock_states,
    GPU_MHZ,
    overlapped,
    TOP,
    Workload,
)
from governor_simulation.simulated_policies import Policy
from governor_simulation.simulated_trace import arrivals, Trace
from yolov7_trt_ros.power.governor.inputs import FrameWindow, Readings
from yolov7_trt_ros.power.governor.table import ClockState

SWITCH_S = (0.005, 0.008, 0.001)
"""Delay of the clocks of a ClockState, in its order: GPU, EMC, CPU."""

STALL_S = 0.0001
REPORT_S = 0.003
"""From the end of a frame until its timing has reached the governor (assumed)."""

TICK_S = 0.02


@dataclass
class Outcome:
    """What a run came to; `samples` are (time_s, GPU MHz, EMC MHz, power W, temperature)."""

    frames: int = 0
    late: int = 0
    dropped: int = 0
    joules: float = 0.0
    switches: int = 0
    hottest_c: float = 0.0
    throttled_s: float = 0.0
    alarms: int = 0
    latencies: list[tuple[float, float]] = field(default_factory=list)
    samples: list[tuple[float, float, float, float, float]] = field(default_factory=list)

    @property
    def miss_share(self) -> float:
        """Late and dropped frames among all that arrived."""
        return (self.late + self.dropped) / max(1, self.frames)


@dataclass
class _Frame:
    trace: Trace
    workload: Workload
    arrived_s: float
    noise: float
    left: float = 1.0
    started: bool = False


class Simulation:
    """
    One run of a policy on a trace.

    Parameters
    ----------
    trace, policy
        What is run, and who governs. A policy that learns has to be a fresh one.
    seed
        Of arrival times, noise, and the board's deviations. All policies see the same frames.

    """

    def __init__(self, trace: Trace, policy: Policy, seed: int = 0) -> None:
        self.trace, self.policy, self.board = trace, policy, trace.board
        self.outcome = Outcome()
        self._random = random.Random(f'{seed} sensors')
        self._deviations = _deviations(seed, self.board.deviation)
        self._wanted = self._now = policy.first()
        self._gpu_limit, self._limit_until_s = TOP.gpu_mhz, 0.0
        self._time_s, self._numbers = 0.0, 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._frame: _Frame | None = None
        self._waiting: dict[str, _Frame] = {}
        self._dropped_since = 0
        self._busy_s = self._sampled_s = 0.0
        self._finish_number = -1
        self._sink_c = self._die_c = 0.0
        self._mean_w = self._fast_w = self.board.idle_w(self._now, True)
        for one in (trace, *map(trace.of, trace.others)):
            for arrival_s, noise in arrivals(one, seed):
                self._at(arrival_s, partial(self._arrive, one, noise))
        self._at(TICK_S, self._tick)

    def run(self) -> Outcome:
        """Run to the end of the trace and return what it came to."""
        while self._events and self._events[0][0] <= self.trace.duration_s:
            time_s, number, action = heapq.heappop(self._events)
            if number < 0 and number != self._finish_number:
                continue  # the end of a frame, from before the clocks changed
            self._advance(time_s)
            action()
        self._advance(self.trace.duration_s)
        return self.outcome

    # ---- time and energy

    def _at(self, time_s: float, action: Callable[[], None]) -> None:
        self._numbers += 1
        heapq.heappush(self._events, (time_s, self._numbers, action))

    def _clocks(self) -> ClockState:
        """Return the clocks in effect: what was asked for, as far as the hardware allows."""
        return self._now._replace(gpu_mhz=min(self._now.gpu_mhz, self._gpu_limit))

    def _advance(self, time_s: float) -> None:
        """Let time pass, with energy, heat and the progress of the frame."""
        step_s, self._time_s = time_s - self._time_s, time_s
        if step_s <= 0:
            return
        clocks = self._clocks()
        power_w = self.board.idle_w(clocks, self.policy.cpu_awake)
        if self._frame is not None:
            power_w += self.board.busy_w(clocks, self._frame.workload)
            self._frame.left -= step_s * 1e3 / self._frame_ms(self._frame, clocks)
            self._busy_s += step_s
        self._heat(power_w, step_s)
        self.outcome.joules += power_w * step_s
        if self._gpu_limit < self._now.gpu_mhz:
            self.outcome.throttled_s += step_s

    def _heat(self, power_w: float, step_s: float) -> None:
        """Follow power and temperature with their time constants."""
        board = self.board
        self._mean_w += (power_w - self._mean_w) * (1 - math.exp(-step_s / 0.43))
        self._fast_w += (power_w - self._fast_w) * (1 - math.exp(-step_s / 0.1))
        self._die_c += (power_w * board.die_c_per_w - self._die_c) * (
            1 - math.exp(-step_s / board.die_s))
        self._sink_c += (power_w * board.sink_c_per_w - self._sink_c) * (
            1 - math.exp(-step_s / board.sink_s))
        self.outcome.hottest_c = max(self.outcome.hottest_c, self._temperature_c())

    def _temperature_c(self) -> float:
        return self.board.ambient_c + self._die_c + self._sink_c

    # ---- frames

    def _frame_ms(self, frame: _Frame, clocks: ClockState) -> float:
        compute_ms, memory_ms, cpu_ms = frame.workload.parts_ms(clocks)
        deviation = self._deviations.get(clocks, 1.0)
        return (overlapped(compute_ms, memory_ms) * deviation + cpu_ms) * frame.noise

    def _arrive(self, trace: Trace, noise: float) -> None:
        self.outcome.frames += 1
        if trace.name in self._waiting:
            self.outcome.dropped += 1
            self._dropped_since += 1
        workload = trace.workload(self._time_s)
        self._waiting[trace.name] = _Frame(trace, workload, self._time_s, noise)
        self._start()

    def _start(self) -> None:
        """Begin with the frame that waits longest, when nothing is worked on."""
        if self._frame is None and self._waiting:
            name = min(self._waiting, key=lambda one: self._waiting[one].arrived_s)
            self._frame = self._waiting.pop(name)
        self._plan_finish()

    def _plan_finish(self) -> None:
        """Note when the frame will be done at the clocks of now."""
        if self._frame is None:
            return
        left_s = max(0.0, self._frame.left) * self._frame_ms(self._frame, self._clocks()) / 1e3
        self._finish_number -= 1
        heapq.heappush(
            self._events, (self._time_s + left_s, self._finish_number, self._finish)
        )

    def _finish(self) -> None:
        assert self._frame is not None
        frame, self._frame = self._frame, None
        latency_ms = (self._time_s - frame.arrived_s) * 1e3
        self.outcome.latencies.append((frame.arrived_s, latency_ms))
        self.outcome.late += latency_ms > frame.trace.deadline_ms
        self._at(self._time_s + REPORT_S, partial(self._report, frame.trace, latency_ms))
        self._start()

    def _report(self, trace: Trace, latency_ms: float) -> None:
        """Tell the policy of a finished frame, and begin to set what it wants."""
        period_ms = None if self.trace.others else trace.period_s * 1e3
        window = FrameWindow(
            (latency_ms,), self._dropped_since, period_ms, sources=(trace.name,)
        )
        self._dropped_since = 0
        wanted = self.policy.propose(self._readings(), window)
        if wanted == self._wanted:
            return
        self.outcome.switches += 1
        self._wanted = wanted
        if not self.policy.kernel:
            self._ask(wanted)
        else:
            self._ask(ClockState(*map(min, wanted, self._now)))

    def _readings(self) -> Readings:
        alarmed = self._time_s < self._limit_until_s
        return Readings(
            self._time_s, self._mean_w * self._random.gauss(1.0, 0.01), self._temperature_c(),
            ('over-current',) if alarmed else (), self._gpu_limit < self._now.gpu_mhz,
        )

    # ---- clocks

    def _ask(self, clocks: ClockState) -> None:
        """Let each clock change after its delay."""
        for index, delay_s in enumerate(SWITCH_S):
            if clocks[index] != self._now[index]:
                value = clocks[index]
                self._at(
                    self._time_s + delay_s,
                    lambda index=index, value=value: self._set(index, value),  # type: ignore
                )

    def _set(self, index: int, mhz: float) -> None:
        self._now = ClockState(*(
            mhz if place == index else old for place, old in enumerate(self._now)
        ))
        if self._frame is not None:
            self._frame.left += STALL_S * 1e3 / self._frame_ms(self._frame, self._clocks())
        self._plan_finish()

    def _tick(self) -> None:
        """Every 20 ms: the kernel's governor, the hardware's protection, and a sample."""
        if self.policy.kernel:
            self._follow_load()
        self._busy_s = 0.0
        self._protect()
        if self._time_s - self._sampled_s >= 0.1:
            self._sampled_s = self._time_s
            self.outcome.samples.append((
                self._time_s, self._clocks().gpu_mhz, self._clocks().emc_mhz, self._mean_w,
                self._temperature_c(),
            ))
        self._at(self._time_s + TICK_S, self._tick)

    def _follow_load(self) -> None:
        """Like schedutil: 1.25 times what the load needs; up at once, down step by step."""
        load = self._busy_s / TICK_S
        needed = 1.25 * load * self._now.gpu_mhz
        gpu = next((mhz for mhz in GPU_MHZ if mhz >= needed), GPU_MHZ[-1])
        lower = [mhz for mhz in GPU_MHZ if mhz < self._now.gpu_mhz]
        if gpu < self._now.gpu_mhz and lower:
            gpu = lower[-1]
        self._ask(self._wanted._replace(gpu_mhz=min(gpu, self._wanted.gpu_mhz)))

    def _protect(self) -> None:
        """Lower the GPU clock when it is too hot or draws too much, as the hardware does."""
        before, board = self._gpu_limit, self.board
        if self._fast_w > board.over_current_w and self._time_s >= self._limit_until_s:
            self.outcome.alarms += 1
            self._gpu_limit, self._limit_until_s = 510.0, self._time_s + 0.2
        elif self._time_s >= self._limit_until_s:
            over_c = self._temperature_c() - board.throttle_c
            steps = min(len(GPU_MHZ), 1 + int(over_c)) if over_c >= 0 else 0
            self._gpu_limit = GPU_MHZ[max(0, len(GPU_MHZ) - 1 - steps)]
        if self._gpu_limit != before:
            self._plan_finish()


def simulate(trace: Trace, policy: Policy, seed: int = 0) -> Outcome:
    """Run a policy on a trace and return misses, joules and what happened."""
    return Simulation(trace, policy, seed).run()


def _deviations(seed: int, sigma: float) -> dict[ClockState, float]:
    """Return by how much each clock state differs from the formula."""
    source = random.Random(f'{seed} board')
    return {state: 1.0 + source.gauss(0.0, sigma) for state in clock_states()}
