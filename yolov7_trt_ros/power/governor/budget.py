"""The governor's power_budget mode: the highest clocks that stay under a power budget."""

from __future__ import annotations

from yolov7_trt_ros.power.governor.inputs import Limits, Readings
from yolov7_trt_ros.power.governor.state import GovernorState
from yolov7_trt_ros.power.governor.table import ClockState
from yolov7_trt_ros.power.governor.tuning import TUNING

NO_POWER = 'the power is not readable'


def choose_for_budget(
    state: GovernorState, readings: Readings, limits: Limits
) -> tuple[GovernorState, ClockState, str]:
    """Return the highest clocks whose measured power stays within the budget."""
    now_s, power_w = readings.time_s, readings.power_w
    ladder = list(state.allowed)
    if state.clocks not in ladder:
        return state, ladder[-1], 'ceiling'
    if power_w is None:
        return state, state.clocks, NO_POWER
    if now_s - state.since_s < TUNING.power_settle_s:
        return state, state.clocks, 'measuring'
    place = ladder.index(state.clocks)
    if power_w > limits.power_budget_w:
        if place == 0:
            return state, state.clocks, 'over budget at the lowest clocks'
        return _below_budget(state, ladder[:place], power_w, now_s, limits)
    # power does not rise with each step of speed, so also check beyond one that needs too much
    fitting = [
        one for one in ladder[place + 1:]
        if one.gpu_mhz <= state.clocks.gpu_mhz + TUNING.budget_reach * state.top.gpu_mhz
        and not _is_blocked(state, one, now_s)
        and _likely_w(state, one, power_w) <= TUNING.budget_entry * limits.power_budget_w
    ]
    if not fitting:
        return state, state.clocks, 'under budget'
    return state, fitting[-1], 'room in the budget'


def _likely_w(state: GovernorState, other: ClockState, power_w: float) -> float:
    """Return the expected power at `other`, from the table and the current power."""
    now_w = state.table.expected_w(state.with_emc(state.clocks), state.top)
    return power_w * state.table.expected_w(state.with_emc(other), state.top) / now_w


def _below_budget(
    state: GovernorState, lower: list[ClockState], power_w: float, now_s: float, limits: Limits
) -> tuple[GovernorState, ClockState, str]:
    """Step down to the highest state expected within the budget; avoid the current one."""
    wanted = lower[0]
    for one in lower:
        if _likely_w(state, one, power_w) <= limits.power_budget_w:
            wanted = one
    return state.avoiding(now_s), wanted, 'over budget'


def _is_blocked(state: GovernorState, candidate: ClockState, now_s: float) -> bool:
    """Whether this state, or one with no higher clock, recently exceeded the budget."""
    return any(
        now_s < one.until_s and failed.within(candidate) for failed, one in state.avoided.items()
    )
