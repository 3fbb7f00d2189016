"""
Positions of the layers of an engine in a drawing: rows from top to bottom, edges downwards.

The usual four steps for layered graphs: rows by longest path, places along edges that pass rows,
order within a row by the middle of the neighbours, then coordinates that keep the order.

"""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
import dataclasses

from yolov7_trt_ros.report.fusion.engine_layers import EngineLayer, SYNC

NODE_WIDTH_PX, NODE_HEIGHT_PX = 236, 40
_PASS_WIDTH_PX = 10
_GAP_X_PX, _ROW_PX = 20, 66
_ORDER_SWEEPS, _PLACE_SWEEPS = 8, 6


@dataclasses.dataclass(frozen=True)
class Edge:
    """A tensor between two layers, by number, drawn through points from top to bottom."""

    source: int
    target: int
    tensor: str
    points: tuple[tuple[float, float], ...]


@dataclasses.dataclass(frozen=True)
class Layout:
    """Upper left corners of the layers by number, the edges, and the size of it all, in pixels."""

    corners: Mapping[int, tuple[float, float]]
    edges: tuple[Edge, ...]
    size_wh: tuple[float, float]


_Place = tuple[int, int]
"""A layer (number, -1), or where an edge (its index) passes a row (row)."""


def lay_out(layers: Sequence[EngineLayer]) -> Layout:
    """Place the layers; those that only order streams, or are tied to nothing, are left out."""
    drawn = [layer for layer in layers if layer.kind != SYNC]
    links = find_links(drawn)
    rows = _rows(drawn, links)
    paths = _paths(links, rows)
    grid = _order(_fill(rows, paths), paths)
    x_px = _place(grid, paths)
    left = min((x_px[place] - _width(place) / 2 for row in grid for place in row), default=0.0)
    corners = {
        number: (x_px[number, -1] - NODE_WIDTH_PX / 2 - left, row * _ROW_PX)
        for number, row in rows.items()
    }
    edges = tuple(
        Edge(source, target, tensor, _points(path, rows, x_px, left))
        for (source, target, tensor), path in zip(links, paths, strict=True)
    )
    right = max((x_px[place] + _width(place) / 2 for row in grid for place in row), default=0.0)
    return Layout(corners, edges, (right - left, len(grid) * _ROW_PX))


def find_links(layers: Sequence[EngineLayer]) -> list[tuple[int, int, str]]:
    """
    Return (source, target, tensor) for each tensor that a later layer reads.

    Several layers may write one tensor, each a part of a Concat: all before the reader count.

    """
    writers: dict[str, list[EngineLayer]] = collections.defaultdict(list)
    links: dict[tuple[int, int], str] = {}
    for layer in layers:
        for tensor in layer.inputs:
            for writer in writers[tensor.name]:
                links.setdefault((writer.number, layer.number), tensor.name)
        for tensor in layer.outputs:
            writers[tensor.name].append(layer)
    return [(source, target, tensor) for (source, target), tensor in links.items()]


def _rows(
    layers: Sequence[EngineLayer], links: Sequence[tuple[int, int, str]]
) -> dict[int, int]:
    """Return each layer's row: one below the lowest it reads from; unlinked ones by order."""
    above: dict[int, list[int]] = collections.defaultdict(list)
    below: dict[int, list[int]] = collections.defaultdict(list)
    for source, target, _ in links:
        above[target].append(source)
        below[source].append(target)
    rows: dict[int, int] = {}
    if not links:  # names only: one below the other
        return {layer.number: row for row, layer in enumerate(layers)}
    for layer in layers:
        rows[layer.number] = max((rows[each] + 1 for each in above[layer.number]), default=0)
    fed = _fed_by_input(layers, above)
    for layer in reversed(layers):  # constants and what follows from them: close to the reader
        if layer.number not in fed and below[layer.number]:
            rows[layer.number] = min(rows[each] for each in below[layer.number]) - 1
    lowest = min(rows.values(), default=0)
    return {number: row - lowest for number, row in rows.items()}


def _fed_by_input(
    layers: Sequence[EngineLayer], above: Mapping[int, Sequence[int]]
) -> set[int]:
    """Return the layers that read the network's input, or what comes of it."""
    written = {tensor.name for layer in layers for tensor in layer.outputs}
    fed: set[int] = set()
    for layer in layers:
        reads_input = any(tensor.name not in written for tensor in layer.inputs)
        if reads_input or any(number in fed for number in above[layer.number]):
            fed.add(layer.number)
    return fed


