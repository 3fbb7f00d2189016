"""Derive from probe outputs how boxes are coded and what each column holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import dataclasses
import enum
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = 'NDArray[np.floating[Any]]'  # NumPy 1.21 cannot evaluate it

ROUNDING = 1e-3
"""How far float16 may round a score out of 0..1."""

_REACH = (-0.5, 1.5)
"""Where YOLOv7 puts a centre, in cells from the upper left corner of its own cell."""

_LEAST_SHARE = 0.5
"""Of the centres in their cells: YOLOv7 has 1.0, YOLOX 0.7 and more, a wrong coding about 0.1."""

_LEAST_REAL = 0.25
"""Least share of the rows: fewer boxes would prove nothing."""

_CERTAIN_SHARE = 0.9
_MARGIN = 0.1
_TOLERATED_SLOPE = 0.5


class BoxCoding(enum.Enum):
    """What four numbers of a box mean, in words for messages."""

    CENTRES = 'centre x, centre y, width, height'
    CORNERS = 'x1, y1, x2, y2'
    TOP_LEFT = 'left, top, width, height'
    SWAPPED = 'y before x'


@dataclasses.dataclass(frozen=True)
class FoundBoxes:
    """How boxes are coded; `share` of them lie in their grid cells when read like that."""

    coding: BoxCoding
    normalised: bool
    share: float

    def __str__(self) -> str:
        """Return `x1, y1, x2, y2 in network pixels`."""
        return f'{self.coding.value} in {"0..1" if self.normalised else "network pixels"}'


def count_rows(network_wh: tuple[int, int], strides: Sequence[int], anchors: int) -> int:
    """Return the rows of a grid with `anchors` boxes a cell."""
    return sum(anchors * (network_wh[0] // s) * (network_wh[1] // s) for s in strides)


def find_boxes(
    boxes: FloatArray, network_wh: tuple[int, int], strides: Sequence[int], anchors: int
) -> FoundBoxes | None:
    """
    Return how the boxes (rows, 4) of a grid are coded; None if they do not follow the grid.

    In a grid the first two columns grow with the cell; of corners the other two as well. Rows may
    go by anchor, by cell or by whole grids, and strides up or down. Rows of zeros are no boxes:
    some exporters fill up with them.

    """
    real = np.asarray(np.isfinite(boxes).all(axis=1) & boxes.any(axis=1))
    if np.count_nonzero(real) < _LEAST_REAL * len(boxes):
        return None
    best: FoundBoxes | None = None
    for order in _row_orders(network_wh, strides, anchors):
        found = _judge(boxes, real, network_wh, order)
        if found is not None and (best is None or found.share > best.share):
            best = found
        if best is not None and best.share > _CERTAIN_SHARE:
            break
    return best


@dataclasses.dataclass(frozen=True, eq=False)
class _RowOrder:
    """For each row: its cell's corner in pixels (rows, 2), its stride and its level (rows,)."""

    corner_xy: NDArray[np.float32]
    strides: NDArray[np.float32]
    levels: NDArray[np.intp]

    def only(self, chosen: NDArray[np.bool_]) -> _RowOrder:
        return _RowOrder(self.corner_xy[chosen], self.strides[chosen], self.levels[chosen])


def _row_orders(
    network_wh: tuple[int, int], strides: Sequence[int], anchors: int
) -> Iterator[_RowOrder]:
    """Yield the orders in which exporters write the rows of a grid."""
    for ordered in (list(strides), list(reversed(strides))):
        levels = [_level(network_wh, stride, index) for index, stride in enumerate(ordered)]
        by_anchor = [np.tile(level, (anchors, 1)) for level in levels]
        yield _as_order(np.concatenate(by_anchor))
        if anchors > 1:
            yield _as_order(np.concatenate([np.repeat(level, anchors, 0) for level in levels]))
            yield _as_order(np.tile(np.concatenate(levels), (anchors, 1)))


