"""A benchmark as one HTML page that needs nothing else: tables, and charts as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
import html

from yolov7_trt_ros.report.bench_context import PROSE
from yolov7_trt_ros.report.bench_markdown import all_tables
from yolov7_trt_ros.report.bench_row import Bench, BenchRow
from yolov7_trt_ros.report.bench_table import labels_of, milliseconds, ran, Table
from yolov7_trt_ros.report.svg_charts import Bar, bars, Bubble, bubbles

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --rule: #d9dee5;
  --ground: #fff; --stripe: #f5f7fa; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #9aa6b5; --rule: #343d49;
  --ground: #161b22; --stripe: #1d242d; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground);
  max-width: 1180px; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.7rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; text-align: right; border-bottom: 1px solid var(--rule);
  vertical-align: top; white-space: nowrap; }
th { color: var(--soft); font-weight: 600; white-space: normal; }
th:first-child, td:first-child { text-align: left; white-space: normal; min-width: 9rem; }
.text th, .text td { text-align: left; white-space: normal; }
tbody tr:nth-child(even) { background: var(--stripe); }
p.note, figcaption { color: var(--soft); font-size: 13px; max-width: 62rem; }
blockquote { margin: .6rem 0; padding: .2rem 1rem; border-left: 3px solid #3b7dd8; }
figure { margin: .5rem 0 1.5rem; }
svg { width: 100%; max-width: 900px; height: auto; font-family: system-ui, sans-serif; }
svg .grid { stroke: var(--rule); } svg .whisker { stroke: var(--ink); stroke-width: 1.3; }
svg .leader { stroke: var(--soft); stroke-width: .7; }
svg text { fill: var(--ink); font-size: 12px; } svg .tick, svg .axis { fill: var(--soft); }
"""


def as_html(bench: Bench) -> str:
    """Return the page; it is well-formed XML too."""
    summary, *others = all_tables(bench) or [Table('Summary', (), ())]
    parts = [f'<h1>{_safe(bench.title)}</h1>', _table(summary)]
    parts += [f'<blockquote>{_safe(note)}</blockquote>' for note in bench.notes]
    parts += _charts(bench)
    parts += [_table(table) for table in others]
    body = '\n'.join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f'<title>{_safe(bench.title)}</title>\n<style>{_STYLE}</style>\n</head>\n'
        f'<body>\n{body}\n</body>\n</html>\n'
    )


def _table(table: Table) -> str:
    if not table.rows:
        return ''
    kind = ' class="text"' if table.title in PROSE else ''
    head = ''.join(f'<th>{_safe(name)}</th>' for name in table.header)
    lines = '\n'.join(
        '<tr>' + ''.join(f'<td>{_safe(cell)}</td>' for cell in line) + '</tr>'
        for line in table.rows
    )
    notes = ''.join(f'<p class="note">{_safe(note)}</p>' for note in table.notes)
    return (
        f'<h2>{_safe(table.title)}</h2>\n<div class="scroll"><table{kind}><thead><tr>{head}</tr>'
        f'</thead>\n<tbody>{lines}</tbody></table></div>{notes}'
    )


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
        told = f'{names[id(row)]}: {milliseconds(speed.latency_ms.p50)} ms, AP50 ' \
               f'{row.accuracy.ap50:.4f}' + (f', {joules * 1e3:.1f} mJ' if joules else '')
        points.append(Bubble(names[id(row)], speed.latency_ms.p50, row.accuracy.ap50, joules,
                             told))
    if not points:
        return ''
    metered = any(point.size is not None for point in points)
    areas = 'Area: joules a frame; up and to the left with a small circle is best.' if metered \
        else 'No power was metered, so all circles are alike.'
    svg = bubbles(points, x_label='latency end to end, batch 1, p50, ms (logarithmic)',
                  y_label='AP50', title='Latency, AP50 and joules a frame')
    return _figure('Latency, accuracy, energy', svg, areas)


def _latency_chart(rows: Sequence[BenchRow], names: dict[int, str]) -> str:
    groups = []
    for row in rows:
        one = row.batch(1)
        found = [
            Bar(kind, speed.latency_ms.p50, (speed.latency_ms.p90, speed.latency_ms.p99),
                f'{milliseconds(speed.latency_ms.p50)} ms')
            for kind, speed in (('network', one.network), ('end to end', one.end_to_end))
            if speed is not None
        ]
        if found:
            groups.append((names[id(row)], found))
    if not groups:
        return ''
    svg = bars(groups, title='Latency at batch 1', unit='ms, batch 1')
    return _figure('Latency', svg, 'Bars: p50; strokes: p90 and p99.')


def _speed_chart(rows: Sequence[BenchRow], names: dict[int, str], batch: int) -> str:
    groups = []
    for row in rows:
        result = row.batch(batch)
        found = [
            Bar(kind, speed.fps, told=f'{speed.fps:.{1 if speed.fps < 1000 else 0}f}')
            for kind, speed in (('network', result.network), ('end to end', result.end_to_end))
            if speed is not None
        ]
        if found:
            groups.append((names[id(row)], found))
    if not groups:
        return ''
    svg = bars(groups, title=f'Images a second at batch {batch}', unit='images a second')
    return _figure(f'Images a second, batch {batch}', svg, 'Longer is better.')


def _energy_chart(
    rows: Sequence[BenchRow], names: dict[int, str], sizes: Sequence[int]
) -> str:
    groups = []
    for row in rows:
        found = [
            Bar(f'batch {size}', energy.joules_per_frame * 1e3,
                told=f'{energy.joules_per_frame * 1e3:.1f} mJ at {energy.watts:.0f} W')
            for size in sizes if (energy := row.batch(size).energy) is not None
        ]
        if found:
            groups.append((names[id(row)], found))
    if not groups:
        return ''
    svg = bars(groups, title='Energy a frame', unit='millijoules a frame, end to end')
    return _figure('Energy a frame', svg, 'Shorter is better; idle power is in it.')


def _figure(heading: str, svg: str, caption: str) -> str:
    return (f'<h2>{_safe(heading)}</h2>\n<figure>{svg}<figcaption>{_safe(caption)}</figcaption>'
            '</figure>')


def _safe(text: str) -> str:
    return html.escape(text, quote=True)
