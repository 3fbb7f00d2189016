"""Elements of SVG charts, without a library: axes, lines and texts."""

from __future__ import annotations

from collections.abc import Sequence
import math

from yolov7_trt_ros.report.page import safe

WIDTH_PX = 900
CHARACTER_PX = 7.0
"""Mean width of a character of the texts."""
COLOURS = ('#3b7dd8', '#e07b39', '#3a9e6e', '#c2477f', '#8a63c9', '#a58a1e', '#2a9fb0', '#808793')
"""Distinguishable on light and dark ground; reused after the last."""


def log_range(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of a logarithmic axis, with room around the values, which are above 0."""
    low, high = min(values), max(values)
    room = max(1.35, (high / low) ** 0.15)
    return low / room, high * room


def log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten, or finer ticks if that gives less than three."""
    for steps in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8), tuple(i / 10 for i in range(10, 100))):
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [step * 10.0**decade for decade in decades for step in steps]
        found = [float(f'{tick:.6g}') for tick in ticks if low <= tick <= high]
        if len(found) >= 3:
            return found[:: max(1, len(found) // 8)]
    return [low, high]


def linear_range(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of a linear axis, with room around the values."""
    low, high = min(values), max(values)
    room = max((high - low) * 0.25, abs(high) * 0.02, 1e-6)
    return low - room, high + room


def linear_ticks(low: float, high: float) -> list[float]:
    """Return about five round numbers within a range."""
    raw = (high - low) / 5 or 1.0
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first + 1
    return [float(f'{(first + index) * step:.10g}') for index in range(count)]


def shortened(text: str, most: int) -> str:
    """Cut the middle out of a text of more than `most` characters: names differ at their ends."""
    half = (most - 1) // 2
    return text if len(text) <= most else f'{text[:half]}…{text[-half:]}'


def as_svg(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    """Return a picture of some parts; the title is for screen readers."""
    body = '\n'.join(parts)
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'xmlns="http://www.w3.org/2000/svg"><title>{safe(title)}</title>\n{body}\n</svg>'
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """Return a line of a CSS class."""
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def text(x: float, y: float, shown: str, kind: str, anchor: str, tooltip: str = '') -> str:
    """Return a text at an anchor: start, middle, end; with a tooltip."""
    full = f'<title>{safe(tooltip)}</title>' if tooltip else ''
    return (f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
            f'{safe(shown)}{full}</text>')


def upright_text(x: float, y: float, shown: str) -> str:
    """Return the name of an upright axis."""
    return (f'<text class="axis" text-anchor="middle" '
            f'transform="translate({x:.1f} {y:.1f}) rotate(-90)">{safe(shown)}</text>')
