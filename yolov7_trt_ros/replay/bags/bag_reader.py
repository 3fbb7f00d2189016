"""BagReader: the images of a bag, without ROS."""

from __future__ import annotations

import collections
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from yolov7_trt_ros.core.defaults import DEFAULT_MAX_DECODED_PIXELS
from yolov7_trt_ros.core.messages.image_message import view_message
from yolov7_trt_ros.core.units import is_proper_stamp, stamp_to_ns
from yolov7_trt_ros.errors import BagError, ImageError
from yolov7_trt_ros.replay.bags.bag_parts import OpenBag
from yolov7_trt_ros.replay.bags.depth_topics import find_depth
from yolov7_trt_ros.replay.bags.rosbags_adapter import (
    DAMAGE,
    IMAGE_TYPES,
    load_typestore,
    RawMessage,
    read_qos,
)
from yolov7_trt_ros.replay.frames import BadFrame, Frame


class BagReader:
    """
    The images of a bag: a folder, or a single .mcap or .db3 file.

    Each iteration reads from the start. Nothing stays open in between.

    Parameters
    ----------
    path
        Bag folder or file. `warnings` has its problems: missing or wrong metadata.yaml, a file
        that was not closed. Lost parts are yielded as `BadFrame`.
    topics
        Image topics, with or without the leading slash; empty for all, except those whose first
        message is depth.
    every
        Use every n-th message of each topic.
    max_pixels
        Maximum width x height of a decoded compressed image.
    stamps_ns
        Decode only images with these header stamps; None for all.

    Attributes
    ----------
    topics
        Message type of each image topic that is read, in the order of the bag.
    qos
        Recorded QoS profiles of each topic, as rosbags returns them.
    count
        Number of messages; None for incomplete bags.
    warnings
        Include skipped topics; extended when all was read.

    Raises
    ------
    BagError
        Missing, unreadable, or without the requested topics.

    """

    kind = 'bag'
    fps: float | None = None

    def __init__(
        self, path: Path, *, topics: Sequence[str] = (), every: int = 1,
        max_pixels: int = DEFAULT_MAX_DECODED_PIXELS, stamps_ns: Collection[int] | None = None,
    ) -> None:
        self.path = path
        self._stamps_ns = stamps_ns
        self._every = every
        self._max_pixels = max_pixels
        self._bag = OpenBag(path)
        self.warnings: list[str] = list(self._bag.warnings)
        self.topics = self._choose_topics(topics)
        qos = {name: text for part in self._bag.parts for name, text in part.qos.items()}
        self.qos = {topic: read_qos(qos.get(topic, '')) for topic in self.topics}
        stated = [-(-self._bag.stated[topic] // every) for topic in self.topics]
        self.count: int | None = None if self._bag.warnings or self._bag.errors else sum(stated)

    def __iter__(self) -> Iterator[Frame | BadFrame]:
        """
        Yield one item per image message, in the order of recording.

        A message that cannot be used, and messages that the bag lacks, are `BadFrame`s.

        """
        seen: collections.Counter[str] = collections.Counter()
        improper: collections.Counter[str] = collections.Counter()
        for error in self._bag.errors:
            yield self._lost(error, seen)
        for part in self._bag.parts:
            for item in part.messages(self.topics):
                if isinstance(item, BagError):
                    yield self._lost(item, seen)
                    continue
                index = seen[item.topic]
                seen[item.topic] += 1
                if index % self._every == 0:
                    frame = self._frame(item, index // self._every, improper)
                    if frame is not None:
                        yield frame
        missing = self._bag.missing(self.topics, seen)
        if not seen and not missing:
            missing = [BagError(f'{self.path} has no message on {", ".join(self.topics)}')]
        for error in missing:
            yield self._lost(error, seen)
        self._warn_of_stamps(improper)

    def _warn_of_stamps(self, improper: collections.Counter[str]) -> None:
        for topic, count in improper.items():
            text = (
                f'{topic}: {count} stamps are not proper (nanoseconds of a second and more, or a '
                'time before 1970); taken as seconds plus nanoseconds'
            )
            if text not in self.warnings:
                self.warnings.append(text)

    def _lost(self, error: BagError, seen: collections.Counter[str]) -> BadFrame:
        return BadFrame(error, self.path.name, seen.total(), self.path)

    def _frame(
        self, raw: RawMessage, index: int, improper: collections.Counter[str]
    ) -> Frame | BadFrame | None:
        """Return the frame of a message; None if its stamp is not requested."""
        try:
            message = _deserialize(raw)
            if not self._wants(message):
                return None
            image = view_message(message, max_pixels=self._max_pixels)
        except ImageError as exc:
            error = ImageError(f'{raw.topic} message {index}: {exc}')
            error.__cause__ = exc
            return BadFrame(error, raw.topic, index, self.path, raw.log_time_ns, raw.data)
        header = message.header
        if not is_proper_stamp(header.stamp):
            improper[raw.topic] += 1
        stamp_ns = stamp_to_ns(header.stamp)
        return Frame(
            image, stamp_ns, header.frame_id, raw.topic, index, self.path,
            raw.log_time_ns, raw.data,
        )

    def _wants(self, message: Any) -> bool:
        return self._stamps_ns is None or stamp_to_ns(message.header.stamp) in self._stamps_ns

    def _choose_topics(self, wanted: Sequence[str]) -> dict[str, str]:
        """Return the image topics to read and their types; warn of depth topics."""
        images = self._image_topics()
        names = [topic if topic in images else f'/{topic.lstrip("/")}' for topic in wanted]
        for name in names:
            if name not in images:
                held = self._bag.topics
                found = f'is {held[name]}' if name in held else 'is not in the bag'
                raise BagError(
                    f'{self.path}: topic {name} {found}; image topics: {", ".join(images)}'
                )
        chosen = [topic for topic in images if not names or topic in names]
        depth = find_depth(self._bag.parts, chosen, by_name=not names)
        skipped = ', '.join(f'{topic} ({encoding})' for topic, encoding in depth.items())
        reason = 'depth or other measurements, no pictures'
        if names and depth:
            raise BagError(f'{self.path}: cannot detect in {skipped}: {reason}')
        if len(depth) == len(images):
            raise BagError(f'{self.path} has no topic to detect in but {skipped}: {reason}')
        if depth:
            self.warnings.append(f'passed over {skipped}: {reason}')
        return {topic: images[topic] for topic in chosen if topic not in depth}

    def _image_topics(self) -> dict[str, str]:
        held = self._bag.topics
        images = {topic: kind for topic, kind in held.items() if kind in IMAGE_TYPES}
        if not images:
            others = ', '.join(f'{topic} ({kind})' for topic, kind in held.items()) or 'nothing'
            raise BagError(f'{self.path} has no image topics; it has {others[:400]}')
        return images


def _deserialize(raw: RawMessage) -> Any:
    try:
        return load_typestore().deserialize_cdr(memoryview(raw.data), raw.msgtype)
    except DAMAGE as exc:
        raise ImageError(f'damaged: its {len(raw.data)} bytes are not a {raw.msgtype}') from exc
