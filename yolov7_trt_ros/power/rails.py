"""Power of the supply rails of a board: current, average and largest."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses


@dataclasses.dataclass(frozen=True)
class RailPower:
    """
    Power of one rail.

    Attributes
    ----------
    current_mw
        Current value. The sensor of a Jetson averages over about 430 ms.
    average_mw
        Mean since the source was opened, or tegrastats started; None if unknown.
    max_mw
        Largest since then; tegrastats prints it since R39.2, else None.

    """

    current_mw: float
    average_mw: float | None = None
    max_mw: float | None = None


class RunningMeans:
    """Mean and largest reading of each rail so far, as tegrastats prints them."""

    def __init__(self) -> None:
        self._sums_mw: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._largest_mw: dict[str, float] = {}

    def add(self, currents_mw: Mapping[str, float]) -> dict[str, RailPower]:
        """Take new readings in mW, by rail, and return them with their means."""
        return {name: self._add_one(name, value) for name, value in currents_mw.items()}

    def _add_one(self, name: str, current_mw: float) -> RailPower:
        self._sums_mw[name] = self._sums_mw.get(name, 0.0) + current_mw
        self._counts[name] = self._counts.get(name, 0) + 1
        self._largest_mw[name] = max(current_mw, self._largest_mw.get(name, current_mw))
        mean_mw = self._sums_mw[name] / self._counts[name]
        return RailPower(current_mw, mean_mw, self._largest_mw[name])
