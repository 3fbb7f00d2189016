"""Telemetry of a GPU in a PC, through NVML."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import dataclasses
import time
from typing import Any

from yolov7_trt_ros.power.nvml.library import NvmlDevice
from yolov7_trt_ros.power.nvml.processes import read_processes
from yolov7_trt_ros.power.rails import RailPower, RunningMeans
from yolov7_trt_ros.power.telemetry.sample import BoardSample

# Bits of the reasons for a lower clock that are alarms. Idle, a locked clock, and the power limit
# (4) are not.
_SLOWDOWNS = {
    0x08: 'the GPU slows down in hardware (heat, or its power supply)',
    0x20: 'the GPU slows down for heat (driver)',
    0x40: 'the GPU slows down for heat (hardware)',
    0x80: 'the GPU slows down by order of its power supply',
}
_MJ_PER_J = 1000.0


@dataclasses.dataclass(frozen=True)
class _Answers:
    """Raw answers of NVML; None for a missing one."""

    power_mw: float | None
    energy_mj: float | None
    temperature_c: float | None
    clock_mhz: float | None
    memory_clock_mhz: float | None
    utilization: Any
    reasons: int | None
    fan_percent: float | None
    processes: dict[str, float | None]


class NvmlSource:
    """
    Power, energy, temperature, clocks, loads and programs of one GPU.

    NVML's power is a mean over up to a second; if the GPU counts its energy (Volta and newer),
    `energy_j` is exact.

    Parameters
    ----------
    device
        The GPU; closed with the source.
    with_power
        False if other sensors already measure the same power (Thor).
    clock_ns
        Time of a sample.

    """

    def __init__(
        self,
        device: NvmlDevice,
        *,
        with_power: bool = True,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._device = device
        self._with_power = with_power
        self._clock_ns = clock_ns
        self._means = RunningMeans()
        self._first_mj: float | None = None

    @property
    def name(self) -> str:
        """Short name for logs."""
        return 'nvml'

    def read(self) -> BoardSample:
        """
        Take a sample.

        Raises
        ------
        PowerError
            The GPU is lost, or its driver hangs or was unloaded.

        """
        answers: _Answers = self._device.guarded('reading', self._ask_all)
        time_ns = self._clock_ns()
        rails = self._rails(answers)
        energy_j = self._energy_j(answers)
        use = answers.utilization
        return BoardSample(
            time_ns=time_ns,
            rails=rails,
            total_mw=rails['gpu'].current_mw if rails else None,
            temperatures_c=_present(gpu=answers.temperature_c),
            clocks_mhz=_present(gpu=answers.clock_mhz, gpu_memory=answers.memory_clock_mhz),
            loads_percent={} if use is None else _present(gpu=use.gpu, gpu_memory=use.memory),
            alarms=() if answers.reasons is None else _alarms(answers.reasons),
            fan_percent=None if answers.fan_percent is None else float(answers.fan_percent),
            gpu_processes_mib=answers.processes,
            energy_j=energy_j,
            total_energy_j=energy_j.get('gpu'),
            problems=self._problems(answers, rails),
        )

    def close(self) -> None:
        """Release the GPU."""
        self._device.close()

    def _ask_all(self) -> _Answers:
        ask, constant = self._device.ask, self._device.constant
        reasons = ask('nvmlDeviceGetCurrentClocksEventReasons')
        if reasons is None:  # its name before driver 535
            reasons = ask('nvmlDeviceGetCurrentClocksThrottleReasons')
        return _Answers(
            power_mw=ask('nvmlDeviceGetPowerUsage'),
            energy_mj=ask('nvmlDeviceGetTotalEnergyConsumption'),
            temperature_c=ask('nvmlDeviceGetTemperature', constant('NVML_TEMPERATURE_GPU')),
            clock_mhz=ask('nvmlDeviceGetClockInfo', constant('NVML_CLOCK_GRAPHICS')),
            memory_clock_mhz=ask('nvmlDeviceGetClockInfo', constant('NVML_CLOCK_MEM')),
            utilization=ask('nvmlDeviceGetUtilizationRates'),
            reasons=reasons,
            fan_percent=ask('nvmlDeviceGetFanSpeed'),
            processes=read_processes(self._device),
        )

    def _problems(
        self, answers: _Answers, rails: Mapping[str, RailPower]
    ) -> tuple[str, ...]:
        problems = [] if rails or not self._with_power else [_NO_POWER]
        if self._with_power and answers.reasons is None:
            problems.append(_NO_REASONS)
        return tuple(problems)

    def _rails(self, answers: _Answers) -> dict[str, RailPower]:
        if not self._with_power or answers.power_mw is None:
            return {}
        return self._means.add({'gpu': float(answers.power_mw)})

    def _energy_j(self, answers: _Answers) -> dict[str, float]:
        """Return the energy since the first answer; NVML counts since the driver was loaded."""
        if not self._with_power or answers.energy_mj is None:
            return {}
        if self._first_mj is None:
            self._first_mj = answers.energy_mj
        return {'gpu': (answers.energy_mj - self._first_mj) / _MJ_PER_J}


_NO_POWER = 'NVML does not report the power of this GPU (nvidia-smi shows N/A as well)'
_NO_REASONS = 'NVML does not report whether this GPU is slowed down by heat or its supply'


def _present(**values: float | None) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if value is not None}


def _alarms(reasons: int) -> tuple[str, ...]:
    return tuple(text for bit, text in _SLOWDOWNS.items() if reasons & bit)
