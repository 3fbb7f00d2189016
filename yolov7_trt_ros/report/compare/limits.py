"""The limits of a comparison, and whether it exceeds them."""

from __future__ import annotations

import dataclasses

from yolov7_trt_ros.report.compare.result import ComparisonResult
from yolov7_trt_ros.report.compare.settings import CompareLimits, option_of


@dataclasses.dataclass(frozen=True)
class Exceeded:
    """A limit that does not hold: its option, what it is, what was found, and in words."""

    option: str
    limit: float
    value: float
    text: str


@dataclasses.dataclass(frozen=True)
class CheckedLimit:
    """
    A limit beside what was found.

    Attributes
    ----------
    option, limit
        Of the command line, and its value.
    value, what
        What was found, and what that is.
    is_most
        Whether the value may be at most the limit, rather than at least.

    """

    option: str
    limit: float
    value: float
    what: str
    is_most: bool = False

    @property
    def holds(self) -> bool:
        """Whether the value is within the limit."""
        return self.value <= self.limit if self.is_most else self.value >= self.limit

    @property
    def exceeded(self) -> Exceeded:
        """Return it as a limit that does not hold."""
        side = 'over' if self.is_most else 'under'
        text = f'{self.what} {self.value:.4f} is {side} {self.option} {self.limit:g}'
        return Exceeded(self.option, self.limit, self.value, text)


def check_limits(result: ComparisonResult, limits: CompareLimits) -> list[CheckedLimit]:
    """Return every limit with the value found; drift only if anything was matched."""
    found = []
    if result.drift is not None:
        found.append(CheckedLimit(option_of('max_drift'), limits.max_drift, result.drift.p95,
                                  'score drift (p95)', is_most=True))
    for name, limit, value, what in (
        ('min_ap50', limits.min_ap50, result.ap50, 'AP50'),
        ('min_matched', limits.min_matched, result.total.matched_share, 'matched detections'),
        ('min_frames', limits.min_frames, result.frames.share, 'frames of the reference compared'),
    ):
        found.append(CheckedLimit(option_of(name), limit, value, what))
    return found


def exceeded_limits(result: ComparisonResult, limits: CompareLimits) -> list[Exceeded]:
    """Return the limits that a result exceeds."""
    return [each.exceeded for each in check_limits(result, limits) if not each.holds]
