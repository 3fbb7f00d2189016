"""Average precision and percentiles from counts of fixed size, for recordings of any length."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

BINS = 1 << 16
"""Values of 0..1 have a resolution of 1/65535: finer than the scores of an FP16 engine."""

_RECALLS = np.linspace(0.0, 1.0, 101)
_ROUNDING = 1e-12


def _bins(values: NDArray[np.float32]) -> NDArray[np.intp]:
    return np.rint(np.clip(values, 0.0, 1.0).astype(np.float64) * (BINS - 1)).astype(np.intp)


class Distribution:
    """
    Mean, percentiles and extremes of values in 0..1.

    The mean and the extremes are exact, percentiles to 1/65535. The order of adding does not
    matter to anything but the last digits of the mean.

    """

    def __init__(self) -> None:
        self._counts = np.zeros(BINS, np.int64)
        self._sum = 0.0
        self.count = 0
        self.least = 0.0
        self.largest = 0.0

    def add(self, values: NDArray[np.float32]) -> None:
        """Add some values (n,)."""
        if not len(values):
            return
        least, largest = float(values.min()), float(values.max())
        self.least = min(self.least, least) if self.count else least
        self.largest = max(self.largest, largest) if self.count else largest
        self.count += len(values)
        self._sum += float(values.sum(dtype=np.float64))
        np.add.at(self._counts, _bins(values), 1)

    @property
    def mean(self) -> float:
        """Mean, 0 without values."""
        return self._sum / self.count if self.count else 0.0

    def percentile(self, percent: float) -> float:
        """Return the least value that `percent` % of the values do not exceed; 0 without any."""
        if not self.count:
            return 0.0
        wanted = max(1, math.ceil(percent / 100 * self.count))
        found = int(np.searchsorted(np.cumsum(self._counts), wanted))
        return min(max(found / (BINS - 1), self.least), self.largest)

    def histogram(self, bars: int) -> list[int]:
        """Return the counts of equal parts of 0..1."""
        edges = np.linspace(0, BINS, bars + 1).astype(np.intp)
        return [int(part.sum()) for part in np.split(self._counts, edges[1:-1])]


class PrecisionCurve:
    """Counts right and wrong detections of one class by score, for average precision."""

    def __init__(self) -> None:
        self._counts = np.zeros((2, BINS), np.uint32)

    def add(self, scores: NDArray[np.float32], right: NDArray[np.bool_]) -> None:
        """Add detections (n,): score, and whether each is one of the reference's."""
        for row, chosen in enumerate((right, ~right)):
            np.add.at(self._counts[row], _bins(scores[chosen]), 1)

    def average_precision(self, wanted: int) -> float:
        """
        Return COCO's average precision: the mean over 101 recalls.

        Detections with scores closer than 1/65535 count as one step of the curve, so the result
        does not depend on the order of frames.

        Parameters
        ----------
        wanted
            How many there are to be found, above 0.

        """
        counts = self._counts[:, ::-1].astype(np.int64)
        counts = counts[:, counts.sum(axis=0) > 0]
        right = np.cumsum(counts[0])
        recall, precision = right / wanted, right / np.maximum(1, np.cumsum(counts.sum(axis=0)))
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        first = np.searchsorted(recall, _RECALLS - _ROUNDING)
        reached = first < len(envelope)
        return float(envelope[first[reached]].sum() / len(_RECALLS))
