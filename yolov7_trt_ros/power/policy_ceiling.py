"""The ceiling above the governor's clocks: temperature and alarms lower it, coolness raises it."""

from __future__ import annotations

from dataclasses import replace
import math

from yolov7_trt_ros.power.policy_state import Ceiling, GovernorState, Limits, Readings, TUNING


def move_ceiling(state: GovernorState, readings: Readings, limits: Limits) -> GovernorState:
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
