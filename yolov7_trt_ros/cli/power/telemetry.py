"""Telemetry for `power status`, `watch`, `record` and `plot`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
import contextlib
import csv
import dataclasses
import itertools
from pathlib import Path
import sys
import time
from typing import Any, TYPE_CHECKING

from yolov7_trt_ros.atomic_file import naming
from yolov7_trt_ros.cli.output import format_table
from yolov7_trt_ros.core.units import NS_PER_S
from yolov7_trt_ros.errors import InputError, MissingDependencyError, SettingError
from yolov7_trt_ros.power.telemetry.energy import EnergyCounter
from yolov7_trt_ros.power.telemetry.memory import BoardMemory
from yolov7_trt_ros.power.telemetry.sample import BoardSample, TelemetrySource
from yolov7_trt_ros.power.telemetry.source import find_source
from yolov7_trt_ros.power.units import MW_PER_W

if TYPE_CHECKING:
    from yolov7_trt_ros.power.machine import PowerHost

TIME_COLUMN = 'time (s)'
WALL_COLUMN = 'unix time (s)'
"""Seconds since 1970, as in the stamps of a bag and of ROS messages."""

_ROUNDING_S = 1e-6  # three times 0.1 s is not 0.3 s
_CLEAR = '\x1b[H\x1b[2J'
_PANELS = (('W', 'power (W)'), ('C', 'temperature (C)'), ('MHz', 'clock (MHz)'), ('%', 'load (%)'))


@dataclasses.dataclass(frozen=True)
class Recorded:
    """A written recording: number of samples, duration, and mean power if known."""

    rows: int
    seconds: float
    mean_w: float | None


@contextlib.contextmanager
def open_source(host: PowerHost) -> Iterator[TelemetrySource]:
    """Open the telemetry of a machine."""
    source = find_source(host.root, host.runner, environment=host.environment)
    try:
        yield source
    finally:
        source.close()


def samples(
    source: TelemetrySource, period_s: float, seconds: float | None
) -> Iterator[BoardSample]:
    """
    Yield samples at a steady rate, for `seconds`, or endlessly with None.

    Raises
    ------
    SettingError
        The period or the time is not above 0.
    PowerError
        Nothing can be read.

    """
    check_times(period_s, seconds)
    start_s = time.monotonic()
    for number in itertools.count():
        due_s = number * period_s
        if seconds is not None and due_s > seconds + _ROUNDING_S:
            return
        time.sleep(max(0.0, start_s + due_s - time.monotonic()))
        yield source.read()


def check_times(period_s: float, seconds: float | None) -> None:
    """Raise SettingError if the period or the time is not above 0."""
    for name, value in (('period', period_s), ('seconds', seconds)):
        if value is not None and not value > 0:
            raise SettingError(f'--{name} must be above 0, got {value:g}')


def sample_columns(sample: BoardSample) -> dict[str, float]:
    """Return the numbers of a sample by column, units in the names."""
    columns = {}
    if sample.total_mw is not None:
        columns['total (W)'] = sample.total_mw / MW_PER_W
    columns |= {f'{name} (W)': rail.current_mw / MW_PER_W for name, rail in sample.rails.items()}
    columns |= {f'{name} (C)': value for name, value in sample.temperatures_c.items()}
    columns |= {f'{name} (MHz)': value for name, value in sample.clocks_mhz.items()}
    columns |= {f'{name} (%)': value for name, value in sample.loads_percent.items()}
    single = {'fan (%)': sample.fan_percent, 'fan (rpm)': sample.fan_rpm}
    columns |= {name: value for name, value in single.items() if value is not None}
    return columns | _memory_columns(sample.memory)


def _memory_columns(memory: BoardMemory | None) -> dict[str, float]:
    if memory is None:
        return {}
    columns = {
        'RAM used (MiB)': memory.used_mib, 'RAM available (MiB)': memory.available_mib,
        'swap used (MiB)': memory.swap_used_mib,
    }
    if memory.largest_free_mib is not None:
        columns['largest free block (MiB)'] = memory.largest_free_mib
    return columns


def sample_rows(sample: BoardSample) -> list[tuple[str, str]]:
    """Return the values of a sample as table rows."""
    rows = [(name, f'{value:.2f}') for name, value in sample_columns(sample).items()]
    rows += sample.gpu_processes.items()
    rows += [('alarm', alarm) for alarm in sample.alarms]
    rows += [('warning', text) for text in sample.warnings]
    return rows + [('not readable', problem) for problem in sample.problems]


def sample_record(sample: BoardSample) -> dict[str, Any]:
    """Return a sample for JSON."""
    return {
        'sample': sample_columns(sample),
        'gpu_processes_mib': dict(sample.gpu_processes_mib),
        'alarms': list(sample.alarms),
        'warnings': list(sample.warnings),
        'problems': list(sample.problems),
    }


def show(source_name: str, shown: Iterable[BoardSample]) -> None:
    """Print each sample as a table, which replaces the previous one on a terminal."""
    energy = EnergyCounter()
    for sample in shown:
        energy.add(sample)
        rows = [('source', source_name), *sample_rows(sample)]
        if energy.mean_w is not None:
            rows.append(('mean (W)', f'{energy.mean_w:.2f}'))
            rows.append(('energy (J)', f'{energy.joules:.1f}'))
        clear = _CLEAR if sys.stdout.isatty() else ''
        print(f'{clear}{format_table(rows)}', end='\n\n', flush=True)


def write_csv(path: Path, recorded: Iterable[BoardSample]) -> Recorded:
    """
    Write a row per sample, with the columns of the first one; Ctrl-C ends it cleanly.

    Raises
    ------
    PowerError
        Nothing can be read.
    OSError
        The disk is full, or the folder cannot be written; earlier rows stay.

    """
    samples_left = iter(recorded)
    first = next(samples_left)  # an old file stays if nothing can be read
    energy, rows, sample, last = EnergyCounter(), 0, first, first
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path), path.open('w', newline='', encoding='utf-8') as file:
        names = [TIME_COLUMN, WALL_COLUMN, *sample_columns(first), 'alarms']
        writer = csv.DictWriter(file, names, extrasaction='ignore', restval='')
        writer.writeheader()
        with contextlib.suppress(KeyboardInterrupt):
            for sample in itertools.chain([first], samples_left):
                writer.writerow(_csv_row(sample, first.time_ns))
                file.flush()
                energy.add(sample)
                rows, last = rows + 1, sample
    if path.is_file() and _rows_in(path) > rows:  # a signal came between a row and its count
        energy.add(sample)
        rows, last = rows + 1, sample
    return Recorded(rows, (last.time_ns - first.time_ns) / NS_PER_S, energy.mean_w)


def _rows_in(path: Path) -> int:
    with path.open(newline='', encoding='utf-8') as file:
        return sum(1 for _ in csv.reader(file)) - 1


def _csv_row(sample: BoardSample, first_ns: int) -> dict[str, str]:
    row = {name: f'{value:.3f}' for name, value in sample_columns(sample).items()}
    seconds = (sample.time_ns - first_ns) / NS_PER_S
    return {
        TIME_COLUMN: f'{seconds:.3f}', WALL_COLUMN: f'{wall_clock_s(sample):.3f}', **row,
        'alarms': '; '.join((*sample.alarms, *sample.warnings)),
    }


def wall_clock_s(sample: BoardSample) -> float:
    """Return the time of a sample by the current wall clock."""
    age_ns = time.monotonic_ns() - sample.time_ns
    return (time.time_ns() - age_ns) / NS_PER_S


def read_csv(path: Path) -> dict[str, list[float]]:
    """
    Return the columns of a recorded file; an empty cell is NaN.

    Raises
    ------
    InputError
        It is not such a file; the message names the line.

    """
    with path.open(newline='', encoding='utf-8', errors='replace') as file:
        reader = csv.DictReader(file)
        names = [name for name in reader.fieldnames or [] if name != 'alarms']
        if TIME_COLUMN not in names:
            raise InputError(
                f'{path} should have a column {TIME_COLUMN!r}, as `yolov7_trt power record` '
                f'writes it; found {", ".join(names) or "an empty file"}'
            )
        columns: dict[str, list[float]] = {name: [] for name in names}
        for number, row in enumerate(reader, 2):
            for name in names:
                columns[name].append(_cell(path, number, name, row.get(name)))
    return columns


def _cell(path: Path, line: int, name: str, text: str | None) -> float:
    if not text:
        return float('nan')
    try:
        return float(text)
    except ValueError as exc:
        raise InputError(f'{path}, line {line}: {name} should be a number, is {text!r}') from exc


def plot_csv(source: Path, picture: Path) -> None:
    """
    Draw a recorded file: power, temperatures, clocks and loads over time.

    Raises
    ------
    MissingDependencyError
        Matplotlib is not installed.
    InputError
        The file cannot be read as a recording.

    """
    columns = read_csv(source)
    try:
        import matplotlib
    except ImportError as exc:
        raise MissingDependencyError(
            'drawing needs matplotlib, which is not installed: pip install matplotlib'
        ) from exc
    matplotlib.use('Agg')
    from matplotlib import pyplot

    panels = [
        (title, [name for name in columns if name.endswith(f'({unit})')])
        for unit, title in _PANELS
    ]
    panels = [(title, names) for title, names in panels if names]
    if not panels:
        raise InputError(f'{source} has nothing to draw: no column of W, C, MHz or %')
    figure, axes = pyplot.subplots(
        len(panels), 1, sharex=True, squeeze=False, figsize=(10, 2.6 * len(panels)),
        layout='constrained',
    )
    for axis, (title, names) in zip(axes[:, 0], panels, strict=True):
        _draw(axis, title, names, columns)
    axes[-1, 0].set_xlabel(TIME_COLUMN)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture)
    pyplot.close(figure)


def _draw(
    axis: Any, title: str, names: Sequence[str], columns: dict[str, list[float]]
) -> None:
    for name in names:
        axis.plot(columns[TIME_COLUMN], columns[name], label=name.rpartition(' ')[0], linewidth=1)
    axis.set_ylabel(title)
    axis.grid(alpha=0.3)
    axis.legend(fontsize='x-small', loc='center left', bbox_to_anchor=(1.0, 0.5))
