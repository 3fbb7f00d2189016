"""Learn from samples and frames: update the governor's table, spread and memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
import math
import statistics

from yolov7_trt_ros.power.governor.inputs import FrameWindow, Limits, Readings
from yolov7_trt_ros.power.governor.state import Backoff, GovernorState, PreviousPower, Workload
from yolov7_trt_ros.power.governor.table import ClockState
from yolov7_trt_ros.power.governor.tuning import TUNING
from yolov7_trt_ros.power.units import MS_PER_S

NEIGHBOURHOOD = 2 * TUNING.neighbours + 1
_LEAST_MS = 1e-3


def learn_power(state: GovernorState, readings: Readings) -> GovernorState:
    """Note the power of the current state, and its ratio to that of the previous one."""
    settled = readings.time_s - state.since_s >= TUNING.power_settle_s
    if readings.power_w is None or readings.throttled or not settled or state.is_released:
        return state
    table, before = state.table, state.previous_power
    if before is not None and _is_same_work(state):
        now = state.with_emc(state.clocks)
        table = table.with_power(before.clocks, now, readings.power_w / before.power_w)
    return replace(state, power_w=readings.power_w, table=table, previous_power=None)


def _is_same_work(state: GovernorState) -> bool:
    """Whether the same work runs as before the switch: else the powers cannot be compared."""
    assert state.previous_power is not None
    for source, before in state.previous_power.work.items():
        now = state.running.get(source)
        if now is None:
            return False
        slower = now.share / before.share / state.table.slowdown(before.clocks, now.clocks)
        if not 1.0 - 2.0 * TUNING.shift <= slower <= 1.0 + TUNING.shift:
            return False
    return state.previous_power.work.keys() == state.running.keys()


def learn_frames(
    state: GovernorState, readings: Readings, frames: FrameWindow, limits: Limits
) -> GovernorState:
    """Add the frames to outcomes, spread, memory and table."""
    usable = usable_shares(state, readings, frames, limits)
    late = [share > 1.0 for _, share in usable] + [True] * frames.dropped
    state = replace(state, outcomes=(*state.outcomes, *late)[-10:])
    if readings.throttled:
        return state
    for source, share in usable:
        state = _learn_frame(state, source, share, readings.time_s)
    return _learn_missing(state, frames.dropped)


def _learn_missing(state: GovernorState, dropped: int) -> GovernorState:
    """Count dropped frames as late ones of the source with most frames."""
    if not dropped or not state.running:
        return state
    busiest = max(state.running.values(), key=lambda one: one.frames)
    ratios = [TUNING.missing / busiest.share] * dropped
    return replace(state, spread=state.spread.with_ratios(ratios))


def usable_shares(
    state: GovernorState, readings: Readings, frames: FrameWindow, limits: Limits
) -> list[tuple[str, float]]:
    """Return source and deadline share of the frames that began in the current state."""
    held_s = readings.time_s - state.since_s - TUNING.settle_s
    found = []
    for source, latency_ms in frames.by_source:
        if min(latency_ms / MS_PER_S, TUNING.stale_s) <= held_s:
            deadline_ms = limits.deadlines_ms.get(source, limits.deadline_ms)
            allowed_ms = min(deadline_ms, frames.period_ms or math.inf)
            found.append((source, max(latency_ms, _LEAST_MS) / allowed_ms))
    return found


def _learn_frame(
    state: GovernorState, source: str, share: float, now_s: float
) -> GovernorState:
    recent = (*state.recent.get(source, ()), share)[-NEIGHBOURHOOD:]
    state = replace(state, recent={**state.recent, source: recent})
    if len(recent) < TUNING.neighbours:
        return state
    if len(recent) < NEIGHBOURHOOD:
        if source not in state.running:
            state = _begin(state, source, recent, now_s)
        return state
    median = statistics.median(recent)
    if not state.jumped and source in state.previous:
        state = _compare(state, source, median)
    spread = state.spread.with_ratios([recent[TUNING.neighbours] / median])
    return _remember(replace(state, spread=spread), source, median, 1.0, now_s)


def _begin(
    state: GovernorState, source: str, recent: tuple[float, ...], now_s: float
) -> GovernorState:
    """Note the work after a switch; after a jump, whether it is the previous work."""
    state = _remember(state, source, statistics.median(recent), len(recent), now_s)
    if not state.jumped:
        return state
    before, now = state.previous.get(source), state.running[source]
    if before is None:
        return state if state.previous else replace(state, jumped=False)
    expected = state.table.slowdown(before.clocks, now.clocks)
    state = replace(state, previous=_without(state.previous, source))
    if now.share <= before.share * expected * (1.0 + TUNING.shift):
        return _false_alarm(state)
    return _caught(state, now_s)


def _compare(state: GovernorState, source: str, share: float) -> GovernorState:
    """Learn how much slower this state is than the previous one."""
    before, after = state.previous[source], state.running[source].clocks
    table = state.table.with_slowness(before.clocks, after, share / before.share)
    return replace(state, table=table, previous=_without(state.previous, source))


def _false_alarm(state: GovernorState) -> GovernorState:
    """Note a jump for frames that were slow only by chance."""
    return replace(
        state, jumped=False, suspects=(), spread=state.spread.with_ratios(state.suspects),
        false_alarms=min(TUNING.most_patience - TUNING.patience, state.false_alarms + 1),
    )


def _caught(state: GovernorState, now_s: float) -> GovernorState:
    """Note that the workload grew: raise the caution; failed states may be tried again."""
    avoided = {key: Backoff(max(0, one.count - 1)) for key, one in state.avoided.items()}
    return replace(
        state, jumped=False, suspects=(), avoided=avoided, caught_s=now_s, false_alarms=0,
        caution_s=min(TUNING.most_caution_s, 2.0 * caution_now_s(state, now_s)),
    )


def caution_now_s(state: GovernorState, now_s: float) -> float:
    """Return the time for which heavier workloads count."""
    calm = math.pow(0.5, (now_s - state.caught_s) / TUNING.calm_s)
    return max(TUNING.caution_s, state.caution_s * calm)


def _remember(
    state: GovernorState, source: str, share: float, frames: float, now_s: float
) -> GovernorState:
    """Add frames to the workload that they match, or to a new one."""
    clocks = state.with_emc(state.clocks)
    alike = [
        one for one in state.memory
        if one.source == source and one.clocks == clocks
        and abs(one.share / share - 1.0) <= TUNING.shift / 2.0
    ]
    if alike:
        old = min(alike, key=lambda one: abs(one.share / share - 1.0))
        kept = old.frames * math.exp((old.last_s - now_s) / TUNING.weight_s)
        part = frames / (min(kept, 60.0) + frames)
        new = Workload(
            source, clocks, old.share + (share - old.share) * part, kept + frames, now_s
        )
    else:
        old, new = None, Workload(source, clocks, share, frames, now_s)
    others = (
        one for one in state.memory
        if one is not old and now_s - one.last_s < TUNING.memory_s
    )
    return replace(state, memory=(*others, new), running={**state.running, source: new})


def _without(known: Mapping[str, Workload], source: str) -> dict[str, Workload]:
    return {key: value for key, value in known.items() if key != source}


def after_switch(state: GovernorState, clocks: ClockState, now_s: float) -> GovernorState:
    """Return the state after a switch to other clocks."""
    pending = tuple(
        share / state.running[source].share
        for source, shares in state.recent.items() if source in state.running
        for share in shares[-TUNING.neighbours:]
    )
    if not state.jumped:
        state = replace(state, spread=state.spread.with_ratios(pending))
    previous_power = None
    if not state.jumped and state.power_w is not None:
        clocks_then = state.with_emc(state.clocks)
        previous_power = PreviousPower(clocks_then, state.power_w, state.running)
    return replace(
        state, clocks=clocks, since_s=now_s, held_s=now_s - state.since_s, is_released=False,
        recent={}, running={}, outcomes=(), previous=state.running or state.previous,
        suspects=pending if state.jumped else (), previous_power=previous_power, power_w=None,
    )
