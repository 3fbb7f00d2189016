"""The pictures of the frames that differ most, for the page of `compare`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import dataclasses
from pathlib import Path

from yolov7_trt_ros.cli import output
from yolov7_trt_ros.core.topics import images_of_detections
from yolov7_trt_ros.errors import BagError, InputError
from yolov7_trt_ros.home_folder import expand_home
from yolov7_trt_ros.replay.bags.bag_reader import BagReader
from yolov7_trt_ros.replay.frames import Frame
from yolov7_trt_ros.report.compare.frame_drawing import shrink, SmallPicture
from yolov7_trt_ros.report.compare.page import Key
from yolov7_trt_ros.report.compare.result import FrameDifference


@dataclasses.dataclass(frozen=True)
class FramePictures:
    """Pictures by detections topic and stamp; a sentence if some are missing."""

    found: dict[Key, SmallPicture]
    error: str = ''


def find_holders(args: argparse.Namespace) -> list[Path]:
    """
    Return the bags that contain images; only that of --images if given.

    Raises
    ------
    BagError
        That of --images contains none.

    """
    if args.html is None:
        return []
    if args.images is not None:
        return [BagReader(expand_home(args.images)).path]
    found = []
    for path in dict.fromkeys((expand_home(args.reference), expand_home(args.new))):
        try:
            found.append(BagReader(path).path)
        except InputError:  # if it is damaged, reading its detections reports it
            continue
    return found


def read_pictures(worst: Sequence[FrameDifference], holders: Sequence[Path]) -> FramePictures:
    """Return the pictures of some frames, from the first bag that has each."""
    wanted = {(frame.topic, frame.stamp_ns) for frame in worst}
    found: dict[Key, SmallPicture] = {}
    for path in holders:
        missing = wanted - set(found)
        if missing:
            found |= _read_from(path, missing)
    missing = wanted - set(found)
    if not missing:
        return FramePictures(found)
    where = ' and '.join(map(str, holders))
    why = (f'{len(missing)} of these frames have no picture in {where}' if holders else
           'the bags contain no images: give them with --images BAG')
    return FramePictures(found, f'Frames without a picture show boxes only: {why}.')


def _read_from(path: Path, wanted: set[Key]) -> dict[Key, SmallPicture]:
    """Return the wanted pictures that a bag has."""
    try:
        carried = BagReader(path).topics
        topics = {
            image: topic for topic in dict(wanted)
            for image in images_of_detections(topic, tuple(carried))
        }
        if not topics:
            return {}
        stamps = {stamp_ns for _, stamp_ns in wanted}
        reader = BagReader(path, topics=tuple(topics), stamps_ns=stamps)
    except BagError as exc:
        output.warn(exc)
        return {}
    found: dict[Key, SmallPicture] = {}
    with output.progress_bar('pictures of the frames', len(wanted)) as advance:
        for item in reader:
            if not isinstance(item, Frame):
                continue
            key = topics[item.source], item.stamp_ns
            if key in wanted and key not in found and (small := shrink(item.image)) is not None:
                found[key] = small
                advance()
            if len(found) == len(wanted):
                break
    return found
