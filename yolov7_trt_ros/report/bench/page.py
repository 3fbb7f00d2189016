"""A benchmark as one self-contained HTML page: tables, and charts as inline SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from yolov7_trt_ros.report.bench.context import PROSE, warnings_of
from yolov7_trt_ros.report.bench.markdown import all_tables
from yolov7_trt_ros.report.bench.row import Bench, BenchRow, Speed
from yolov7_trt_ros.report.bench.table import BenchTable, labels_of, milliseconds, ran
from yolov7_trt_ros.report.page import figure, heading, make_page, paragraph, safe, table
from yolov7_trt_ros.report.svg_charts import Bar, bars, Bubble, bubbles


def as_html(bench: Bench) -> str:
    """Return the page; it is well-formed XML too."""
    summary, *others = all_tables(bench) or [BenchTable('Summary', (), ())]
    return make_page(bench.title, [
        *(paragraph(text, 'warning') for text in warnings_of(bench)),
        _table(summary),
        *(f'<blockquote>{safe(note)}</blockquote>' for note in bench.notes),
        *_charts(bench), *map(_table, others),
    ])


def _table(found: BenchTable) -> str:
    if not found.rows:
        return ''
    kind = 'text' if found.title in PROSE else ''
    return '\n'.join([
        heading(found.title), table(found.header, found.rows, kind=kind, name=found.title),
        *(paragraph(note, 'note') for note in found.notes),
    ])


# ---- charts


def _charts(bench: Bench) -> list[str]:
    rows, names = ran(bench), labels_of(bench)
    found = [_trade_chart(rows, names), _latency_chart(rows, names),
             *(_speed_chart(rows, names, size) for size in bench.batch_sizes),
             _energy_chart(rows, names, bench.batch_sizes)]
    return [chart for chart in found if chart]


def _trade_chart(rows: Sequence[BenchRow], names: dict[int, str]) -> str:
    """Return latency against AP50, joules as areas; a sentence where there are no labels."""
    points = []
    for row in rows:
        speed, energy = row.batch(1).end_to_end, row.batch(1).energy
        if speed is None or row.accuracy is None or speed.latency_ms.p50 <= 0:
            continue
        joules = energy.joules_per_frame if energy else None
        tooltip = (
            f'{names[id(row)]}: {milliseconds(speed.latency_ms.p50)} ms, AP50 '
            f'{row.accuracy.ap50:.4f}' + (f', {joules * 1e3:.1f} mJ' if joules else '')
        )
        points.append(Bubble(names[id(row)], speed.latency_ms.p50, row.accuracy.ap50, joules,
                             tooltip))
    if not points:
        return ''
    metered = any(point.size is not None for point in points)
    areas = 'Area: joules a frame; top left with a small circle is best.' if metered \
        else 'No power was measured, so all circles have the same size.'
    svg = bubbles(points, x_label='latency end to end, batch 1, p50, ms (logarithmic)',
                  y_label='AP50', title='Latency, AP50 and joules a frame')
    return heading('Latency, accuracy, energy') + figure(svg, areas)


def _latency_chart(rows: Sequence[BenchRow], names: dict[int, str]) -> str:
    groups = _timed_groups(rows, names, 1, lambda kind, speed: Bar(
        kind, speed.latency_ms.p50, (speed.latency_ms.p90, speed.latency_ms.p99),
        f'{milliseconds(speed.latency_ms.p50)} ms'))
    if not groups:
        return ''
    svg = bars(groups, title='Latency at batch 1', unit='ms, batch 1')
    return heading('Latency') + figure(svg, 'Bars: p50; strokes: p90 and p99.')


def _speed_chart(rows: Sequence[BenchRow], names: dict[int, str], batch: int) -> str:
    groups = _timed_groups(rows, names, batch, lambda kind, speed: Bar(
        kind, speed.fps, label=f'{speed.fps:.{1 if speed.fps < 1000 else 0}f}'))
    if not groups:
        return ''
    svg = bars(groups, title=f'Images a second at batch {batch}', unit='images a second')
    return heading(f'Images a second, batch {batch}') + figure(svg, 'Longer is better.')


def _timed_groups(
    rows: Sequence[BenchRow], names: dict[int, str], batch: int,
    bar: Callable[[str, Speed], Bar],
) -> list[tuple[str, list[Bar]]]:
    """Return the bars of each row, for the network and end to end where both were timed."""
    groups = []
    for row in rows:
        result = row.batch(batch)
        found = [
            bar(kind, speed)
            for kind, speed in (('network', result.network), ('end to end', result.end_to_end))
            if speed is not None
        ]
        if found:
            groups.append((names[id(row)], found))
    return groups


def _energy_chart(
    rows: Sequence[BenchRow], names: dict[int, str], sizes: Sequence[int]
) -> str:
    groups = []
    for row in rows:
        found = [
            Bar(f'batch {size}', energy.joules_per_frame * 1e3,
                label=f'{energy.joules_per_frame * 1e3:.1f} mJ at {energy.watts:.0f} W')
            for size in sizes if (energy := row.batch(size).energy) is not None
        ]
        if found:
            groups.append((names[id(row)], found))
    if not groups:
        return ''
    svg = bars(groups, title='Energy a frame', unit='millijoules a frame, end to end')
    return heading('Energy a frame') + figure(svg, 'Shorter is better; idle power is included.')
