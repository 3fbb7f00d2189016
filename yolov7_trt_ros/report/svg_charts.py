"""Charts as SVG, without a library: bubbles on two axes, and bars with whiskers."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import math

from yolov7_trt_ros.report.page import safe
from yolov7_trt_ros.report.svg_parts import (
    as_svg,
    CHARACTER_PX,
    COLOURS,
    line,
    linear_range,
    linear_ticks,
    log_range,
    log_ticks,
    shortened,
    text,
    upright_text,
    WIDTH_PX,
)

_BUBBLES_HEIGHT_PX = 420
_MARGIN_LEFT, _MARGIN_RIGHT, _MARGIN_TOP, _MARGIN_BOTTOM = 64, 24, 20, 52
_LEAST_RADIUS, _LARGEST_RADIUS = 6.0, 34.0
_LABEL_WIDTH = 260
_LABEL_CHARACTERS = int((_LABEL_WIDTH - 16) / CHARACTER_PX)
_BARS_RIGHT = WIDTH_PX - 150
_LARGEST_RATIO = 40.0
_BAR_HEIGHT, _BAR_GAP, _GROUP_GAP = 15, 3, 12
_DOT_PX = 5.0
_SHIFTS_PX = tuple(sorted(range(-90, 91, 5), key=lambda shift: (abs(shift), -shift)))
"""Of a name, down from the middle of its circle: the nearest first."""
_Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclasses.dataclass(frozen=True)
class Bubble:
    """A point with a name and, if known, a size shown as its area."""

    name: str
    x: float
    y: float
    size: float | None = None
    tooltip: str = ''


@dataclasses.dataclass(frozen=True)
class Bar:
    """
    A bar, with marks for larger percentiles where there are any.

    Attributes
    ----------
    kind
        What it shows; bars of a kind share a colour.
    value
        Its length.
    marks
        Further values at which the whisker has a stroke, ascending.
    label
        Text after it.

    """

    kind: str
    value: float
    marks: tuple[float, ...] = ()
    label: str = ''


def bubbles(
    points: Sequence[Bubble], *, x_label: str, y_label: str, title: str
) -> str:
    """
    Return a chart of points on a logarithmic x axis and a linear y axis.

    Parameters
    ----------
    points
        x above 0; at least one.
    x_label, y_label
        Of the axes.
    title
        For screen readers.

    """
    x_low, x_high = log_range([point.x for point in points])
    y_low, y_high = linear_range([point.y for point in points])
    bottom = _BUBBLES_HEIGHT_PX - _MARGIN_BOTTOM
    right = WIDTH_PX - _MARGIN_RIGHT

    def at_x(value: float) -> float:
        part = math.log(value / x_low) / math.log(x_high / x_low)
        return _MARGIN_LEFT + part * (right - _MARGIN_LEFT)

    def at_y(value: float) -> float:
        return bottom - (value - y_low) / (y_high - y_low) * (bottom - _MARGIN_TOP)

    parts = []
    for tick in log_ticks(x_low, x_high):
        x = at_x(tick)
        parts += [line(x, _MARGIN_TOP, x, bottom, 'grid'),
                  text(x, bottom + 18, f'{tick:g}', 'tick', 'middle')]
    for tick in linear_ticks(y_low, y_high):
        y = at_y(tick)
        parts += [line(_MARGIN_LEFT, y, right, y, 'grid'),
                  text(_MARGIN_LEFT - 8, y + 4, f'{tick:g}', 'tick', 'end')]
    parts += [text((_MARGIN_LEFT + right) / 2, bottom + 40, x_label, 'axis', 'middle'),
              upright_text(18, (bottom + _MARGIN_TOP) / 2, y_label)]
    placed = [(at_x(point.x), at_y(point.y)) for point in points]
    parts += _circles(points, placed)
    return as_svg(WIDTH_PX, _BUBBLES_HEIGHT_PX, title, parts)


def _circles(points: Sequence[Bubble], placed: Sequence[tuple[float, float]]) -> list[str]:
    """Return circles, the largest below, and their names where they do not cover each other."""
    largest = max((point.size or 0.0 for point in points), default=0.0)
    order = sorted(range(len(points)), key=lambda index: -(points[index].size or 0.0))
    parts = []
    for index in order:
        x, y = placed[index]
        radius = _radius(points[index].size, largest)
        colour = COLOURS[index % len(COLOURS)]
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{colour}" '
            f'fill-opacity="0.35" stroke="{colour}" stroke-width="1.5">'
            f'<title>{safe(points[index].tooltip or points[index].name)}</title></circle>'
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>'
        )
    return parts + _names(points, placed, largest)


def _names(
    points: Sequence[Bubble], placed: Sequence[tuple[float, float]], largest: float
) -> list[str]:
    """Return the names beside their circles: on no other name, and if possible no circle."""
    parts: list[str] = []
    radii = [_radius(point.size, largest) for point in points]
    names: list[_Box] = []
    for index, (x, y) in sorted(enumerate(placed), key=lambda item: item[1][1]):
        name, radius = points[index].name, radii[index]
        width = len(name) * CHARACTER_PX
        others = [each for each in range(len(points)) if each != index]
        boxes = [
            (left, y + shift - 8, left + width, y + shift + 7)
            for shift in _SHIFTS_PX
            for left in (x + radius + 6, x - radius - 6 - width)
            if left >= 4 and left + width <= WIDTH_PX - 4
        ] or [(4, y - 8, 4 + width, y + 7)]
        circles = [_around(*placed[other], radii[other]) for other in others]
        dots = [_around(*placed[other], _DOT_PX) for other in others]
        box = _first_free(boxes, [*names, *circles]) or _first_free(boxes, [*names, *dots])
        box = box or boxes[0]
        names.append(box)
        left, top, right, low = box
        if abs(top + 8 - y) > 8:
            parts.append(line(x, y, left if left > x else right, low - 7, 'leader'))
        parts.append(text(left, low - 3, name, 'name', 'start'))
    return parts


def _around(x: float, y: float, radius: float) -> _Box:
    return x - radius, y - radius, x + radius, y + radius


def _first_free(boxes: Sequence[_Box], taken: Sequence[_Box]) -> _Box | None:
    return next((box for box in boxes if not any(_overlap(box, one) for one in taken)), None)


def _overlap(one: _Box, other: _Box) -> bool:
    return (one[0] < other[2] and other[0] < one[2]) and (one[1] < other[3] and other[1] < one[3])


def _radius(size: float | None, largest: float) -> float:
    if size is None or size <= 0.0 or largest <= 0.0:
        return _LEAST_RADIUS
    return max(_LEAST_RADIUS, _LARGEST_RADIUS * math.sqrt(size / largest))


def bars(groups: Sequence[tuple[str, Sequence[Bar]]], *, title: str, unit: str) -> str:
    """
    Return horizontal bars, a group for each name.

    Parameters
    ----------
    groups
        Name and its bars.
    title
        For screen readers.
    unit
        Text below the axis; the axis is logarithmic if the shortest bar would vanish.

    """
    kinds = list(dict.fromkeys(bar.kind for _, group in groups for bar in group))
    axis = _bar_axis([bar for _, group in groups for bar in group])
    y, parts = 30.0, _legend(kinds)
    top = y
    for name, group in groups:
        height = len(group) * (_BAR_HEIGHT + _BAR_GAP)
        label = shortened(name, _LABEL_CHARACTERS)
        parts.append(text(_LABEL_WIDTH - 10, y + height / 2 + 3, label, 'name', 'end', name))
        for bar in group:
            parts += _bar(bar, y, axis, COLOURS[kinds.index(bar.kind) % len(COLOURS)])
            y += _BAR_HEIGHT + _BAR_GAP
        y += _GROUP_GAP
    grid = []
    for tick in axis.ticks:
        x = axis.at(tick)
        grid += [line(x, top - 4, x, y - 4, 'grid'),
                 text(x, y + 12, f'{tick:g}', 'tick', 'middle')]
    under = f'{unit} (logarithmic)' if axis.is_log else unit
    grid.append(text((_LABEL_WIDTH + _BARS_RIGHT) / 2, y + 32, under, 'axis', 'middle'))
    return as_svg(WIDTH_PX, y + 42, title, grid + parts)


@dataclasses.dataclass(frozen=True)
class _BarAxis:
    """Where values lie across the chart."""

    low: float
    high: float
    is_log: bool
    ticks: Sequence[float]

    def at(self, value: float) -> float:
        """Return the x of a value, px."""
        if self.is_log:
            part = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            part = value / self.high
        return _LABEL_WIDTH + part * (_BARS_RIGHT - _LABEL_WIDTH)


def _bar_axis(found: Sequence[Bar]) -> _BarAxis:
    largest = max((max(bar.value, *bar.marks) if bar.marks else bar.value for bar in found),
                  default=0.0) or 1.0
    least = min((bar.value for bar in found if bar.value > 0), default=largest)
    if largest / least > _LARGEST_RATIO:
        low, high = least / 2, largest * 1.05
        return _BarAxis(low, high, True, log_ticks(low, high))
    return _BarAxis(0.0, largest * 1.02, False, linear_ticks(0.0, largest))


def _bar(bar: Bar, y: float, axis: _BarAxis, colour: str) -> list[str]:
    middle, end = y + _BAR_HEIGHT / 2, axis.at(bar.value)
    parts = [
        f'<rect x="{_LABEL_WIDTH}" y="{y:.1f}" width="{max(1.0, end - _LABEL_WIDTH):.1f}" '
        f'height="{_BAR_HEIGHT}" rx="2" fill="{colour}" fill-opacity="0.8">'
        f'<title>{safe(bar.label or bar.kind)}</title></rect>'
    ]
    for mark in bar.marks:
        x = axis.at(mark)
        parts += [line(end, middle, x, middle, 'whisker'),
                  line(x, middle - 4, x, middle + 4, 'whisker')]
        end = max(end, x)
    return [*parts, text(end + 6, middle + 4, bar.label, 'value', 'start')]


def _legend(kinds: Sequence[str]) -> list[str]:
    parts, x = [], float(_LABEL_WIDTH)
    for index, kind in enumerate(kinds):
        colour = COLOURS[index % len(COLOURS)]
        parts += [f'<rect x="{x:.0f}" y="4" width="12" height="12" rx="2" fill="{colour}"/>',
                  text(x + 18, 14, kind, 'value', 'start')]
        x += 40 + len(kind) * CHARACTER_PX
    return parts
