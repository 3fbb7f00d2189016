"""
Find a board's files below /sys: rails, clocks, loads, temperatures, alarms, fan.

The paths differ between JetPack 4 (kernel 4.9: iio), 5 and 6 (hwmon), 7 (Thor), and a PC; each
function tries all known ones. Only names and labels are read here, no clock or sensor: those reads
cannot hang.

"""

from __future__ import annotations

from collections.abc import Container, Iterator
import dataclasses
import re

from yolov7_trt_ros.power.board.rail_files import (
    AlarmFile,
    find_rail_alarms,
    find_rail_window_ms,
    find_rails,
    RailFiles,
)
from yolov7_trt_ros.power.clocks.gpu_folders import find_gpu_folders, GPU
from yolov7_trt_ros.power.sysfs import SysfsTree

_HWMON = '/sys/class/hwmon/hwmon*'
FAN, FAN_RPM = 'fan', 'fan rpm'
_FAN_CHIPS = ('pwmfan', 'pwm-fan', 'pwm_fan')
_GPU_LOADS = (
    '/sys/devices/gpu.0/load',
    '/sys/devices/platform/gpu.0/load',
    '/sys/devices/*.g[pva]1[01]b/load',
    '/sys/devices/*.gpu/load',
    '/sys/devices/platform/*.gpu/load',
    '/sys/devices/platform/*/*.gpu/load',
)
# Only root sees debugfs.
_EMC_CLOCKS = (
    '/sys/class/devfreq/bwmgr/cur_freq',
    '/sys/kernel/debug/bpmp/debug/clk/emc/rate',
    '/sys/kernel/debug/clk/emc/clk_rate',
    '/sys/kernel/debug/clk/override.emc/clk_rate',
)
_EMC_ACTIVITIES = (
    '/sys/kernel/actmon_avg_activity/mc_all',
    '/sys/kernel/debug/cactmon/mc_all',
)
# Video, JPEG, image and deep-learning engines; a kernel that lets them be set has devfreq folders.
_ENGINE = re.compile(r'(?:.*\.)?((?:vic|nvenc|nvdec|nvjpg|nvdla|ofa|pva)\d*)', re.ASCII)
_THERMAL = ('/sys/class/thermal', '/sys/devices/virtual/thermal')
# Cooling devices whose state above 0 means that something is throttled.
_THROTTLING = re.compile(r'throttle|alert|balanced', re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Gauge:
    """A file with a number: `name` is what it measures, the number times `scale` is its value."""

    name: str
    path: str
    scale: float = 1.0


@dataclasses.dataclass(frozen=True)
class BoardFiles:
    """The files found on a board; see the functions of this module."""

    rails: tuple[RailFiles, ...]
    alarms: tuple[AlarmFile, ...]
    gpu_folders: tuple[tuple[str, str], ...]
    clocks: tuple[Gauge, ...]
    loads: tuple[Gauge, ...]
    emc_activity: str
    temperatures: tuple[Gauge, ...]
    fans: tuple[Gauge, ...]
    rail_window_ms: int | None

    @property
    def is_jetson(self) -> bool:
        """Whether there are files that only a Tegra has."""
        return bool(self.rails or self.gpu_folders)

    @property
    def paths(self) -> tuple[str, ...]:
        """All files to read for a sample, each once."""
        gauges = (*self.clocks, *self.loads, *self.temperatures, *self.fans)
        paths = [path for rail in self.rails for path in rail.paths]
        paths += [gauge.path for gauge in gauges]
        paths += [path for alarm in self.alarms for path in (alarm.path, alarm.limit_path)]
        paths.append(self.emc_activity)
        return tuple(dict.fromkeys(path for path in paths if path))


def find_board_files(tree: SysfsTree) -> BoardFiles:
    """Find all files; hwmon numbers change only at boot."""
    gpu_folders = find_gpu_folders(tree)
    return BoardFiles(
        rails=find_rails(tree),
        alarms=(*find_rail_alarms(tree), *_throttling(tree)),
        gpu_folders=gpu_folders,
        clocks=(
            *_gpu_clocks(gpu_folders), *_emc_clock(tree), *_engine_clocks(tree),
            *_cpu_clocks(tree),
        ),
        loads=_gpu_load(tree, gpu_folders),
        emc_activity=_first(tree, _EMC_ACTIVITIES),
        temperatures=_find_temperatures(tree),
        fans=(*_find_fan(tree), *_find_tachometer(tree)),
        rail_window_ms=find_rail_window_ms(tree),
    )


def _gpu_clocks(folders: tuple[tuple[str, str], ...]) -> tuple[Gauge, ...]:
    return tuple(Gauge(name, f'{folder}/cur_freq', 1e-6) for name, folder in folders)


def _gpu_load(tree: SysfsTree, folders: tuple[tuple[str, str], ...]) -> tuple[Gauge, ...]:
    """Find the driver's load, which is in tenths of a percent."""
    parents = [f'{folder}/{up}' for name, folder in folders if name == GPU
               for up in ('device', '..')]
    near = [f'{parent}/load' for parent in parents]
    path = _first(tree, near) or _first(tree, tree.find(*_GPU_LOADS))
    return (Gauge(GPU, path, 0.1),) if path else ()


def _emc_clock(tree: SysfsTree) -> tuple[Gauge, ...]:
    path = _first(tree, _EMC_CLOCKS)
    return (Gauge('emc', path, 1e-6),) if path else ()


def _engine_clocks(tree: SysfsTree) -> tuple[Gauge, ...]:
    """Find the clocks of the other engines; an idle one shows its last clock."""
    gauges: dict[str, Gauge] = {}
    for folder in tree.find('/sys/class/devfreq/*'):
        match = _ENGINE.fullmatch(folder.rsplit('/', 1)[1])
        if match is not None:
            name = _unique(match[1], gauges)
            gauges[name] = Gauge(name, f'{folder}/cur_freq', 1e-6)
    return tuple(gauges.values())


def _cpu_clocks(tree: SysfsTree) -> tuple[Gauge, ...]:
    """Find the clocks of all cores, also of offline ones: their files appear when they are on."""
    folders = tree.find('/sys/devices/system/cpu/cpu[0-9]*')
    return tuple(
        Gauge(folder.rsplit('/', 1)[1], f'{folder}/cpufreq/scaling_cur_freq', 1e-3)
        for folder in folders
    )


def _throttling(tree: SysfsTree) -> Iterator[AlarmFile]:
    for folder in _numbered(tree, 'cooling_device'):
        name = tree.read_or_empty(f'{folder}/type')
        if _THROTTLING.search(name):
            yield AlarmFile(f'throttling for heat: {name}', f'{folder}/cur_state')


def _find_temperatures(tree: SysfsTree) -> tuple[Gauge, ...]:
    """Find the thermal zones; a second one of the same name gets the suffix '_2'."""
    gauges: dict[str, Gauge] = {}
    for folder in _numbered(tree, 'thermal_zone'):
        kind = tree.read_or_empty(f'{folder}/type') or folder.rsplit('/', 1)[1]
        name = _unique(re.sub(r'[-_](thermal|therm)$', '', kind), gauges)
        gauges[name] = Gauge(name, f'{folder}/temp', 1e-3)
    return tuple(gauges.values())


def _unique(name: str, taken: Container[str]) -> str:
    """Return the name, with a number appended if it is taken."""
    unique, count = name, 1
    while unique in taken:
        count += 1
        unique = f'{name}_{count}'
    return unique


def _find_fan(tree: SysfsTree) -> tuple[Gauge, ...]:
    """Find the file with the fan's drive, 0 to 255."""
    path = _first(tree, ('/sys/devices/pwm-fan/cur_pwm', '/sys/devices/pwm-fan/target_pwm'))
    for folder in tree.find(_HWMON):
        if not path and tree.read_or_empty(f'{folder}/name') in _FAN_CHIPS:
            path = _first(tree, (f'{folder}/pwm1',))
    return (Gauge(FAN, path, 100.0 / 255.0),) if path else ()


def _find_tachometer(tree: SysfsTree) -> tuple[Gauge, ...]:
    """Find the file with the fan's speed, which a Jetson's own driver calls rpm."""
    path = _first(tree, tree.find(f'{_HWMON}/rpm'))
    return (Gauge(FAN_RPM, path),) if path else ()


def _numbered(tree: SysfsTree, kind: str) -> tuple[str, ...]:
    """Return folders of the thermal framework: thermal_zone0, thermal_zone1 ..."""
    for parent in _THERMAL:
        found = tree.find(f'{parent}/{kind}[0-9]*')
        if found:
            return found
    return ()


def _first(tree: SysfsTree, paths: tuple[str, ...] | list[str]) -> str:
    return next((path for path in paths if tree.exists(path)), '')