def _paths(
    links: Sequence[tuple[int, int, str]], rows: Mapping[int, int]
) -> list[list[_Place]]:
    """Return each link as the places it goes through, both layers included."""
    return [
        [(source, -1), *((index, row) for row in range(rows[source] + 1, rows[target])),
         (target, -1)]
        for index, (source, target, _) in enumerate(links)
    ]


def _fill(rows: Mapping[int, int], paths: Sequence[Sequence[_Place]]) -> list[list[_Place]]:
    grid: list[list[_Place]] = [[] for _ in range(max(rows.values(), default=-1) + 1)]
    for number, row in rows.items():
        grid[row].append((number, -1))
    for path in paths:
        for place in path[1:-1]:
            grid[place[1]].append(place)
    return grid


def _neighbours(
    paths: Sequence[Sequence[_Place]],
) -> tuple[dict[_Place, list[_Place]], dict[_Place, list[_Place]]]:
    """Return what is above and what is below each place."""
    above: dict[_Place, list[_Place]] = collections.defaultdict(list)
    below: dict[_Place, list[_Place]] = collections.defaultdict(list)
    for path in paths:
        for upper, lower in zip(path, path[1:], strict=False):
            above[lower].append(upper)
            below[upper].append(lower)
    return above, below


def _order(
    grid: list[list[_Place]], paths: Sequence[Sequence[_Place]]
) -> list[list[_Place]]:
    """Order each row by the middle of its neighbours, downwards and upwards in turn."""
    above, below = _neighbours(paths)
    for sweep in range(_ORDER_SWEEPS):
        down = sweep % 2 == 0
        order = grid if down else list(reversed(grid))
        near = above if down else below
        position: dict[_Place, float] = {}
        for row in order:
            spread = max(len(row) - 1, 1)
            middles = {
                place: _middle([position[each] for each in near[place] if each in position],
                               index / spread)
                for index, place in enumerate(row)
            }
            row.sort(key=middles.__getitem__)
            position.update((place, middles[place]) for place in row)
            _spread(row, position)
    return grid


def _spread(row: Sequence[_Place], position: dict[_Place, float]) -> None:
    """Keep places of one row apart where their neighbours are the same."""
    for before, after in zip(row, row[1:], strict=False):
        position[after] = max(position[after], position[before] + 0.1)


def _middle(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _width(place: _Place) -> float:
    return NODE_WIDTH_PX if place[1] < 0 else _PASS_WIDTH_PX


def _place(
    grid: Sequence[Sequence[_Place]], paths: Sequence[Sequence[_Place]]
) -> dict[_Place, float]:
    """Return the middle of each place: near its neighbours, in order, not overlapping."""
    above, below = _neighbours(paths)
    x_px: dict[_Place, float] = {}
    for row in grid:
        right = -sum(_width(place) + _GAP_X_PX for place in row) / 2
        for place in row:
            x_px[place] = right + _width(place) / 2
            right += _width(place) + _GAP_X_PX
    for sweep in range(_PLACE_SWEEPS):
        down = sweep % 2 == 0
        near = above if down else below
        for row in grid if down else list(reversed(grid)):
            wanted = [_middle([x_px[each] for each in near[place]], x_px[place]) for place in row]
            for place, x in zip(row, _keep_apart(row, wanted), strict=True):
                x_px[place] = x
    return x_px


def _keep_apart(row: Sequence[_Place], wanted: Sequence[float]) -> list[float]:
    """Return positions near the wanted ones: the mean of packing from the left and the right."""
    left, right = list(wanted), list(wanted)
    for index in range(1, len(row)):
        left[index] = max(left[index], left[index - 1] + _distance(row, index))
    for index in range(len(row) - 1, 0, -1):
        right[index - 1] = min(right[index - 1], right[index] - _distance(row, index))
    return [(one + other) / 2 for one, other in zip(left, right, strict=True)]


def _distance(row: Sequence[_Place], index: int) -> float:
    return (_width(row[index - 1]) + _width(row[index])) / 2 + _GAP_X_PX


def _points(
    path: Sequence[_Place], rows: Mapping[int, int], x_px: Mapping[_Place, float], left: float
) -> tuple[tuple[float, float], ...]:
    source, target = path[0], path[-1]
    points = [(x_px[source] - left, rows[source[0]] * _ROW_PX + NODE_HEIGHT_PX)]
    for place in path[1:-1]:  # through the whole height of the row, so that no node is crossed
        top = place[1] * _ROW_PX
        points += [(x_px[place] - left, top), (x_px[place] - left, top + NODE_HEIGHT_PX)]
    points.append((x_px[target] - left, rows[target[0]] * _ROW_PX))
    return tuple((float(x), float(y)) for x, y in points)
