"""Zones: polygons in an image; detections inside are dropped, or are the only ones kept."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import functools
import math

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.plain_text import quoted
from yolov7_trt_ros.errors import SettingError

MOST_ZONES, MOST_POINTS = 16, 32
_LARGEST_PX = 1e6
_FLAT = 1e-9
Point = tuple[float, float]
FloatArray = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Polygon:
    """
    A polygon that does not cross itself.

    Attributes
    ----------
    points
        x, y; in pixels of the source image, or all within 0..1: shares of width and height.

    """

    points: tuple[Point, ...]

    @property
    def is_relative(self) -> bool:
        """Whether it grows with the image."""
        return all(value <= 1 for point in self.points for value in point)

    def in_pixels(self, source_wh: tuple[int, int]) -> FloatArray:
        """Return the points (n, 2) in pixels of an image of a size."""
        points = np.array(self.points, np.float64)
        return points * source_wh if self.is_relative else points


class Edges:
    """
    The edges of several polygons, one after the other, as arrays (e,).

    Parameters
    ----------
    polygons
        Points (m, 2) of each.

    """

    def __init__(self, polygons: Sequence[FloatArray]) -> None:
        start = np.concatenate(polygons)
        end = np.concatenate([np.roll(points, -1, axis=0) for points in polygons])
        (self.x, self.y), (self.end_x, self.end_y) = start.T, end.T
        run, rise = self.end_x - self.x, self.end_y - self.y
        self.rise_of_run = np.divide(rise, run, out=np.zeros_like(run), where=run != 0)
        self.run_of_rise = np.divide(run, rise, out=np.zeros_like(run), where=rise != 0)
        self.first = np.cumsum([0, *map(len, polygons[:-1])])
        """Number of the first edge of each polygon."""


@functools.lru_cache(maxsize=64)
def _edges(polygons: tuple[Polygon, ...], source_wh: tuple[int, int]) -> Edges:
    return Edges([polygon.in_pixels(source_wh) for polygon in polygons])


@dataclasses.dataclass(frozen=True)
class Zones:
    """
    Zones of an image in which detections count.

    Attributes
    ----------
    ignore, keep
        Detections in `ignore` zones are dropped; if there are `keep` zones, so are those outside
        all of them.
    cover
        A box lies in a zone if that covers at least this share of it; 0: if its centre does.

    """

    ignore: tuple[Polygon, ...] = ()
    keep: tuple[Polygon, ...] = ()
    cover: float = 0.0

    def __bool__(self) -> bool:
        """Return whether there is a zone at all."""
        return bool(self.ignore or self.keep)

    def choose(self, detections: Detections) -> Detections:
        """Return the detections that count."""
        if not len(detections):
            return detections
        counts = np.ones(len(detections), bool)
        if self.ignore:
            counts &= ~self._within(self.ignore, detections)
        if self.keep:
            counts &= self._within(self.keep, detections)
        if counts.all():
            return detections
        return detections.chosen(counts)

    def problem(self, source_wh: tuple[int, int]) -> str:
        """Return the zone that extends beyond an image of this size, '' for none."""
        for name, polygons in (('ignore_zones', self.ignore), ('keep_zones', self.keep)):
            for number, polygon in enumerate(polygons, 1):
                if (polygon.in_pixels(source_wh) > source_wh).any():
                    return (
                        f'zone {number} of {name} reaches beyond the image, which has '
                        f'{source_wh[0]}x{source_wh[1]} pixels'
                    )
        return ''

    def _within(
        self, polygons: tuple[Polygon, ...], detections: Detections
    ) -> NDArray[np.bool_]:
        boxes = detections.boxes_xyxy.astype(np.float64)
        edges = _edges(polygons, detections.source_wh)
        if self.cover > 0:
            within = covered_shares(boxes, edges) >= self.cover
        else:
            within = has_points((boxes[:, :2] + boxes[:, 2:]) / 2, edges)
        return np.asarray(within.any(axis=1), bool)


def has_points(places: FloatArray, edges: Edges) -> NDArray[np.bool_]:
    """Return which places (n, 2) lie in which polygons, (n, polygons), by odd crossings."""
    x, y = places[:, :1], places[:, 1:]
    crosses = (edges.y > y) != (edges.end_y > y)
    crosses &= x < edges.x + (y - edges.y) * edges.run_of_rise
    odd: NDArray[np.bool_] = np.logical_xor.reduceat(crosses, edges.first, axis=1)
    return odd


def covered_shares(boxes_xyxy: FloatArray, edges: Edges) -> FloatArray:
    """
    Return the exact share of each box (n, 4) that each polygon covers, (n, polygons).

    Sums, over the edges, the area between edge and upper side of the box, within the box: it is
    signed by the direction in which the edge goes, so what is outside the polygon cancels out.

    """
    left, top, right, bottom = (boxes_xyxy[:, index:index + 1] for index in range(4))
    from_x = np.minimum(np.maximum(edges.x, left), right)
    to_x = np.minimum(np.maximum(edges.end_x, left), right)
    level = edges.y - top
    from_y = level + (from_x - edges.x) * edges.rise_of_run
    to_y = level + (to_x - edges.x) * edges.rise_of_run
    height = bottom - top
    signed = (to_x - from_x) * _mean_clipped(from_y, to_y, height)
    areas = np.abs(np.add.reduceat(signed, edges.first, axis=1))
    whole = (right - left) * height
    shares: FloatArray = np.divide(areas, whole, out=np.zeros_like(areas), where=whole > 0)
    return shares


def _mean_clipped(from_y: FloatArray, to_y: FloatArray, height: FloatArray) -> FloatArray:
    """Return the mean of what runs evenly from one value to another, clipped to 0..height."""
    def integral(y: FloatArray) -> FloatArray:
        clipped = np.minimum(np.maximum(y, 0), height)
        return clipped * (y - clipped / 2)

    rise = to_y - from_y
    flat = np.abs(rise) < _FLAT * (height + 1)
    steep = (integral(to_y) - integral(from_y)) / np.where(flat, 1, rise)
    return np.where(flat, np.minimum(np.maximum(from_y, 0), height), steep)


# ---- from text


@functools.lru_cache(maxsize=512)
def read_zones(text: str) -> tuple[Polygon, ...]:
    """
    Read polygons: `x,y x,y x,y` each, with `;` between them.

    Raises
    ------
    SettingError
        What is no such polygon: too few points, negative or not a number, no area, or one that
        crosses itself; and which one.

    """
    parts = [part for part in text.split(';') if part.strip()]
    if len(parts) > MOST_ZONES:
        raise SettingError(f'at most {MOST_ZONES} zones may be given, got {len(parts)}')
    return tuple(_read_polygon(part, number) for number, part in enumerate(parts, 1))


def _read_polygon(text: str, number: int) -> Polygon:
    pairs = text.split()
    if not 3 <= len(pairs) <= MOST_POINTS:
        raise SettingError(
            f'zone {number} must have 3 to {MOST_POINTS} points, as in "0.1,0.2 0.5,0.2 0.3,0.9", '
            f'got {len(pairs)}: {quoted(text)}'
        )
    points = tuple(_read_point(pair, number) for pair in pairs)
    _check_shape(points, number)
    return Polygon(points)


def _read_point(text: str, number: int) -> Point:
    try:
        x, y = (float(part) for part in text.split(','))
    except ValueError:
        x = y = math.nan
    if not (0 <= x <= _LARGEST_PX and 0 <= y <= _LARGEST_PX):
        raise SettingError(
            f'zone {number}: a point is x,y in pixels of the image or within 0..1, got '
            f'{quoted(text)}'
        )
    return x, y


def _check_shape(points: Sequence[Point], number: int) -> None:
    """Refuse a polygon without area, and one whose outline meets itself."""
    count = len(points)
    edges = [(points[index], points[(index + 1) % count]) for index in range(count)]
    for one in range(count):
        for other in range(one + 1, count):
            neighbours = other == one + 1 or (one == 0 and other == count - 1)
            meet = _overlap if neighbours else _touch
            if meet(*edges[one], *edges[other]):
                raise SettingError(
                    f'zone {number} crosses or touches itself: the lines after point {one + 1} '
                    f'and after point {other + 1} meet'
                )
    doubled = sum(a[0] * b[1] - b[0] * a[1] for a, b in edges)
    if not doubled:
        raise SettingError(f'zone {number} has no area')


def _turn(a: Point, b: Point, c: Point) -> int:
    """Return 1 or -1 for the side of the line from a to b on which c lies, 0 for on it."""
    value = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    return (value > 0) - (value < 0)


def _touch(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Whether two lines have a point in common."""
    if _turn(a, b, c) * _turn(a, b, d) < 0 and _turn(c, d, a) * _turn(c, d, b) < 0:
        return True
    ends: tuple[tuple[Point, Point, Point], ...] = ((a, b, c), (a, b, d), (c, d, a), (c, d, b))
    return any(_turn(*each) == 0 and _is_between(*each) for each in ends)


def _overlap(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Whether two lines that share an end have more than that in common."""
    shared, one, other = (b, a, d) if b == c else (a, b, c)
    is_straight = _turn(one, shared, other) == 0
    back = (one[0] - shared[0]) * (other[0] - shared[0]) + (
        one[1] - shared[1]) * (other[1] - shared[1])
    return shared in (one, other) or (is_straight and back > 0)


def _is_between(a: Point, b: Point, place: Point) -> bool:
    return all(low <= value <= high for low, value, high in zip(
        map(min, a, b), place, map(max, a, b), strict=True
    ))
