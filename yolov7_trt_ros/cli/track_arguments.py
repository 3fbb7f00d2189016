"""Flags of track ids, for the verbs that detect in sequences. Imports stay light."""

from __future__ import annotations

import argparse
from typing import Any, TYPE_CHECKING

if TYPE_CHECKING:
    from yolov7_trt_ros.core.tracks.tracking import TrackOptions

MODES = ('off', 'iou', 'bytetrack')  # a test compares them with those of TrackOptions
LOST_S, LOW_SCORE = 1.0, 0.1


def add_track_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what has objects followed."""
    group = parser.add_argument_group('track ids')
    group.add_argument(
        '--track', choices=MODES, default=MODES[0],
        help='give each object of a video, a stream or a topic an id that it keeps: by '
        'overlapping boxes, or by where they move to and by weak detections too '
        '(default: %(default)s)',
    )
    group.add_argument(
        '--track-lost', type=float, default=LOST_S, metavar='S',
        help='how long it may be out of sight and keep the id, in seconds (default: %(default)s)',
    )
    group.add_argument(
        '--track-low-score', type=float, default=LOW_SCORE, metavar='S',
        help='least score of what bytetrack follows it by (default: %(default)s)',
    )


def track_options(args: argparse.Namespace) -> TrackOptions:
    """
    Return how objects are followed.

    Raises
    ------
    SettingError
        A value is out of its range.

    """
    from yolov7_trt_ros.core.tracks.tracking import TrackOptions

    return TrackOptions(args.track, args.track_lost, args.track_low_score)


def track_record(args: argparse.Namespace) -> dict[str, Any]:
    """Return what the JSON of a run tells of it; nothing where it is off."""
    import dataclasses

    if args.track == MODES[0]:
        return {}
    return {'track': dataclasses.asdict(track_options(args))}
