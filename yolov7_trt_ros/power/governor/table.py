"""
ClockTable: the latency and power of clock states, as learned. Spread: the scatter of latencies.

No formula in the clocks predicts the latency of a frame: a fit in 1/f without the memory clock
misses every fourth deadline, and a term in 1/f_emc does not repair it. So there is a table: each
switch from one state to another gives the ratio of latency and of power between them. For a state
that was never used there is only a bound: no frame slows down by more than the clock that is
reduced most. The margin comes from observed frames, not from a standard deviation.

All values are frozen; every method returns a new one.

"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
import math
from typing import NamedTuple

OTHER_WORKLOAD = 1.04
"""Allowance for a ratio that was learned from another workload."""

NEW_SHARE = 0.5
"""Weight of a new measurement of a ratio."""

DEAREST = 1.02
"""Largest ratio of power accepted for lower clocks."""

SPREAD_FRAMES = 6000
"""Approximate number of frames in the spread."""

FORGETTING = 1.0 - 1.0 / 20000.0
"""Factor by which each frame reduces the slowest one remembered."""

PRIOR_RATIO = 1.25
"""Assumed ratio of a slow frame to its neighbours, before any was seen."""

PRIOR_FRAMES = 0.5
"""Number of frames that this assumption counts as."""

_BIN = 0.01


class ClockState(NamedTuple):
    """
    Upper limits, and so in effect clocks, of GPU, memory and CPU.

    A clock that is neither controlled nor read is 0, and is left out of comparisons.

    """

    gpu_mhz: float
    emc_mhz: float = 0.0
    cpu_mhz: float = 0.0

    def worst_slowdown_from(self, known: ClockState) -> float:
        """
        Return the largest factor by which a frame can be slower than at `known`.

        Every part of a frame depends on one of the clocks, so the largest ratio of them is a
        bound. 1.0 if none is lower.

        """
        ratios = (
            there / here for here, there in zip(self, known, strict=True) if here > 0 < there
        )
        return max(1.0, *ratios)

    def within(self, other: ClockState) -> bool:
        """Whether no clock is higher than that of `other`."""
        return all(here <= there for here, there in zip(self, other, strict=True))


@dataclass(frozen=True)
class ClockTable:
    """
    Clock states that were used, as ratios to the first of them.

    Parameters
    ----------
    slowness
        Latency of a frame.
    power
        Power of the board.

    """

    slowness: Mapping[ClockState, float] = field(default_factory=dict)
    power: Mapping[ClockState, float] = field(default_factory=dict)

    def with_slowness(self, before: ClockState, after: ClockState, ratio: float) -> ClockTable:
        """
        Return the table after frames became slower by `ratio` from one state to another.

        The ratio is limited by the clocks; beyond them it is another workload.

        """
        least = 1.0 / before.worst_slowdown_from(after)
        bounded = min(max(ratio, least), after.worst_slowdown_from(before))
        return replace(self, slowness=_linked(self.slowness, before, after, bounded))

    def with_power(self, before: ClockState, after: ClockState, ratio: float) -> ClockTable:
        """
        Return the table after the power changed by `ratio` from one state to another.

        Lower clocks do not take much more power for the same work, so the ratio is limited.

        """
        if after.within(before):
            ratio = min(ratio, DEAREST)
        elif before.within(after):
            ratio = max(ratio, 1.0 / DEAREST)
        return replace(self, power=_linked(self.power, before, after, ratio))

    def slowdown(self, known: ClockState, wanted: ClockState) -> float:
        """
        Return the expected slowdown at `wanted` of a frame that was seen at `known`.

        The lowest of several cautious estimates: the learned ratio with an allowance, and the
        bound from each used state.

        """
        if known == wanted:
            return 1.0
        answers = [wanted.worst_slowdown_from(known)]
        here = self.slowness.get(known)
        if here is not None:
            answers += [
                OTHER_WORKLOAD * there / here * wanted.worst_slowdown_from(visited)
                for visited, there in self.slowness.items()
            ]
        return min(answers)

    def expected_w(self, state: ClockState, top: ClockState) -> float:
        """
        Return the expected power at `state`, in relative units.

        The measured power if the state was used; else that of a used neighbour, scaled with a
        guess that only needs the right direction: a wrong one costs one visit.

        """
        if state in self.power:
            return self.power[state]
        guess = guessed_power(state, top)
        if not self.power:
            return guess
        nearest = min(self.power, key=lambda key: abs(math.log(guess / guessed_power(key, top))))
        return self.power[nearest] * guess / guessed_power(nearest, top)


def _linked(
    known: Mapping[ClockState, float], before: ClockState, after: ClockState, ratio: float
) -> dict[ClockState, float]:
    """Return the ratios to the first state, with two states set to `ratio`."""
    linked = dict(known) or {before: 1.0}
    if before in linked:
        value = linked[before] * ratio
        linked[after] = value + (linked.get(after, value) - value) * (1.0 - NEW_SHARE)
    elif after in linked:
        linked[before] = linked[after] / ratio
    return linked


def guessed_power(state: ClockState, top: ClockState) -> float:
    """Return a guess of the power relative to that at `top`, before anything was measured."""
    gpu, emc, cpu = (
        here / there if there > 0 else 1.0 for here, there in zip(state, top, strict=True)
    )
    return 0.5 + 0.35 * gpu**2 + 0.08 * emc + 0.07 * cpu


@dataclass(frozen=True)
class Spread:
    """
    The scatter of frames around their neighbours, as a histogram that forgets slowly.

    It is shared by all states and sources, so rare values are known before each has seen them.
    The slowest one is remembered much longer than the rest, so that slow frames every half minute
    are not new.

    Parameters
    ----------
    bins
        Weight by the logarithm of the ratio, in steps of one percent.
    frames
        All weights together.
    worst
        The largest ratio.

    """

    bins: Mapping[int, float] = field(default_factory=dict)
    frames: float = 0.0
    worst: float = 0.0

    def with_ratios(self, ratios: Iterable[float]) -> Spread:
        """Return the spread with newer frames, and less weight of older ones."""
        newer = tuple(ratios)
        if not newer:
            return self
        kept = (1.0 - 1.0 / SPREAD_FRAMES) ** len(newer)
        bins = {key: weight * kept for key, weight in self.bins.items()}
        for ratio in newer:
            bins[_bin(ratio)] = bins.get(_bin(ratio), 0.0) + 1.0
        worst = 1.0 + (self.worst - 1.0) * FORGETTING ** len(newer)
        return Spread(bins, self.frames * kept + len(newer), max(worst, *newer, 0.0))

    def share_above(self, ratio: float) -> float:
        """Return the share of frames that are slower than this ratio, 0 to 1."""
        prior = PRIOR_FRAMES * (ratio < PRIOR_RATIO)
        weight, place = 0.0, _bin(ratio)
        for key, above in self._above:
            if key < place:
                break
            weight = above
        return (weight + prior) / (self.frames + PRIOR_FRAMES)

    def is_new(self, ratio: float) -> bool:
        """Whether no remembered frame was as slow, which means another workload."""
        return ratio > 1.03 * (self.worst or PRIOR_RATIO)

    @cached_property
    def _above(self) -> list[tuple[int, float]]:
        """Each bin from the slowest down, with the weight of it and of those above."""
        found, weight = [], 0.0
        for key in sorted(self.bins, reverse=True):
            weight += self.bins[key]
            found.append((key, weight))
        return found


def _bin(ratio: float) -> int:
    return math.floor(math.log(max(ratio, 1e-6)) / _BIN)
