"""A benchmark's JSON read back, and several of them joined."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import json
from pathlib import Path
from typing import Any, TypeVar

from yolov7_trt_ros.core.latency import Percentiles
from yolov7_trt_ros.errors import InputError
from yolov7_trt_ros.report.bench.row import (
    Accuracy,
    BatchResult,
    Bench,
    BenchRow,
    Data,
    Energy,
    FORMAT,
    Speed,
    Where,
)

T = TypeVar('T')


def load_bench(path: Path) -> Bench:
    """
    Read what `to_json` wrote.

    Raises
    ------
    InputError
        The file cannot be read or holds no benchmark.

    """
    try:
        return bench_from_record(json.loads(path.read_bytes()))
    except OSError as exc:
        raise InputError(f'cannot read {path}: {exc.strerror}') from exc
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as exc:
        raise InputError(
            f'{path} is not the JSON of a benchmark ({exc!r}); expected what '
            '`yolov7_trt bench ... -o FOLDER` writes as FOLDER/bench.json'
        ) from exc


def bench_from_record(record: Mapping[str, Any]) -> Bench:
    """
    Return the benchmark of a record.

    Raises
    ------
    LookupError, TypeError, ValueError, AttributeError
        It is none.

    """
    if record['format'] != FORMAT:
        raise ValueError(f'format {record["format"]!r}, known is {FORMAT}')
    rows = tuple(_row(row) for row in record['rows'])
    notes = tuple(str(note) for note in record['notes'])
    return Bench(str(record['title']), dict(record['settings']), rows, notes)


def _row(record: Mapping[str, Any]) -> BenchRow:
    network_wh = record['network_wh']
    return _make(BenchRow, {
        **record,
        'where': _make(Where, record['where']),
        'data': _make(Data, record['data']),
        'network_wh': None if network_wh is None else (int(network_wh[0]), int(network_wh[1])),
        'batches': tuple(_batch(batch) for batch in record['batches']),
        'accuracy': None if record['accuracy'] is None else _make(Accuracy, record['accuracy']),
    })


def _batch(record: Mapping[str, Any]) -> BatchResult:
    energy = record['energy']
    return _make(BatchResult, {
        **record,
        'network': _speed(record['network']),
        'end_to_end': _speed(record['end_to_end']),
        'energy': None if energy is None
        else _make(Energy, {**energy, 'rails': tuple(energy['rails'])}),
    })


def _speed(record: Mapping[str, Any] | None) -> Speed | None:
    if record is None:
        return None
    return _make(Speed, {**record, 'latency_ms': _percentiles(record['latency_ms'])})


def _percentiles(record: Mapping[str, Any]) -> Percentiles:
    values = {key: value for key, value in record.items() if key != 'max'}
    return _make(Percentiles, {**values, 'largest': record.get('max', 0.0)})


def _make(kind: Callable[..., T], values: Mapping[str, Any]) -> T:
    """Make one of our values, whose plain fields hold what they say; raises TypeError."""
    made = kind(**values)
    for field in dataclasses.fields(made):  # type: ignore[arg-type]
        holds = _PLAIN.get(str(field.type))
        value = getattr(made, field.name)
        if holds is not None and not holds(value):
            raise TypeError(f'{field.name} must be {field.type}, got {_short(value)}')
    return made


def _short(value: object) -> str:
    try:
        return repr(value)[:80]
    except ValueError:  # an integer of thousands of digits
        return f'a large {type(value).__name__}'


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    """Whether it is one that can be shown: JSON of Python may hold NaN, and integers any size."""
    return isinstance(value, (int, float)) and abs(value) <= _LARGEST


def _is_mapping(value: Any, holds: Callable[[Any], bool]) -> bool:
    return isinstance(value, dict) and all(map(holds, value.values()))


_LARGEST = 1e15
_PLAIN: dict[str, Callable[[Any], bool]] = {
    'str': _is_text, 'int': lambda value: isinstance(value, int) and _is_number(value),
    'float': _is_number, 'float | None': lambda value: value is None or _is_number(value),
    'tuple[str, ...]': lambda value: all(map(_is_text, value)),
    'Mapping[str, str]': lambda value: _is_mapping(value, _is_text),
    'Mapping[str, float]': lambda value: _is_mapping(value, _is_number),
}


def merge_benches(
    benches: Sequence[tuple[str, Bench]], title: str = '', notes: Sequence[str] = ()
) -> Bench:
    """
    Put the rows of several benchmarks into one.

    A row that did not run is left out where one of the same name and file did elsewhere.

    Parameters
    ----------
    benches
        Each with the name of its file, for messages.
    title, notes
        That of the first, if empty; sentences to add to theirs.

    Raises
    ------
    InputError
        Their pictures, labels, network sizes or settings differ: their numbers do not compare.

    """
    rows = [(file, row) for file, bench in benches for row in bench.rows]
    for what, key in _MUST_AGREE.items():
        _check_same(what, [(file, key(row)) for file, row in rows])
    for name in _MUST_AGREE_SETTINGS:
        _check_same(name, [(file, str(bench.settings.get(name, ''))) for file, bench in benches])
    ran = [row for _, row in rows if not row.why_not]
    kept = tuple(
        row for _, row in rows if not row.why_not or not any(_is_same(row, one) for one in ran)
    )
    first = benches[0][1]
    told = dict.fromkeys([*(note for _, bench in benches for note in bench.notes), *notes])
    return Bench(title or first.title, first.settings, kept, tuple(told))


def _is_same(failed: BenchRow, ran: BenchRow) -> bool:
    """Whether a row that did not run ran elsewhere; names made here have the precision then."""
    return failed.model == ran.model and set(failed.name.split()) <= set(ran.name.split())


_MUST_AGREE: dict[str, Any] = {
    'pictures': lambda row: f'{row.data.pictures} pictures, sha256 '
    f'{row.data.pictures_sha256[:12]}',
    'labelled images': lambda row: f'{row.data.labelled} labelled images, sha256 '
    f'{row.data.labels_sha256[:12]}' if row.accuracy else '',
    'network sizes': lambda row: '{} x {} pixels'.format(*row.network_wh)
    if row.network_wh else '',
}
"""What rows of one table must share; '' agrees with everything."""
_MUST_AGREE_SETTINGS = ('letterbox', 'latency settings', 'accuracy settings')


def _check_same(what: str, found: Sequence[tuple[str, str]]) -> None:
    told = [(file, value) for file, value in found if value]
    for file, value in told:
        if value != told[0][1]:
            raise InputError(
                f'rows of different {what} do not stand in one table: {told[0][0]} has '
                f'{told[0][1]}, {file} has {value}; measure them again with the same '
                'ones'
            )
