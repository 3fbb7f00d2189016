"""TrackOptions: how objects are followed from image to image, as people set it. Light imports."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from yolov7_trt_ros.errors import SettingError

if TYPE_CHECKING:
    from yolov7_trt_ros.core.detector import DetectSettings

OFF, IOU, BYTETRACK = 'off', 'iou', 'bytetrack'
TRACK_MODES = (OFF, IOU, BYTETRACK)
LONGEST_LOST_S = 3600.0


@dataclasses.dataclass(frozen=True)
class TrackOptions:
    """
    Options of tracking.

    Attributes
    ----------
    mode
        `off`; `iou`: by the overlap with the box of before; `bytetrack`: by the overlap with
        where that has moved to, and by detections below the score threshold too.
    lost_s
        How long an object may be invisible and keep its id, by the stamps of images.
    low_score
        Least score of what `bytetrack` follows a track by.

    Raises
    ------
    SettingError
        A value is out of its range.

    """

    mode: str = OFF
    lost_s: float = 1.0
    low_score: float = 0.1

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.mode not in TRACK_MODES:
            raise SettingError(f'track must be one of {", ".join(TRACK_MODES)}, got {self.mode!r}')
        for name, value, most in (
            ('track_lost_s', self.lost_s, LONGEST_LOST_S), ('track_low_score', self.low_score, 1.0)
        ):
            if not 0 <= value <= most:  # written so that NaN fails
                raise SettingError(f'{name} must be within 0..{most:g}, got {value}')

    def asked(self, settings: DetectSettings) -> DetectSettings:
        """Return the settings for a detector: `settings`, extended for tracking."""
        if self.mode != BYTETRACK:
            return settings
        return dataclasses.replace(
            settings, score_threshold=min(settings.score_threshold, self.low_score),
            class_thresholds=tuple(
                (class_id, min(score, self.low_score))
                for class_id, score in settings.class_thresholds
            ),
        )
