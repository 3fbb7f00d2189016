"""The ceiling of the governor's clocks: heat and alarms lower it, cooling raises it again."""

from __future__ import annotations

from dataclasses import replace
import math

from yolov7_trt_ros.power.governor.inputs import Limits, Readings
from yolov7_trt_ros.power.governor.state import Ceiling, GovernorState
from yolov7_trt_ros.power.governor.tuning import TUNING


def update_ceiling(state: GovernorState, readings: Readings, limits: Limits) -> GovernorState:
    """Lower the ceiling during heat or an alarm; raise it again after a cool time."""
    ceiling, now_s = state.ceiling, readings.time_s
    alarm = bool(readings.alarms)
    waited_s = now_s - ceiling.moved_s
    if alarm and (waited_s >= TUNING.alarm_step_s or not ceiling.hot):
        lowered = _lowered(state, now_s, over_limit_c(readings, limits), steps=2)
        return replace(state, ceiling=replace(lowered, hot=True))
    if is_heat_unknown(readings, limits):  # neither hot nor cool: keep it
        moved_s = ceiling.moved_s if alarm else now_s
        return replace(state, ceiling=replace(ceiling, moved_s=moved_s, hot=ceiling.hot or alarm))
    over_c = over_limit_c(readings, limits)
    hot = over_c >= 0.0
    if hot and not ceiling.hot:
        ceiling = _lowered(state, now_s, over_c, steps=1)
    elif hot and waited_s >= TUNING.thermal_step_s and over_c > ceiling.over_c - 0.2:
        ceiling = _lowered(state, now_s, over_c, steps=1)  # and not getting cooler
    elif hot and waited_s >= TUNING.thermal_step_s:
        ceiling = replace(ceiling, moved_s=now_s, over_c=over_c)  # getting cooler: wait
    elif over_c < -TUNING.thermal_band_c and not alarm and waited_s >= ceiling.retry_s:
        ceiling = _raised(state, now_s)
    return replace(state, ceiling=replace(ceiling, hot=hot or alarm))


def is_heat_unknown(readings: Readings, limits: Limits) -> bool:
    """Whether there is a temperature limit but no temperature."""
    return limits.temperature_limit_c is not None and not _is_known(readings.temperature_c)


def _is_known(number: float | None) -> bool:
    return number is not None and math.isfinite(number)


def over_limit_c(readings: Readings, limits: Limits) -> float:
    """Return the excess over the limit; minus infinity without a limit or temperature."""
    if limits.temperature_limit_c is None or not _is_known(readings.temperature_c):
        return -math.inf
    assert readings.temperature_c is not None
    return readings.temperature_c - limits.temperature_limit_c


def _lowered(state: GovernorState, now_s: float, over_c: float, steps: int) -> Ceiling:
    """Return a ceiling that is `steps` tenths of the top clock lower; doubles the wait to rise."""
    ceiling = state.ceiling
    now_mhz = min(state.clocks.gpu_mhz, ceiling.gpu_mhz)
    wanted_mhz = now_mhz - steps * TUNING.thermal_step * state.top.gpu_mhz
    gpu_mhz = {candidate.gpu_mhz for candidate in state.candidates}
    lower = [clock for clock in gpu_mhz if clock < now_mhz] or [min(gpu_mhz)]
    retry_s = ceiling.retry_s if ceiling.hot else ceiling.retry_s * 2.0
    return Ceiling(
        min(lower, key=lambda clock: abs(clock - wanted_mhz)), now_s,
        min(retry_s, TUNING.most_retry_s), True, over_c,
    )


def _raised(state: GovernorState, now_s: float) -> Ceiling:
    """Return a higher ceiling; at the top the wait becomes shorter again."""
    ceiling = state.ceiling
    wanted_mhz = ceiling.gpu_mhz + TUNING.thermal_step * state.top.gpu_mhz
    higher = [c.gpu_mhz for c in state.candidates if c.gpu_mhz > ceiling.gpu_mhz]
    if higher:
        nearest = min(higher, key=lambda clock: abs(clock - wanted_mhz))
        return replace(ceiling, gpu_mhz=nearest, moved_s=now_s)
    return replace(
        ceiling, moved_s=now_s, retry_s=max(TUNING.thermal_retry_s, ceiling.retry_s / 2.0)
    )
