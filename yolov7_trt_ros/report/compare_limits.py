"""How far a comparison may go before it fails."""

from __future__ import annotations

import dataclasses

from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.report.compare_result import ComparisonResult


@dataclasses.dataclass(frozen=True)
class CompareLimits:
    """
    Limits, each within 0..1.

    Attributes
    ----------
    max_drift
        Of the score of 95 % of the matched detections.
    min_ap50
        Of the mean over the reference's classes.
    min_matched
        Of the matched part of matched, missed and new.
    min_frames
        Part of the reference's frames that the new recording has.

    Raises
    ------
    SettingError
        A value out of its range.

    """

    max_drift: float = 0.05
    min_ap50: float = 0.95
    min_matched: float = 0.98
    min_frames: float = 1.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, value in dataclasses.asdict(self).items():
            if not 0 <= value <= 1:
                raise SettingError(f'{_option(name)} must be within 0..1, got {value:g}')


@dataclasses.dataclass(frozen=True)
class Exceeded:
    """A limit that does not hold: its option, what it is, what was found, and in words."""

    option: str
    limit: float
    value: float
    text: str


def exceeded_limits(result: ComparisonResult, limits: CompareLimits) -> list[Exceeded]:
    """Return the limits that a result is beyond."""
    found = []
    if result.drift is not None and result.drift.p95 > limits.max_drift:
        found.append(_exceeded(
            'max_drift', limits.max_drift, result.drift.p95, 'score drift (p95)', 'over'
        ))
    for name, limit, value, what in (
        ('min_ap50', limits.min_ap50, result.ap50, 'AP50'),
        ('min_matched', limits.min_matched, result.total.matched_share, 'matched detections'),
        ('min_frames', limits.min_frames, result.frames.share, 'frames of the reference compared'),
    ):
        if value < limit:
            found.append(_exceeded(name, limit, value, what, 'under'))
    return found


def _exceeded(name: str, limit: float, value: float, what: str, side: str) -> Exceeded:
    option = _option(name)
    return Exceeded(option, limit, value, f'{what} {value:.4f} is {side} {option} {limit:g}')


def _option(name: str) -> str:
    return f'--{name.replace("_", "-")}'
