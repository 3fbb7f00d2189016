"""The governor's deadline mode: the clocks of least power that hold a deadline."""

from __future__ import annotations

from dataclasses import replace

from yolov7_trt_ros.power.policy_learning import learn_frames
from yolov7_trt_ros.power.policy_state import (
    FrameWindow,
    GovernorState,
    Limits,
    Readings,
    TUNING,
)
from yolov7_trt_ros.power.policy_table import ClockState


def want_deadline(
    state: GovernorState, readings: Readings, frames: FrameWindow, limits: Limits
) -> tuple[GovernorState, ClockState, str]:
    """Return the state after these frames, the clocks of least power in time, and why those."""
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
    state = learn_frames(state, readings, frames, target_ms, limits.miss_target)
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
        state = state.avoiding(now_s)
    return replace(state, suspects=suspects), top, 'deadline missed'


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
        return state.avoiding(now_s), best or allowed[-1], 'too little room'
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
