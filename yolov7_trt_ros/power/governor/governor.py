"""
The governor: chooses clocks from power samples and frame timings. Pure, no hardware.

`decide` is called for every new frame timing (or every sample) and returns a new state and the
clocks to allow. Two modes:

deadline
    The clocks of least measured power at which the share of late frames stays below its target,
    over all workloads of the last seconds. A late frame that no remembered one explains raises
    the clocks at once, to those where it would have been in time. Without frames the clocks are
    released; while other programs use the GPU they are not lowered.
power_budget
    The highest clocks whose measured power stays within the budget.

Both are limited by a ceiling that heat and over-current alarms lower. The governor keeps the
clocks while a value is unknown: the temperature (if there is a limit), the power (for a budget),
or the latency. Each failure of a clock state doubles the time until it is tried again, so a steady
workload ends in one state.

"""

from __future__ import annotations

from dataclasses import dataclass, replace

from yolov7_trt_ros.power.governor.budget import choose_for_budget, NO_POWER
from yolov7_trt_ros.power.governor.ceiling import is_heat_unknown, update_ceiling
from yolov7_trt_ros.power.governor.deadline import Choice, choose_for_deadline, keep_clocks
from yolov7_trt_ros.power.governor.inputs import FrameWindow, Limits, Readings
from yolov7_trt_ros.power.governor.learning import after_switch, learn_power
from yolov7_trt_ros.power.governor.other_load import update_other_load
from yolov7_trt_ros.power.governor.state import GovernorState
from yolov7_trt_ros.power.governor.table import ClockState, ClockTable
from yolov7_trt_ros.power.governor.tuning import TUNING

NO_TEMPERATURE = 'the temperature is not readable'
NO_LATENCY = 'frames without a latency: their stamps are 0, in the future or over a minute old'
PROBLEMS = (NO_TEMPERATURE, NO_LATENCY, NO_POWER)
"""Reasons for which the clocks are kept, since a value is unknown."""


@dataclass(frozen=True)
class Decision:
    """
    The clocks to allow from now on, whether they changed, and why.

    Parameters
    ----------
    clocks
        None: release them, as without a governor.
    problem
        The unknown value for which the clocks are kept; '' for none.

    """

    clocks: ClockState | None
    changed: bool
    reason: str
    problem: str = ''


def decide(
    state: GovernorState, readings: Readings, frames: FrameWindow, limits: Limits,
) -> tuple[GovernorState, Decision]:
    """
    Return the next state, and the clocks to allow.

    Parameters
    ----------
    state
        The state from the previous call.
    readings
        The current readings of the board.
    frames
        The frames finished since the previous call.
    limits
        The limits of the user; may differ from call to call.

    """
    if limits.governor == 'off':
        return state, Decision(_held(state), False, 'off')
    state = update_other_load(_with_memory_clock(state, readings), readings, frames)
    if readings.is_new:
        state = learn_power(update_ceiling(state, readings, limits), readings)
    if limits.governor == 'power_budget':
        state, wanted, reason = _decide_budget(state, readings, limits)
    else:
        state, wanted, reason = _decide_deadline(state, readings, frames, limits)
    return _switch(state, wanted, reason, readings.time_s)


def _held(state: GovernorState) -> ClockState | None:
    return None if state.is_released else state.clocks


def _with_memory_clock(state: GovernorState, readings: Readings) -> GovernorState:
    """Note a memory clock that was read twice; each has a table of its own."""
    read_mhz = readings.emc_mhz
    if not readings.is_new or state.top.emc_mhz or not read_mhz:
        return state
    if read_mhz == state.emc_read_mhz != state.emc_mhz:
        tables = {**state.tables, state.emc_mhz: state.table}
        state = replace(
            after_switch(state, state.clocks, readings.time_s), is_released=state.is_released,
            emc_mhz=read_mhz, table=tables.get(read_mhz, ClockTable()), tables=tables, previous={},
            previous_power=None,
        )
    return replace(state, emc_read_mhz=read_mhz)


def _decide_budget(state: GovernorState, readings: Readings, limits: Limits) -> Choice:
    """Return the clocks for a budget; the current ones while the temperature is unknown."""
    if state.is_released:
        return state, state.allowed[-1], 'starting'
    if is_heat_unknown(readings, limits):
        return state, *keep_clocks(state, NO_TEMPERATURE)
    return choose_for_budget(state, readings, limits)


def _decide_deadline(
    state: GovernorState, readings: Readings, frames: FrameWindow, limits: Limits
) -> Choice:
    """Return the clocks for the deadlines, or a safe choice while they are unknown."""
    timed, now_s = bool(frames.latencies_ms or frames.dropped), readings.time_s
    if timed or frames.unknown:
        timed_s = now_s if timed else state.timed_s
        state = replace(state, last_frame_s=now_s, timed_s=timed_s)
    elif now_s - state.last_frame_s >= TUNING.idle_s:
        return _without_frames(state)
    if not timed or is_heat_unknown(readings, limits):
        return _hold_still(state, readings, frames, limits)
    if state.is_released:
        return state, state.allowed[-1], 'frames again'
    if state.other_load.is_present:
        return state, state.allowed[-1], 'others use the GPU'
    return choose_for_deadline(state, readings, frames, limits)


def _without_frames(state: GovernorState) -> Choice:
    """Release the clocks, within the ceiling."""
    if state.allowed == state.candidates:
        return state, None, 'no frames'
    return state, state.allowed[-1], 'no frames, ceiling'


def _hold_still(
    state: GovernorState, readings: Readings, frames: FrameWindow, limits: Limits
) -> Choice:
    """Keep the clocks within the ceiling, and give the unknown value as the reason."""
    if is_heat_unknown(readings, limits):
        reason = NO_TEMPERATURE
    else:
        is_blind = readings.time_s - state.timed_s >= TUNING.idle_s
        reason = NO_LATENCY if is_blind else 'waiting for a frame'
    if state.is_released and state.allowed == state.candidates:
        return state, None, reason
    return state, *keep_clocks(state, reason)


def _switch(
    state: GovernorState, wanted: ClockState | None, reason: str, now_s: float
) -> tuple[GovernorState, Decision]:
    problem = reason if reason in PROBLEMS else ''
    if wanted == _held(state):
        return state, Decision(wanted, False, reason, problem)
    state = replace(
        after_switch(state, wanted or state.top, now_s), is_released=wanted is None
    )
    return state, Decision(wanted, True, reason, problem)