def _level(network_wh: tuple[int, int], stride: int, index: int) -> NDArray[np.float32]:
    """Return x, y, stride and level (cells, 4) of one grid."""
    y, x = np.mgrid[: network_wh[1] // stride, : network_wh[0] // stride] * stride
    rows = [x.ravel(), y.ravel(), np.full(x.size, stride), np.full(x.size, index)]
    return np.stack(rows, axis=1).astype(np.float32)


def _as_order(rows: NDArray[np.float32]) -> _RowOrder:
    return _RowOrder(rows[:, :2], rows[:, 2], rows[:, 3].astype(np.intp))


def _judge(
    boxes: FloatArray, real: NDArray[np.bool_], network_wh: tuple[int, int], order: _RowOrder
) -> FoundBoxes | None:
    columns = boxes[real].astype(np.float64)
    order = order.only(real)
    size = np.array([*network_wh, *network_wh], np.float64)
    for normalised in (False, True):
        scaled = np.clip(columns * size if normalised else columns, -size, 2 * size)
        follows = ''.join(map(_side, _slopes(scaled, order)))
        coding = _coding(follows, scaled, order)
        if coding is not None:
            return FoundBoxes(coding[0], normalised, coding[1])
    return None


def _slopes(columns: NDArray[np.float64], order: _RowOrder) -> NDArray[np.float64]:
    """Return the slopes (4, 2) of columns over x and y, within the levels of a grid."""
    counts = np.maximum(np.bincount(order.levels), 1)
    means = [np.bincount(order.levels, side) / counts for side in order.corner_xy.T]
    spread = order.corner_xy - np.stack(means, axis=1)[order.levels]
    squares = np.maximum(np.square(spread).sum(axis=0), 1e-9)
    # not as a product of matrices: starting BLAS's threads would take longer
    products = np.einsum('nc,ns->cs', columns, spread)
    return np.asarray(products / squares, np.float64)


def _side(slopes: NDArray[np.float64]) -> str:
    """Return which side of the grid a column grows with, pixel by pixel: `x`, `y` or `-`."""
    one, none = np.abs(slopes - 1) < _TOLERATED_SLOPE, np.abs(slopes) < _TOLERATED_SLOPE
    if one[0] and none[1]:
        return 'x'
    return 'y' if one[1] and none[0] else '-'


def _coding(
    follows: str, columns: NDArray[np.float64], order: _RowOrder
) -> tuple[BoxCoding, float] | None:
    if follows in ('yxyx', 'yx--'):
        return BoxCoding.SWAPPED, 0.0
    if follows == 'xyxy':
        share = _share((columns[:, :2] + columns[:, 2:]) / 2, order)
        return (BoxCoding.CORNERS, share) if share >= _LEAST_SHARE else None
    if follows != 'xy--':
        return None
    centres = _share(columns[:, :2], order)
    top_left = _share(columns[:, :2] + columns[:, 2:] / 2, order)
    if top_left > centres + _MARGIN and top_left >= _LEAST_SHARE:
        return BoxCoding.TOP_LEFT, top_left
    return (BoxCoding.CENTRES, centres) if centres >= _LEAST_SHARE else None


def _share(centres_xy: NDArray[np.float64], order: _RowOrder) -> float:
    """Return the share of centres that lie in the reach of their cells."""
    cells = (centres_xy - order.corner_xy) / order.strides[:, None]
    return float(np.mean(((cells > _REACH[0]) & (cells < _REACH[1])).all(axis=1)))


# ---- the columns beside the boxes


def range_of(values: FloatArray) -> tuple[float, float]:
    """Return the smallest and the largest finite value; (0, 0) if there is none."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def are_scores(values: FloatArray) -> bool:
    """Whether all finite values lie within 0..1, but for rounding."""
    low, high = range_of(values)
    return low >= -ROUNDING and high <= 1 + ROUNDING


def are_labels(values: NDArray[Any]) -> bool:
    """Whether all values are whole numbers from 0 on."""
    if values.dtype.kind in 'iu':
        return bool((values >= 0).all())
    return bool((np.isfinite(values) & (values >= 0) & (values == np.round(values))).all())
