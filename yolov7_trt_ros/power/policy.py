"""
The governor: which clocks to allow, from power samples and frame timings. Pure, no hardware.

`decide` is called for every new frame timing (or every sample) and returns a new state and the
wanted clocks. Two modes:

deadline
    The clocks of least measured power at which the observed quantile of the latency stays under
    the deadline. A missed deadline that no remembered frame explains goes straight to the highest
    clocks; there the new workload is measured, and the table leads back down.
power_budget
    The highest clocks whose measured power stays under the budget.

Above both stands a ceiling that temperature and over-current alarms lower. Each thing that went
wrong at a clock state doubles the time until it is tried again: a steady workload ends in one
state.

"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.power.learning import ClockState, Spread, Table

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

    """

    latencies_ms: tuple[float, ...] = ()
    dropped: int = 0
    period_ms: float | None = None


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
    look_s: float = 0.5
    retry_s: float = 4.0
    most_retry_s: float = 600.0
    idle_s: float = 2.0
    thermal_step_s: float = 2.0
    thermal_band_c: float = 4.0
    thermal_retry_s: float = 10.0
    alarm_step_s: float = 0.5
    budget_steps: int = 4
    budget_entry: float = 0.97


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
        The candidates under the ceiling, from slow to fast; never empty.

        While it is too hot, none above the present clocks.

        """
        if self.ceiling.gpu_mhz >= self.top.gpu_mhz and not self.ceiling.hot:
            return self.candidates
        under = [state for state in self.candidates if state.gpu_mhz <= self.ceiling.gpu_mhz]
        if self.ceiling.hot:
            under = [state for state in under if state.within(self.clocks)]
        return tuple(under) or (self.clocks,)


def rank(state: ClockState) -> tuple[float, ClockState]:
    """Order clock states by speed, as far as that can be said without measuring."""
    product = 1.0
    for clock in state:
        product *= clock if clock > 0 else 1.0
    return product, state


def decide(
    state: GovernorState, readings: Readings, frames: FrameWindow, limits: Limits,
) -> tuple[GovernorState, Decision]:
    """
    Return the next state, and the clocks to allow.

    Parameters
    ----------
    state
        As returned by the last call.
    readings
        The board now.
    frames
        The frames finished since the last call.
    limits
        What the user asks for; may change from call to call.

    """
    if limits.governor == 'off':
        return state, Decision(state.clocks, False, 'off')
    if readings.is_new:
        state = _learn_power(_move_ceiling(state, readings, limits), readings)
    if limits.governor == 'power_budget':
        state, wanted, reason = _want_budget(state, readings, limits)
    else:
        state, wanted, reason = _want_deadline(state, readings, frames, limits)
    return _switch(state, wanted, reason, readings.time_s)


def _switch(
    state: GovernorState, wanted: ClockState, reason: str, now_s: float
) -> tuple[GovernorState, Decision]:
    if wanted == state.clocks:
        return state, Decision(wanted, False, reason)
    state = replace(
        state, clocks=wanted, since_s=now_s, recent=(), skip=1, outcomes=(), quantile=None,
    )
    return state, Decision(wanted, True, reason)


# ---- ceiling


def _move_ceiling(state: GovernorState, readings: Readings, limits: Limits) -> GovernorState:
    """Lower the ceiling while it is hot or an alarm is up; raise it again when long cool."""
    ceiling, now_s = state.ceiling, readings.time_s
    over_c = _over_limit_c(readings, limits)
    hot, alarm = over_c >= 0.0, bool(readings.alarms)
    waited_s = now_s - ceiling.moved_s
    if alarm and (waited_s >= TUNING.alarm_step_s or not ceiling.hot):
        ceiling = _lowered(state, now_s, over_c, steps=2)
    elif hot and not ceiling.hot:
        ceiling = _lowered(state, now_s, over_c, steps=1)
    elif hot and waited_s >= TUNING.thermal_step_s and over_c > ceiling.over_c - 0.2:
        ceiling = _lowered(state, now_s, over_c, steps=1)  # and it does not get cooler
    elif hot and waited_s >= TUNING.thermal_step_s:
        ceiling = replace(ceiling, moved_s=now_s, over_c=over_c)  # it does: wait on
    elif over_c < -TUNING.thermal_band_c and not alarm and waited_s >= ceiling.retry_s:
        ceiling = _raised(state, now_s)
    return replace(state, ceiling=replace(ceiling, hot=hot or alarm))


def _over_limit_c(readings: Readings, limits: Limits) -> float:
    """Return by how much it is too hot; minus infinity where nobody knows or asks."""
    if readings.temperature_c is None or limits.temperature_limit_c is None:
        return -math.inf
    return readings.temperature_c - limits.temperature_limit_c


def _lowered(state: GovernorState, now_s: float, over_c: float, steps: int) -> Ceiling:
    """Return a ceiling this many GPU clocks below the present one; the wait to rise doubles."""
    ceiling = state.ceiling
    gpu_mhz = sorted({candidate.gpu_mhz for candidate in state.candidates})
    now_mhz = min(state.clocks.gpu_mhz, ceiling.gpu_mhz)
    index = sum(clock < now_mhz for clock in gpu_mhz)
    retry_s = ceiling.retry_s if ceiling.hot else ceiling.retry_s * 2.0
    return Ceiling(
        gpu_mhz[max(0, index - steps)], now_s, min(retry_s, TUNING.most_retry_s), True, over_c
    )


def _raised(state: GovernorState, now_s: float) -> Ceiling:
    """Return a ceiling one GPU clock higher; at the top the wait slowly becomes short again."""
    ceiling = state.ceiling
    higher = [c.gpu_mhz for c in state.candidates if c.gpu_mhz > ceiling.gpu_mhz]
    if higher:
        return replace(ceiling, gpu_mhz=min(higher), moved_s=now_s)
    return replace(
        ceiling, moved_s=now_s, retry_s=max(TUNING.thermal_retry_s, ceiling.retry_s / 2.0)
    )


# ---- learning


def _learn_power(state: GovernorState, readings: Readings) -> GovernorState:
    """Note the power of the present state, at most once in the sensors' averaging time."""
    now_s = readings.time_s
    settled = now_s - max(state.since_s, state.power_known_s) >= TUNING.power_settle_s
    if readings.power_w is None or readings.throttled or not settled:
        return state
    table = state.table.with_power(state.clocks, readings.power_w)
    return replace(state, table=table, power_known_s=now_s)


