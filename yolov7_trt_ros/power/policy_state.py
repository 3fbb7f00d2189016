"""
What the governor is told, what it answers, what it remembers, and its tuning.

All values are frozen; `power.policy.decide` returns new ones.

"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.power.policy_table import ClockState, Spread, Table

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

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if self.governor not in GOVERNORS:
            raise SettingError(f'governor must be one of {", ".join(GOVERNORS)}, is '
                               f"'{self.governor}'; choose one of them")
        for name in ('deadline_ms', 'power_budget_w'):
            if not getattr(self, name) > 0:
                raise SettingError(f'{name} must be above 0, is {getattr(self, name)}; '
                                   f'set a positive number')
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
    is_new
        False: the board was not looked at since the last call, only frames have come.

    """

    time_s: float
    power_w: float | None = None
    temperature_c: float | None = None
    alarms: tuple[str, ...] = ()
    throttled: bool = False
    is_new: bool = True


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

    """

    latencies_ms: tuple[float, ...] = ()
    dropped: int = 0
    period_ms: float | None = None
    unknown: int = 0


@dataclass(frozen=True)
class Decision:
    """The clocks to allow from now on, whether they differ from before, and why."""

    clocks: ClockState
    changed: bool
    reason: str


@dataclass(frozen=True)
class Tuning:
    """Times and shares that shape the behaviour; none depends on the board."""

    settle_s: float = 0.03
    """After a switch (up to 8 ms until it holds) and one frame, timings tell of the new state."""

    window_frames: int = 31
    """A change of workload is believed when the median of so many frames moved."""

    shift: float = 0.05
    """... by this share."""

    wrong_scale: float = 0.2
    """A row scaled from an earlier workload that is so much too high tells of a third one."""

    confirm_frames: int = 10
    """So many frames in a state before its latency is known."""

    power_settle_s: float = 1.0
    """The rail sensors average over 0.43 s."""

    entry_margin: float = 1.04
    """To enter a lower state takes so much more room than to stay in it."""

    gain: float = 0.03
    """A state has to save this share of power to be worth a switch."""

    miss_step: float = 0.02
    """A late frame widens the margin by this share; on time for long narrows it again."""

    most_margin: float = 1.5
    alarm_margin: float = 1.1
    """From this margin on, late frames are too many, and a jump to the top blames the state."""

    most_patience: int = 3
    """Two late frames of the last five lead to the top; false alarms add up to so many."""

    look_s: float = 0.5
    """A cheaper state is looked for at most this often."""

    retry_s: float = 4.0
    """A state that failed is avoided so long, twice as long after each further failure."""

    most_retry_s: float = 600.0
    idle_s: float = 2.0
    """Without a frame for so long there is no work, and the lowest clocks do."""

    thermal_step_s: float = 2.0
    """How long a lower ceiling gets to show its effect."""

    thermal_band_c: float = 4.0
    """It is cool when so much below the limit."""

    thermal_retry_s: float = 10.0
    """How long it has to be cool before the ceiling rises; doubles each time it was too soon."""

    alarm_step_s: float = 0.5
    """How long an alarm may stay up before the ceiling comes down again."""

    budget_steps: int = 4
    """So many states above the present one are looked at."""

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
    recent
        Latencies in this state that are not yet in the spread.
    suspects
        Ratios of the frames before a jump to the top: they join the spread if the workload proves
        to be the old one.
    outcomes
        Whether each of the last five frames was late.
    skip
        Frames still to be ignored: begun before the last switch.
    margin
        The part of the margin that late frames control: at least 1.
    avoided
        States to be avoided for a while.
    looked_s
        When a cheaper state was last looked for.
    quantile
        Of the spread when the present state was entered: it was good enough then, and that the
        estimate moved is no reason to leave. Late frames are, through `margin`.
    false_alarms
        Jumps to the top that found the same workload; each asks for one late frame more.

    """

    candidates: tuple[ClockState, ...]
    top: ClockState
    clocks: ClockState
    since_s: float
    ceiling: Ceiling
    table: Table = field(default_factory=Table)
    spread: Spread = field(default_factory=Spread)
    recent: tuple[float, ...] = ()
    suspects: tuple[float, ...] = ()
    outcomes: tuple[bool, ...] = ()
    skip: int = 1
    margin: float = 1.0
    avoided: Mapping[ClockState, Backoff] = field(default_factory=dict)
    last_frame_s: float = 0.0
    power_known_s: float = 0.0
    looked_s: float = 0.0
    quantile: float | None = None
    false_alarms: int = 0

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
            since_s=time_s, last_frame_s=time_s,
            ceiling=Ceiling(max(state.gpu_mhz for state in states), time_s),
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
