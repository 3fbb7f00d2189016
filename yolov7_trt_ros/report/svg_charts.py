"""Charts as SVG text, with no library: bubbles on two axes, and bars with whiskers."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import html
import math

WIDTH_PX = 900
_BUBBLES_HEIGHT_PX = 420
_MARGIN_LEFT, _MARGIN_RIGHT, _MARGIN_TOP, _MARGIN_BOTTOM = 64, 24, 20, 52
_LEAST_RADIUS, _LARGEST_RADIUS = 6.0, 34.0
_LABEL_WIDTH = 260
_BARS_RIGHT = WIDTH_PX - 150
_LARGEST_RATIO = 40.0
_BAR_HEIGHT, _BAR_GAP, _GROUP_GAP = 15, 3, 12
_CHARACTER_PX = 6.7
_DOT_PX = 5.0
_SHIFTS_PX = tuple(sorted(range(-90, 91, 5), key=lambda shift: (abs(shift), -shift)))
"""Of a name, down from the middle of its circle: the nearest first."""
_Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""
COLOURS = ('#3b7dd8', '#e07b39', '#3a9e6e', '#c2477f', '#8a63c9', '#a58a1e', '#2a9fb0', '#808793')
"""Told apart on light and on dark ground; used again after the last."""


@dataclasses.dataclass(frozen=True)
class Bubble:
    """A point with a name and, where it is known, a size that its area shows."""

    name: str
    x: float
    y: float
    size: float | None = None
    told: str = ''
    """Shown where the pointer rests."""


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
    told
        Text behind it.

    """

    kind: str
    value: float
    marks: tuple[float, ...] = ()
    told: str = ''


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
    x_low, x_high = _log_range([point.x for point in points])
    y_low, y_high = _linear_range([point.y for point in points])
    bottom = _BUBBLES_HEIGHT_PX - _MARGIN_BOTTOM
    right = WIDTH_PX - _MARGIN_RIGHT

    def at_x(value: float) -> float:
        part = math.log(value / x_low) / math.log(x_high / x_low)
        return _MARGIN_LEFT + part * (right - _MARGIN_LEFT)

    def at_y(value: float) -> float:
        return bottom - (value - y_low) / (y_high - y_low) * (bottom - _MARGIN_TOP)

    parts = []
    for tick in _log_ticks(x_low, x_high):
        x = at_x(tick)
        parts += [_line(x, _MARGIN_TOP, x, bottom, 'grid'),
                  _text(x, bottom + 18, f'{tick:g}', 'tick', 'middle')]
    for tick in _linear_ticks(y_low, y_high):
        y = at_y(tick)
        parts += [_line(_MARGIN_LEFT, y, right, y, 'grid'),
                  _text(_MARGIN_LEFT - 8, y + 4, f'{tick:g}', 'tick', 'end')]
    parts += [_text((_MARGIN_LEFT + right) / 2, bottom + 40, x_label, 'axis', 'middle'),
              _upright(18, (bottom + _MARGIN_TOP) / 2, y_label)]
    placed = [(at_x(point.x), at_y(point.y)) for point in points]
    parts += _circles(points, placed)
    return _svg(WIDTH_PX, _BUBBLES_HEIGHT_PX, title, parts)


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
            f'<title>{_safe(points[index].told or points[index].name)}</title></circle>'
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
        width = len(name) * _CHARACTER_PX
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
            parts.append(_line(x, y, left if left > x else right, low - 7, 'leader'))
        parts.append(_text(left, low - 3, name, 'name', 'start'))
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
        Below the axis; that is logarithmic, and says so, where the shortest bar would vanish.

    """
    kinds = list(dict.fromkeys(bar.kind for _, group in groups for bar in group))
    axis = _bar_axis([bar for _, group in groups for bar in group])
    y, parts = 30.0, _legend(kinds)
    top = y
    for name, group in groups:
        height = len(group) * (_BAR_HEIGHT + _BAR_GAP)
        parts.append(_text(_LABEL_WIDTH - 10, y + height / 2 + 3, _shortened(name), 'name', 'end',
                           told=name))
        for bar in group:
            parts += _bar(bar, y, axis, COLOURS[kinds.index(bar.kind) % len(COLOURS)])
            y += _BAR_HEIGHT + _BAR_GAP
        y += _GROUP_GAP
    grid = []
    for tick in axis.ticks:
        x = axis.at(tick)
        grid += [_line(x, top - 4, x, y - 4, 'grid'),
                 _text(x, y + 12, f'{tick:g}', 'tick', 'middle')]
    under = f'{unit} (logarithmic)' if axis.is_log else unit
    grid.append(_text((_LABEL_WIDTH + _BARS_RIGHT) / 2, y + 32, under, 'axis', 'middle'))
    return _svg(WIDTH_PX, y + 42, title, grid + parts)


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
        return _BarAxis(low, high, True, _log_ticks(low, high))
    return _BarAxis(0.0, largest * 1.02, False, _linear_ticks(0.0, largest))


def _bar(bar: Bar, y: float, axis: _BarAxis, colour: str) -> list[str]:
    middle, end = y + _BAR_HEIGHT / 2, axis.at(bar.value)
    parts = [
        f'<rect x="{_LABEL_WIDTH}" y="{y:.1f}" width="{max(1.0, end - _LABEL_WIDTH):.1f}" '
        f'height="{_BAR_HEIGHT}" rx="2" fill="{colour}" fill-opacity="0.8">'
        f'<title>{_safe(bar.told or bar.kind)}</title></rect>'
    ]
    for mark in bar.marks:
        x = axis.at(mark)
        parts += [_line(end, middle, x, middle, 'whisker'),
                  _line(x, middle - 4, x, middle + 4, 'whisker')]
        end = max(end, x)
    return [*parts, _text(end + 6, middle + 4, bar.told, 'value', 'start')]


def _legend(kinds: Sequence[str]) -> list[str]:
    parts, x = [], float(_LABEL_WIDTH)
    for index, kind in enumerate(kinds):
        colour = COLOURS[index % len(COLOURS)]
        parts += [f'<rect x="{x:.0f}" y="4" width="12" height="12" rx="2" fill="{colour}"/>',
                  _text(x + 18, 14, kind, 'value', 'start')]
        x += 40 + len(kind) * _CHARACTER_PX
    return parts


# ---- axes


def _log_range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = max(1.35, (high / low) ** 0.15)
    return low / room, high * room


def _log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten, finer ones where that gives less than three."""
    for steps in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8), tuple(i / 10 for i in range(10, 100))):
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [step * 10.0**decade for decade in decades for step in steps]
        found = [float(f'{tick:.6g}') for tick in ticks if low <= tick <= high]
        if len(found) >= 3:
            return found[:: max(1, len(found) // 8)]
    return [low, high]


def _linear_range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = max((high - low) * 0.25, abs(high) * 0.02, 1e-6)
    return low - room, high + room


def _linear_ticks(low: float, high: float) -> list[float]:
    """Return about five round numbers within a range."""
    raw = (high - low) / 5 or 1.0
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first + 1
    return [float(f'{(first + index) * step:.10g}') for index in range(count)]


# ---- text of SVG


def _svg(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    body = '\n'.join(parts)
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'xmlns="http://www.w3.org/2000/svg"><title>{_safe(title)}</title>\n{body}\n</svg>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return (f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')


def _text(x: float, y: float, text: str, kind: str, anchor: str, told: str = '') -> str:
    full = f'<title>{_safe(told)}</title>' if told else ''
    return (f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
            f'{_safe(text)}{full}</text>')


def _upright(x: float, y: float, text: str) -> str:
    return (f'<text class="axis" text-anchor="middle" '
            f'transform="translate({x:.1f} {y:.1f}) rotate(-90)">{_safe(text)}</text>')


def _shortened(name: str) -> str:
    most = int((_LABEL_WIDTH - 16) / _CHARACTER_PX)
    return name if len(name) <= most else f'{name[: most - 1]}…'


def _safe(text: str) -> str:
    return html.escape(text, quote=True)