def _learn_frames(
    state: GovernorState, readings: Readings, frames: FrameWindow, target_ms: float, share: float
) -> GovernorState:
    """Take the frames into the table, the spread and the margin."""
    late = [latency_ms > target_ms for latency_ms in frames.latencies_ms] + [True] * frames.dropped
    # the state of balance is half the allowed share of late frames
    margin = state.margin + sum(TUNING.miss_step * (miss - share / 2.0) for miss in late)
    state = replace(
        state, margin=min(TUNING.most_margin, max(1.0, margin)), last_frame_s=readings.time_s,
        outcomes=(*state.outcomes, *late)[-5:],
    )
    usable = frames.latencies_ms[state.skip:]
    if readings.time_s - state.since_s < TUNING.settle_s or readings.throttled:
        usable = ()
    state = replace(state, skip=max(0, state.skip - len(frames.latencies_ms)))
    for latency_ms in usable:
        state = _learn_frame(state, latency_ms)
    return state


def _learn_frame(state: GovernorState, latency_ms: float) -> GovernorState:
    recent = (*state.recent, latency_ms)
    row = state.table.row(state.clocks)
    if row.latency_ms is None or row.level != state.table.level:
        return _learn_row(replace(state, recent=recent))
    spread = state.spread
    if len(recent) > TUNING.window_frames:
        spread = spread.with_ratios([recent[0] / row.latency_ms])
        recent = recent[1:]
    state = replace(state, recent=recent, spread=spread)
    return _find_shift(state) if len(recent) == TUNING.window_frames else state


def _learn_row(state: GovernorState) -> GovernorState:
    """Make the row of a state first visited at this level, once enough frames are there."""
    if len(state.recent) < TUNING.confirm_frames:
        return state
    median_ms, frames = statistics.median(state.recent), len(state.recent)
    expected_ms = state.table.expected_ms(state.clocks)
    scaled = state.table.row(state.clocks).latency_ms is not None
    factor = median_ms / expected_ms if expected_ms else 1.0
    # An expectation is an upper bound, so slower than that is another workload. Faster is one
    # only against a row of this very state.
    if factor > 1.0 + TUNING.shift or (scaled and factor < 1.0 - TUNING.wrong_scale):
        return _shifted(state, factor, median_ms, frames)
    return replace(state, table=state.table.with_latency(state.clocks, median_ms, frames))


