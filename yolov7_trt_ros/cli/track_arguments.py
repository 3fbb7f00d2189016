"""Arguments of track ids, for the verbs that detect in sequences. Light imports."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from yolov7_trt_ros.core.tracks.track_options import (
    BYTETRACK,
    LONGEST_LOST_S,
    OFF,
    TRACK_MODES,
    TrackOptions,
)


def add_track_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of tracking."""
    group = parser.add_argument_group('track ids')
    group.add_argument(
        '--track', choices=TRACK_MODES, default=TrackOptions.mode,
        help='give each object in a video, stream or topic a lasting id, with iou (overlapping '
        'boxes) or bytetrack (predicted motion, weak detections too) (default: %(default)s)',
    )
    group.add_argument(
        '--track-lost', type=float, metavar='S',
        help='seconds that an object may be out of sight and keep its id, '
        f'0..{LONGEST_LOST_S:g} '
        f'(default: {TrackOptions.lost_s})',
    )
    group.add_argument(
        '--track-low-score', type=float, metavar='S',
        help='minimum score of detections that bytetrack follows, 0..1 '
        f'(default: {TrackOptions.low_score})',
    )


def track_options(args: argparse.Namespace) -> TrackOptions:
    """
    Return the tracking options.

    Raises
    ------
    SettingError
        A value is out of its range.

    """
    given = {'lost_s': args.track_lost, 'low_score': args.track_low_score}
    return TrackOptions(args.track, **{
        name: value for name, value in given.items() if value is not None
    })


def needed(args: argparse.Namespace) -> dict[str, tuple[bool, dict[str, bool]]]:
    """Return the options that have an effect only with another one, and whether that is given."""
    if not hasattr(args, 'track'):
        return {}
    return {
        '--track iou or bytetrack': (
            args.track != OFF, {'--track-lost': args.track_lost is not None}),
        '--track bytetrack': (
            args.track == BYTETRACK, {'--track-low-score': args.track_low_score is not None}),
    }


def track_record(args: argparse.Namespace) -> dict[str, Any]:
    """Return what the JSON of a run states about tracking; nothing if it is off."""
    if args.track == OFF:
        return {}
    return {'track': dataclasses.asdict(track_options(args))}
