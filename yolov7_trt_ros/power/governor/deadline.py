"""The governor's deadline mode: the clocks of least power that meet the deadlines."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
import math

from yolov7_trt_ros.power.governor.inputs import FrameWindow, Limits, Readings
from yolov7_trt_ros.power.governor.learning import (
    caution_now_s,
    learn_frames,
    NEIGHBOURHOOD,
    usable_shares,
)
from yolov7_trt_ros.power.governor.state import Backoff, GovernorState, Workload
from yolov7_trt_ros.power.governor.table import ClockState
from yolov7_trt_ros.power.governor.tuning import TUNING

Choice = tuple[GovernorState, ClockState | None, str]


def choose_for_deadline(
    state: GovernorState, readings: Readings, frames: FrameWindow, limits: Limits
) -> Choice:
    """Return the state after these frames, the clocks of least power in time, and the reason."""
    now_s = readings.time_s
    surprised = _surprise(state, readings, frames, limits)
    state = learn_frames(state, readings, frames, limits)
    patience = TUNING.patience + state.false_alarms
    if surprised or sum(state.outcomes) >= patience:
        return _jump(state, surprised)
    return _choose(state, now_s, limits)


def keep_clocks(state: GovernorState, reason: str) -> tuple[ClockState, str]:
    """Return the current clocks, or the highest allowed ones below a lower ceiling."""
    allowed = state.allowed
    if state.clocks in allowed:
        return state.clocks, reason
    return allowed[-1], 'ceiling'


def _surprise(
    state: GovernorState, readings: Readings, frames: FrameWindow, limits: Limits
) -> float:
    """Return the deadline share of a frame that no remembered one explains; 0: none."""
    found = 0.0
    for source, share in usable_shares(state, readings, frames, limits):
        known = state.running.get(source)
        if share > 1.0 and known is not None and state.spread.is_new(share / known.share):
            found = max(found, share)
    return found


def _jump(state: GovernorState, share: float) -> Choice:
    """Raise the clocks so that the late frame would be in time; to the top if unknown."""
    top = state.allowed[-1]
    if top == state.clocks:
        return state, top, 'late at the highest allowed clocks'
    here = state.with_emc(state.clocks)
    latest = max([share, *(max(recent) for recent in state.recent.values())])
    if latest <= 1.0:  # the lateness of frames that never came is unknown
        latest = math.inf

    def fits(candidate: ClockState) -> bool:
        there = state.with_emc(candidate)
        slowdown = state.table.slowdown(here, there)
        return there in state.table.slowness and (
            latest * slowdown * TUNING.headroom <= 1.0) and not candidate.within(state.clocks)

    wanted = _least_power(state, filter(fits, state.allowed)) or top
    return replace(state, jumped=True), wanted, 'deadline missed'


def _choose(state: GovernorState, now_s: float, limits: Limits) -> Choice:
    """Return the clocks of least power that meet the deadlines."""
    if not state.running:
        return state, *keep_clocks(state, 'measuring')
    if state.clocks not in state.allowed:
        return state, state.allowed[-1], 'ceiling'
    if now_s - state.looked_s < TUNING.look_s and now_s - state.since_s > TUNING.look_s:
        return state, state.clocks, 'deadline met'
    state = replace(state, looked_s=now_s)
    expected = _Expected(state, now_s)
    allowed = limits.miss_target
    late = expected.late(state.clocks)
    if late > TUNING.leave * allowed and now_s - state.since_s >= TUNING.known_s:
        return _rise(state, expected, now_s, allowed)
    best = _least_power(
        state, (
            one for one in state.allowed
            if one != state.clocks and not _is_avoided(state, one, now_s)
            and _is_cheaper(state, one)
            and expected.late(one) <= TUNING.enter * allowed
        ),
    )
    if best is None or not _may_descend(state, now_s):
        return state, state.clocks, 'deadline met'
    return state, best, 'deadline met with less'


def _rise(
    state: GovernorState, expected: _Expected, now_s: float, allowed: float
) -> Choice:
    """
    Return the higher clocks of least power with fewer late frames.

    They have to have headroom: what is known of a ratio has an error, and a clock that does not
    help would otherwise look like one that does.

    """
    top = state.allowed[-1]
    if state.clocks == top:
        return state, top, 'little room at the highest allowed clocks'
    best = _least_power(
        state, (
            one for one in state.allowed
            if not one.within(state.clocks)
            and expected.late(one, TUNING.headroom) <= TUNING.enter * allowed
        ),
    )
    was_short = now_s - state.since_s < state.held_s
    least_s = 2.0 * state.held_s if was_short else 0.0
    return state.avoiding(now_s, least_s), best or top, 'too little room'


def _may_descend(state: GovernorState, now_s: float) -> bool:
    """Whether this state is known well enough to leave it for one of less power."""
    if all(len(recent) < NEIGHBOURHOOD for recent in state.recent.values()):
        return False
    return state.previous_power is None or now_s - state.since_s > 1.5 * TUNING.power_settle_s


def _is_cheaper(state: GovernorState, one: ClockState) -> bool:
    """Whether a state saves enough power; lower, measured clocks need to save less."""
    is_known = one.within(state.clocks) and state.with_emc(one) in state.table.power
    gain = TUNING.least_gain if is_known else TUNING.gain
    return _expected_w(state, one) <= _expected_w(state, state.clocks) * (1.0 - gain)


def _least_power(
    state: GovernorState, candidates: Iterable[ClockState]
) -> ClockState | None:
    return min(candidates, key=lambda one: (_expected_w(state, one), one), default=None)


def _expected_w(state: GovernorState, clocks: ClockState) -> float:
    return state.table.expected_w(state.with_emc(clocks), state.top)


class _Expected:
    """The expected share of late frames, of the workloads that count now."""

    def __init__(self, state: GovernorState, now_s: float) -> None:
        self._state = state
        since_s = now_s - caution_now_s(state, now_s)
        self._present = [
            (one, one.frames) for one in state.memory
            if one.last_s >= max(since_s, state.since_s)
        ]
        self._all = [
            (one, one.frames * math.exp((one.last_s - now_s) / TUNING.weight_s))
            for one in state.memory
        ]
        newest = {one.source: one for one in sorted(state.memory, key=lambda one: one.last_s)}
        self._counts = [
            (one, weight) for one, weight in self._all
            if one.last_s >= since_s
            or (one is newest[one.source] and now_s - one.last_s < TUNING.weight_s)
        ]

    def late(self, clocks: ClockState, headroom: float = 1.0) -> float:
        """
        Return the share, 0 to 1: of all workloads, or more if the current ones are late.

        Each frame is taken to be slower by the factor of headroom.

        """
        alone = self._late(self._present, clocks, headroom) / max(1e-9, _weight(self._present))
        together = self._late(self._counts, clocks, headroom) / max(1e-9, _weight(self._all))
        return max(alone / TUNING.present, together)

    def _late(
        self, workloads: list[tuple[Workload, float]], clocks: ClockState, headroom: float
    ) -> float:
        table, there = self._state.table, self._state.with_emc(clocks)
        late = 0.0
        for one, weight in workloads:
            share = one.share * table.slowdown(one.clocks, there) * headroom
            late += weight * self._state.spread.share_above(1.0 / share)
        return late


def _weight(workloads: list[tuple[Workload, float]]) -> float:
    return sum(weight for _, weight in workloads)


def _is_avoided(state: GovernorState, candidate: ClockState, now_s: float) -> bool:
    """Whether this state, or one with no lower clock, failed recently with work like this."""
    return any(
        now_s < one.until_s and candidate.within(failed) and not _is_lighter(state, failed, one)
        for failed, one in state.avoided.items()
    )


def _is_lighter(state: GovernorState, failed: ClockState, backoff: Backoff) -> bool:
    """Whether the frames of all sources are expected to be faster than those that failed."""
    there = state.with_emc(failed)
    shares = {
        source: one.share * state.table.slowdown(one.clocks, there)
        for source, one in state.running.items()
    }
    return bool(shares) and all(
        share < (1.0 - TUNING.shift) * backoff.work.get(source, 0.0)
        for source, share in shares.items()
    )
