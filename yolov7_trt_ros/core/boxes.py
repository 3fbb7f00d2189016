"""Boxes: formats, IoU and class-aware non-maximum suppression. Boxes are xyxy, shape (n, 4)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK = 128
_LATER = ~np.tri(_BLOCK, dtype=bool)
"""Which candidates (columns) of a block come after which (rows)."""
_FEW = 3
"""With at most one of so many pairs of one class, these are compared one by one."""


def xyxy_from_cxcywh(boxes: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Convert centre, width, height (n, 4) to corners (n, 4), a new float32 array."""
    half = boxes[:, 2:4] * np.float32(0.5)
    out = np.empty((len(boxes), 4), np.float32)
    np.subtract(boxes[:, :2], half, out=out[:, :2])
    np.add(boxes[:, :2], half, out=out[:, 2:])
    return out


def box_areas(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Areas (n,) of boxes (n, 4); a box with a negative side has area 0."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return np.asarray(sides[:, 0] * sides[:, 1], np.float32)


def box_iou(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """
    Intersection over union of every pair.

    Parameters
    ----------
    left, right
        Boxes (n, 4) and (m, 4).

    Returns
    -------
    (n, m) float32 in 0..1; 0 where both boxes are empty.

    """
    intersection, union = _intersection_union(
        left.T[:, :, None], right.T[:, None], box_areas(left)[:, None], box_areas(right)
    )
    return np.divide(
        intersection, union, out=np.zeros_like(intersection), where=union > 0
    )


def _intersection_union(
    left: NDArray[np.float32],
    right: NDArray[np.float32],
    left_areas: NDArray[np.float32],
    right_areas: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return intersections and unions of boxes (4, ...) of shapes that go together."""
    width = np.minimum(left[2], right[2])
    width -= np.maximum(left[0], right[0])
    height = np.minimum(left[3], right[3])
    height -= np.maximum(left[1], right[1])
    np.maximum(width, 0, out=width)
    np.maximum(height, 0, out=height)
    width *= height
    union = left_areas + right_areas
    union -= width
    return width, union


def nms(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    class_ids: NDArray[np.integer[Any]] | None,
    iou_threshold: float,
    max_kept: int,
) -> NDArray[np.intp]:
    """
    Greedy non-maximum suppression, class-aware unless `class_ids` is None.

    A candidate is dropped when a kept one with a higher score (of the same class) overlaps it by
    more than `iou_threshold`. Equal scores keep their input order, so the result is deterministic.

    Parameters
    ----------
    boxes, scores, class_ids
        (n, 4), (n,), (n,); scores must not be NaN.
    iou_threshold
        0..1.
    max_kept
        Stop after this many.

    Returns
    -------
    Kept indices (k,), best score first.

    Notes
    -----
    Works in blocks of candidates, best first: a block is compared with all kept so far in one
    matrix, then within itself. It stops as soon as `max_kept` are found.

    """
    order = np.argsort(-scores, kind='stable')
    ordered = np.asarray(boxes.take(order, 0), np.float32)
    areas, corners = box_areas(ordered), np.ascontiguousarray(ordered.T)
    classes = None if class_ids is None else class_ids.take(order)
    kept = np.empty(0, np.intp)
    for start in range(0, len(order), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(order)))
        if len(kept):
            hit = _overlaps(corners, areas, classes, kept, block, iou_threshold).any(axis=0)
            block = block[~hit]
        overlaps = _overlaps(corners, areas, classes, block, block, iou_threshold)
        kept = np.concatenate([kept, block[_greedy(overlaps)]])
        if len(kept) >= max_kept:
            break
    return np.asarray(order[kept[:max_kept]], np.intp)


def _overlaps(
    boxes: NDArray[np.float32],
    areas: NDArray[np.float32],
    classes: NDArray[np.integer[Any]] | None,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    iou_threshold: float,
) -> NDArray[np.bool_]:
    """
    Return which pairs suppress each other: IoU above the threshold and equal class.

    Parameters
    ----------
    boxes, areas, classes
        Of all candidates: (4, n), (n,), (n,).
    rows, columns
        Which of them.
    iou_threshold
        As for `nms`.

    """
    same: NDArray[np.bool_] | None = None
    if classes is not None:
        same = np.asarray(classes.take(rows)[:, None] == classes.take(columns))
        pairs = np.flatnonzero(same)
        if len(pairs) * _FEW <= same.size:  # as with several classes a box
            one, other = np.divmod(pairs, len(columns))
            one, other = rows.take(one), columns.take(other)
            intersection, union = _intersection_union(
                boxes.take(one, 1), boxes.take(other, 1), areas.take(one), areas.take(other)
            )
            union *= np.float32(iou_threshold)
            same.ravel()[pairs] = intersection > union
            return same
    intersection, union = _intersection_union(
        boxes.take(rows, 1)[..., None], boxes.take(columns, 1)[:, None],
        areas.take(rows)[:, None], areas.take(columns),
    )
    union *= np.float32(iou_threshold)
    hit: NDArray[np.bool_] = intersection > union
    if same is not None:
        hit &= same
    return hit


def _greedy(overlaps: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Greedy choice, first come first kept, in one (n, n) overlap matrix."""
    suppressed = np.zeros(len(overlaps), bool)
    count = len(overlaps)
    later = overlaps & _LATER[:count, :count]
    for index in np.flatnonzero(later.any(axis=1)).tolist():
        if not suppressed[index]:
            suppressed |= later[index]
    return np.flatnonzero(~suppressed)
