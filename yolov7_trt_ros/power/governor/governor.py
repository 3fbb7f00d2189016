"""
The governor: chooses clocks from power samples and frame timings. Pure, no hardware.

`decide` is called for every new frame timing (or every sample) and returns a new state and the
wanted clocks. Two modes:

deadline
    The clocks of least measured power at which the share of late frames stays under its target,
    over all workloads of the last seconds. A late frame that no remembered one explains goes
    straight up, to clocks where it would have been in time. Without frames the clocks are let go
    of; while others use the GPU they are not lowered.
power_budget
    The highest clocks whose measured power stays under the budget.

Above both stands a ceiling that temperature and over-current alarms lower. What is not known keeps
the governor still: no temperature (where there is a limit), no power (for a budget), no latency.
Each thing that went wrong at a clock state doubles the time until it is tried again: a steady
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
"""Reasons for which nothing is done since something is unknown."""


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
    """Note a memory clock that was read twice: what was learned at another one is kept apart."""
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
    """Return the clocks for a budget, the present ones while it is not known how hot it is."""
    if state.is_released:
        return state, state.allowed[-1], 'starting'
    if is_heat_unknown(readings, limits):
        return state, *keep_clocks(state, NO_TEMPERATURE)
    return choose_for_budget(state, readings, limits)


def _decide_deadline(
    state: GovernorState, readings: Readings, frames: FrameWindow, limits: Limits
) -> Choice:
    """Return the clocks for the deadlines, or what to do where that cannot be known."""
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
    """Let go of the clocks, but not above what heat and alarms allow."""
    if state.allowed == state.candidates:
        return state, None, 'no frames'
    return state, state.allowed[-1], 'no frames, ceiling'


def _hold_still(
    state: GovernorState, readings: Readings, frames: FrameWindow, limits: Limits
) -> Choice:
    """Keep to what is, as far as the ceiling allows, and say what is not known."""
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
