"""
Find the telemetry sources of a machine, and read them together.

Sources, in this order: the kernel's files of a Jetson; also tegrastats if these have no power
rail; NVML and RAPL on a PC. A machine with none of these gets a source whose read reports what was
looked for.

"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
import time
from types import ModuleType
from typing import Protocol

from yolov7_trt_ros.errors import MissingDependencyError, PowerError
from yolov7_trt_ros.power.board.files import BoardFiles, find_board_files
from yolov7_trt_ros.power.guard import CALL_TIMEOUT_S
from yolov7_trt_ros.power.nvml.library import load_nvml, NvmlDevice
from yolov7_trt_ros.power.rails import RailPower
from yolov7_trt_ros.power.sysfs import SysfsTree
from yolov7_trt_ros.power.telemetry.energy import EnergyCounter
from yolov7_trt_ros.power.telemetry.nvml_source import NvmlSource
from yolov7_trt_ros.power.telemetry.rapl import find_rapl_zones, HOW_TO_GRANT, RaplSource
from yolov7_trt_ros.power.telemetry.sample import BoardSample, merge_samples, TelemetrySource
from yolov7_trt_ros.power.telemetry.sysfs_source import SysfsSource
from yolov7_trt_ros.power.telemetry.tegrastats_source import (
    Interval,
    INTERVAL_MS,
    TegrastatsSource,
)

__all__ = [
    'BoardSample', 'CombinedSource', 'EnergyCounter', 'NullSource', 'NvmlSource', 'RailPower',
    'RaplSource', 'SysfsSource', 'TegrastatsSource', 'TelemetrySource', 'find_source',
]

_NVIDIA_DRIVER = '/proc/driver/nvidia/version'


class ToolFinder(Protocol):
    """The part of a `power.root.commands.CommandRunner` that is needed here."""

    def find(self, tool: str) -> Path | None:
        """Return the path of a tool; None if it is not installed."""


class NullSource:
    """
    The source of a machine without any power sensor.

    Parameters
    ----------
    findings
        What was looked for, and the result, one sentence each.

    """

    def __init__(self, findings: Sequence[str]) -> None:
        self._findings = tuple(findings)

    @property
    def name(self) -> str:
        """Short name for logs."""
        return 'none'

    def read(self) -> BoardSample:
        """
        Raise always.

        Raises
        ------
        PowerError
            Lists what was looked for.

        """
        found = '; '.join(self._findings)
        raise PowerError(f'no source of the power of this machine was found; looked for: {found}')

    def close(self) -> None:
        """Do nothing."""


class CombinedSource:
    """
    Reads several sources and merges their samples.

    The reason of one that fails is in `problems`; while a source of power fails, there is no
    total.

    Parameters
    ----------
    power
        Sources that measure different parts of the machine; their sum is the total.
    others
        Sources for the rest. All sources are closed with this one.
    problems
        Added to every sample: why other parts are not measured.
    clock_ns
        Time of a sample whose power sources all failed.

    """

    def __init__(
        self,
        power: Sequence[TelemetrySource],
        others: Sequence[TelemetrySource] = (),
        *,
        problems: Sequence[str] = (),
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._power = tuple(power)
        self._others = tuple(others)
        self._problems = tuple(problems)
        self._clock_ns = clock_ns

    @property
    def name(self) -> str:
        """Names of all its sources."""
        return '+'.join(source.name for source in (*self._power, *self._others))

    def read(self) -> BoardSample:
        """
        Take a sample of each.

        Raises
        ------
        PowerError
            No source could be read.

        """
        failures: list[PowerError] = []
        power = [self._read_one(source, failures) for source in self._power]
        others = [self._read_one(source, failures) for source in self._others]
        if len(failures) == len(power) + len(others):
            raise failures[0]
        constant = BoardSample(self._clock_ns(), problems=self._problems)
        return merge_samples(power, [*others, constant])

    def close(self) -> None:
        """Close all of them."""
        for source in (*self._power, *self._others):
            source.close()

    def _read_one(self, source: TelemetrySource, failures: list[PowerError]) -> BoardSample:
        try:
            return source.read()
        except PowerError as exc:
            failures.append(exc)
            return BoardSample(self._clock_ns(), problems=(str(exc),))


def find_source(
    root: Path = Path('/'),
    runner: ToolFinder | None = None,
    *,
    nvml: Callable[[], ModuleType] | None = None,
    gpu_index: int = 0,
    interval_ms: Interval = INTERVAL_MS,
    timeout_s: float = CALL_TIMEOUT_S,
    environment: Mapping[str, str] | None = None,
    clock_ns: Callable[[], int] = time.monotonic_ns,
) -> TelemetrySource:
    """
    Find the sources of telemetry of this machine.

    Parameters
    ----------
    root
        Folder that holds `sys` and `proc`.
    runner
        Finds tegrastats; None: it is not used.
    nvml
        Returns the module pynvml or raises MissingDependencyError. None: the real one; without
        NVML if `root` is not '/', since the GPU is not in that machine.
    gpu_index
        Number of the GPU in NVML.
    interval_ms
        Between two lines of tegrastats; a function that returns it if it may change.
    timeout_s
        Time limit of one file.
    environment
        Variables for tegrastats.
    clock_ns
        Time of the samples.

    Returns
    -------
    TelemetrySource
        The caller closes it. A `NullSource` if nothing was found.

    """
    search = _Search(SysfsTree(root, timeout_s), clock_ns)
    files = find_board_files(search.tree)
    if nvml is None and root == Path('/'):
        nvml = load_nvml
    if files.rails:
        return search.jetson(files, nvml, gpu_index)
    tool = None if runner is None else runner.find('tegrastats')
    if tool is not None:
        tegrastats = TegrastatsSource(
            (str(tool),), interval_ms=interval_ms, environment=environment, clock_ns=clock_ns
        )
        rest = search.sysfs(files, expect_rails=False)
        return CombinedSource([tegrastats], [rest], clock_ns=clock_ns)
    return search.computer(files, nvml, gpu_index)


class _Search:
    """A search for sources below one root folder."""

    def __init__(self, tree: SysfsTree, clock_ns: Callable[[], int]) -> None:
        self.tree = tree
        self.clock_ns = clock_ns
        self.findings = [
            'INA3221 power monitors below /sys/bus/i2c and /sys/class/hwmon (Jetson): none',
            'tegrastats (Jetson): not installed or not asked for',
        ]

    def sysfs(self, files: BoardFiles, *, expect_rails: bool) -> SysfsSource:
        """Return the source of the kernel's files."""
        return SysfsSource(
            self.tree, files, expect_rails=expect_rails, clock_ns=self.clock_ns
        )

    def jetson(
        self, files: BoardFiles, nvml: Callable[[], ModuleType] | None, gpu_index: int
    ) -> TelemetrySource:
        """Take the kernel's files; on Thor NVML adds the load of the GPU."""
        sysfs = self.sysfs(files, expect_rails=True)
        if files.loads or not files.gpu_folders:
            return sysfs
        device = self._open_gpu(nvml, gpu_index)
        if device is None:
            return sysfs
        load = NvmlSource(device, with_power=False, clock_ns=self.clock_ns)
        return CombinedSource([sysfs], [load], clock_ns=self.clock_ns)

    def computer(
        self, files: BoardFiles, nvml: Callable[[], ModuleType] | None, gpu_index: int
    ) -> TelemetrySource:
        """Take the GPU and the processor of a PC, as far as they can be measured."""
        device = self._open_gpu(nvml, gpu_index)
        power: list[TelemetrySource] = []
        if device is not None:
            power.append(NvmlSource(device, clock_ns=self.clock_ns))
        problems = self._missing_gpu() if device is None else []
        rapl = self._find_rapl()
        if rapl is not None and (rapl.is_readable or not power):
            power.append(rapl)
        elif rapl is not None:
            problems.append(HOW_TO_GRANT)
        if power:
            others = [self.sysfs(files, expect_rails=False)]
            return CombinedSource(power, others, problems=problems, clock_ns=self.clock_ns)
        if files.is_jetson:  # without rails and tegrastats: clocks and temperatures all the same
            return self.sysfs(files, expect_rails=True)
        self.tree.close()
        return NullSource(self.findings)

    def _open_gpu(
        self, nvml: Callable[[], ModuleType] | None, gpu_index: int
    ) -> NvmlDevice | None:
        if nvml is None:
            self.findings.append('NVML (NVIDIA GPU in a PC): not asked for')
            return None
        try:
            return NvmlDevice(nvml(), gpu_index)
        except (PowerError, MissingDependencyError) as exc:
            self.findings.append(f'NVML (NVIDIA GPU in a PC): {exc}')
            return None

    def _missing_gpu(self) -> list[str]:
        """Return why the GPU, if there is one, is not measured."""
        return self.findings[-1:] if self.tree.exists(_NVIDIA_DRIVER) else []

    def _find_rapl(self) -> RaplSource | None:
        zones = find_rapl_zones(self.tree)
        if not zones:
            self.findings.append('RAPL (x86 processor) below /sys/class/powercap: none')
            return None
        return RaplSource(self.tree, zones, clock_ns=self.clock_ns)
