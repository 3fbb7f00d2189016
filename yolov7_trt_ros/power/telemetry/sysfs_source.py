"""Telemetry from the kernel's files, without any tool and mostly without root."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import time

from yolov7_trt_ros.errors import PowerError, PowerFormatError, PowerPermissionError
from yolov7_trt_ros.power.board.files import BoardFiles, FAN, FAN_RPM, find_board_files, Gauge
from yolov7_trt_ros.power.board.rail_files import AlarmFile
from yolov7_trt_ros.power.rails import RunningMeans
from yolov7_trt_ros.power.sysfs import SysfsTree, whole_number
from yolov7_trt_ros.power.telemetry.cpu_load import cpu_loads_percent, CpuTicks, parse_cpu_ticks
from yolov7_trt_ros.power.telemetry.lost_sensors import lost_text, LostSensors
from yolov7_trt_ros.power.telemetry.memory import parse_memory
from yolov7_trt_ros.power.telemetry.rail_totals import RailTotals
from yolov7_trt_ros.power.telemetry.sample import BoardSample

PROC_STAT = '/proc/stat'
MEMINFO = '/proc/meminfo'
BUDDYINFO = '/proc/buddyinfo'
COLDEST_C = -200.0
"""Sensors of parts without power read -256 C on some releases."""
NO_RAILS = (
    'no power rail found: neither an INA3221 below /sys/bus/i2c/drivers/ina3221x (JetPack 4) or '
    'ina3221 (5 and later) nor one in /sys/class/hwmon; is its driver loaded?'
)

_KHZ_PER_MHZ = 1000.0
_DIGITS = 3  # the kernel's units: kHz, mC, microwatt


class SysfsSource:
    """
    Reads rails, clocks, loads, temperatures, alarms and the fan below a root folder.

    The power of a rail is the newest reading of its INA3221: an average over `rail_window_ms`
    (about 430 on a Jetson), so faster samples repeat values. Loads of the cores are since the
    previous sample (the first: since the source was opened).

    Parameters
    ----------
    tree
        Where to read; closed with the source.
    files
        What to read; None: find it.
    expect_rails
        Whether a board without any power rail is a problem.
    clock_ns
        Time of a sample.

    """

    def __init__(
        self,
        tree: SysfsTree,
        files: BoardFiles | None = None,
        *,
        expect_rails: bool = True,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._tree = tree
        self._files = find_board_files(tree) if files is None else files
        self._expect_rails = expect_rails
        self._clock_ns = clock_ns
        self._paths = (*self._files.paths, PROC_STAT, MEMINFO, BUDDYINFO)
        self._needed_paths = {path for rail in self._files.rails for path in rail.paths} | {
            path for alarm in self._files.alarms for path in (alarm.path, alarm.limit_path)}
        self._lost = LostSensors()
        self._means = RunningMeans()
        self._totals = RailTotals(rail.name for rail in self._files.rails)
        self._counts: dict[str, float] = {}
        self._ticks: dict[str, CpuTicks] = _ticks_in(tree.read_all([PROC_STAT]))
        self._loads_percent: dict[str, float] = {}

    @property
    def name(self) -> str:
        """Short name for logs."""
        return 'sysfs'

    @property
    def files(self) -> BoardFiles:
        """Return the files found on this board."""
        return self._files

    @property
    def rail_window_ms(self) -> int | None:
        """Averaging time of the rails' power; None if unknown."""
        return self._files.rail_window_ms

    def read(self) -> BoardSample:
        """Take a sample; unreadable values are missing, and in `problems` if relevant."""
        texts = self._tree.read_all(self._paths)
        time_ns = self._clock_ns()
        values = _numbers_in(texts)
        ticks = _ticks_in(texts)
        rails = self._means.add(self._rails_mw(values))
        total = self._totals.total(rails)
        temperatures_c = _temperatures(self._files.temperatures, values)
        lost = self._lost.find(temperatures_c)
        fans = _scaled(self._files.fans, values)
        return BoardSample(
            time_ns=time_ns,
            rails=rails,
            total_mw=total.milliwatt,
            temperatures_c=temperatures_c,
            clocks_mhz=self._clocks_mhz(values, ticks),
            loads_percent={**self._gpu_emc_loads(values), **self._cpu_loads(ticks)},
            alarms=self._alarms(values),
            fan_percent=fans.get(FAN),
            fan_rpm=fans.get(FAN_RPM),
            memory=parse_memory(_text_of(texts, MEMINFO), _text_of(texts, BUDDYINFO)),
            problems=(*self._problems(texts), *filter(None, (total.reason, lost_text(lost)))),
            lost_sensors=lost,
        )

    def close(self) -> None:
        """End the reading thread."""
        self._tree.close()

    def _rails_mw(self, values: Mapping[str, float]) -> dict[str, float]:
        powers_mw: dict[str, float] = {}
        for rail in self._files.rails:
            numbers = [values[path] for path in rail.paths if path in values]
            if len(numbers) == len(rail.paths):
                power_mw = rail.scale
                for number in numbers:
                    power_mw *= number
                powers_mw[rail.name] = round(power_mw, _DIGITS)
        return powers_mw

    def _clocks_mhz(
        self, values: Mapping[str, float], ticks: Mapping[str, CpuTicks]
    ) -> dict[str, float]:
        """Leave out offline cores, since some kernels keep their last clock."""
        clocks = _scaled(self._files.clocks, values)
        return {
            name: clock for name, clock in clocks.items()
            if not ticks or not name.startswith('cpu') or name in ticks
        }

    def _gpu_emc_loads(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return loads; the activity of EMC is the clock at which it would be fully busy."""
        loads = _scaled(self._files.loads, values)
        activity_khz = values.get(self._files.emc_activity)
        clock_mhz = _scaled(self._files.clocks, values).get('emc', 0.0)
        if activity_khz is not None and clock_mhz > 0.0:
            loads['emc'] = 100.0 * activity_khz / _KHZ_PER_MHZ / clock_mhz
        return {name: min(100.0, max(0.0, load)) for name, load in loads.items()}

    def _cpu_loads(self, ticks: dict[str, CpuTicks]) -> dict[str, float]:
        """Return the loads, the previous ones while no tick (of 10 ms) has passed."""
        loads = cpu_loads_percent(self._ticks, ticks)
        if loads or not ticks:
            self._ticks, self._loads_percent = ticks or self._ticks, loads
        return self._loads_percent

    def _alarms(self, values: Mapping[str, float]) -> tuple[str, ...]:
        return tuple(
            alarm.text for alarm in self._files.alarms
            if alarm.path in values and self._is_raised(alarm, values[alarm.path], values)
        )

    def _is_raised(self, alarm: AlarmFile, value: float, values: Mapping[str, float]) -> bool:
        if alarm.counts:
            before = self._counts.get(alarm.path, value)
            self._counts[alarm.path] = value
            return value > before
        if alarm.limit_path:
            limit = values.get(alarm.limit_path, 0.0)
            return 0.0 < limit < value
        return value > 0.0

    def _problems(self, texts: Mapping[str, str | PowerError]) -> tuple[str, ...]:
        """
        Return which expected values are missing.

        Gated sensors and offline cores also fail to read, which is no problem.
        """
        hanging = self._tree.hanging
        problems = []
        for path, text in texts.items():
            if path == BUDDYINFO:  # some kernels show it to root only
                continue
            if isinstance(text, PowerPermissionError) or path in hanging:
                problems.append(str(text))
            elif path in self._needed_paths:
                problems += _number_problems(path, text)
        if self._expect_rails and not self._files.rails:
            problems.append(NO_RAILS)
        return tuple(problems)


def _number_problems(path: str, text: str | PowerError) -> list[str]:
    if isinstance(text, PowerError):
        return [str(text)]
    return [] if _number(text) is not None else [f'{path} should hold a number: {text[:40]!r}']


def _numbers_in(texts: Mapping[str, str | PowerError]) -> dict[str, float]:
    numbers = {path: _number(text) for path, text in texts.items() if isinstance(text, str)}
    return {path: number for path, number in numbers.items() if number is not None}


def _text_of(texts: Mapping[str, str | PowerError], path: str) -> str:
    text = texts.get(path)
    return text if isinstance(text, str) else ''


def _number(text: str) -> float | None:
    """Parse an integer, as the kernel writes it."""
    return None if whole_number(text.removeprefix('-')) is None else float(text)


def _scaled(gauges: Sequence[Gauge], values: Mapping[str, float]) -> dict[str, float]:
    return {
        gauge.name: round(values[gauge.path] * gauge.scale, _DIGITS)
        for gauge in gauges if gauge.path in values
    }


def _temperatures(gauges: tuple[Gauge, ...], values: Mapping[str, float]) -> dict[str, float]:
    return {
        name: value for name, value in _scaled(gauges, values).items() if value > COLDEST_C
    }


def _ticks_in(texts: Mapping[str, str | PowerError]) -> dict[str, CpuTicks]:
    try:
        return parse_cpu_ticks(_text_of(texts, PROC_STAT))
    except PowerFormatError:
        return {}
