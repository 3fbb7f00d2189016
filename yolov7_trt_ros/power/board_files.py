"""
Where a board keeps its power rails, clocks, loads, temperatures, alarms and fan below /sys.

The places differ between JetPack 4 (kernel 4.9: iio), 5 and 6 (hwmon), 7 (Thor), and a PC; each
`find_` function looks at all that are known and returns what is there. Nothing here reads a
clock or a sensor, only names and labels: those reads cannot hang.

"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

from yolov7_trt_ros.errors import PowerError
from yolov7_trt_ros.power.sysfs import SysfsTree

_IIO = '/sys/bus/i2c/drivers/ina3221x/*/iio:device*'
_INA3221 = '/sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*'
_INA238 = '/sys/bus/i2c/drivers/ina238/*/hwmon/hwmon*'
_HWMON = '/sys/class/hwmon/hwmon*'
_FAN_CHIPS = ('pwmfan', 'pwm-fan', 'pwm_fan')

# Labels of channels that are not connected, and of the sum that the driver adds as a channel.
_UNUSED_LABEL = re.compile(r'(?<![A-Za-z])NC(?![A-Za-z])|sum of shunt voltages')

_GPU_OF_TREE = ('gpu', 'gv11b', 'gp10b', 'ga10b', 'gb10b')
_GPU_NAME = re.compile(r'(^gpu-.*|.*\.(gpu|gv11b|gp10b|ga10b|gb10b))$')
# For kernels whose /sys/class/devfreq is empty or hidden.
_GPU_FOLDERS = (
    '/sys/devices/gpu.0/devfreq/*',
    '/sys/devices/*.g[pva]1[01]b/devfreq/*',
    '/sys/devices/*.g[pva]1[01]b/devfreq_dev',
    '/sys/devices/platform/*.gpu/devfreq_dev',
    '/sys/devices/platform/*/*.gpu/devfreq_dev',
)
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
_THERMAL = ('/sys/class/thermal', '/sys/devices/virtual/thermal')
# Names of cooling devices whose state above 0 means that something runs slower than asked.
_THROTTLING = re.compile(r'throttle|alert|balanced', re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Gauge:
    """A file with a number: `name` is what it measures, the number times `scale` is its value."""

    name: str
    path: str
    scale: float = 1.0


@dataclasses.dataclass(frozen=True)
class RailFiles:
    """
    Files of one supply rail: the product of their numbers times `scale` is its power in mW.

    Either one file with the power, or two with voltage and current.
    """

    name: str
    paths: tuple[str, ...]
    scale: float = 1.0


@dataclasses.dataclass(frozen=True)
class AlarmFile:
    """
    A file that shows a danger.

    Attributes
    ----------
    text
        What the alarm says.
    path
        Of the file with a number.
    limit_path
        Alarm while the number is above the one in this file (one of 0 or less means no limit);
        '' where the number itself is the alarm: more than 0.
    counts
        The number is a count of events: alarm when it has grown since the reading before.

    """

    text: str
    path: str
    limit_path: str = ''
    counts: bool = False


@dataclasses.dataclass(frozen=True)
class BoardFiles:
    """All that was found on a board; see the functions of this module."""

    rails: tuple[RailFiles, ...]
    alarms: tuple[AlarmFile, ...]
    gpu_folders: tuple[tuple[str, str], ...]
    clocks: tuple[Gauge, ...]
    loads: tuple[Gauge, ...]
    emc_activity: str
    temperatures: tuple[Gauge, ...]
    fan: Gauge | None
    rail_window_ms: int | None

    @property
    def is_jetson(self) -> bool:
        """Whether there are files that only a Tegra has."""
        return bool(self.rails or self.gpu_folders)

    @property
    def paths(self) -> tuple[str, ...]:
        """All files to read for a sample, each once."""
        gauges = (*self.clocks, *self.loads, *self.temperatures)
        paths = [path for rail in self.rails for path in rail.paths]
        paths += [gauge.path for gauge in gauges]
        paths += [path for alarm in self.alarms for path in (alarm.path, alarm.limit_path)]
        paths += [self.emc_activity, self.fan.path if self.fan else '']
        return tuple(dict.fromkeys(path for path in paths if path))


def find_board_files(tree: SysfsTree) -> BoardFiles:
    """Look for everything once; hwmon numbers change with each boot, not while it runs."""
    gpu_folders = find_gpu_folders(tree)
    return BoardFiles(
        rails=find_rails(tree),
        alarms=find_alarms(tree),
        gpu_folders=gpu_folders,
        clocks=(*_gpu_clocks(gpu_folders), *_emc_clock(tree), *_cpu_clocks(tree)),
        loads=_gpu_load(tree, gpu_folders),
        emc_activity=_first(tree, _EMC_ACTIVITIES),
        temperatures=find_temperatures(tree),
        fan=find_fan(tree),
        rail_window_ms=_find_rail_window_ms(tree),
    )


def find_rails(tree: SysfsTree) -> tuple[RailFiles, ...]:
    """
    Find the supply rails that are measured.

    By INA3221 as iio device (JetPack 4) or in hwmon (5 and later), and by the INA238 in front of
    the whole board (Thor).
    """
    rails = [*_iio_rails(tree), *_hwmon_rails(tree), *_ina238_rails(tree)]
    by_name = {rail.name: rail for rail in reversed(rails)}
    return tuple(dict.fromkeys(by_name[rail.name] for rail in rails))


def _iio_rails(tree: SysfsTree) -> Iterator[RailFiles]:
    for folder, index, name in _iio_channels(tree):
        power = f'{folder}/in_power{index}_input'
        volts, amperes = f'{folder}/in_voltage{index}_input', f'{folder}/in_current{index}_input'
        if tree.exists(power):
            yield RailFiles(name, (power,))
        elif tree.exists(volts) and tree.exists(amperes):
            yield RailFiles(name, (volts, amperes), 1e-3)


def _iio_channels(tree: SysfsTree) -> Iterator[tuple[str, str, str]]:
    """Yield folder, number of the channel and name of the rail."""
    for path in tree.find(f'{_IIO}/rail_name_*'):
        folder, file = path.rsplit('/', 1)
        name = _label(tree, path)
        if name:
            yield folder, file.removeprefix('rail_name_'), name


def _hwmon_rails(tree: SysfsTree) -> Iterator[RailFiles]:
    for folder, index, name in _hwmon_channels(tree):
        volts, amperes = f'{folder}/in{index}_input', f'{folder}/curr{index}_input'
        if tree.exists(volts) and tree.exists(amperes):
            yield RailFiles(name, (volts, amperes), 1e-3)


def _hwmon_channels(tree: SysfsTree) -> Iterator[tuple[str, str, str]]:
    """Yield folder, number of the channel and name of the rail."""
    for folder in _chips(tree, 'ina3221', _INA3221):
        for path in tree.find(f'{folder}/in*_label'):
            index = path.rsplit('/in', 1)[1].removesuffix('_label')
            name = _label(tree, path)
            if name:
                yield folder, index, name


def _ina238_rails(tree: SysfsTree) -> Iterator[RailFiles]:
    """Thor's board input; the driver gives microwatts."""
    for folder in _chips(tree, 'ina238', _INA238):
        path = f'{folder}/power1_input'
        if tree.exists(path):
            name = _label(tree, f'{folder}/power1_label') or _label(tree, f'{folder}/in1_label')
            yield RailFiles(name or 'VIN', (path,), 1e-3)


