"""
What the governor learns: latency and power of each clock state it has been in, and their spread.

No formula in the clocks predicts how long a frame takes: a fit in 1/f that does not know the
memory clock misses every fourth deadline, and a term in 1/f_emc does not repair it. So there is a
table with one row per state of GPU, memory (EMC) and CPU clock. What has not been measured is only
ever bounded: no frame can be slowed by more than the clock that fell furthest. The margin above a
row comes from observed quantiles, not from a standard deviation.

All values are frozen; every method returns a new one.

"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
import heapq
import math
from typing import NamedTuple

RESCALED_ALLOWANCE = 1.08
"""Rows of an earlier workload were scaled by one factor for all: they may be this much too low."""

SPREAD_FRAMES = 1000
"""How many frames the quantiles remember."""

FORGETTING = 1.0 - 1.0 / 20000.0
"""What a frame takes away from the slowest one remembered."""

PRIOR_QUANTILE = 1.25
"""The margin before enough frames have been seen to know their quantiles."""

ENOUGH_FOR_QUANTILES = 60

REFINING_FRAMES = 60
"""A row is the mean of the medians of this many frames; then it is left alone."""


class ClockState(NamedTuple):
    """
    Upper limits, and so in effect clocks, of GPU, memory and CPU.

    A clock that nobody controls is 0, and is left out of every comparison.

    """

    gpu_mhz: float
    emc_mhz: float = 0.0
    cpu_mhz: float = 0.0

    def worst_slowdown_from(self, known: ClockState) -> float:
        """
        Return the largest factor by which a frame can be slower here than at `known`.

        Whatever a frame waits for, it is done by one of the clocks; the ratio of the one that
        fell furthest bounds them all. 1.0 when none is lower.

        """
        ratios = (there / here for here, there in zip(self, known, strict=True) if here > 0)
        return max(1.0, *ratios)

    def within(self, other: ClockState) -> bool:
        """Return whether no clock is higher than that of `other`."""
        return all(here <= there for here, there in zip(self, other, strict=True))


@dataclass(frozen=True)
class Row:
    """
    What was measured at one clock state.

    Parameters
    ----------
    latency_ms
        Typical (median) latency; None before any frame.
    frames
        How many frames went into it.
    level
        The workload level it belongs to; a row of an older level was scaled since.
    power_w, power_level
        Mean power of the board, and the level at which it was measured.

    """

    latency_ms: float | None = None
    frames: int = 0
    level: int = 0
    power_w: float | None = None
    power_level: int = 0


@dataclass(frozen=True)
class Table:
    """
    One row per clock state that was visited.

    Parameters
    ----------
    level
        Counts changes of the workload. A change scales all latencies by what it did to the state
        in use; the scaled rows are believed with an allowance until measured again.

    """

    rows: Mapping[ClockState, Row] = field(default_factory=dict)
    level: int = 0

    def row(self, state: ClockState) -> Row:
        """Return the row of a state, an empty one when it was never visited."""
        return self.rows.get(state, Row())

    def with_latency(self, state: ClockState, median_ms: float, frames: int) -> Table:
        """Return the table after `frames` new frames with this median at `state`."""
        row = self.row(state)
        if row.latency_ms is None or row.level != self.level:
            known, latency_ms = 0, median_ms
        else:
            known = row.frames
            latency_ms = (row.latency_ms * known + median_ms * frames) / (known + frames)
        if known >= REFINING_FRAMES:
            return self
        return self._with(state, replace(
            row, latency_ms=latency_ms, frames=known + frames, level=self.level,
        ))

    def with_power(self, state: ClockState, power_w: float) -> Table:
        """
        Return the table after a settled power reading at `state`.

        The first reading after a change of workload scales the rows of older levels as well.

        """
        row = self.row(state)
        if row.power_w is None or row.power_level == self.level:
            mean_w = power_w if row.power_w is None else 0.9 * row.power_w + 0.1 * power_w
            return self._with(state, replace(row, power_w=mean_w, power_level=self.level))
        scaled = self.with_power_scaled(power_w / row.power_w)
        return scaled._with(state, replace(row, power_w=power_w, power_level=self.level))

    def with_power_scaled(self, factor: float) -> Table:
        """Return the table with the power of all rows of older levels multiplied."""
        return replace(self, rows={
            state: replace(row, power_w=row.power_w * factor, power_level=self.level)
            if row.power_w is not None and row.power_level != self.level else row
            for state, row in self.rows.items()
        })

    def shifted(self, state: ClockState, factor: float, median_ms: float, frames: int) -> Table:
        """Return the table after the workload grew by `factor`; `state` was measured anew."""
        rows = {
            key: row if row.latency_ms is None
            else replace(row, latency_ms=row.latency_ms * factor)
            for key, row in self.rows.items()
        }
        return Table(rows, self.level + 1).with_latency(state, median_ms, frames)

    def expected_ms(self, state: ClockState) -> float | None:
        """
        Return the median latency to count on at `state`; None when nothing was measured yet.

        A row of this level counts as it is. Otherwise the lower of two cautious answers: the
        row of an older level with an allowance, and the bound from each row of this level.

        """
        row = self.row(state)
        if row.latency_ms is not None and row.level == self.level:
            return row.latency_ms
        answers = [
            other.latency_ms * state.worst_slowdown_from(key)
            for key, other in self.rows.items()
            if other.latency_ms is not None and other.level == self.level
        ]
        if row.latency_ms is not None:
            answers.append(row.latency_ms * RESCALED_ALLOWANCE)
        return min(answers, default=None)

    def expected_w(self, state: ClockState, top: ClockState) -> float:
        """
        Return the power to count on at `state`, in watts; only comparisons mean something.

        Measured where the state was visited; elsewhere a visited neighbour, scaled with a guess
        that only has to be right in direction: a wrong one costs one visit.

        """
        measured = {key: row.power_w for key, row in self.rows.items() if row.power_w is not None}
        if state in measured:
            return measured[state]
        guess = guessed_power(state, top)
        if not measured:
            return guess
        nearest = min(measured, key=lambda key: abs(math.log(guess / guessed_power(key, top))))
        return measured[nearest] * guess / guessed_power(nearest, top)

    def _with(self, state: ClockState, row: Row) -> Table:
        return replace(self, rows={**self.rows, state: row})


def guessed_power(state: ClockState, top: ClockState) -> float:
    """Return a guess of the power relative to that at `top`, before anything was measured."""
    gpu, emc, cpu = (
        here / there if there > 0 else 1.0 for here, there in zip(state, top, strict=True)
    )
    return 0.5 + 0.35 * gpu**2 + 0.08 * emc + 0.07 * cpu


@dataclass(frozen=True)
class Spread:
    """
    How frames scatter around the median of their state: latency / median, the last ones.

    The scatter is pooled over the states, so its rare values are known long before each state
    has seen them. The largest one is remembered much longer than the rest: a spell of slow frames
    every half minute is nothing new.

    """

    ratios: tuple[float, ...] = ()
    worst: float = 0.0

    def with_ratios(self, ratios: Iterable[float]) -> Spread:
        """Return the spread with newer frames, the oldest forgotten."""
        newer = tuple(ratios)
        worst = 1.0 + (self.worst - 1.0) * FORGETTING ** len(newer)
        return Spread((*self.ratios, *newer)[-SPREAD_FRAMES:], max(worst, *newer, 0.0))

    def quantile(self, fraction: float) -> float:
        """
        Return the ratio that this fraction of the frames stays under.

        An observed value, never one between two. With few frames at least `PRIOR_QUANTILE`.

        """
        if not self.ratios:
            return PRIOR_QUANTILE
        number = len(self.ratios)
        above = min(number, max(1, number - math.ceil(fraction * number)))
        value = heapq.nlargest(above, self.ratios)[-1]
        return value if number >= ENOUGH_FOR_QUANTILES else max(value, PRIOR_QUANTILE)

    def is_new(self, ratio: float) -> bool:
        """Return whether no frame remembered was as slow: then the workload changed."""
        return ratio > 1.03 * (self.worst or PRIOR_QUANTILE)
