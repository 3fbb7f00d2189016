"""The screen of `power watch`: a snapshot of a board as lines of styled text."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
import dataclasses

from yolov7_trt_ros.core.plain_text import printable
from yolov7_trt_ros.power.telemetry.energy import EnergyCounter
from yolov7_trt_ros.power.telemetry.sample import BoardSample
from yolov7_trt_ros.power.units import MW_PER_W
from yolov7_trt_ros.report.top_view import BLOCKS, sparkline

HISTORY = 240
"""Samples that a sparkline can show."""
LEAST_WIDTH = 40
WARM_C, HOT_C = 70.0, 85.0
"""Temperatures from which they are yellow and red; boards throttle at about 95 to 100."""

_FULL = 100.0
_NAME, _CELL, _SENSOR_CELL = 18, 38, 20
_UNITS = ('gpu', 'emc', 'gpu_memory')

Piece = tuple[str, str]
"""A text and its rich style; '' for plain."""
Row = list[Piece]


@dataclasses.dataclass(frozen=True)
class Marks:
    """
    Characters to draw with.

    Attributes
    ----------
    blocks
        Characters of a sparkline, lowest first.
    full, empty
        Characters of a bar.

    """

    blocks: str = BLOCKS
    full: str = '█'
    empty: str = '░'


class WatchHistory:
    """The samples of a watch that can be shown."""

    def __init__(self) -> None:
        self._energy = EnergyCounter()
        self._largest_w = 0.0
        self._past: dict[str, deque[float | None]] = {}
        self.sample = BoardSample(0)

    @property
    def mean_w(self) -> float | None:
        """Return the mean power; None if unknown."""
        return self._energy.mean_w

    @property
    def joules(self) -> float:
        """Return the energy since the start."""
        return self._energy.joules

    @property
    def largest_w(self) -> float:
        """Return the largest power, total or of a rail: the full length of a bar."""
        return self._largest_w

    def past(self, name: str, count: int) -> list[float | None]:
        """Return the newest values of 'total', 'heat', 'cpu' or 'gpu', at most `count`."""
        values = list(self._past.get(name, ()))
        return values[-count:] if count > 0 else []

    def add(self, sample: BoardSample) -> None:
        """Take the next sample."""
        self.sample = sample
        self._energy.add(sample)
        rails_mw = [rail.current_mw for rail in sample.rails.values()]
        self._largest_w = max(
            self._largest_w, *(power / MW_PER_W for power in (*rails_mw, sample.total_mw or 0.0))
        )
        hottest = sample.hottest_c
        for name, value in {
            'total': sample.total_mw, 'heat': None if hottest is None else hottest[1],
            'cpu': sample.loads_percent.get('cpu'), 'gpu': sample.loads_percent.get('gpu'),
        }.items():
            self._past.setdefault(name, deque(maxlen=HISTORY)).append(value)


def draw(
    history: WatchHistory, facts: Mapping[str, str], *, width: int = 80, height: int = 24,
    marks: Marks | None = None,
) -> list[Row]:
    """
    Return the newest sample as rows of at most `width` characters, at most `height` of them.

    Parameters
    ----------
    history
        The samples.
    facts
        Further facts by name; `board` is the title.
    width, height
        Size of the terminal.
    marks
        Characters to draw with.

    """
    drawing = _Drawing(history, max(width, LEAST_WIDTH), marks or Marks())
    rows = [
        *drawing.head(facts), *drawing.alarms(), *drawing.power(), *drawing.loads(),
        *drawing.memory(), *drawing.temperatures(), *drawing.processes(),
    ]
    if len(rows) > height:
        rows = [*rows[:height - 1], [(f'... {len(rows) - height + 1} more lines', 'dim')]]
    return [_cut(row, max(width, LEAST_WIDTH)) for row in rows]


class _Drawing:
    """One drawing of a snapshot."""

    def __init__(self, history: WatchHistory, width: int, marks: Marks) -> None:
        self._history, self._sample = history, history.sample
        self._width, self._marks = width, marks

    def head(self, facts: Mapping[str, str]) -> list[Row]:
        """Return the title and the further facts, in as many rows as needed."""
        title = printable(facts.get('board', ''))
        hint = 'q quits'
        space = max(1, self._width - len(title) - len(hint))
        rows: list[Row] = [[(title, 'bold'), (' ' * space, ''), (hint, 'dim')]]
        row: Row = []
        for name, value in facts.items():
            text = f'{name} {printable(value)}'
            if name == 'board':
                continue
            if row and _length(row) + len(text) + 3 > self._width:
                rows.append(row)
                row = []
            row += [('   ' if row else '', ''), (f'{name} ', 'dim'), (printable(value), '')]
        return [*rows, row] if row else rows

    def alarms(self) -> list[Row]:
        """Return alarms, warnings and problems; throttling and over-current in red."""
        sample = self._sample
        return [
            [(printable(text), style)]
            for texts, style in (
                (sample.alarms, 'bold white on red'), (sample.warnings, 'bold yellow'),
                (sample.problems, 'yellow'),
            ) for text in texts
        ]

    def power(self) -> list[Row]:
        """Return the total power and that of each rail."""
        sample, history = self._sample, self._history
        powers = {name: rail.current_mw / MW_PER_W for name, rail in sample.rails.items()}
        if not powers and sample.total_mw is None:
            return []
        mean = '' if history.mean_w is None else (
            f'   mean {history.mean_w:.2f} W   {history.joules:.1f} J'
        )
        rows = [self._section(f'power (W){mean}')]
        total = None if sample.total_mw is None else sample.total_mw / MW_PER_W
        for name, watts in {'total': total, **powers}.items():
            past = 'total' if name == 'total' else ''
            share = self._share_of_power(watts)
            rows.append(self._gauge(name, _number(watts, 2), '', share, 'green', past))
        return rows

    def loads(self) -> list[Row]:
        """Return loads and clocks: of the units, then of each core."""
        loads, clocks = self._sample.loads_percent, self._sample.clocks_mhz
        cores = [name for name in clocks if name.startswith('cpu')]
        cores += [name for name in loads if name[:3] == 'cpu' != name and name not in cores]
        units = [
            name for name in dict.fromkeys(('cpu', *_UNITS, *loads, *clocks))
            if (name in loads or name in clocks) and name not in cores
        ]
        if not units and not cores:
            return []
        rows = [self._section('load (%) and clock (MHz)')]
        rows += [
            self._gauge(
                name, _number(loads.get(name)), _number(clocks[name]) if name in clocks else '',
                _share(loads.get(name)), 'cyan', name if name in ('cpu', 'gpu') else '',
            ) for name in units
        ]
        return rows + self._in_columns([self._core(name) for name in cores], _CELL)

    def memory(self) -> list[Row]:
        """Return RAM and swap."""
        memory = self._sample.memory
        if memory is None:
            return []
        largest = '' if memory.largest_free_mib is None else (
            f'   largest free block {memory.largest_free_mib:g} MiB'
        )
        rows = [self._section(f'memory (MiB){largest}')]
        style = 'bold red' if memory.warning else 'magenta'
        for name, used, total in (
            ('RAM', memory.used_mib, memory.total_mib),
            ('swap', memory.swap_used_mib, memory.swap_total_mib),
        ):
            if total > 0:
                rows.append(
                    self._gauge(name, _number(used), f'of {total:.0f}', used / total, style)
                )
        return rows

    def temperatures(self) -> list[Row]:
        """Return the sensors, in columns, and the fan."""
        sample, cells = self._sample, []
        for name, value in sample.temperatures_c.items():
            style = 'bold red' if value >= HOT_C else 'yellow' if value >= WARM_C else ''
            cells.append([(f'{printable(name):<{_SENSOR_CELL - 8}.{_SENSOR_CELL - 8}}', 'dim'),
                          (f'{value:>6.1f}', style)])
        fan = [
            f'fan {number:.0f} {unit}'
            for number, unit in ((sample.fan_percent, '%'), (sample.fan_rpm, 'rpm'))
            if number is not None
        ]
        if not cells and not fan:
            return []
        title = '   '.join(('temperature (C)', *fan))
        return [
            self._section(title, 'heat'), *self._in_columns(cells, _SENSOR_CELL)
        ]

    def processes(self) -> list[Row]:
        """Return the programs that use the GPU, if NVML lists them."""
        found = self._sample.gpu_processes_mib
        cells: list[Row] = [
            [(f'{printable(name):<{_CELL - 10}.{_CELL - 10}}{_number(mib):>8}', '')]
            for name, mib in found.items()
        ]
        if not cells:
            return []
        return [self._section('GPU memory (MiB)'), *self._in_columns(cells, _CELL)]

    def _section(self, title: str, past: str = '') -> Row:
        """Return a headline, with a sparkline at its end if requested."""
        row: Row = [(printable(title), 'bold cyan')]
        left = min(HISTORY, self._width - len(title) - 2)
        return [*row, ('  ', ''), (self._spark(past, left), 'blue')] if past else row

    def _gauge(
        self, name: str, number: str, note: str, share: float, style: str, past: str = ''
    ) -> Row:
        """Return name, number, note, a bar, and a sparkline that fills the row."""
        text = f'{printable(name):<{_NAME}.{_NAME}} {number:>7} {note:<9.9} '
        room = self._width - len(text)
        bar = max(4, room // 2 if room >= 16 else room)
        row: Row = [(text, ''), *self._bar(share, bar, style)]
        if past:
            row += [(' ', ''), (self._spark(past, room - bar - 1), style)]
        return row

    def _core(self, name: str) -> Row:
        load = self._sample.loads_percent.get(name)
        clock = self._sample.clocks_mhz.get(name)
        text = f'{name:<6}{_number(load):>4} {_number(clock):>5} '
        return [(text, ''), *self._bar(_share(load), _CELL - len(text) - 2, 'cyan')]

    def _bar(self, share: float, length: int, style: str) -> Row:
        count = round(min(1.0, max(0.0, share)) * length)
        return [(self._marks.full * count, style), (self._marks.empty * (length - count), 'dim')]

    def _spark(self, name: str, length: int) -> str:
        return sparkline(self._history.past(name, length), self._marks.blocks)

    def _share_of_power(self, watts: float | None) -> float:
        largest_w = self._history.largest_w
        return 0.0 if watts is None or largest_w <= 0 else watts / largest_w

    def _in_columns(self, cells: Sequence[Row], cell: int) -> list[Row]:
        """Return cells side by side, as many as fit, filled downwards."""
        count = max(1, self._width // cell)
        length = -(-len(cells) // count)
        rows: list[Row] = []
        for line in range(length):
            row: Row = []
            for found in cells[line::length]:
                row += [*found, (' ' * (cell - _length(found)), '')]
            rows.append(row)
        return rows


def _share(percent: float | None) -> float:
    return 0.0 if percent is None else percent / _FULL


def _number(value: float | None, digits: int = 0) -> str:
    return '-' if value is None else f'{value:.{digits}f}'


def _length(row: Row) -> int:
    return sum(len(text) for text, _ in row)


def _cut(row: Row, width: int) -> Row:
    """Return a row cut to the width."""
    cut: Row = []
    for text, style in row:
        left = width - _length(cut)
        if left > 0 and text:
            cut.append((text[:left], style))
    return cut
