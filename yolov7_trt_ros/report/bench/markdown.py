"""A benchmark as Markdown, and the list of tables for Markdown and page."""

from __future__ import annotations

from yolov7_trt_ros.core.plain_text import printable
from yolov7_trt_ros.report.bench.context import (
    how_table,
    missing_table,
    PROSE,
    warnings_of,
    where_table,
)
from yolov7_trt_ros.report.bench.row import Bench
from yolov7_trt_ros.report.bench.table import (
    BenchTable,
    energy_table,
    latency_table,
    summary_table,
    throughput_table,
)


def all_tables(bench: Bench) -> list[BenchTable]:
    """Return every table that has rows."""
    tables = [summary_table(bench), latency_table(bench), throughput_table(bench),
              energy_table(bench), missing_table(bench), where_table(bench), how_table(bench)]
    return [table for table in tables if table.rows]


def as_markdown(bench: Bench) -> str:
    """Return the benchmark as Markdown."""
    parts = [f'# {_escaped(bench.title)}']
    for table in all_tables(bench):
        parts += [f'## {table.title}', _markdown_table(table), *map(_escaped, table.notes)]
        if table.title == 'Summary':
            parts += [f'> Warning: {_escaped(text)}' for text in warnings_of(bench)]
            parts += [f'> {_escaped(note)}' for note in bench.notes]
    return '\n\n'.join(parts) + '\n'


def _markdown_table(table: BenchTable) -> str:
    text = table.title in PROSE
    rule = ['---'] + ['---' if text else '---:'] * (len(table.header) - 1)
    lines = [table.header, tuple(rule), *table.rows]
    return '\n'.join('| ' + ' | '.join(map(_escaped, line)) + ' |' for line in lines)


def _escaped(text: str) -> str:
    """Keep text inside its cell, from being read as HTML, and from acting upon a screen."""
    line = printable(' '.join(text.split()))
    return line.replace('&', '&amp;').replace('<', '&lt;').replace('|', '\\|')
