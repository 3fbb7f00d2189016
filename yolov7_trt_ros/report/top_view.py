"""Format a snapshot of `top` as lines of text, each with its kind of line."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import math
from typing import Literal

from yolov7_trt_ros.core.plain_text import printable
from yolov7_trt_ros.report.top_model import (
    CameraRow,
    DetectionsRow,
    NodeRow,
    POWER_NUMBERS,
    PowerRow,
    SILENT_S,
    SPARK_S,
    TopSnapshot,
)

BLOCKS = '▁▂▃▄▅▆▇█'
ASCII_BLOCKS = '.:-=+*#@'
LEAST_WIDTH = 40
_LEVELS = ('ok', 'WARN', 'ERROR', 'STALE')
_COUNTS = ('processed', 'dropped', 'failed', 'lost')
_LONGEST_NAME = 40

LineKind = Literal['title', 'head', 'plain', 'warn', 'error']


@dataclasses.dataclass(frozen=True)
class Line:
    """One line; `kind` decides how it looks on a terminal."""

    text: str
    kind: LineKind = 'plain'


def render(
    snapshot: TopSnapshot, title: str, *, width: int = 120, blocks: str = BLOCKS
) -> list[Line]:
    """
    Return a snapshot as lines of at most `width` characters.

    Parameters
    ----------
    snapshot
        What is shown.
    title
        First line.
    width
        Columns of the terminal.
    blocks
        Characters of a sparkline, lowest first.

    """
    lines = [Line(title, 'title')]
    if snapshot.is_empty:
        lines += [Line(''), Line('Nothing heard yet: is a detector or power node running here?')]
    parts = (_nodes(snapshot.nodes), _cameras(snapshot.cameras),
             _detections(snapshot.detections, blocks), _power(snapshot.power, blocks))
    for part in parts:
        if part:
            lines += [Line(''), *part]
    most = max(width, LEAST_WIDTH)
    return [Line(_shortened(printable(line.text), most), line.kind) for line in lines]


def sparkline(values: Sequence[float | None], blocks: str = BLOCKS) -> str:
    """Return a character for each value, from 0 to the largest; a space for None."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    largest = max(known, default=0.0)
    marks = []
    for value in values:
        if value is None or not math.isfinite(value):
            marks.append(' ')
        else:
            part = max(0.0, value) / largest if largest > 0 else 0.0
            marks.append(blocks[min(len(blocks) - 1, int(part * len(blocks)))])
    return ''.join(marks)


def _nodes(rows: Sequence[NodeRow]) -> list[Line]:
    if not rows:
        return []
    width = _width('node', [row.name for row in rows])
    lines = [Line(f'{"node":<{width}}  level  says', 'head')]
    for row in rows:
        level, kind = _level(row.level, row.age_s)
        lines.append(Line(
            f'{_cell(row.name, width)}  {level:<5}  {_said(row.message, row.age_s)}', kind))
    return lines


def _cameras(rows: Sequence[CameraRow]) -> list[Line]:
    if not rows:
        return []
    width = _width('image topic', [row.topic for row in rows])
    counts = ''.join(f'{name:>11}' for name in _COUNTS)
    lines = [Line(f'{"image topic":<{width}}   in Hz  out Hz{counts}   p50 ms   p99 ms', 'head')]
    for row in rows:
        level, kind = _level(row.level, row.age_s)
        numbers = ''.join(
            f'{row.counts[name]:>11}' if name in row.counts else f'{"-":>11}' for name in _COUNTS
        )
        said = '' if kind == 'plain' else f'  {level}: {_said(row.message, row.age_s)}'
        lines.append(Line(
            f'{_cell(row.topic, width)}{_right(row.in_hz, 8)}{_right(row.out_hz, 8)}{numbers}'
            f'{_right(row.p50_ms, 9)}{_right(row.p99_ms, 9)}{said}', kind))
    return lines


def _detections(rows: Sequence[DetectionsRow], blocks: str) -> list[Line]:
    if not rows:
        return []
    width = _width('detections', [row.topic for row in rows])
    spark = f'largest, last {SPARK_S} s'
    lines = [Line(
        f'{"detections":<{width}}      Hz  latency ms  {spark:<{SPARK_S}}  found a frame', 'head')]
    for row in rows:
        classes = ', '.join(f'{name} {_few(count)}' for name, count in row.classes) or '-'
        lines.append(Line(
            f'{_cell(row.topic, width)}{_right(row.rate_hz, 8)}{_right(row.latency_ms, 12)}  '
            f'{sparkline(row.history_ms, blocks)}  {classes}'))
    return lines


def _power(rows: Sequence[PowerRow], blocks: str) -> list[Line]:
    if not rows:
        return []
    width = _width('power', [row.node for row in rows])
    spark = f'watts, last {SPARK_S} s'
    lines = [Line(f'{"power":<{width}}       W   GPU %       C  J/frame  {spark}', 'head')]
    for row in rows:
        watts, load, celsius, joules = (row.numbers.get(name) for name in POWER_NUMBERS)
        lines.append(Line(
            f'{_cell(row.node, width)}{_right(watts, 8)}{_right(load, 8, 0)}{_right(celsius, 8)}'
            f'{_right(joules, 9, 3)}  {sparkline(row.history_w, blocks)}'.rstrip()))
    return lines


def _level(level: int, age_s: float) -> tuple[str, LineKind]:
    """Return a diagnostic level as a word and a kind of line; silence is a warning."""
    word = _LEVELS[level] if 0 <= level < len(_LEVELS) else str(level)
    if level >= 2:
        return word, 'error'
    if level == 1 or age_s > SILENT_S:
        return (word if level else 'WARN'), 'warn'
    return word, 'plain'


def _said(message: str, age_s: float) -> str:
    return f'silent for {age_s:.0f} s; last: {message}' if age_s > SILENT_S else message


def _right(value: float | None, width: int, digits: int = 1) -> str:
    known = value is not None and math.isfinite(value)
    return f'{value:{width}.{digits}f}' if known else f'{"-":>{width}}'


def _few(count: float) -> str:
    return f'{count:.1f}' if count >= 0.05 else '<0.1'


def _width(head: str, names: Sequence[str]) -> int:
    return min(_LONGEST_NAME, max(len(head), *(len(name) for name in names)))


def _cell(name: str, width: int) -> str:
    """Return a name padded to its column; of a long one only the end, where names differ."""
    return f'{name:<{width}}' if len(name) <= width else f'…{name[len(name) - width + 1:]}'


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f'{text[: most - 1]}…'
