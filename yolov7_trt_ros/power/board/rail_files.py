"""Find the files of power rails and their alarms: INA3221, INA238, event counts."""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
import re

from yolov7_trt_ros.power.sysfs import SysfsTree, whole_number

_IIO = '/sys/bus/i2c/drivers/ina3221x/*/iio:device*'
_INA3221 = '/sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*'
_INA238 = '/sys/bus/i2c/drivers/ina238/*/hwmon/hwmon*'
_HWMON = '/sys/class/hwmon/hwmon*'

# Labels of channels that are not connected, and of the sum that the driver adds as a channel.
_UNUSED_LABEL = re.compile(r'(?<![A-Za-z])NC(?![A-Za-z])|sum of shunt voltages')


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
        Text of the alarm.
    path
        Of the file with a number.
    limit_path
        Alarm while the number is above the one in this file (one of 0 or less means no limit);
        '' if the number itself is the alarm: more than 0.
    counts
        The number is a count of events: alarm when it has grown since the reading before.

    """

    text: str
    path: str
    limit_path: str = ''
    counts: bool = False


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


def find_rail_alarms(tree: SysfsTree) -> tuple[AlarmFile, ...]:
    """Find over-current alarms of the rails, and counts of over-current events."""
    return (*_iio_alarms(tree), *_hwmon_alarms(tree), *_over_current_counts(tree))


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


def find_rail_window_ms(tree: SysfsTree) -> int | None:
    """Return the averaging time of the power; None if unknown."""
    for folder in _chips(tree, 'ina3221', _INA3221):
        window_ms = whole_number(tree.read_or_empty(f'{folder}/update_interval'))
        if window_ms is not None:
            return window_ms
    return None


def _chips(tree: SysfsTree, name: str, pattern: str) -> tuple[str, ...]:
    """Folders of one kind of hwmon chip: below its driver, else by the name it has."""
    below_driver = tree.find(pattern)
    if below_driver:
        return below_driver
    return tuple(
        folder for folder in tree.find(_HWMON) if tree.read_or_empty(f'{folder}/name') == name
    )


def _label(tree: SysfsTree, path: str) -> str:
    """Return the rail's name; '' for a channel that is not connected or has none."""
    text = tree.read_or_empty(path)
    return '' if _UNUSED_LABEL.search(text) else text
