"""
What the governor is told, what it answers, what it remembers, and its tuning.

All values are frozen; `power.policy.decide` returns new ones.

"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.power.governor.table import ClockState, Spread, Table

GOVERNORS = ('off', 'deadline', 'power_budget')


@dataclass(frozen=True)
class Limits:
    """
    What the user asks for.

    Parameters
    ----------
    governor
        One of `GOVERNORS`.
    deadline_ms
        Allowed latency of a frame, for 'deadline'.
    deadlines_ms
        That of sources which have one of their own, by their names.
    power_budget_w
        Allowed power of the board, for 'power_budget'.
    temperature_limit_c
        From here on the clocks go down; None: no limit.
    miss_target
        Allowed share of late frames; half of it is aimed at.

    """

    governor: str = 'deadline'
    deadline_ms: float = 33.0
    power_budget_w: float = 15.0
    temperature_limit_c: float | None = 85.0
    miss_target: float = 0.01
    deadlines_ms: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if self.governor not in GOVERNORS:
            raise SettingError(f'governor must be one of {", ".join(GOVERNORS)}, is '
                               f"'{self.governor}'; choose one of them")
        for name in ('deadline_ms', 'power_budget_w'):
            if not getattr(self, name) > 0:
                raise SettingError(f'{name} must be above 0, is {getattr(self, name)}; '
                                   f'set a positive number')
        for source, deadline_ms in self.deadlines_ms.items():
            if not deadline_ms > 0:
                raise SettingError(f'the deadline of {source} must be above 0 ms, is '
                                   f'{deadline_ms}; set a positive number')
        if not 0 < self.miss_target < 0.5:
            raise SettingError(f'miss_target must be between 0 and 0.5, is {self.miss_target}; '
                               f'0.01 allows one late frame in a hundred')


@dataclass(frozen=True)
class Readings:
    """
    The board at one moment.

    Parameters
    ----------
    time_s
        Any clock that only goes forward.
    power_w
        Power of the whole board, may be an average over half a second; None: not readable.
    temperature_c
        The hottest sensor; None: not readable.
    alarms
        Over-current or throttling alarms raised now.
    throttled
        The hardware runs below the clocks asked for: timings say nothing about them.
    gpu_load
        Busy share of the GPU, 0 to 1; None: not readable.
    emc_mhz
        The memory clock that was read, where nobody controls it; 0: not readable.
    is_new
        False: the board was not looked at since the last call, only frames have come.

    """

    time_s: float
    power_w: float | None = None
    temperature_c: float | None = None
    alarms: tuple[str, ...] = ()
    throttled: bool = False
    is_new: bool = True
    gpu_load: float | None = None
    emc_mhz: float = 0.0


@dataclass(frozen=True)
class FrameWindow:
    """
    The frames since the last call.

    Parameters
    ----------
    latencies_ms
        In order, oldest first.
    dropped
        Frames that were never worked on because the one before took too long: late frames.
    period_ms
        Time between frames of the source, when known. Frames slower than that pile up, whatever
        the deadline; so the smaller of both counts.
    unknown
        Frames that came, but whose stamps give no latency.
    sources
        Which detector each latency is of, in the same order; empty: all of one.

    """

    latencies_ms: tuple[float, ...] = ()
    dropped: int = 0
    period_ms: float | None = None
    unknown: int = 0
    sources: tuple[str, ...] = ()

    @property
    def by_source(self) -> tuple[tuple[str, float], ...]:
        """Return source and latency of each frame, oldest first."""
        sources = self.sources or ('',) * len(self.latencies_ms)
        return tuple(zip(sources, self.latencies_ms, strict=True))


@dataclass(frozen=True)
class Decision:
    """
    The clocks to allow from now on, whether they differ from before, and why.

    Parameters
    ----------
    clocks
        None: let go of them, as without a governor.
    problem
        What is unknown and keeps the governor from working; '' for nothing.

    """

    clocks: ClockState | None
    changed: bool
    reason: str
    problem: str = ''


@dataclass(frozen=True)
class Tuning:
    """Times and shares that shape the behaviour; none depends on the board or its table."""

    settle_s: float = 0.02
    """After a switch it takes up to 8 ms until the new clocks hold."""

    stale_s: float = 0.3
    """Frames that began before a switch are passed over, those that come within so long."""

    neighbours: int = 5
    """A frame is compared with so many before it and after it."""

    shift: float = 0.1
    """A workload is another one when its frames take this share more or less."""

    missing: float = 1.5
    """A frame that was dropped counts as one that took so many times its deadline."""

    memory_s: float = 300.0
    """A workload is remembered so long."""

    weight_s: float = 20.0
    """Workloads weigh by how many frames of them there were in about so long."""

    power_settle_s: float = 1.0
    """The rail sensors average over 0.43 s."""

    enter: float = 0.75
    """To enter a state, at most this share of the allowed late frames is to be expected."""

    leave: float = 1.1
    """... and to stay, at most this."""

    present: float = 2.0
    """What runs now, taken alone, may be late so many times as often as all workloads together."""

    gain: float = 0.03
    """A state has to save this share of power to be worth a switch."""

    least_gain: float = 0.005
    """... and this share where its clocks are lower and its power was measured."""

    patience: int = 3
    """So many late frames of the last ten lead upwards; each false alarm asks for one more."""

    most_patience: int = 8

    headroom: float = 1.05
    """After a late frame the next state would have had so much more room for it."""

    known_s: float = 1.0
    """A state is left for too little room only after so long in it."""

    look_s: float = 0.5
    """A cheaper state is looked for at most this often."""

    caution_s: float = 2.0
    """
    A heavier workload of the last so many seconds still counts.

    Doubles each time the governor was caught with too low clocks, up to `most_caution_s`, and
    falls back by half in `calm_s`.
    """

    most_caution_s: float = 120.0
    calm_s: float = 40.0

    retry_s: float = 8.0
    """A state that failed is avoided so long, twice as long after each further failure."""

    most_retry_s: float = 600.0
    idle_s: float = 2.0
    """Without a frame for so long there is no work, and the clocks are let go of."""

    others_enter: float = 0.08
    """Others use the GPU when they take this share of what it can do at its highest clock."""

    others_leave: float = 0.04
    others_s: float = 3.0
    """... for so long."""

    others_calm_s: float = 10.0
    """They are gone when they take less than `others_leave` for so long."""

    thermal_step_s: float = 2.0
    """How long a lower ceiling gets to show its effect."""

    thermal_step: float = 0.1
    """The ceiling moves by this share of the highest clock; for an alarm by twice as much."""

    thermal_band_c: float = 4.0
    """It is cool when so much below the limit."""

    thermal_retry_s: float = 10.0
    """How long it has to be cool before the ceiling rises; doubles each time it was too soon."""

    alarm_step_s: float = 0.5
    """How long an alarm may stay up before the ceiling comes down again."""

    budget_reach: float = 0.4
    """States are looked at that lie above the present one by this share of the highest clock."""

    budget_entry: float = 0.97
    """One is entered when it is likely to take this share of the budget, or less."""


TUNING = Tuning()


@dataclass(frozen=True)
class Backoff:
    """How often a clock state proved too slow (or too hungry), and until when to avoid it."""

    count: int = 0
    until_s: float = 0.0

    def again(self, now_s: float, first_s: float, most_s: float) -> Backoff:
        """Return the next, twice as long one."""
        return Backoff(self.count + 1, now_s + min(most_s, first_s * 2.0**self.count))


@dataclass(frozen=True)
class Ceiling:
    """
    The highest GPU clock that temperature and alarms allow, and when it last moved.

    Parameters
    ----------
    retry_s
        How long it has to be cool before the ceiling rises.
    hot
        An alarm is up or the limit reached: nothing may rise.
    over_c
        By how much the limit was exceeded when the ceiling moved.

    """

    gpu_mhz: float
    moved_s: float = 0.0
    retry_s: float = TUNING.thermal_retry_s
    hot: bool = False
    over_c: float = 0.0


@dataclass(frozen=True)
class Workload:
    """
    What the frames of one source took at one clock state, while they took about the same.

    Parameters
    ----------
    share
        Typical latency as a share of the deadline.
    frames
        How many there were, older ones counting less.
    last_s
        When the last of them came.

    """

    source: str
    clocks: ClockState
    share: float
    frames: float
    last_s: float


@dataclass(frozen=True)
class LeftPower:
    """The settled power at the clocks before the last switch, and what ran there by source."""

    clocks: ClockState
    power_w: float
    work: Mapping[str, Workload]


@dataclass(frozen=True)
class Others:
    """
    The load of the GPU that the frames do not explain.

    Parameters
    ----------
    are_there
        They take so much that the clocks are not lowered.
    crossed_s
        Since when the load has been on the other side of the threshold; None: it is not.
    busy_s, looked_s
        Time that frames took since the last sample, and when that was.
    are_unknown
        Some of these frames told no latency.

    """

    are_there: bool = False
    crossed_s: float | None = None
    busy_s: float = 0.0
    looked_s: float = 0.0
    are_unknown: bool = False


@dataclass(frozen=True)
class GovernorState:
    """
    Everything the governor remembers; make one with `GovernorState.start`.

    Parameters
    ----------
    candidates
        The clock states that may be chosen, from slow to fast.
    top
        The last of them.
    clocks
        The one asked for, and since when.
    is_released
        The clocks are let go of; `clocks` are then those to come back to.
    emc_mhz, emc_read_mhz
        The memory clock, where it is only read: a change counts once it was read twice.
    table, tables
        What was learned at this memory clock; and at others, where it is only read.
    recent
        By source: the last frames in this state, as shares of the deadline.
    now
        By source: what runs now. Empty after a switch, until enough frames have come.
    memory
        All workloads of the last minutes.
    left
        The state before, while it is not yet known how the two compare; and its workloads.
    jumped
        The last switch was for late frames, and it is not yet known whether the workload grew.
    suspects
        Ratios of the frames before a jump: they join the spread if the workload proves to be the
        old one.
    outcomes
        Whether each of the last ten frames was late.
    false_alarms
        Jumps that found the same workload.
    caution_s, caught_s
        How far back heavier workloads count, as of this time.
    avoided
        States to be avoided for a while.
    power_w, left_w
        Settled power in this state, and in the state before.
    looked_s
        When a cheaper state was last looked for.
    last_frame_s, timed_s
        When a frame last came, and one with a latency.
    others
        What others take of the GPU.

    """

    candidates: tuple[ClockState, ...]
    top: ClockState
    clocks: ClockState
    since_s: float
    ceiling: Ceiling
    is_released: bool = False
    emc_mhz: float = 0.0
    emc_read_mhz: float = 0.0
    table: Table = field(default_factory=Table)
    tables: Mapping[float, Table] = field(default_factory=dict)
    spread: Spread = field(default_factory=Spread)
    recent: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    now: Mapping[str, Workload] = field(default_factory=dict)
    memory: tuple[Workload, ...] = ()
    left: Mapping[str, Workload] = field(default_factory=dict)
    jumped: bool = False
    suspects: tuple[float, ...] = ()
    outcomes: tuple[bool, ...] = ()
    false_alarms: int = 0
    caution_s: float = TUNING.caution_s
    caught_s: float = 0.0
    avoided: Mapping[ClockState, Backoff] = field(default_factory=dict)
    power_w: float | None = None
    left_w: LeftPower | None = None
    looked_s: float = 0.0
    last_frame_s: float = 0.0
    timed_s: float = 0.0
    others: Others = field(default_factory=Others)

    @classmethod
    def start(cls, candidates: Iterable[ClockState], time_s: float = 0.0) -> GovernorState:
        """
        Start at the highest of these clocks.

        Raises
        ------
        SettingError
            There is none.

        """
        states = tuple(sorted(set(candidates), key=rank))
        if not states:
            raise SettingError('the governor needs at least one clock state, found none; '
                               'check that the GPU frequencies of this board can be read')
        return cls(
            candidates=states, top=states[-1], clocks=states[-1],
            since_s=time_s, last_frame_s=time_s, timed_s=time_s,
            ceiling=Ceiling(max(state.gpu_mhz for state in states), time_s),
            others=Others(looked_s=time_s),
        )

    @property
    def allowed(self) -> tuple[ClockState, ...]:
        """
        Return the candidates under the ceiling, from slow to fast; never empty.

        While it is too hot, none above the present clocks.

        """
        if self.ceiling.gpu_mhz >= self.top.gpu_mhz and not self.ceiling.hot:
            return self.candidates
        under = [state for state in self.candidates if state.gpu_mhz <= self.ceiling.gpu_mhz]
        if self.ceiling.hot:
            under = [state for state in under if state.within(self.clocks)]
        return tuple(under) or (self.clocks,)

    def seen_as(self, clocks: ClockState) -> ClockState:
        """Return a candidate with the memory clock that is read, where nobody controls it."""
        return clocks if clocks.emc_mhz else clocks._replace(emc_mhz=self.emc_mhz)

    def avoiding(self, now_s: float) -> GovernorState:
        """Keep away from the present clocks, twice as long as from the last ones that failed."""
        last = max(self.avoided.values(), key=lambda one: one.count, default=Backoff())
        again = last.again(now_s, TUNING.retry_s, TUNING.most_retry_s)
        return replace(self, avoided={**self.avoided, self.clocks: again})


def rank(state: ClockState) -> tuple[float, ClockState]:
    """Order clock states by speed, as far as that can be said without measuring."""
    product = 1.0
    for clock in state:
        product *= clock if clock > 0 else 1.0
    return product, state
