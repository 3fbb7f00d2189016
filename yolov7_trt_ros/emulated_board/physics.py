"""
Power of a board from its clocks and loads, and the heat that follows: pure arithmetic.

A part's power at frequency f is ``top power * x * v(x)**2`` with ``x = f / top frequency`` and a
voltage ``v`` that falls with it, times the share that is busy or idles.

"""

from __future__ import annotations

from collections.abc import Mapping
import math
import random
from typing import NamedTuple

from yolov7_trt_ros.emulated_board.boards.board_definition import (
    BoardDefinition,
    RailDefinition,
    ThermalDefinition,
    ZoneDefinition,
)

VOLTAGE_FLOOR = 0.6
AVERAGING_S = 0.43
SCATTER = 0.01
"""Standard deviation of a reading by its mean, as in the recording of an idle Orin Nano."""
THROTTLE_CAPS = (1.0, 0.7, 0.45)
"""Share of the top clock that each throttle level leaves."""
FAN_GAIN = 0.5
"""A full fan takes this share off the thermal resistance."""


class Activity(NamedTuple):
    """
    What the parts of the board do.

    Attributes
    ----------
    gpu_clock, cpu_clock, emc_clock : float
        Frequency as a share of the top one.
    gpu_load, cpu_load, emc_load : float
        Busy share of the time, 0 to 1.
    cores_share, tpcs_share : float
        Share of the CPU's cores and of the GPU's TPCs that are on.

    """

    gpu_clock: float
    cpu_clock: float
    emc_clock: float
    gpu_load: float
    cpu_load: float
    emc_load: float
    cores_share: float = 1.0
    tpcs_share: float = 1.0


class PartPowers(NamedTuple):
    """Power of each part in mW."""

    gpu_mw: float
    cpu_mw: float
    emc_mw: float
    soc_mw: float


def clock_power_share(clock: float) -> float:
    """Return power at a clock as a share of the power at the top clock; both 0 to 1."""
    voltage = VOLTAGE_FLOOR + (1 - VOLTAGE_FLOOR) * clock
    return clock * voltage * voltage


def part_powers(board: BoardDefinition, activity: Activity) -> PartPowers:
    """Return the power of GPU, CPU, memory and the rest of the SoC."""
    model = board.power

    def part(top_mw: float, idle: float, clock: float, load: float) -> float:
        return top_mw * clock_power_share(clock) * (idle + (1 - idle) * load)

    return PartPowers(
        part(model.gpu_mw, model.gpu_idle, activity.gpu_clock, activity.gpu_load)
        * activity.tpcs_share,
        part(model.cpu_mw, model.cpu_idle, activity.cpu_clock, activity.cpu_load)
        * activity.cores_share,
        part(model.emc_mw, model.emc_idle, activity.emc_clock, activity.emc_load),
        model.soc_mw,
    )


def rail_powers(board: BoardDefinition, parts: PartPowers) -> dict[str, float]:
    """Return the momentary power of each rail in mW."""
    return {rail.name: _rail_power(rail, parts) for rail in board.rails}


def _rail_power(rail: RailDefinition, parts: PartPowers) -> float:
    return (rail.base_mw + rail.gpu * parts.gpu_mw + rail.cpu * parts.cpu_mw
            + rail.emc * parts.emc_mw + rail.soc * parts.soc_mw)


def tpcs_share(board: BoardDefinition, mask: int) -> float:
    """Return the share of the GPU's TPCs that a mask leaves on."""
    count = board.gpu.tpc_count
    masks = [mode.tpc_mask or 0 for mode in board.modes]
    most = max(count - mode_mask.bit_count() for mode_mask in masks)
    return max(0, count - mask.bit_count()) / most if count and most > 0 else 1.0


def measured_ma(rail: RailDefinition, milliwatt: float, driver: str, time_s: float) -> int:
    """
    Return the current shown by a power monitor at a time, in mA.

    As recorded: one reading per `AVERAGING_S`, with scatter, in whole steps for an INA3221.
    """
    scatter = random.Random(f'{rail.name} {int(time_s / AVERAGING_S)}').gauss(1.0, SCATTER)
    milliampere = milliwatt * 1000 / rail.voltage_mv * max(0.0, scatter)
    step = 1 if driver == 'ina238' else rail.step_ma
    return round(milliampere / step) * step


def total_power(board: BoardDefinition, rails_mw: Mapping[str, float]) -> float:
    """Return the power of the whole board in mW: that of the rails that feed the others."""
    return sum(rails_mw[name] for name in board.input_rails)


def memory_used_mb(board: BoardDefinition, used: float, gpu_load: float) -> tuple[int, int]:
    """Return RAM and swap in use; a share below 0 means: by the load of the GPU."""
    if used < 0:
        return round(board.ram_mb * (0.25 + 0.25 * gpu_load)), 0
    return round(board.ram_mb * used), round(board.swap_mb * used)


def approach(value: float, target: float, elapsed_s: float, time_constant_s: float) -> float:
    """Return a value after a first-order lag towards its target."""
    return target + (value - target) * math.exp(-elapsed_s / time_constant_s)


def sink_target_c(
    thermal: ThermalDefinition, ambient_c: float, total_mw: float, fan_share: float
) -> float:
    """Return the final temperature of the heat sink, in degrees Celsius."""
    resistance = thermal.resistance_c_per_w * (1 - FAN_GAIN * fan_share)
    return ambient_c + resistance * total_mw / 1000


def zone_temperatures(
    thermal: ThermalDefinition, sink_c: float, parts: PartPowers
) -> dict[str, float]:
    """Return the temperature of each zone that can be read, by type, in degrees Celsius."""
    temperatures = {
        zone.zone_type: _zone_temperature(zone, sink_c, parts)
        for zone in thermal.zones if not zone.gated
    }
    moving = [temperatures[zone.zone_type] for zone in thermal.zones
              if not zone.gated and zone.fixed_c is None and not zone.hottest]
    for zone in thermal.zones:
        if zone.hottest:
            temperatures[zone.zone_type] = max(moving)
    return temperatures


def hottest_c(thermal: ThermalDefinition, temperatures: Mapping[str, float]) -> float:
    """Return the highest temperature of the zones that follow the heat."""
    return max(temperatures[zone.zone_type] for zone in thermal.zones
               if zone.fixed_c is None and not zone.gated)


def _zone_temperature(zone: ZoneDefinition, sink_c: float, parts: PartPowers) -> float:
    if zone.fixed_c is not None:
        return zone.fixed_c
    return (sink_c + zone.offset_c + zone.gpu_share * parts.gpu_mw / 1000
            + zone.cpu_share * parts.cpu_mw / 1000)


def on_curve(curve: tuple[tuple[float, int], ...], celsius: float) -> int:
    """Return the PWM on a curve of straight lines."""
    if celsius <= curve[0][0]:
        return curve[0][1]
    for (low_c, low), (high_c, high) in zip(curve, curve[1:], strict=False):
        if celsius <= high_c:
            return round(low + (high - low) * (celsius - low_c) / (high_c - low_c))
    return curve[-1][1]
