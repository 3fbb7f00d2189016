"""
Telemetry and limits of a GPU in a PC, through NVIDIA's management library (package nvidia-ml-py).

The library is imported when it is used and handed in as an argument, so that nothing here needs
it and tests can bring a stand-in. Its errors carry a number in `value`; they are turned into ours
where they come in. Jetsons up to JetPack 6 have no such library; on Orin with JetPack 7.2 most
questions are answered with 'not supported', on Thor it knows the load of the GPU.

"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import time
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any, TypeVar

from yolov7_trt_ros.errors import (
    MissingDependencyError,
    PowerCommandError,
    PowerError,
    PowerPermissionError,
)
from yolov7_trt_ros.power.guard import CallGuard
from yolov7_trt_ros.power.sample import BoardSample, RunningMeans
from yolov7_trt_ros.power.tegrastats import RailPower

OPEN_TIMEOUT_S = 20.0
"""Without a persistence daemon the driver wakes the GPU up first."""
READ_TIMEOUT_S = 2.0

# Numbers of NVML's errors (nvml.h).
_NOT_SUPPORTED = 3
_NO_PERMISSION = 4
_FUNCTION_NOT_FOUND = 13
_NO_DATA = 21
_ABSENT = (_NOT_SUPPORTED, _FUNCTION_NOT_FOUND, _NO_DATA)

# Bits of the reasons for a lower clock that are a danger. Being idle, a locked clock, and keeping
# to the power limit (4) are not.
_SLOWDOWNS = {
    0x08: 'the GPU slows down in hardware (heat, or its power supply)',
    0x20: 'the GPU slows down for heat (driver)',
    0x40: 'the GPU slows down for heat (hardware)',
    0x80: 'the GPU slows down because its power supply says so',
}
_MJ_PER_J = 1000.0

T = TypeVar('T')


def load_nvml() -> ModuleType:
    """
    Return the module pynvml.

    Raises
    ------
    MissingDependencyError
        It is not installed.

    """
    try:
        return importlib.import_module('pynvml')
    except ImportError as exc:
        raise MissingDependencyError(
            'the power of an NVIDIA GPU in a PC is read with pynvml, which is not installed; '
            'install it with: pip install nvidia-ml-py'
        ) from exc


class NvmlDevice:
    """
    One GPU and the library that knows it; all calls have a time-out.

    Parameters
    ----------
    library
        The module pynvml, or one with the same functions.
    index
        Number of the GPU, as nvidia-smi counts.
    timeout_s
        How long reading everything may take.

    Raises
    ------
    PowerError
        No driver, no such GPU, or the driver hangs.

    """

    def __init__(
        self, library: ModuleType, index: int = 0, *, timeout_s: float = READ_TIMEOUT_S
    ) -> None:
        self._library = library
        self._guard = CallGuard(timeout_s)
        opening = CallGuard(OPEN_TIMEOUT_S)
        try:
            self._handle = opening.call('NVML (opening)', partial(self._open, index))
        finally:
            opening.close()
        self._is_open = True

    def _open(self, index: int) -> object:
        self._call_library('nvmlInit')
        try:
            return self._call_library('nvmlDeviceGetHandleByIndex', index)
        except PowerError:
            self._call_library('nvmlShutdown')
            raise

    def guarded(self, name: str, function: Callable[[], T]) -> T:
        """Run a function that asks this GPU, with the time-out."""
        return self._guard.call(f'NVML ({name})', function)

    def demand(self, function: str, *arguments: object) -> Any:
        """
        Call a function of the library for this GPU; only within `guarded`.

        Raises
        ------
        PowerCommandError
            This GPU, driver or version of pynvml does not have it.
        PowerPermissionError
            Root is needed.
        PowerError
            Anything else: the GPU is lost, the driver is gone.

        """
        return self._call_library(function, self._handle, *arguments)

    def ask(self, function: str, *arguments: object) -> Any:
        """Call a function as `demand` does; None where it is not there."""
        with contextlib.suppress(_AbsentError):
            return self.demand(function, *arguments)
        return None

    def constant(self, name: str) -> Any:
        """Return a constant of the library."""
        return getattr(self._library, name)

    def close(self) -> None:
        """Let go of the library; twice is harmless."""
        if not self._is_open:
            return
        self._is_open = False
        with contextlib.suppress(PowerError):  # a driver that is gone needs no goodbye
            self.guarded('closing', partial(self._call_library, 'nvmlShutdown'))
        self._guard.close()

    def _call_library(self, name: str, *arguments: object) -> Any:
        function = getattr(self._library, name, None)
        if function is None:
            raise _AbsentError(f'{name} is not in this version of pynvml; update nvidia-ml-py')
        try:
            return function(*arguments)
        except self._library.NVMLError as exc:
            raise _explain(exc, name) from exc


class _AbsentError(PowerCommandError):
    """A function that this GPU, driver or version of pynvml does not have."""


def _explain(error: Any, function: str) -> PowerError:
    """Turn an error of NVML into ours."""
    if error.value in _ABSENT:
        return _AbsentError(f'{function}: {error} ({error.value}); not with this GPU or driver')
    if error.value == _NO_PERMISSION:
        return PowerPermissionError(f'{function}: {error} ({error.value}); only root may do this')
    hints = {
        6: 'there is no GPU of this number; nvidia-smi -L lists them',
        2: 'there is no GPU of this number; nvidia-smi -L lists them',
        9: 'the NVIDIA driver is not loaded',
        12: 'the NVIDIA driver is not installed here, or not passed into this container',
        15: 'the GPU is lost; only a restart of the driver or the machine brings it back',
        18: 'the driver was updated while running; restart the machine',
    }
    hint = hints.get(error.value, 'nvidia-smi shows whether the driver works')
    return PowerError(f'{function}: {error} ({error.value}); {hint}')


@dataclasses.dataclass(frozen=True)
class _Answers:
    """Raw answers of NVML; None where it has none."""

    power_mw: float | None
    energy_mj: float | None
    temperature_c: float | None
    clock_mhz: float | None
    memory_clock_mhz: float | None
    utilization: Any
    reasons: int | None
    fan_percent: float | None


class NvmlSource:
    """
    Power, energy, temperature, clocks and loads of one GPU.

    NVML's power is a mean over up to a second; where the GPU counts its energy (Volta and newer),
    `energy_j` is exact.

    Parameters
    ----------
    device
        The GPU; it is closed with the source.
    with_power
        False where other sensors measure the same power already (Thor).
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
        """Short, for logs."""
        return 'nvml'

    def read(self) -> BoardSample:
        """
        Take a sample.

        Raises
        ------
        PowerError
            The GPU is lost, or its driver hangs or is gone.

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
            alarms=_alarms(answers.reasons or 0),
            fan_percent=None if answers.fan_percent is None else float(answers.fan_percent),
            energy_j=energy_j,
            total_energy_j=energy_j.get('gpu'),
            problems=() if rails or not self._with_power else (_NO_POWER,),
        )

    def close(self) -> None:
        """Let go of the GPU."""
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
        )

    def _rails(self, answers: _Answers) -> dict[str, RailPower]:
        if not self._with_power or answers.power_mw is None:
            return {}
        return self._means.add({'gpu': float(answers.power_mw)})

    def _energy_j(self, answers: _Answers) -> dict[str, float]:
        """Count from the first answer on; NVML counts since the driver was loaded."""
        if not self._with_power or answers.energy_mj is None:
            return {}
        if self._first_mj is None:
            self._first_mj = answers.energy_mj
        return {'gpu': (answers.energy_mj - self._first_mj) / _MJ_PER_J}


_NO_POWER = 'NVML does not tell the power of this GPU (nvidia-smi shows N/A as well)'


def _present(**values: float | None) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if value is not None}


def _alarms(reasons: int) -> tuple[str, ...]:
    return tuple(text for bit, text in _SLOWDOWNS.items() if reasons & bit)


class NvmlLimits:
    """
    Sets clock and power limits of a GPU, as nvidia-smi -lgc and -pl do; both need root.

    Parameters
    ----------
    device
        The GPU; it stays open.

    """

    def __init__(self, device: NvmlDevice) -> None:
        self._device = device

    def set_max_clock(self, mhz: int, min_mhz: int = 0) -> None:
        """
        Keep the clock of the GPU within limits; NVML cannot read back which.

        Raises
        ------
        PowerPermissionError
            Root is needed.
        PowerCommandError
            This GPU does not have it.

        """
        self._set('nvmlDeviceSetGpuLockedClocks', min_mhz, mhz)

    def reset_clocks(self) -> None:
        """Take the limits of the clock away; errors as for `set_max_clock`."""
        self._set('nvmlDeviceResetGpuLockedClocks')

    def power_limit_mw(self) -> int | None:
        """Return the power limit that holds; None where this GPU has none."""
        limit: int | None = self._device.guarded(
            'power limit', partial(self._device.ask, 'nvmlDeviceGetPowerManagementLimit')
        )
        return limit

    def set_power_limit(self, limit_mw: int) -> None:
        """
        Set the power limit and read it back; errors as for `set_max_clock`.

        Raises
        ------
        PowerCommandError
            It is not supported, or another limit was read back.

        """
        self._set('nvmlDeviceSetPowerManagementLimit', limit_mw)
        holds_mw = self.power_limit_mw()
        if holds_mw != limit_mw:
            raise PowerCommandError(
                f'a power limit of {limit_mw} mW was accepted, and now it is {holds_mw} mW; '
                'nvidia-smi -q -d POWER shows which limits this GPU allows'
            )

    def _set(self, function: str, *arguments: object) -> None:
        self._device.guarded(function, partial(self._device.demand, function, *arguments))
