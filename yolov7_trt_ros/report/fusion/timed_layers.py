"""The time of each layer of an engine, matched with the layers."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
import dataclasses
from pathlib import Path
from typing import Any

from yolov7_trt_ros.errors import ModelFormatError
from yolov7_trt_ros.report.fusion.engine_layers import (
    CONVOLUTION,
    EngineLayer,
    OTHER,
    read_json,
    REGION,
)

UNKNOWN = 'not among the layers'
_TIMES = ('medianMs', 'averageMs')


@dataclasses.dataclass(frozen=True)
class TimedLayer:
    """Milliseconds of a layer; `layer` is None if no layer has that name."""

    name: str
    time_ms: float
    layer: EngineLayer | None

    @property
    def label(self) -> str:
        """Return what sort of layer it is, and in which precision: `convolution Int8`."""
        if self.layer is None:
            return UNKNOWN
        kind = self.layer.kind
        if kind not in (CONVOLUTION, OTHER, REGION):  # those that compute
            return kind
        sort = self.layer.layer_type if kind == OTHER and self.layer.layer_type else kind
        return f'{sort} {self.layer.precision}'.strip()


@dataclasses.dataclass(frozen=True)
class TimedLayers:
    """
    Times of all layers of an engine.

    Attributes
    ----------
    conditions
        What is known of the run: `shape`, `runs`, `network_ms`.

    """

    layers: tuple[TimedLayer, ...]
    conditions: Mapping[str, Any]

    @property
    def total_ms(self) -> float:
        """Sum over the layers: more than they take together without a profiler."""
        return sum(each.time_ms for each in self.layers)

    def by_label(self) -> dict[str, tuple[int, float]]:
        """Return number and milliseconds of each sort of layer, the slowest sort first."""
        groups: dict[str, list[float]] = collections.defaultdict(list)
        for each in self.layers:
            groups[each.label].append(each.time_ms)
        sums = {label: (len(times), sum(times)) for label, times in groups.items()}
        return dict(sorted(sums.items(), key=lambda item: -item[1][1]))

    def slowest(self, count: int) -> list[TimedLayer]:
        """Return the slowest layers, the slowest first."""
        return sorted(self.layers, key=lambda each: -each.time_ms)[:count]

    def of(self, layer: EngineLayer) -> float | None:
        """Return the milliseconds of a layer; None if it was not timed."""
        return next((each.time_ms for each in self.layers if each.layer is layer), None)

    def to_record(self) -> dict[str, Any]:
        """Return it JSON-ready."""
        return {
            **self.conditions, 'total_ms': round(self.total_ms, 4),
            'by_kind': {label: {'layers': count, 'ms': round(time_ms, 4)}
                        for label, (count, time_ms) in self.by_label().items()},
        }


def match_times(record: Mapping[str, Any], layers: Sequence[EngineLayer]) -> TimedLayers:
    """
    Put times beside layers of the same name; several of one name go in their order.

    Parameters
    ----------
    record
        `layers`, a list of dicts with `name` and `medianMs` or `averageMs` as trtexec writes
        them; the rest is kept as conditions.
    layers
        Those of the engine that was timed.

    Raises
    ------
    ModelFormatError
        It is something else.

    """
    waiting: dict[str, list[EngineLayer]] = collections.defaultdict(list)
    for layer in reversed(layers):
        waiting[layer.name].append(layer)
    timed = []
    for name, time_ms in map(_name_and_time, _entries(record)):
        same = waiting.get(name)
        timed.append(TimedLayer(name, time_ms, same.pop() if same else None))
    conditions = {key: value for key, value in record.items() if key != 'layers'}
    return TimedLayers(tuple(timed), conditions)


def describe_run(times: TimedLayers) -> str:
    """Return sum and conditions in one line."""
    conditions = times.conditions
    parts = [f'{times.total_ms:.3f} ms in {len(times.layers)} layers']
    if isinstance(conditions.get('network_ms'), (int, float)):
        parts.append(f'{conditions["network_ms"]:.3f} ms without the profiler')
    if 'shape' in conditions:
        parts.append(str(conditions['shape']))
    if 'runs' in conditions:
        parts.append(f'{conditions["runs"]} runs')
    return ', '.join(parts)


def load_profile(path: Path) -> dict[str, Any]:
    """
    Read what `trtexec --exportProfile` writes, in the form that `match_times` takes.

    Raises
    ------
    ModelNotFoundError
        It cannot be read.
    ModelFormatError
        It is not such a file.

    """
    entries = read_json(path, 'profile', _EXPECTED)
    if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        raise ModelFormatError(f'{path} is no list of layers; {_EXPECTED}')
    runs = [each['count'] for each in entries if isinstance(each.get('count'), int)]
    record: dict[str, Any] = {'runs': runs[0]} if runs else {}
    record['layers'] = [each for each in entries if 'name' in each]
    for entry in _entries(record):
        _name_and_time(entry)
    return record


_LONGEST_MS = 1e9
_EXPECTED = 'expected what trtexec --exportProfile writes'


def _entries(record: Mapping[str, Any]) -> list[Any]:
    entries = record.get('layers')
    if not isinstance(entries, list) or not entries:
        raise ModelFormatError(f'the times of layers have no list "layers"; {_EXPECTED}')
    return entries


def _is_time(value: object) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return 0 <= value <= _LONGEST_MS  # refuses NaN


def _name_and_time(entry: Any) -> tuple[str, float]:
    times = [entry[key] for key in _TIMES if key in entry] if isinstance(entry, dict) else []
    if not times or 'name' not in entry or not _is_time(times[0]):
        raise ModelFormatError(
            f'no name and {" or ".join(_TIMES)} in {str(entry)[:80]}; {_EXPECTED}'
        )
    return str(entry['name']), float(times[0])