def find_alarms(tree: SysfsTree) -> tuple[AlarmFile, ...]:
    """Find over-current alarms of the rails, counts of over-current events, and throttling."""
    return (
        *_iio_alarms(tree), *_hwmon_alarms(tree), *_over_current_counts(tree), *_throttling(tree),
    )


def _iio_alarms(tree: SysfsTree) -> Iterator[AlarmFile]:
    for folder, index, name in _iio_channels(tree):
        for level, word in (('crit', 'critical'), ('warn', 'warning')):
            limit = f'{folder}/{level}_current_limit_{index}'
            current = f'{folder}/in_current{index}_input'
            if tree.exists(limit) and tree.exists(current):
                yield AlarmFile(f'over-current ({word}) on {name}', current, limit)


def _hwmon_alarms(tree: SysfsTree) -> Iterator[AlarmFile]:
    for folder, index, name in _hwmon_channels(tree):
        for level, word in (('crit', 'critical'), ('max', 'warning')):
            text = f'over-current ({word}) on {name}'
            flag, limit = f'{folder}/curr{index}_{level}_alarm', f'{folder}/curr{index}_{level}'
            if tree.exists(flag):
                yield AlarmFile(text, flag)
            elif tree.exists(limit):
                yield AlarmFile(text, f'{folder}/curr{index}_input', limit)


def _over_current_counts(tree: SysfsTree) -> Iterator[AlarmFile]:
    """Orin's soctherm counts how often the supply made it throttle in hardware."""
    for path in tree.find(f'{_HWMON}/oc*_event_cnt'):
        name = path.rsplit('/', 1)[1].removesuffix('_event_cnt')
        yield AlarmFile(f'over-current throttling by {name}', path, counts=True)


def _throttling(tree: SysfsTree) -> Iterator[AlarmFile]:
    for folder in _numbered(tree, 'cooling_device'):
        name = _text_or_empty(tree, f'{folder}/type')
        if _THROTTLING.search(name):
            yield AlarmFile(f'throttling for heat: {name}', f'{folder}/cur_state')


def find_gpu_folders(tree: SysfsTree) -> tuple[tuple[str, str], ...]:
    """
    Find the folders with the GPU's clocks.

    Returns
    -------
    tuple
        Pairs of name and folder. The name of the first, or Thor's gpu-gpc-0, is 'gpu'; others
        are named as they are (Thor's gpu-nvd-0: 'gpu_nvd').

    """
    listed = [path for path in tree.find('/sys/class/devfreq/*') if _is_gpu(tree, path)]
    if not listed:
        listed = [path for path in tree.find(*_GPU_FOLDERS) if tree.exists(f'{path}/cur_freq')][:1]
    if not listed:
        return ()
    named = {path: _gpu_name(path) for path in listed}
    if 'gpu' not in named.values():
        named[listed[0]] = 'gpu'
    return tuple((name, path) for path, name in named.items())


