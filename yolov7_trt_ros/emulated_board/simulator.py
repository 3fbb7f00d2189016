"""
A board in numbers: how long a frame takes and what power it draws, for judging governors.

Events, not steps: frames arrive, are worked on one at a time, and finish; clocks change some
milliseconds after they were asked for; a kernel governor ticks. A 5 minute trace takes a second.
Calibrated for an Orin Nano Super on published numbers. Where each comes from:

Measured and published
    Latency of YOLOv7-tiny 9.04 ms and YOLOv7 27.70 ms at 640, TensorRT alone, on an Orin Nano 8 GB
    with JetPack 5 (trtutils); the power mode is not stated, 15W (GPU 612, EMC 2133) is assumed.
    A GPU clock 12 % lower makes convolutions 10.6 % slower (Thor): 78 % of a frame follows the GPU
    clock where both count. EMC 2133 instead of 3199: 11 to 48 % slower (arXiv 2606.16106); the
    two networks here come to 15 and 30 %.
    A new clock holds after 1 / 5 / 8 ms (CPU / GPU / EMC), the stall is under 0.1 ms (the same).
    YOLOv8n from Python: 10.80 ms in 15W, 10.07 in 25W, 95th percentile 1.53 times the mean
    (InferEdgeLab). Solving both modes gives 6.6 ms of CPU work at 1497.6 MHz: `PYTHON_CPU_MS`.
    A late frame is followed by a late one with up to 74 % (arXiv 2606.16106): slow spells.
    Orin Nano Super, all clocks locked at the top: 6.61 W idle, 21.1 to 21.5 W loaded. Of that load
    (a language model: GPU 99 %, EMC 81 %, CPU 0 %) 7.65 W came on the GPU's rail and 7.5 W on SOC
    and input, taken here as the price of memory traffic (tegrastats log of hokwangchoi). 25W mode
    idles at 4.5 W. The same log: the die warms by 6 degrees within seconds.
Interpolated or assumed
    Between the clocks: a cubic mean of compute and memory time, plus a fixed deviation of each
    clock state of about 2 %, so that no formula fits. GPU power goes with clock ** 2.2 (published
    values reach from 0.5 on Thor to over 3; see `BoardModel.gpu_exponent`). How the 2.1 W between
    locked and idle divide: GPU 0.9, EMC 0.7, CPU 0.5. One busy CPU core: 1 W. Thermal resistance
    and times, over-current limit, and what the hardware does about both. 2 ms of CPU work a frame.
Not reproduced
    12.8 W for 25W mode under load: what load that was is not stated.

"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from yolov7_trt_ros.power.learning import ClockState
from yolov7_trt_ros.power.policy import (
    FrameWindow,
    GovernorState,
    Limits,
    Readings,
    decide,
)

GPU_MHZ = (306.0, 408.0, 510.0, 612.0, 714.0, 816.0, 918.0, 1020.0)
EMC_MHZ = (2133.0, 3199.0)
CPU_MHZ = (960.0, 1344.0, 1728.0)
TOP = ClockState(GPU_MHZ[-1], EMC_MHZ[-1], CPU_MHZ[-1])
MODES = {
    '7W': ClockState(408.0, 2133.0, 960.0),
    '15W': ClockState(612.0, 2133.0, 1497.6),
    '25W': ClockState(918.0, 3199.0, 1344.0),
    'MAXN_SUPER': TOP,
}
"""Orin Nano 8 GB Super; 7W is of the release before, where it needed a reboot."""

MEASURED_AT = MODES['15W']
PYTHON_CPU_MS = 6.6
SWITCH_S = (0.005, 0.008, 0.001)
"""Delay of the clocks of a ClockState, in its order: GPU, EMC, CPU."""

STALL_S = 0.0001
REPORT_S = 0.003
"""From the end of a frame until its timing has reached the governor (assumed)."""

TICK_S = 0.02


def clock_states() -> tuple[ClockState, ...]:
    """Return all clock states a governor may choose from."""
    return tuple(ClockState(g, e, c) for g in GPU_MHZ for e in EMC_MHZ for c in CPU_MHZ)


@dataclass(frozen=True)
class Workload:
    """
    What one frame asks of the board.

    Parameters
    ----------
    gpu_ms
        Time on the GPU in 15W mode, where the published numbers are from.
    memory_share
        How much of the time follows the memory clock at the highest clocks, 0 to 1.
    cpu_ms
        Work on the CPU at 1497.6 MHz.

    """

    gpu_ms: float
    memory_share: float
    cpu_ms: float = 2.0

    def parts_ms(self, clocks: ClockState) -> tuple[float, float, float]:
        """Return compute, memory and CPU time; the first two overlap."""
        scale = self.gpu_ms / self._gpu_ms_of_one(MEASURED_AT)
        compute, memory = self._of_one(clocks)
        return compute * scale, memory * scale, self.cpu_ms * MEASURED_AT.cpu_mhz / clocks.cpu_mhz

    def times(self, factor: float) -> Workload:
        """Return the work of so many cameras, or of a GPU shared with somebody else."""
        return replace(self, gpu_ms=self.gpu_ms * factor, cpu_ms=self.cpu_ms * factor)

    def _of_one(self, clocks: ClockState) -> tuple[float, float]:
        compute = math.pow(1.0 - self.memory_share, 1 / 3) * TOP.gpu_mhz / clocks.gpu_mhz
        return compute, math.pow(self.memory_share, 1 / 3) * TOP.emc_mhz / clocks.emc_mhz

    def _gpu_ms_of_one(self, clocks: ClockState) -> float:
        return overlapped(*self._of_one(clocks))


def overlapped(compute_ms: float, memory_ms: float) -> float:
    """Return the time of work whose compute and memory parts mostly overlap."""
    return math.pow(compute_ms**3 + memory_ms**3, 1 / 3)


TINY = Workload(9.04, 0.5)
BASE = Workload(27.70, 0.22)
TINY_PYTHON = Workload(9.04, 0.5, PYTHON_CPU_MS)


@dataclass(frozen=True)
class Noise:
    """
    Scatter of the latency: a lognormal, and slow spells that last.

    Parameters
    ----------
    sigma
        Of the lognormal.
    spell_rate
        Probability a frame that a spell begins; it goes on with `spell_stays`.
    spell_factors
        Range of how much slower frames are in a spell.

    """

    sigma: float = 0.02
    spell_rate: float = 0.001
    spell_stays: float = 0.74
    spell_factors: tuple[float, float] = (1.1, 1.4)


CALM = Noise()
PYTHON_NOISE = Noise(0.04, 0.0145, 0.74, (1.45, 1.8))
"""5 % of the frames above 1.5 times the mean, as published for a Python program."""


@dataclass(frozen=True)
class BoardModel:
    """
    Power and heat; what each default is taken from stands at the top of the file.

    Parameters
    ----------
    gpu_exponent
        GPU power goes with clock to this power; the least certain number of all.
    throttle_c
        From here on the hardware lowers the GPU clock, step by step.
    over_current_w
        Above this for 0.1 s the hardware halves the GPU clock for 0.2 s and raises an alarm.

    """

    gpu_exponent: float = 2.2
    floor_w: float = 4.5
    gpu_clock_w: float = 0.9
    emc_clock_w: float = 0.7
    cpu_clock_w: float = 0.5
    gpu_busy_w: float = 7.65
    traffic_w: float = 9.3
    cpu_busy_w: float = 1.0
    ambient_c: float = 25.0
    die_c_per_w: float = 0.35
    die_s: float = 3.0
    sink_c_per_w: float = 1.5
    sink_s: float = 60.0
    throttle_c: float = 95.0
    over_current_w: float = 25.0
    deviation: float = 0.02

    def idle_w(self, clocks: ClockState, cpu_awake: bool) -> float:
        """Return the power without work; `cpu_awake`: jetson_clocks forbids the CPU to sleep."""
        gpu = math.pow(clocks.gpu_mhz / TOP.gpu_mhz, self.gpu_exponent)
        cpu = math.pow(clocks.cpu_mhz / TOP.cpu_mhz, 2.2) if cpu_awake else 0.0
        emc = clocks.emc_mhz / TOP.emc_mhz
        return (self.floor_w + self.gpu_clock_w * gpu + self.emc_clock_w * emc
                + self.cpu_clock_w * cpu)

    def busy_w(self, clocks: ClockState, workload: Workload) -> float:
        """Return the mean power on top of idle while a frame is worked on."""
        compute_ms, memory_ms, cpu_ms = workload.parts_ms(clocks)
        gpu_ms = overlapped(compute_ms, memory_ms)
        traffic_ms = memory_ms * clocks.emc_mhz / TOP.emc_mhz
        gpu = self.gpu_busy_w * math.pow(clocks.gpu_mhz / TOP.gpu_mhz, self.gpu_exponent)
        cpu = self.cpu_busy_w * math.pow(clocks.cpu_mhz / TOP.cpu_mhz, 2.2)
        energy = gpu * gpu_ms + self.traffic_w * traffic_ms + cpu * cpu_ms
        return energy / (gpu_ms + cpu_ms)


ORIN_NANO_SUPER = BoardModel()


@dataclass(frozen=True)
class Trace:
    """
    A workload over time.

    Parameters
    ----------
    segments
        Second at which it begins, and the workload from then on.
    duration_s, period_s
        Length, and time between frames.

    """

    name: str
    segments: tuple[tuple[float, Workload], ...]
    duration_s: float
    period_s: float = 1 / 30
    deadline_ms: float = 1000 / 30
    noise: Noise = CALM
    board: BoardModel = ORIN_NANO_SUPER
    temperature_limit_c: float = 85.0

    def workload(self, time_s: float) -> Workload:
        """Return the workload at this time."""
        return [load for begin_s, load in self.segments if begin_s <= time_s][-1]


def random_trace(
    name: str, workloads: Sequence[Workload], seed: int, *, duration_s: float = 300.0,
    steps_s: tuple[float, float] = (8.0, 25.0), period_s: float = 1 / 30,
    deadline_ms: float = 1000 / 30, noise: Noise = CALM, board: BoardModel = ORIN_NANO_SUPER,
    temperature_limit_c: float = 85.0,
) -> Trace:
    """Return a trace that steps at random times between workloads, never to the same one."""
    source = random.Random(f'{name} {seed}')
    segments, begin_s, before = [], 0.0, None
    while begin_s < duration_s:
        others = [load for load in workloads if load is not before] or list(workloads)
        before = source.choice(others)
        segments.append((begin_s, before))
        begin_s += source.uniform(*steps_s)
    return Trace(
        name, tuple(segments), duration_s, period_s, deadline_ms, noise, board,
        temperature_limit_c,
    )


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

    def next(self, readings: Readings, frames: FrameWindow) -> ClockState:
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

    def next(self, readings: Readings, frames: FrameWindow) -> ClockState:
        """Return the clocks from now on."""
        return self.clocks


@dataclass
class Governed:
    """The governor of this package; every `every_s` seconds, 0 for every frame."""

    limits: Limits
    name: str = 'governor'
    kernel: bool = False
    cpu_awake: bool = False
    every_s: float = 0.0
    candidates: tuple[ClockState, ...] = field(default_factory=clock_states)

    def __post_init__(self) -> None:
        """Begin with nothing learned."""
        self.state = GovernorState.start(self.candidates)
        self.reasons: dict[str, int] = {}
        self._latencies: list[float] = []
        self._dropped, self._last_s = 0, -math.inf

    def first(self) -> ClockState:
        """Return the clocks at the start."""
        return self.state.clocks

    def next(self, readings: Readings, frames: FrameWindow) -> ClockState:
        """Return the clocks from now on."""
        self._latencies += frames.latencies_ms
        self._dropped += frames.dropped
        if readings.time_s - self._last_s < self.every_s:
            return self.state.clocks
        window = FrameWindow(tuple(self._latencies), self._dropped, frames.period_ms)
        self._latencies, self._dropped, self._last_s = [], 0, readings.time_s
        self.state, decision = decide(self.state, readings, window, self.limits)
        if decision.changed:
            self.reasons[decision.reason] = self.reasons.get(decision.reason, 0) + 1
        return decision.clocks


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
        self._waiting: _Frame | None = None
        self._dropped_since = 0
        self._busy_s = self._sampled_s = 0.0
        self._finish_number = -1
        self._sink_c = self._die_c = 0.0
        self._mean_w = self._fast_w = self.board.idle_w(self._now, True)
        for arrival_s, noise in _arrivals(trace, seed):
            self._at(arrival_s, lambda noise=noise: self._arrive(noise))  # type: ignore[misc]
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
            workload = self.trace.workload(self._frame.arrived_s)
            power_w += self.board.busy_w(clocks, workload)
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
        compute_ms, memory_ms, cpu_ms = self.trace.workload(frame.arrived_s).parts_ms(clocks)
        deviation = self._deviations.get(clocks, 1.0)
        return (overlapped(compute_ms, memory_ms) * deviation + cpu_ms) * frame.noise

    def _arrive(self, noise: float) -> None:
        self.outcome.frames += 1
        if self._waiting is not None:
            self.outcome.dropped += 1
            self._dropped_since += 1
        self._waiting = _Frame(self._time_s, noise)
        self._start()

    def _start(self) -> None:
        """Begin with the frame that waits, when nothing is worked on."""
        if self._frame is None and self._waiting is not None:
            self._frame, self._waiting = self._waiting, None
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
        latency_ms = (self._time_s - self._frame.arrived_s) * 1e3
        self.outcome.latencies.append((self._frame.arrived_s, latency_ms))
        self.outcome.late += latency_ms > self.trace.deadline_ms
        self._frame = None
        self._at(self._time_s + REPORT_S, lambda: self._report(latency_ms))
        self._start()

    def _report(self, latency_ms: float) -> None:
        """Tell the policy of a finished frame, and begin to set what it wants."""
        window = FrameWindow((latency_ms,), self._dropped_since, self.trace.period_s * 1e3)
        self._dropped_since = 0
        wanted = self.policy.next(self._readings(), window)
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


def _arrivals(trace: Trace, seed: int) -> Sequence[tuple[float, float]]:
    """Return arrival time and noise of each frame."""
    source, noise = random.Random(f'{seed} {trace.name}'), trace.noise
    spell, arrivals = 0.0, []
    for index in range(int(trace.duration_s / trace.period_s)):
        if source.random() > (noise.spell_stays if spell else noise.spell_rate):
            spell = 0.0
        elif not spell:
            spell = source.uniform(*noise.spell_factors)
        factor = math.exp(source.gauss(0.0, noise.sigma)) * (spell or 1.0)
        jitter_s = source.uniform(0.0, 0.001)
        arrivals.append((index * trace.period_s + jitter_s, factor))
    return arrivals


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

    def next(self, readings: Readings, frames: FrameWindow) -> ClockState:
        """Return the clocks from now on, a frame ahead of the workload."""
        return self._best[self.trace.workload(readings.time_s + self.trace.period_s)]
