"""The files of the GPU's and the CPU's clocks: devfreq and cpufreq, each in its own unit."""

from __future__ import annotations

import dataclasses
import os

from yolov7_trt_ros.errors import PowerError, PowerFormatError, SettingError
from yolov7_trt_ros.power.clocks.gpu_folders import find_gpu_folders, GPU
from yolov7_trt_ros.power.sysfs import SysfsTree, whole_number

UNITS = ('gpu', 'cpu')
HZ_PER_MHZ = 1_000_000
HZ_PER_KHZ = 1_000
HIGHEST_HZ = 10**12
"""No clock is higher: another number is no frequency."""

ROUNDING_HZ = HZ_PER_MHZ
"""A request of 1300 MHz means the 1300.5 MHz of the table."""


@dataclasses.dataclass(frozen=True)
class ClockFiles:
    """
    The files of one clock.

    Attributes
    ----------
    minimum, maximum
        Its limits, to read and write.
    table
        File of the available frequencies; it may be absent.
    unit_hz
        Unit of these files in Hz: 1 for devfreq, 1000 for cpufreq.

    """

    minimum: str
    maximum: str
    table: str
    unit_hz: int


@dataclasses.dataclass(frozen=True)
class ClockLimits:
    """Lowest and highest frequency that a clock may take, in hertz."""

    minimum_hz: int
    maximum_hz: int

    @property
    def is_pinned(self) -> bool:
        """Whether the clock is limited to one frequency."""
        return self.minimum_hz >= self.maximum_hz


def find_gpu_clock(tree: SysfsTree) -> ClockFiles | None:
    """Return the files of the GPU's clock (on Thor of its compute part); None without one."""
    folders = dict(find_gpu_folders(tree))
    return _devfreq(folders[GPU]) if GPU in folders else None


def find_cpu_clocks(tree: SysfsTree) -> tuple[ClockFiles, ...]:
    """Return the files of each online core; only the first of cores that share a clock."""
    clocks = []
    seen: set[str] = set()
    for folder in tree.find('/sys/devices/system/cpu/cpu[0-9]*/cpufreq'):
        policy = os.path.realpath(tree.real_path(folder))  # cores of a cluster link to one folder
        if policy not in seen and tree.read_or_empty(f'{folder}/scaling_max_freq'):
            seen.add(policy)
            clocks.append(cpufreq_files(folder))
    return tuple(clocks)


def find_clocks(tree: SysfsTree, unit: str) -> tuple[ClockFiles, ...]:
    """
    Return the clocks of the 'gpu' or the 'cpu'.

    Raises
    ------
    SettingError
        Another unit.
    PowerError
        The kernel shows no such clock.

    """
    if unit not in UNITS:
        raise SettingError(f'clocks can be capped for {" or ".join(UNITS)}, got {unit!r}')
    gpu = find_gpu_clock(tree) if unit == 'gpu' else None
    clocks = find_cpu_clocks(tree) if unit == 'cpu' else (() if gpu is None else (gpu,))
    if not clocks:
        where = '/sys/class/devfreq' if unit == 'gpu' else '/sys/devices/system/cpu/*/cpufreq'
        raise PowerError(
            f'no clock of the {unit} under {where}: this is not a Jetson, or a container that '
            'does not show it'
        )
    return clocks


def read_limits(tree: SysfsTree, clock: ClockFiles) -> ClockLimits:
    """
    Return the current limits; the minimum is at most the maximum.

    Raises
    ------
    PowerFormatError
        One of the files does not hold a frequency.
    PowerError
        One cannot be read.

    """
    maximum_hz = _read_hz(tree, clock.maximum, clock.unit_hz)
    return ClockLimits(min(_read_hz(tree, clock.minimum, clock.unit_hz), maximum_hz), maximum_hz)


def _read_hz(tree: SysfsTree, path: str, unit_hz: int) -> int:
    hertz = tree.read_int(path) * unit_hz
    if not 0 <= hertz <= HIGHEST_HZ:
        raise PowerFormatError(f'{path} should hold a frequency and holds {hertz // unit_hz}')
    return hertz


def read_table_hz(tree: SysfsTree, clock: ClockFiles) -> tuple[int, ...]:
    """Return the frequencies of a clock, ascending; () if the kernel does not list them."""
    words = tree.read_or_empty(clock.table).split()
    entries = {whole_number(word) for word in words} - {None}
    return tuple(sorted(entry * clock.unit_hz for entry in entries if entry is not None))


def round_cap_hz(wanted_hz: float, table_hz: tuple[int, ...], limit_hz: int) -> int:
    """
    Return the cap to write: the highest in the table that is at most `wanted_hz` and the limit.

    Below the table it is the table's lowest; without a table, `wanted_hz` itself.

    >>> round_cap_hz(700e6, (306_000_000, 612_000_000, 918_000_000), 918_000_000)
    612000000
    >>> round_cap_hz(5e9, (306_000_000, 612_000_000, 918_000_000), 612_000_000)
    612000000

    """
    allowed = [entry for entry in table_hz if entry < limit_hz] + [limit_hz]
    if not table_hz:
        return min(round(wanted_hz), limit_hz)
    fitting = [entry for entry in allowed if entry <= wanted_hz + ROUNDING_HZ]
    return max(fitting, default=min(allowed))


def _devfreq(folder: str) -> ClockFiles:
    return ClockFiles(
        f'{folder}/min_freq', f'{folder}/max_freq', f'{folder}/available_frequencies', 1
    )


def cpufreq_files(folder: str) -> ClockFiles:
    """Return the files of a core's clock; they may be absent while the core is offline."""
    return ClockFiles(
        f'{folder}/scaling_min_freq', f'{folder}/scaling_max_freq',
        f'{folder}/scaling_available_frequencies', HZ_PER_KHZ,
    )
