"""What a comparison counts as the same detection, and its limits. Light imports."""

from __future__ import annotations

import dataclasses

from yolov7_trt_ros.errors import SettingError


@dataclasses.dataclass(frozen=True)
class CompareSettings:
    """
    What counts as the same detection.

    Attributes
    ----------
    iou
        Least overlap of partners, above 0, at most 1.
    score_threshold
        From this score on a detection must have a partner, 0..1. The partner's may be less.

    Raises
    ------
    SettingError
        A value out of its range.

    """

    iou: float = 0.5
    score_threshold: float = 0.25

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 < self.iou <= 1:
            raise SettingError(f'--iou must be above 0 and at most 1, got {self.iou:g}')
        if not 0 <= self.score_threshold <= 1:
            raise SettingError(
                f'--score-threshold must be within 0..1, got {self.score_threshold:g}'
            )


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
                raise SettingError(f'{option_of(name)} must be within 0..1, got {value:g}')


def option_of(name: str) -> str:
    """Return the command line option of a setting: `--max-drift`."""
    return f'--{name.replace("_", "-")}'