def _find_shift(state: GovernorState) -> GovernorState:
    """See in a full window whether the workload changed, or refine the row."""
    median_ms = statistics.median(state.recent)
    known_ms = state.table.row(state.clocks).latency_ms or median_ms
    if abs(median_ms / known_ms - 1.0) <= TUNING.shift:
        alarms = min(TUNING.most_patience, state.false_alarms + bool(state.suspects))
        return replace(
            state, spread=state.spread.with_ratios(state.suspects), suspects=(),
            table=state.table.with_latency(state.clocks, median_ms, 1), false_alarms=alarms,
        )
    newest = state.recent[-TUNING.confirm_frames:]
    newest_ms = statistics.median(newest)
    return _shifted(replace(state, recent=newest), newest_ms / known_ms, newest_ms, len(newest))


def _shifted(
    state: GovernorState, factor: float, median_ms: float, frames: int
) -> GovernorState:
    """Note another workload: what failed under the last one may be tried again, once less."""
    avoided = {key: Backoff(max(0, one.count - 1)) for key, one in state.avoided.items()}
    table = state.table.shifted(state.clocks, factor, median_ms, frames)
    return replace(state, table=table, suspects=(), avoided=avoided, false_alarms=0, quantile=None)


# ---- deadline mode


def _want_deadline(
    state: GovernorState, readings: Readings, frames: FrameWindow, limits: Limits
) -> tuple[GovernorState, ClockState, str]:
    now_s = readings.time_s
    if not frames.latencies_ms and not frames.dropped:
        if now_s - state.last_frame_s >= TUNING.idle_s:
            return state, state.allowed[0], 'no frames'
        return state, *_stay_allowed(state, 'waiting for a frame')
    if now_s - state.last_frame_s >= TUNING.idle_s:
        state = replace(state, last_frame_s=now_s, suspects=())
        return state, state.allowed[-1], 'frames again'
    target_ms = min(limits.deadline_ms, frames.period_ms or limits.deadline_ms)
    surprise = _is_surprise(state, frames, target_ms)
    state = _learn_frames(state, readings, frames, target_ms, limits.miss_target)
    patience = 2 if state.margin >= TUNING.alarm_margin else 2 + state.false_alarms
    if surprise or sum(state.outcomes) >= patience:
        return _boost(state, now_s)
    return _choose(state, now_s, target_ms, limits)


def _stay_allowed(state: GovernorState, reason: str) -> tuple[ClockState, str]:
    """Return the present clocks, or the highest below them when the ceiling came down."""
    allowed = state.allowed
    if state.clocks in allowed:
        return state.clocks, reason
    return allowed[-1], 'ceiling'


def _is_surprise(state: GovernorState, frames: FrameWindow, target_ms: float) -> bool:
    """Return whether a frame was late by more than any remembered frame explains."""
    known_ms = state.table.row(state.clocks).latency_ms
    worst_ms = max(frames.latencies_ms, default=0.0)
    if worst_ms <= target_ms:
        return False
    return known_ms is None or state.spread.is_new(worst_ms / known_ms)


def _boost(state: GovernorState, now_s: float) -> tuple[GovernorState, ClockState, str]:
    """Go to the highest allowed clocks, and remember what failed."""
    top = state.allowed[-1]
    if top == state.clocks:
        return state, top, 'late at the highest allowed clocks'
    known_ms = state.table.row(state.clocks).latency_ms
    suspects = tuple(one / known_ms for one in state.recent) if known_ms else ()
    if state.margin >= TUNING.alarm_margin:
        state = _avoid(state, now_s)
    return replace(state, suspects=suspects), top, 'deadline missed'


def _avoid(state: GovernorState, now_s: float) -> GovernorState:
    """Keep away from the present clocks, twice as long as from the last ones that failed."""
    last = max(state.avoided.values(), key=lambda one: one.count, default=Backoff())
    again = last.again(now_s, TUNING.retry_s, TUNING.most_retry_s)
    return replace(state, avoided={**state.avoided, state.clocks: again})


def _choose(
    state: GovernorState, now_s: float, target_ms: float, limits: Limits
) -> tuple[GovernorState, ClockState, str]:
    """Return the clocks of least power that hold the deadline."""
    allowed = state.allowed
    row = state.table.row(state.clocks)
    if row.latency_ms is None or row.level != state.table.level:
        return state, *_stay_allowed(state, 'measuring')
    if state.clocks not in allowed:
        return state, allowed[-1], 'ceiling'
    state = _note_quantile(state, limits)
    room_ms = target_ms / state.margin
    if row.latency_ms * (state.quantile or 1.0) > room_ms and state.clocks != allowed[-1]:
        best = _cheapest(state, now_s, room_ms / (state.quantile or 1.0), above=True)
        return _avoid(state, now_s), best or allowed[-1], 'too little room'
    if not _may_descend(state, now_s):
        return state, state.clocks, 'deadline met'
    return _descend(replace(state, looked_s=now_s), now_s, room_ms, limits)


