"""BoardSample: the telemetry of a board at one moment, from any source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any, Protocol

from yolov7_trt_ros.power.rails import RailPower
from yolov7_trt_ros.power.telemetry.memory import BoardMemory

# Sensors that do not follow the heat: PMIC always reads 100 C.
_NOT_A_TEMPERATURE = ('PMIC',)


@dataclasses.dataclass(frozen=True)
class BoardSample:
    """
    A board at one moment; values that it does not have or show are left out.

    Attributes
    ----------
    time_ns
        Time of the source's clock, time.monotonic_ns unless another was given.
    rails
        Power by the board's name of the rail: 'VDD_IN', 'VDD_GPU_SOC', 'gpu' (NVML), 'package-0'
        (RAPL). Means and largest values are since the source was opened.
    total_mw
        Power of the rails that feed the others (`power.telemetry.rail_totals`). None if one of
        them could not be read, or they are unknown.
    temperatures_c
        By the board's name of the sensor without '-therm(al)'. Sensors of parts without power are
        left out.
    clocks_mhz
        'gpu', 'emc', 'cpu0'..., other names as on the board.
    loads_percent
        'gpu', 'emc', 'cpu' (all online cores), 'cpu0'...; 0 to 100.
    alarms
        Over-current and throttling, current or since the previous sample.
    fan_percent, fan_rpm
        Drive of the fan in percent of full; its speed, if the board measures it.
    memory
        RAM and swap.
    gpu_processes_mib
        GPU memory of each program that uses the GPU, `4711 python3`; None if unknown. Only with
        NVML.
    energy_j
        Energy by rail since the source was opened, if the hardware counts it; the same for
        `total_energy_j`.
    problems
        Values that could not be read, and why: a hanging driver, a missing permission.
    lost_sensors
        Sensors of temperature that answered before and do not any more: one of them may be the
        hottest.

    """

    time_ns: int
    rails: Mapping[str, RailPower] = dataclasses.field(default_factory=dict)
    total_mw: float | None = None
    temperatures_c: Mapping[str, float] = dataclasses.field(default_factory=dict)
    clocks_mhz: Mapping[str, float] = dataclasses.field(default_factory=dict)
    loads_percent: Mapping[str, float] = dataclasses.field(default_factory=dict)
    alarms: tuple[str, ...] = ()
    fan_percent: float | None = None
    fan_rpm: float | None = None
    memory: BoardMemory | None = None
    gpu_processes_mib: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
    energy_j: Mapping[str, float] = dataclasses.field(default_factory=dict)
    total_energy_j: float | None = None
    problems: tuple[str, ...] = ()
    lost_sensors: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return warnings: memory that is nearly full."""
        return (self.memory.warning,) if self.memory is not None and self.memory.warning else ()

    @property
    def gpu_processes(self) -> dict[str, str]:
        """Return the memory of each program that uses the GPU, for people."""
        return {
            f'GPU process {name}': 'unknown' if mib is None else f'{mib:.0f} MiB'
            for name, mib in self.gpu_processes_mib.items()
        }

    @property
    def hottest_c(self) -> tuple[str, float] | None:
        """Name and temperature of the hottest sensor that follows the heat; None without one."""
        real = {
            name: value
            for name, value in self.temperatures_c.items()
            if not name.upper().startswith(_NOT_A_TEMPERATURE)
        }
        return max(real.items(), key=lambda item: item[1]) if real else None


class TelemetrySource(Protocol):
    """A source of samples."""

    @property
    def name(self) -> str:
        """Short name for logs: 'sysfs', 'tegrastats', 'nvml+rapl', 'none'."""

    def read(self) -> BoardSample:
        """
        Take a sample within the time limits.

        Raises
        ------
        PowerError
            Nothing can be read; single parts that cannot are in `problems` instead.

        """

    def close(self) -> None:
        """End its threads and tools; may be called twice."""


def merge_samples(
    power_samples: Sequence[BoardSample], other_samples: Sequence[BoardSample] = ()
) -> BoardSample:
    """
    Merge the samples of several sources, taken at about the same time.

    If two have a value of the same name, the earlier one counts.

    Parameters
    ----------
    power_samples
        Samples of sources that measure different parts of the board: their totals are added;
        without one of them there is no total.
    other_samples
        Samples of sources for the rest; their totals do not count.

    """
    samples = (*power_samples, *other_samples)

    def merged(name: str) -> dict[str, Any]:
        parts = [getattr(part, name) for part in reversed(samples)]
        return {key: value for part in parts for key, value in part.items()}

    def first(name: str) -> Any:
        known = (getattr(part, name) for part in samples)
        return next((value for value in known if value is not None), None)

    temperatures_c = merged('temperatures_c')
    return BoardSample(
        time_ns=max(part.time_ns for part in power_samples or samples),
        rails={name: rail for part in reversed(samples) for name, rail in part.rails.items()},
        total_mw=_sum_of([part.total_mw for part in power_samples]),
        temperatures_c=temperatures_c,
        clocks_mhz=merged('clocks_mhz'),
        loads_percent=merged('loads_percent'),
        alarms=tuple(alarm for part in samples for alarm in part.alarms),
        fan_percent=first('fan_percent'),
        fan_rpm=first('fan_rpm'),
        memory=first('memory'),
        gpu_processes_mib=merged('gpu_processes_mib'),
        energy_j=merged('energy_j'),
        total_energy_j=_sum_of([part.total_energy_j for part in power_samples]),
        problems=tuple(problem for part in samples for problem in part.problems),
        lost_sensors=tuple(dict.fromkeys(
            name for part in samples for name in part.lost_sensors if name not in temperatures_c
        )),
    )


def _sum_of(values: Sequence[float | None]) -> float | None:
    """Sum them; None if there are none, or one of them is None."""
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None
