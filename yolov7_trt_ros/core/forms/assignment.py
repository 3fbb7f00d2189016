"""Pair the rows and columns of a matrix of gains so that their sum is largest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

MOST_EXACT = 64
"""Of so many rows and columns the sum is the largest; the work for all groups is not more."""
MOST_ROUNDS = 32
"""How often sure pairs are looked for: each time costs a pass over the matrix."""

_BLOCK = 4096
FloatArray = NDArray[np.float64]
Indices = NDArray[np.intp]
_NO_PAIRS = (np.empty(0, np.intp), np.empty(0, np.intp))


def assign(gains: FloatArray) -> tuple[Indices, Indices]:
    """
    Pair rows with columns, each once at most, so that the sum of the gains is the largest.

    A pair whose gain is at least the sum of the next best ones of its row and its column is in a
    choice of largest sum: it may take the place of what its row and column have else. Such are
    taken until there are none, or `MOST_ROUNDS` times. The rest falls into groups that share
    nothing. They are solved exactly, in up to k * k * m steps for k rows and m columns or the
    other way round, the small ones first, for `MOST_EXACT`**3 steps in all; then greedily: the
    sum of such a group is at least half of the largest.

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
    for _ in range(MOST_ROUNDS):
        pairs, has_more = _take_sure(left)
        found.append(pairs)
        if not has_more:
            return _joined(found)
        if not len(pairs[0]):
            break
    steps_left = MOST_EXACT**3
    for rows, columns in sorted(_groups(left > 0), key=_steps):
        part = left[np.ix_(rows, columns)]
        steps_left -= _steps((rows, columns))
        pairs = _exactly(part) if steps_left >= 0 else _greedily(part)
        found.append((rows[pairs[0]], columns[pairs[1]]))
    return _joined(found)


def _steps(group: tuple[Indices, Indices]) -> int:
    """Return how many steps it takes to solve a group exactly, at most."""
    short, long = sorted(map(len, group))
    return short * short * long


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
    is_left = np.asarray(allowed.any(axis=1))
    while is_left.any():
        rows = new = np.flatnonzero(is_left)[:1]
        columns = np.empty(0, np.intp)
        is_new = np.ones(allowed.shape[1], bool)
        while len(new):  # each row and each column is looked at once
            is_left[new] = False
            reached = np.flatnonzero(allowed[new].any(axis=0) & is_new)
            is_new[reached] = False
            new = np.flatnonzero(allowed[:, reached].any(axis=1) & is_left)
            rows, columns = np.append(rows, new), np.append(columns, reached)
        yield rows, columns


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
    """Take pairs by their gains, the largest first; of equal ones the first."""
    allowed = np.flatnonzero(gains > 0)
    order = allowed[np.argsort(-gains.ravel()[allowed], kind='stable')]
    rows, columns = np.divmod(order, gains.shape[1])
    free_rows, free_columns = (np.ones(side, bool) for side in gains.shape)
    found: list[tuple[int, int]] = []
    while len(rows):
        block = rows[:_BLOCK].tolist(), columns[:_BLOCK].tolist()
        for row, column in zip(*block, strict=True):
            if free_rows[row] and free_columns[column]:
                free_rows[row] = free_columns[column] = False
                found.append((row, column))
        rows, columns = rows[_BLOCK:], columns[_BLOCK:]
        useful = free_rows[rows] & free_columns[columns]
        rows, columns = rows[useful], columns[useful]
    pairs = np.array(found, np.intp).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]
