"""Tables about a benchmark: what is missing and why, where it ran, and its settings."""

from __future__ import annotations

from collections.abc import Sequence

from yolov7_trt_ros.report.accuracy.average_precision import few_images_note
from yolov7_trt_ros.report.bench.row import BatchResult, Bench, BenchRow
from yolov7_trt_ros.report.bench.table import ABSENT, BenchTable, labels_of, ran

PROSE = ('Where', 'How', 'Not measured')
"""Titles of the tables that hold text, not numbers."""


def missing_table(bench: Bench) -> BenchTable:
    """Return what was not measured, and why."""
    lines = [(row.name, 'everything', row.error) for row in bench.rows if row.error]
    names = labels_of(bench)
    for row in ran(bench):
        for result in row.batches:
            lines += [
                (names[id(row)], f'{what}, batch {result.batch}', why)
                for what, why in _reasons_of(result)
            ]
        if row.accuracy_error:
            lines.append((names[id(row)], 'AP', row.accuracy_error))
    return BenchTable('Not measured', ('row', 'what', 'why'), tuple(_unique(lines)))


def _reasons_of(result: BatchResult) -> list[tuple[str, str]]:
    """Return what is missing and why; network and end to end once if for the same reason."""
    found = {
        result.energy_error: 'energy',
        result.end_to_end_error: 'end to end',
        result.network_error: 'network',
    }
    if result.network_error == result.end_to_end_error:
        found[result.network_error] = 'network and end to end'
    return [(what, why) for why, what in reversed(found.items()) if why]


def _unique(lines: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Join rows that lack the same result for the same reason."""
    rows: dict[tuple[str, str], list[str]] = {}
    for name, what, why in lines:
        rows.setdefault((what, why), []).append(name)
    return [(', '.join(dict.fromkeys(names)), *key) for key, names in rows.items()]


def warnings_of(bench: Bench) -> list[str]:
    """Return warnings about the numbers: other work, few labelled images."""
    rows = ran(bench)
    busy: dict[str, list[str]] = {}
    for row in rows:
        busy.setdefault(row.where.busy, []).append(row.name)
    texts = [
        text if len(busy) == 1 else f'{", ".join(names)}: {text}'
        for text, names in busy.items() if text
    ]
    few = {few_images_note(row.accuracy.images) for row in rows if row.accuracy is not None}
    return texts + sorted(few - {''})


def where_table(bench: Bench) -> BenchTable:
    """Return where the rows ran, one line per place."""
    places: dict[str, tuple[BenchRow, list[str]]] = {}
    for row in bench.rows:
        places.setdefault(repr(row.where), (row, []))[1].append(row.name)
    lines = []
    for row, names in places.values():
        where = row.where
        facts = '; '.join(f'{name}: {value}' for name, value in where.facts.items())
        versions = ', '.join(f'{name} {value}' for name, value in where.versions.items())
        clocks = ', '.join(f'{name} {value:g}' for name, value in where.clocks_mhz.items())
        lines.append((', '.join(names), facts, versions, clocks or ABSENT, row.measured))
    return BenchTable(
        'Where', ('rows', 'machine', 'versions', 'clocks MHz before', 'measured'), tuple(lines)
    )


def how_table(bench: Bench) -> BenchTable:
    """Return the settings."""
    data = bench.rows[0].data if bench.rows else None
    lines = [(name, str(value)) for name, value in bench.settings.items()]
    if data is not None:
        lines.append(('pictures timed', f'{data.pictures} in turn, sha256 '
                      f'{data.pictures_sha256[:12]}'))
        if data.labelled:
            lines.append(('labelled images', f'{data.labelled}, sha256 {data.labels_sha256[:12]}'))
    networks = dict.fromkeys(
        f'{row.network_wh[0]} × {row.network_wh[1]}' for row in bench.rows if row.network_wh
    )
    if networks:
        lines.append(('network input', ', '.join(networks)))
    return BenchTable('How', ('setting', 'value'), tuple(lines))
