"""A stand-in for pynvml with NVML's codes."""

from __future__ import annotations

from pathlib import Path
import threading
from types import ModuleType, SimpleNamespace

UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION = 1, 2, 3, 4
DRIVER_NOT_LOADED, LIBRARY_NOT_FOUND, GPU_IS_LOST, UNKNOWN = 9, 12, 15, 999


def boot_pc(root: Path) -> Path:
    """Give a root folder the boot id that every machine has; returns the folder."""
    boot_id = root / 'proc/sys/kernel/random/boot_id'
    boot_id.parent.mkdir(parents=True, exist_ok=True)
    boot_id.write_text('11111111-2222-3333-4444-555555555555\n')
    return root


class NVMLError(Exception):
    """As pynvml's: the code is in `value`."""

    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.value = value

    def __str__(self) -> str:
        return {NOT_SUPPORTED: 'Not Supported', NO_PERMISSION: 'Insufficient Permissions',
                GPU_IS_LOST: 'GPU is lost',
                INVALID_ARGUMENT: 'Invalid Argument'}.get(self.value, 'some error')


class FakeNvml(ModuleType):
    """
    pynvml with one GPU.

    `fails` has the code with which a function fails; some hang while `answers` is cleared.

    """

    NVMLError = NVMLError
    NVML_TEMPERATURE_GPU = 0
    NVML_CLOCK_GRAPHICS, NVML_CLOCK_SM, NVML_CLOCK_MEM = 0, 1, 2

    def __init__(self) -> None:
        super().__init__('pynvml')
        self.fails: dict[str, int] = {}
        self.opened = 0
        self.power_mw = 250_000
        self.energy_mj = 7_000_000
        self.reasons = 0
        self.limit_mw = 350_000
        self.limits_mw = [100_000, 400_000]
        self.keeps_limit = False
        self.capability = [9, 0]
        self.clocks: tuple[int, int] | None = None
        self.answers = threading.Event()
        self.answers.set()
        self.processes: list[SimpleNamespace] = []

    def _begin(self, function: str) -> None:
        if function in self.fails:
            raise NVMLError(self.fails[function])
        if not self.opened:
            raise NVMLError(UNINITIALIZED)

    def nvmlInit(self) -> None:
        if 'nvmlInit' in self.fails:
            raise NVMLError(self.fails['nvmlInit'])
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self._begin('nvmlShutdown')
        self.opened -= 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        self._begin('nvmlDeviceGetHandleByIndex')
        if index > 0:
            raise NVMLError(INVALID_ARGUMENT)
        return 'the GPU'

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        self._begin('nvmlDeviceGetPowerUsage')
        self.answers.wait()
        return self.power_mw

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        self._begin('nvmlDeviceGetTotalEnergyConsumption')
        return self.energy_mj

    def nvmlDeviceGetTemperature(self, handle: str, sensor: int) -> int:
        self._begin('nvmlDeviceGetTemperature')
        return 61

    def nvmlDeviceGetClockInfo(self, handle: str, kind: int) -> int:
        self._begin('nvmlDeviceGetClockInfo')
        return {self.NVML_CLOCK_GRAPHICS: 1755, self.NVML_CLOCK_MEM: 2619}[kind]

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> SimpleNamespace:
        self._begin('nvmlDeviceGetUtilizationRates')
        return SimpleNamespace(gpu=83, memory=21)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: str) -> int:
        self._begin('nvmlDeviceGetCurrentClocksThrottleReasons')
        return self.reasons

    def nvmlDeviceGetFanSpeed(self, handle: str) -> int:
        self._begin('nvmlDeviceGetFanSpeed')
        return 45

    def nvmlDeviceGetSupportedMemoryClocks(self, handle: str) -> list[int]:
        self._begin('nvmlDeviceGetSupportedMemoryClocks')
        return [2619, 1593]

    def nvmlDeviceGetSupportedGraphicsClocks(self, handle: str, memory_mhz: int) -> list[int]:
        self._begin('nvmlDeviceGetSupportedGraphicsClocks')
        return list(range(1980, 344, -15)) if memory_mhz == 2619 else [345]

    def nvmlDeviceSetGpuLockedClocks(self, handle: str, low: int, high: int) -> None:
        self._begin('nvmlDeviceSetGpuLockedClocks')
        if self.capability < [7, 0]:
            raise NVMLError(NOT_SUPPORTED)
        self.answers.wait()
        self.clocks = (low, high)

    def nvmlDeviceResetGpuLockedClocks(self, handle: str) -> None:
        self._begin('nvmlDeviceResetGpuLockedClocks')
        self.clocks = None

    def nvmlDeviceGetPowerManagementLimit(self, handle: str) -> int:
        self._begin('nvmlDeviceGetPowerManagementLimit')
        return self.limit_mw

    def nvmlDeviceGetPowerManagementLimitConstraints(self, handle: str) -> list[int]:
        self._begin('nvmlDeviceGetPowerManagementLimitConstraints')
        return self.limits_mw

    def nvmlDeviceSetPowerManagementLimit(self, handle: str, limit_mw: int) -> None:
        self._begin('nvmlDeviceSetPowerManagementLimit')
        if not self.limits_mw[0] <= limit_mw <= self.limits_mw[1]:
            raise NVMLError(INVALID_ARGUMENT)
        if not self.keeps_limit:
            self.limit_mw = limit_mw

    def nvmlDeviceGetCudaComputeCapability(self, handle: str) -> list[int]:
        self._begin('nvmlDeviceGetCudaComputeCapability')
        return self.capability

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[SimpleNamespace]:
        self._begin('nvmlDeviceGetComputeRunningProcesses')
        return self.processes
