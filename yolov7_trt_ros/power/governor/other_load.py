"""Detect other programs that use the GPU; while they do, the governor does not lower its clock."""

from __future__ import annotations

from dataclasses import replace

from yolov7_trt_ros.power.governor.inputs import FrameWindow, Readings
from yolov7_trt_ros.power.governor.state import GovernorState, OtherLoad
from yolov7_trt_ros.power.governor.tuning import TUNING
from yolov7_trt_ros.power.units import MS_PER_S

_FULL = 0.9


def update_other_load(
    state: GovernorState, readings: Readings, frames: FrameWindow
) -> GovernorState:
    """
    Compare the load of the GPU with the time of the frames; an unknown load is ignored.

    Latencies include transport and waiting, so they explain rather too much load.

    """
    busy_s = state.other_load.busy_s + sum(frames.latencies_ms) / MS_PER_S
    is_unknown = state.other_load.is_unknown or frames.unknown > 0
    others = replace(state.other_load, busy_s=busy_s, is_unknown=is_unknown)
    if not readings.is_new:
        return replace(state, other_load=others)
    elapsed_s = readings.time_s - others.looked_s
    is_known = readings.gpu_load is not None and not is_unknown
    if is_known and elapsed_s > 0 and not state.is_released:
        others = _update_presence(state, others, readings, elapsed_s)
    others = replace(others, busy_s=0.0, is_unknown=False, looked_s=readings.time_s)
    return replace(state, other_load=others)


def _update_presence(
    state: GovernorState, others: OtherLoad, readings: Readings, elapsed_s: float
) -> OtherLoad:
    """Note how long other programs have used the GPU, or not."""
    assert readings.gpu_load is not None
    unexplained = max(0.0, readings.gpu_load - others.busy_s / elapsed_s)
    taken = unexplained * state.clocks.gpu_mhz / state.top.gpu_mhz
    if others.is_present:
        crosses, needed_s = taken < TUNING.others_leave, TUNING.others_calm_s
    else:
        is_full = readings.gpu_load > _FULL and unexplained > 1.0 - _FULL
        crosses, needed_s = is_full or taken > TUNING.others_enter, TUNING.others_s
    if not crosses:
        return replace(others, crossed_s=None)
    crossed_s = readings.time_s if others.crossed_s is None else others.crossed_s
    if readings.time_s - crossed_s >= needed_s:
        return replace(others, is_present=not others.is_present, crossed_s=None)
    return replace(others, crossed_s=crossed_s)
