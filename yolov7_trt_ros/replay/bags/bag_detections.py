"""Read the Detection2DArray messages of a bag as Detections."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.units import stamp_to_ns
from yolov7_trt_ros.errors import BagError
from yolov7_trt_ros.replay.bags.bag_parts import OpenBag
from yolov7_trt_ros.replay.bags.detection_message import DETECTIONS_TYPE
from yolov7_trt_ros.replay.bags.rosbags_adapter import bag_typestore, DAMAGE, RawMessage

_UNREADABLE: tuple[type[BaseException], ...] = (*DAMAGE, AttributeError)
"""AttributeError: the bag's own definition of the type lacks a field."""


@dataclasses.dataclass(frozen=True)
class DetectionFrame:
    """
    The detections of one image.

    Attributes
    ----------
    topic
        Topic of the message.
    stamp_ns
        Header stamp.
    detections
        Their `source_wh` is (0, 0), because messages do not have it.

    """

    topic: str
    stamp_ns: int
    detections: Detections


@dataclasses.dataclass(frozen=True)
class DetectionTrack:
    """
    The detections of one topic.

    Attributes
    ----------
    by_stamp_ns
        Detections by header stamp; their `source_wh` is (0, 0), which messages do not have.
    class_names
        The texts of `class_id`, in order of appearance, indexed by `Detections.class_ids`.

    """

    by_stamp_ns: dict[int, Detections]
    class_names: tuple[str, ...]


class DetectionReader:
    """
    The detections of a bag, frame by frame; no file stays open between iterations.

    Parameters
    ----------
    path
        Bag folder, or a single .mcap or .db3 file; incomplete files are read as far as possible,
        with `warnings`.
    class_ids
        Class ids by the text of `class_id`. New texts are added; readers that share it return
        the same ids.
    topics
        With or without the leading slash; empty for all topics of Detection2DArray.

    Attributes
    ----------
    topics
        The topics that are read, in the order of the bag.
    warnings
        One line for each incomplete part.

    Raises
    ------
    BagError
        Missing, unreadable, or without the requested topics.

    """

    def __init__(
        self, path: Path, class_ids: dict[str, int], *, topics: Sequence[str] = ()
    ) -> None:
        self.path = path
        self._class_ids = class_ids
        self._bag = OpenBag(path)
        self.warnings = tuple(self._bag.warnings)
        self.topics = _choose_topics(path, self._bag.topics, topics)

    def frames(self, topics: Sequence[str] | None = None) -> Iterator[DetectionFrame | BagError]:
        """Yield frames in recorded order; a BagError for each lost part."""
        wanted = self.topics if topics is None else topics
        seen: collections.Counter[str] = collections.Counter()
        yield from self._bag.errors
        for part in self._bag.parts:
            typestore = bag_typestore(part.definitions, DETECTIONS_TYPE)
            for item in part.messages(wanted):
                if isinstance(item, BagError):
                    yield item
                else:
                    seen[item.topic] += 1
                    yield self._frame(item, typestore)
        yield from self._bag.missing(wanted, seen)

    def _frame(self, raw: RawMessage, typestore: Any) -> DetectionFrame | BagError:
        try:
            message = typestore.deserialize_cdr(memoryview(raw.data), raw.msgtype)
            stamp_ns = stamp_to_ns(message.header.stamp)
            found = detections_of(message, self._class_ids)
        except _UNREADABLE as exc:
            return BagError(
                f'{self.path}: a message of {raw.topic} is damaged or not a {raw.msgtype}: {exc}'
            )
        return DetectionFrame(raw.topic, stamp_ns, found)


def read_detections(bag: Path, topic: str) -> DetectionTrack:
    """
    Read every Detection2DArray of a topic.

    Parameters
    ----------
    bag
        Bag folder, or a single .mcap or .db3 file.
    topic
        Detections topic.

    Raises
    ------
    BagError
        The bag cannot be read or does not have the topic.

    """
    names: dict[str, int] = {}
    by_stamp: dict[int, Detections] = {}
    for frame in DetectionReader(bag, names, topics=[topic]).frames():
        if isinstance(frame, BagError):
            raise frame
        by_stamp[frame.stamp_ns] = frame.detections
    return DetectionTrack(by_stamp, tuple(names))


def _choose_topics(
    path: Path, available: dict[str, str], wanted: Sequence[str]
) -> tuple[str, ...]:
    carrying = tuple(topic for topic, kind in available.items() if kind == DETECTIONS_TYPE)
    if not carrying:
        others = ', '.join(f'{topic} ({kind})' for topic, kind in available.items()) or 'nothing'
        raise BagError(f'{path} has no {DETECTIONS_TYPE}; it has {others[:400]}')
    names = [f'/{topic.lstrip("/")}' for topic in wanted]
    for name in names:
        if name not in carrying:
            raise BagError(
                f'{path} has no detections on {name}; it has them on {", ".join(carrying)}'
            )
    return tuple(topic for topic in carrying if not names or topic in names)


def detections_of(message: Any, class_ids: dict[str, int]) -> Detections:
    """
    Return the detections of a Detection2DArray that have a result, with the best result of each.

    Parameters
    ----------
    message
        Message of rclpy or rosbags, of any version of vision_msgs.
    class_ids
        Class ids by the text of `class_id`; new texts are added.

    Raises
    ------
    ValueError
        A box is not finite, or a score is not within 0..1.

    """
    found = [each for each in message.detections if each.results]
    boxes = np.empty((len(found), 4), np.float32)
    scores = np.empty(len(found), np.float32)
    ids = np.empty(len(found), np.int32)
    for index, each in enumerate(found):
        # vision_msgs before 4 has the fields of `hypothesis` and `position` one level up
        hypotheses = [getattr(result, 'hypothesis', result) for result in each.results]
        best = max(hypotheses, key=lambda hypothesis: hypothesis.score)
        centre = getattr(each.bbox.center, 'position', each.bbox.center)
        half_w, half_h = each.bbox.size_x / 2, each.bbox.size_y / 2
        boxes[index] = (
            centre.x - half_w, centre.y - half_h, centre.x + half_w, centre.y + half_h,
        )
        scores[index] = best.score
        name = best.class_id if hasattr(best, 'class_id') else best.id
        ids[index] = class_ids.setdefault(str(name), len(class_ids))
    if not np.isfinite(boxes).all() or not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError('a box is not finite, or a score is not within 0..1')
    return Detections(boxes, scores, ids, (0, 0))
