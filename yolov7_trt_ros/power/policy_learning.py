"""The governor takes samples and frames into its table, its spread and its margin."""

from __future__ import annotations

from dataclasses import replace
import statistics

from yolov7_trt_ros.power.policy_state import (
    Backoff,
    FrameWindow,
    GovernorState,
    Readings,
    TUNING,
)


def learn_power(state: GovernorState, readings: Readings) -> GovernorState:
    """Note the power of the present state, at most once in the sensors' averaging time."""
    now_s = readings.time_s
    settled = now_s - max(state.since_s, state.power_known_s) >= TUNING.power_settle_s
    if readings.power_w is None or readings.throttled or not settled:
        return state
    table = state.table.with_power(state.clocks, readings.power_w)
    return replace(state, table=table, power_known_s=now_s)


def learn_frames(
    state: GovernorState, readings: Readings, frames: FrameWindow, target_ms: float, share: float
) -> GovernorState:
    """Take the frames into the table, the spread and the margin."""
    late = [latency_ms > target_ms for latency_ms in frames.latencies_ms] + [True] * frames.dropped
    # the state of balance is half the allowed share of late frames
    margin = state.margin + sum(TUNING.miss_step * (miss - share / 2.0) for miss in late)
    usable = frames.latencies_ms[state.skip:]
    if readings.time_s - state.since_s < TUNING.settle_s or readings.throttled:
        usable = ()
    state = replace(
        state, margin=min(TUNING.most_margin, max(1.0, margin)), last_frame_s=readings.time_s,
        outcomes=(*state.outcomes, *late)[-5:],
        skip=max(0, state.skip - len(frames.latencies_ms)),
    )
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
