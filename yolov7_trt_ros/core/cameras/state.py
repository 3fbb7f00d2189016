"""Camera faults: which there are, since when, and their descriptions."""

from __future__ import annotations

import dataclasses
import enum

from yolov7_trt_ros.core.units import NS_PER_S
from yolov7_trt_ros.errors import SettingError


class CameraState(enum.Enum):
    """What is amiss with a camera, the worst first."""

    SILENT = 'silent'
    FROZEN = 'frozen'
    DARK = 'dark'
    BRIGHT = 'bright'
    LATE = 'late'
    OK = 'ok'


@dataclasses.dataclass(frozen=True)
class WatchLimits:
    """
    Limits from which a camera counts as faulty; 0 disables one, except `silent_ns`.

    Attributes
    ----------
    frozen_frames
        Repeats in a row of a picture, or of a stamp.
    blank_share
        Share of a picture that is black, or white, 0..1.
    late_ns
        Difference between stamps and the clock at arrival, in either direction.
    drift_ns
        Change of that difference since the camera appeared.
    silent_ns
        Time without any image.

    Raises
    ------
    SettingError
        With one repeat any two equal pictures would mean a frozen camera.

    """

    frozen_frames: int = 30
    blank_share: float = 0.98
    late_ns: int = NS_PER_S
    drift_ns: int = NS_PER_S // 10
    silent_ns: int = NS_PER_S

    def __post_init__(self) -> None:
        """Check the number of frames."""
        if self.frozen_frames == 1:
            raise SettingError('camera_frozen_frames must be 0 (never) or at least 2, got 1')


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What is amiss, as a sentence for people, and facts by name."""

    state: CameraState
    text: str
    facts: dict[str, str]
