"""Arguments of track ids, for the verbs that detect in sequences. Light imports."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from yolov7_trt_ros.core.tracks.track_options import OFF, TRACK_MODES, TrackOptions


def add_track_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of tracking."""
    group = parser.add_argument_group('track ids')
    group.add_argument(
        '--track', choices=TRACK_MODES, default=TrackOptions.mode,
        help='give each object in a video, stream or topic a lasting id, with iou (overlapping '
        'boxes) or bytetrack (predicted motion, weak detections too) (default: %(default)s)',
    )
    group.add_argument(
        '--track-lost', type=float, default=TrackOptions.lost_s, metavar='S',
        help='seconds that an object may be out of sight and keep its id (default: %(default)s)',
    )
    group.add_argument(
        '--track-low-score', type=float, default=TrackOptions.low_score, metavar='S',
        help='minimum score of detections that bytetrack follows (default: %(default)s)',
    )


def track_options(args: argparse.Namespace) -> TrackOptions:
    """
    Return the tracking options.

    Raises
    ------
    SettingError
        A value is out of its range.

    """
    return TrackOptions(args.track, args.track_lost, args.track_low_score)


def track_record(args: argparse.Namespace) -> dict[str, Any]:
    """Return what the JSON of a run states about tracking; nothing if it is off."""
    if args.track == OFF:
        return {}
    return {'track': dataclasses.asdict(track_options(args))}
