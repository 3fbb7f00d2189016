"""Load benchmarks from JSON and merge them."""

from __future__ import annotations

from collections.abc import Sequence
import json
from pathlib import Path
from typing import Any

from yolov7_trt_ros.errors import InputError
from yolov7_trt_ros.records import from_record, Limits
from yolov7_trt_ros.report.bench.row import Bench, BenchRow, FORMAT

_LIMITS = Limits(-10**15, 10**15, refuse_unknown=True)  # larger numbers cannot be drawn
_MOST_BYTES = 1 << 26


def load_bench(path: Path) -> Bench:
    """
    Read what `to_json` wrote.

    Raises
    ------
    InputError
        The file cannot be read or is not a benchmark.

    """
    try:
        with path.open('rb') as file:
            data = file.read(_MOST_BYTES + 1)  # a device has no end
        if len(data) > _MOST_BYTES:
            raise ValueError(f'larger than {_MOST_BYTES} bytes')
        record = json.loads(data)
        if isinstance(record, dict) and (found := record.pop('format', None)) != FORMAT:
            raise ValueError(f'expected format {FORMAT}, found {found!r:.40}')
        return from_record(Bench, record, 'the benchmark', _LIMITS)
    except OSError as exc:
        raise InputError(f'cannot read {path}: {exc.strerror}') from exc
    except (ValueError, RecursionError) as exc:
        raise InputError(
            f'{path} is not the JSON of a benchmark ({exc}); expected what '
            '`yolov7_trt bench ... -o FOLDER` writes as FOLDER/bench.json'
        ) from exc


def merge_benches(
    benches: Sequence[tuple[str, Bench]], title: str = '', notes: Sequence[str] = ()
) -> Bench:
    """
    Merge the rows of several benchmarks.

    A row that did not run is left out if one of the same name and file ran elsewhere.

    Parameters
    ----------
    benches
        Each with the name of its file, for messages.
    title, notes
        Title, by default that of the first; notes to add to theirs.

    Raises
    ------
    InputError
        Their pictures, labels, network sizes or settings differ: they are not comparable.

    """
    rows = [(file, row) for file, bench in benches for row in bench.rows]
    for what, key in _MUST_AGREE.items():
        _check_same(what, [(file, key(row)) for file, row in rows])
    for name in _MUST_AGREE_SETTINGS:
        _check_same(name, [(file, str(bench.settings.get(name, ''))) for file, bench in benches])
    ran = [row for _, row in rows if not row.error]
    kept = tuple(
        row for _, row in rows if not row.error or not any(_is_same(row, one) for one in ran)
    )
    first = benches[0][1]
    every_note = dict.fromkeys([*(note for _, bench in benches for note in bench.notes), *notes])
    return Bench(title or first.title, first.settings, kept, tuple(every_note))


def _is_same(failed: BenchRow, ran: BenchRow) -> bool:
    """Whether a row that did not run ran elsewhere; generated names have the precision then."""
    return failed.model == ran.model and set(failed.name.split()) <= set(ran.name.split())


_MUST_AGREE: dict[str, Any] = {
    'pictures': lambda row: f'{row.data.pictures} pictures, sha256 '
    f'{row.data.pictures_sha256[:12]}',
    'labelled images': lambda row: f'{row.data.labelled} labelled images, sha256 '
    f'{row.data.labels_sha256[:12]}' if row.accuracy else '',
    'network sizes': lambda row: '{} x {} pixels'.format(*row.network_wh)
    if row.network_wh and 'second look' not in row.facts else '',
}
"""What rows of one table must share; '' agrees with everything."""
_MUST_AGREE_SETTINGS = ('letterbox', 'latency settings', 'accuracy settings')


def _check_same(what: str, found: Sequence[tuple[str, str]]) -> None:
    known = [(file, value) for file, value in found if value]
    for file, value in known:
        if value != known[0][1]:
            raise InputError(
                f'rows of different {what} cannot be in one table: {known[0][0]} has '
                f'{known[0][1]}, {file} has {value}; measure them again with the same '
                'ones'
            )
