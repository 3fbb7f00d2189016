"""Which rows and columns of a matrix of gains to pair, so that the sum of the gains is largest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

MOST_EXACT = 64
"""From more rows and columns in one group on, pairs are chosen one by one, the largest first."""

FloatArray = NDArray[np.float64]
Indices = NDArray[np.intp]
_NO_PAIRS = (np.empty(0, np.intp), np.empty(0, np.intp))


def assign(gains: FloatArray) -> tuple[Indices, Indices]:
    """
    Pair rows with columns, each once at most, so that the sum of the gains is the largest.

    A pair whose gain is at least the sum of the next best ones of its row and its column is in a
    choice of largest sum: it may take the place of what its row and column have else. Such are
    taken until there are none. The rest falls into groups that share nothing; each is solved
    exactly, in up to k^3 steps where its shorter side has k, or greedily where that is more than
    `MOST_EXACT`: then its sum is at least half of the largest.

    Parameters
    ----------
    gains
        (n, m); pairs that are not allowed have 0 or less.

    Returns
    -------
    Rows and columns of the pairs, all with a gain above 0.

    """
    if not gains.size:
        return _NO_PAIRS
    left = np.maximum(gains, 0.0)
    found = []
    while True:
        pairs, has_more = _take_sure(left)
        found.append(pairs)
        if not has_more:
            return _joined(found)
        if not len(pairs[0]):
            break
    for rows, columns in _groups(left > 0):
        part = left[np.ix_(rows, columns)]
        pairs = _exactly(part) if min(part.shape) <= MOST_EXACT else _greedily(part)
        found.append((rows[pairs[0]], columns[pairs[1]]))
    return _joined(found)


def _take_sure(left: FloatArray) -> tuple[tuple[Indices, Indices], bool]:
    """Take pairs that are in a choice of largest sum out of it; and tell whether any is left."""
    best = left.argmax(axis=1)
    rows = np.flatnonzero(left.argmax(axis=0)[best] == np.arange(len(left)))
    columns = best[rows]
    values = left[rows, columns]
    left[rows, columns] = 0.0
    sure = values >= left[rows].max(axis=1) + left[:, columns].max(axis=0)
    left[rows[~sure], columns[~sure]] = values[~sure]
    sure &= values > 0
    rows, columns = rows[sure], columns[sure]
    left[rows], left[:, columns] = 0.0, 0.0
    return (rows, columns), bool(left.any())


def _groups(allowed: NDArray[np.bool_]) -> Iterator[tuple[Indices, Indices]]:
    """Return rows and columns that have pairs among each other, and with nothing else."""
    left = np.flatnonzero(allowed.any(axis=1))
    while len(left):
        rows, size = left[:1], 0
        while size != len(rows):
            size = len(rows)
            columns = np.flatnonzero(allowed[rows].any(axis=0))
            rows = np.flatnonzero(allowed[:, columns].any(axis=1))
        yield rows, columns
        left = left[~np.isin(left, rows)]


def _exactly(gains: FloatArray) -> tuple[Indices, Indices]:
    """
    Solve by shortest augmenting paths: Kuhn and Munkres' way, one row after the other.

    The dual values `of_row` and `of_column` keep cost - of_row - of_column at 0 or more, and at 0
    for pairs: that proves the sum to be the largest.

    """
    turned = gains.shape[0] > gains.shape[1]
    costs = (-np.maximum(gains.T if turned else gains, 0)).tolist()
    width = len(costs[0])
    of_row, of_column = [0.0] * len(costs), [0.0] * width
    owner = [-1] * width  # the row of each column
    for start in range(len(costs)):
        _augment(start, costs, of_row, of_column, owner)
    columns = [column for column in range(width) if owner[column] >= 0]
    rows = np.array([owner[column] for column in columns], np.intp)
    pairs = (np.array(columns, np.intp), rows) if turned else (rows, np.array(columns, np.intp))
    useful = gains[pairs] > 0
    return pairs[0][useful], pairs[1][useful]


def _augment(
    start: int, costs: list[list[float]], of_row: list[float], of_column: list[float],
    owner: list[int],
) -> None:
    """Give a row a column, on the cheapest way over those that others have."""
    width = len(of_column)
    slack, before = [float('inf')] * width, [-1] * width
    reached: list[int] = []
    left = set(range(width))
    row, last = start, -1
    while row >= 0:
        best, step = -1, float('inf')
        for column in left:
            rest = costs[row][column] - of_row[row] - of_column[column]
            if rest < slack[column]:
                slack[column], before[column] = rest, last
            if slack[column] < step:
                best, step = column, slack[column]
        of_row[start] += step
        for column in reached:
            of_row[owner[column]] += step
            of_column[column] -= step
        for column in left:
            slack[column] -= step
        left.remove(best)
        reached.append(best)
        last, row = best, owner[best]
    while last >= 0:
        former = before[last]
        owner[last] = start if former < 0 else owner[former]
        last = former


def _joined(pairs: Sequence[tuple[Indices, Indices]]) -> tuple[Indices, Indices]:
    rows, columns = zip(*pairs, strict=True)
    return np.concatenate(rows), np.concatenate(columns)


def _greedily(gains: FloatArray) -> tuple[Indices, Indices]:
    """Take pairs that are the best of both sides, until there is none."""
    left = gains.copy()
    found = [_NO_PAIRS]
    while True:
        best = left.argmax(axis=1)
        rows = np.flatnonzero(left.argmax(axis=0)[best] == np.arange(len(left)))
        rows = rows[left[rows, best[rows]] > 0]
        if not len(rows):
            return _joined(found)
        columns = best[rows]
        found.append((rows, columns))
        left[rows], left[:, columns] = 0, 0
