"""Events on a simulated board: workloads that step, and arriving frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
import math
import random

from governor_simulation.simulated_board import BoardModel, ORIN_NANO_SUPER, Workload


@dataclass(frozen=True)
class Noise:
    """
    Scatter of the latency: a lognormal, and slow spells that last.

    Parameters
    ----------
    sigma
        Of the lognormal.
    spell_rate
        Probability a frame that a spell begins; it goes on with `spell_stays`.
    spell_factors
        Range of how much slower frames are in a spell.

    """

    sigma: float = 0.02
    spell_rate: float = 0.001
    spell_stays: float = 0.74
    spell_factors: tuple[float, float] = (1.1, 1.4)


CALM = Noise()
PYTHON_NOISE = Noise(0.04, 0.0145, 0.74, (1.45, 1.8))
"""5 % of the frames above 1.5 times the mean, as published for a Python program."""


@dataclass(frozen=True)
class Detector:
    """Another detector on the same GPU: its work, the time between its frames, its deadline."""

    name: str
    workload: Workload
    period_s: float
    deadline_ms: float


@dataclass(frozen=True)
class Trace:
    """
    A workload over time.

    Parameters
    ----------
    segments
        Second at which it begins, and the workload from then on.
    duration_s, period_s
        Length, and time between frames.
    others
        Detectors beside this one; the GPU works on one frame at a time.

    """

    name: str
    segments: tuple[tuple[float, Workload], ...]
    duration_s: float
    period_s: float = 1 / 30
    deadline_ms: float = 1000 / 30
    noise: Noise = CALM
    board: BoardModel = ORIN_NANO_SUPER
    temperature_limit_c: float = 85.0
    others: tuple[Detector, ...] = ()

    def of(self, other: Detector) -> Trace:
        """Return the trace of another detector alone."""
        return replace(
            self, name=f'{self.name} {other.name}', segments=((0.0, other.workload),), others=(),
            period_s=other.period_s, deadline_ms=other.deadline_ms,
        )

    def workload(self, time_s: float) -> Workload:
        """Return the workload at this time."""
        return [load for begin_s, load in self.segments if begin_s <= time_s][-1]


def alternating_trace(
    name: str, workloads: Sequence[Workload], each_s: float, duration_s: float
) -> Trace:
    """Return a trace that goes from one workload to the next at fixed times."""
    count = math.ceil(duration_s / each_s)
    segments = tuple(
        (index * each_s, workloads[index % len(workloads)]) for index in range(count)
    )
    return Trace(name, segments, duration_s)


def random_trace(
    name: str, workloads: Sequence[Workload], seed: int, *, duration_s: float = 300.0,
    steps_s: tuple[float, float] = (8.0, 25.0), period_s: float = 1 / 30,
    deadline_ms: float = 1000 / 30, noise: Noise = CALM, board: BoardModel = ORIN_NANO_SUPER,
    temperature_limit_c: float = 85.0,
) -> Trace:
    """Return a trace that steps at random times between workloads, never to the same one."""
    source = random.Random(f'{name} {seed}')
    segments, begin_s, before = [], 0.0, None
    while begin_s < duration_s:
        others = [load for load in workloads if load is not before] or list(workloads)
        before = source.choice(others)
        segments.append((begin_s, before))
        begin_s += source.uniform(*steps_s)
    return Trace(
        name, tuple(segments), duration_s, period_s, deadline_ms, noise, board,
        temperature_limit_c,
    )


def arrivals(trace: Trace, seed: int) -> Sequence[tuple[float, float]]:
    """Return arrival time and noise of each frame."""
    source, noise = random.Random(f'{seed} {trace.name}'), trace.noise
    spell, found = 0.0, []
    for index in range(int(trace.duration_s / trace.period_s)):
        if source.random() > (noise.spell_stays if spell else noise.spell_rate):
            spell = 0.0
        elif not spell:
            spell = source.uniform(*noise.spell_factors)
        factor = math.exp(source.gauss(0.0, noise.sigma)) * (spell or 1.0)
        jitter_s = source.uniform(0.0, 0.001)
        found.append((index * trace.period_s + jitter_s, factor))
    return found