def _is_gpu(tree: SysfsTree, path: str) -> bool:
    name = _text_or_empty(tree, f'{path}/device/of_node/name')
    return name in _GPU_OF_TREE or _GPU_NAME.match(path.rsplit('/', 1)[1]) is not None


def _gpu_name(path: str) -> str:
    """'gpu-nvd-0' -> 'gpu_nvd', 'gpu-gpc-0' -> 'gpu', '17000000.ga10b' -> itself."""
    name = re.sub(r'-0$', '', path.rsplit('/', 1)[1]).replace('-', '_')
    return 'gpu' if name == 'gpu_gpc' else name


def _gpu_clocks(folders: tuple[tuple[str, str], ...]) -> tuple[Gauge, ...]:
    return tuple(Gauge(name, f'{folder}/cur_freq', 1e-6) for name, folder in folders)


def _gpu_load(tree: SysfsTree, folders: tuple[tuple[str, str], ...]) -> tuple[Gauge, ...]:
    """Find the driver's load, which is in tenths of a percent."""
    parents = [f'{folder}/{up}' for name, folder in folders if name == 'gpu'
               for up in ('device', '..')]
    near = [f'{parent}/load' for parent in parents]
    path = _first(tree, near) or _first(tree, tree.find(*_GPU_LOADS))
    return (Gauge('gpu', path, 0.1),) if path else ()


def _emc_clock(tree: SysfsTree) -> tuple[Gauge, ...]:
    path = _first(tree, _EMC_CLOCKS)
    return (Gauge('emc', path, 1e-6),) if path else ()


def _cpu_clocks(tree: SysfsTree) -> tuple[Gauge, ...]:
    """Of all cores, also those that are off now: they have the file again when they are on."""
    folders = tree.find('/sys/devices/system/cpu/cpu[0-9]*')
    return tuple(
        Gauge(folder.rsplit('/', 1)[1], f'{folder}/cpufreq/scaling_cur_freq', 1e-3)
        for folder in folders
    )


def find_temperatures(tree: SysfsTree) -> tuple[Gauge, ...]:
    """Find the thermal zones; a second one of the same name gets a '_2' behind it."""
    gauges: dict[str, Gauge] = {}
    for folder in _numbered(tree, 'thermal_zone'):
        kind = _text_or_empty(tree, f'{folder}/type') or folder.rsplit('/', 1)[1]
        name = unique = re.sub(r'[-_](thermal|therm)$', '', kind)
        count = 1
        while unique in gauges:
            count += 1
            unique = f'{name}_{count}'
        gauges[unique] = Gauge(unique, f'{folder}/temp', 1e-3)
    return tuple(gauges.values())


def find_fan(tree: SysfsTree) -> Gauge | None:
    """Find the file with the fan's drive, 0 to 255."""
    path = _first(tree, ('/sys/devices/pwm-fan/cur_pwm', '/sys/devices/pwm-fan/target_pwm'))
    for folder in tree.find(_HWMON):
        if not path and _text_or_empty(tree, f'{folder}/name') in _FAN_CHIPS:
            path = _first(tree, (f'{folder}/pwm1',))
    return Gauge('fan', path, 100.0 / 255.0) if path else None


def _find_rail_window_ms(tree: SysfsTree) -> int | None:
    """Return over what time the power is averaged; None where the chip does not say."""
    for folder in _chips(tree, 'ina3221', _INA3221):
        text = _text_or_empty(tree, f'{folder}/update_interval')
        if text.isdigit():
            return int(text)
    return None


def _chips(tree: SysfsTree, name: str, pattern: str) -> tuple[str, ...]:
    """Folders of one kind of hwmon chip: below its driver, else by the name it has."""
    below_driver = tree.find(pattern)
    if below_driver:
        return below_driver
    return tuple(
        folder for folder in tree.find(_HWMON) if _text_or_empty(tree, f'{folder}/name') == name
    )


def _numbered(tree: SysfsTree, kind: str) -> tuple[str, ...]:
    """Folders of the thermal framework: thermal_zone0, thermal_zone1 ..."""
    for parent in _THERMAL:
        found = tree.find(f'{parent}/{kind}[0-9]*')
        if found:
            return found
    return ()


def _first(tree: SysfsTree, paths: tuple[str, ...] | list[str]) -> str:
    return next((path for path in paths if tree.exists(path)), '')


def _label(tree: SysfsTree, path: str) -> str:
    """Return the rail's name; '' for a channel that is not connected or has none."""
    text = _text_or_empty(tree, path)
    return '' if _UNUSED_LABEL.search(text) else text


def _text_or_empty(tree: SysfsTree, path: str) -> str:
    try:
        return tree.read_text(path)
    except PowerError:
        return ''
