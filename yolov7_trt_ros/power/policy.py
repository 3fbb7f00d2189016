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

from dataclasses import replace

from yolov7_trt_ros.power.policy_budget import want_budget
from yolov7_trt_ros.power.policy_ceiling import move_ceiling
from yolov7_trt_ros.power.policy_deadline import want_deadline
from yolov7_trt_ros.power.policy_learning import learn_power
from yolov7_trt_ros.power.policy_state import (
    Decision,
    FrameWindow,
    GovernorState,
    Limits,
    Readings,
)
from yolov7_trt_ros.power.policy_table import ClockState


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
        state = learn_power(move_ceiling(state, readings, limits), readings)
    if limits.governor == 'power_budget':
        state, wanted, reason = want_budget(state, readings, limits)
    else:
        state, wanted, reason = want_deadline(state, readings, frames, limits)
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