def _note_quantile(state: GovernorState, limits: Limits) -> GovernorState:
    """Note the margin that this state has to keep, when it was entered or the workload changed."""
    if state.quantile is not None:
        return state
    return replace(state, quantile=state.spread.quantile(1.0 - limits.miss_target / 2.0))


def _descend(
    state: GovernorState, now_s: float, room_ms: float, limits: Limits
) -> tuple[GovernorState, ClockState, str]:
    """Return a cheaper state, if one saves enough."""
    quantile = state.spread.quantile(1.0 - limits.miss_target / 2.0)
    best = _cheapest(state, now_s, room_ms / quantile / TUNING.entry_margin)
    now_w = state.table.expected_w(state.clocks, state.top)
    if best is None or state.table.expected_w(best, state.top) > now_w * (1.0 - TUNING.gain):
        return state, state.clocks, 'deadline met'
    return state, best, 'deadline met with less'


def _may_descend(state: GovernorState, now_s: float) -> bool:
    """Return whether this state is known well enough to leave it for a cheaper one."""
    if len(state.recent) < TUNING.window_frames or now_s - state.looked_s < TUNING.look_s:
        return False
    measured = state.table.row(state.clocks).power_w is not None
    return measured or now_s - state.since_s > 1.5 * TUNING.power_settle_s or bool(state.suspects)


def _cheapest(
    state: GovernorState, now_s: float, room_ms: float, above: bool = False
) -> ClockState | None:
    """Return the allowed state of least power with an expected latency under `room_ms`."""
    def fits(candidate: ClockState) -> bool:
        if candidate == state.clocks or (above and candidate.within(state.clocks)):
            return False
        if _is_avoided(state, candidate, now_s):
            return False
        expected_ms = state.table.expected_ms(candidate)
        return expected_ms is not None and expected_ms <= room_ms

    fitting = [candidate for candidate in state.allowed if fits(candidate)]
    return min(
        fitting, key=lambda one: (state.table.expected_w(one, state.top), one), default=None
    )


def _is_avoided(state: GovernorState, candidate: ClockState, now_s: float) -> bool:
    """Return whether this state, or one that is nowhere lower, failed a short while ago."""
    return any(
        now_s < one.until_s and candidate.within(failed) for failed, one in state.avoided.items()
    )


# ---- power budget mode


def _want_budget(
    state: GovernorState, readings: Readings, limits: Limits
) -> tuple[GovernorState, ClockState, str]:
    """Return the highest clocks whose measured power stays under the budget."""
    now_s, power_w = readings.time_s, readings.power_w
    ladder = list(state.allowed)
    if state.clocks not in ladder:
        return state, ladder[-1], 'ceiling'
    if power_w is None or now_s - state.since_s < TUNING.power_settle_s:
        return state, state.clocks, 'measuring'
    place = ladder.index(state.clocks)
    if power_w > limits.power_budget_w:
        if place == 0:
            return state, state.clocks, 'over budget at the lowest clocks'
        return _below_budget(state, ladder[:place], power_w, now_s, limits)
    # power does not rise with every step of speed, so look past one that is too hungry
    fitting = [
        one for one in ladder[place + 1:place + 1 + TUNING.budget_steps]
        if not _is_blocked(state, one, now_s)
        and _likely_w(state, one, power_w) <= TUNING.budget_entry * limits.power_budget_w
    ]
    if not fitting:
        return state, state.clocks, 'under budget'
    return state, fitting[-1], 'room in the budget'


def _likely_w(state: GovernorState, other: ClockState, power_w: float) -> float:
    """Return the power to expect at `other`, from the table and the power now."""
    now_w = state.table.expected_w(state.clocks, state.top)
    return power_w * state.table.expected_w(other, state.top) / now_w


def _below_budget(
    state: GovernorState, lower: list[ClockState], power_w: float, now_s: float, limits: Limits
) -> tuple[GovernorState, ClockState, str]:
    """Step down to the highest state that is likely under the budget; avoid the present one."""
    wanted = lower[0]
    for one in lower:
        if _likely_w(state, one, power_w) <= limits.power_budget_w:
            wanted = one
    return _avoid(state, now_s), wanted, 'over budget'


def _is_blocked(state: GovernorState, candidate: ClockState, now_s: float) -> bool:
    """Return whether this state was over the budget a short while ago."""
    return now_s < state.avoided.get(candidate, Backoff()).until_s
