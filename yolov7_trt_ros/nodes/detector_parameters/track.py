"""Parameters of track ids: part of the detector's table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yolov7_trt_ros.core.tracks.track_options import LONGEST_LOST_S, TRACK_MODES, TrackOptions
from yolov7_trt_ros.nodes.parameter_spec import ParameterSpec

_TRACK = TrackOptions()

TRACK_PARAMETERS = (
    ParameterSpec(
        'track', _TRACK.mode,
        'Id of an object that it keeps from image to image: by overlap with its last box (iou), '
        'or with its expected box, and with weak detections too (bytetrack).', choices=TRACK_MODES,
        runtime=True, per_topic=True,
    ),
    ParameterSpec(
        'track_lost_s', _TRACK.lost_s,
        'Time that an object may be out of sight and keep its id, in seconds of the stamps.', 0.0,
        LONGEST_LOST_S, runtime=True, per_topic=True,
    ),
    ParameterSpec(
        'track_low_score', _TRACK.low_score,
        'Minimum score of the detections that bytetrack uses. Those below score_threshold are not '
        'published.', 0.0, 1.0, runtime=True, per_topic=True,
    ),
)
"""How objects are followed."""


def track_options(values: Mapping[str, Any]) -> TrackOptions:
    """Return how objects are followed."""
    return TrackOptions(values['track'], values['track_lost_s'], values['track_low_score'])
