"""Histograms of magnitudes, and the range that each method derives from one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

BINS = 4096
PERCENTILE = 99.99
"""Part of the magnitudes, in percent, that `percentile` keeps within the range."""

LEVELS = 127
"""Largest int8 of a symmetric range."""

_KL_LEVELS = 128
_CANDIDATES = 160
_LEAST_EXPONENT = -20
_BLOCK = 1 << 20


class Histogram:
    """
    How often magnitudes occur, over a range that grows with them.

    The range is a power of two, so that it grows by adding neighbouring bins, and histograms of
    different ranges are merged, without any value changing its bin by guess.

    Attributes
    ----------
    counts
        (4096,) int64; bin i holds magnitudes from i to i + 1 widths.
    largest
        Largest magnitude seen, exactly.

    """

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(BINS, np.int64)
        self.largest = 0.0
        self._exponent = _LEAST_EXPONENT

    @property
    def bin_width(self) -> float:
        """Width of a bin."""
        return float(2.0**self._exponent / BINS)

    def add(self, values: NDArray[np.float32]) -> None:
        """Count the magnitudes of finite values, of any shape."""
        flat = values.reshape(-1)
        largest = max(float(flat.max(initial=0.0)), -float(flat.min(initial=0.0)))
        self._grow(_exponent_of(largest))
        self.largest = max(self.largest, largest)
        scale = np.float32(1 / self.bin_width)
        for start in range(0, len(flat), _BLOCK):
            block = np.abs(flat[start:start + _BLOCK]) * scale
            bins = np.minimum(block.astype(np.int32), BINS - 1)
            self.counts += np.bincount(bins, minlength=BINS)

    def _grow(self, exponent: int) -> None:
        while self._exponent < exponent:
            folded = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([folded, np.zeros(BINS // 2, np.int64)])
            self._exponent += 1

    @classmethod
    def merged(cls, parts: Sequence[Histogram]) -> Histogram:
        """Return one histogram of all that several have counted."""
        total = cls()
        total._grow(max((part._exponent for part in parts), default=_LEAST_EXPONENT))
        for part in parts:
            copy = cls()
            copy.counts, copy._exponent = part.counts, part._exponent
            copy._grow(total._exponent)
            total.counts = total.counts + copy.counts
            total.largest = max(total.largest, part.largest)
        return total

    def used(self) -> NDArray[np.int64]:
        """Return the counts up to the last bin that is not empty; at least one."""
        filled = np.flatnonzero(self.counts)
        return self.counts[: (int(filled[-1]) if len(filled) else 0) + 1]


def find_range(histogram: Histogram, method: str) -> float:
    """Return the magnitude that becomes 127: `kl`, `mse`, `percentile` or `minmax`."""
    return min(METHODS[method](histogram), histogram.largest)


def minmax_range(histogram: Histogram) -> float:
    """Return the largest magnitude: nothing is clipped."""
    return histogram.largest


def percentile_range(histogram: Histogram, percentile: float = PERCENTILE) -> float:
    """Return the magnitude that a part of all values does not exceed."""
    reached = np.cumsum(histogram.counts)
    if not reached[-1]:
        return 0.0
    index = int(np.searchsorted(reached, reached[-1] * percentile / 100))
    return (index + 1) * histogram.bin_width


def mse_range(histogram: Histogram) -> float:
    """Return the range with the least squared error of rounding and clipping together."""
    counts = histogram.used().astype(np.float64)
    centres = (np.arange(len(counts)) + 0.5) * histogram.bin_width
    best, least = histogram.largest, np.inf
    for bins in _candidates(len(counts)):
        step = bins * histogram.bin_width / LEVELS
        rounded = np.minimum(np.rint(centres / step), LEVELS) * step
        error = float(counts @ np.square(centres - rounded))
        if error < least:
            best, least = bins * histogram.bin_width, error
    return best


def kl_range(histogram: Histogram) -> float:
    """
    Return the range with the least Kullback-Leibler divergence, as entropy calibrators do.

    Clipped values count at the end of the range. Zeros, most of what an activation gives, count
    as much as the next bin, or nothing else would.

    """
    counts = histogram.used().astype(np.float64)
    if len(counts) <= _KL_LEVELS:
        return histogram.largest
    counts[0] = counts[1]
    best, least = histogram.largest, np.inf
    for bins in range(_KL_LEVELS, len(counts) + 1, max(1, len(counts) // (4 * _CANDIDATES))):
        divergence = _divergence(counts, bins)
        if divergence < least:
            best, least = bins * histogram.bin_width, divergence
    return best


def _divergence(counts: NDArray[np.float64], bins: int) -> float:
    """Divergence of the first bins, the rest clipped to the last, from their 128 levels."""
    inside = counts[:bins]
    reference = inside.copy()
    reference[-1] += counts[bins:].sum()
    level = np.arange(bins) * _KL_LEVELS // bins
    filled = inside > 0
    per_level = np.bincount(level, inside, _KL_LEVELS)
    spread = np.bincount(level, filled, _KL_LEVELS)
    quantised = np.where(filled, per_level[level] / np.maximum(spread[level], 1), 0.0)
    if not reference.sum() or not quantised.sum():
        return float('inf')
    reference /= reference.sum()
    quantised /= quantised.sum()
    seen = reference > 0
    floor = 1e-12  # a last bin that holds only what was clipped
    return float(np.sum(
        reference[seen] * np.log(reference[seen] / np.maximum(quantised[seen], floor))
    ))


def _candidates(bins: int) -> range:
    """Numbers of bins to try as a range: from a tenth up, evenly."""
    return range(max(1, bins // 10), bins + 1, max(1, bins // _CANDIDATES))


def _exponent_of(largest: float) -> int:
    """Exponent of the power of two that is just above a magnitude."""
    if largest == 0.0:
        return _LEAST_EXPONENT
    return max(_LEAST_EXPONENT, int(np.frexp(largest)[1]))


METHODS: dict[str, Callable[[Histogram], float]] = {
    'kl': kl_range, 'mse': mse_range, 'percentile': percentile_range, 'minmax': minmax_range,
}
"""The ways to find a range, by the names that `--method` takes."""
