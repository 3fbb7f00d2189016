"""CropBudget: how many crops fit into the time limit, from the time crops have taken so far."""

from __future__ import annotations

from collections.abc import Sequence
import itertools

from yolov7_trt_ros.core.looks.crops import Crop
from yolov7_trt_ros.core.units import NS_PER_MS

_NEWEST = 0.2
"""Share of the newest crops in the running mean."""
_FORGETS = 0.98
"""What no time was left for may have become quicker: each such frame makes the mean less."""
_MOST_GROWTH = 3.0
"""A crop counts with this many times the mean at most: an engine may prepare a batch size."""


class CropBudget:
    """
    Learns the time of a crop; the first run does not count, for an engine may prepare itself then.

    Parameters
    ----------
    budget_ms
        For the crops of a frame; 0 for no limit.
    crop_ns
        Time of a crop, if known, else 0.

    """

    def __init__(self, budget_ms: float, crop_ns: int = 0) -> None:
        self._budget_ns = budget_ms * NS_PER_MS
        self._crop_ns = float(crop_ns)
        self._is_prepared = crop_ns > 0

    @property
    def crop_ms(self) -> float:
        """Return the time of a crop, 0 if unknown."""
        return self._crop_ns / NS_PER_MS

    def most(self) -> int | None:
        """Return how many crops fit into the budget, None for no limit; one if unknown."""
        if not self._budget_ns:
            return None
        return int(self._budget_ns // self._crop_ns) if self._crop_ns else 1

    def forget_a_little(self) -> None:
        """Note that crops were wanted and there was no time for any."""
        self._crop_ns *= _FORGETS

    def learn(self, crops: int, took_ns: int) -> None:
        """Take what the crops of a frame took."""
        took = took_ns / crops
        if self._crop_ns:
            newest = min(took, _MOST_GROWTH * self._crop_ns)
            self._crop_ns += _NEWEST * (newest - self._crop_ns)
        elif self._is_prepared:
            self._crop_ns = took
        self._is_prepared = True


def share(wanted: Sequence[list[Crop]], most: int | None, turn: int) -> list[list[Crop]]:
    """
    Return as many crops of each image as there is time for: the first of each, then the second.

    Parameters
    ----------
    wanted
        Of each image, the most worthwhile first.
    most
        Of all images together, None for any number.
    turn
        Which image begins, so that each does in turn.

    """
    if most is None or sum(map(len, wanted)) <= most:
        return [list(crops) for crops in wanted]
    first = turn % len(wanted)
    order = [*range(first, len(wanted)), *range(first)]
    ranked = (
        (index, crop)
        for rank in itertools.zip_longest(*(wanted[index] for index in order))
        for index, crop in zip(order, rank, strict=True) if crop is not None
    )
    given: list[list[Crop]] = [[] for _ in wanted]
    for index, crop in itertools.islice(ranked, most):
        given[index].append(crop)
    return given
