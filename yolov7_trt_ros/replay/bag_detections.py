"""Read Detection2DArray messages of a bag back into Detections."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.stamps import stamp_to_ns
from yolov7_trt_ros.errors import BagError
from yolov7_trt_ros.replay.rosbags_door import DAMAGE, Reader, load_typestore


@dataclasses.dataclass(frozen=True)
class DetectionTrack:
    """
    The detections of one topic.

    Attributes
    ----------
    by_stamp_ns
        Detections by header stamp; their `source_wh` is unknown to the message and (0, 0).
    class_names
        The texts met in `class_id`, in order of appearance; indices of `Detections.class_ids`.

    """

    by_stamp_ns: dict[int, Detections]
    class_names: tuple[str, ...]


def read_detections(bag: Path, topic: str) -> DetectionTrack:
    """
    Read every Detection2DArray of a topic.

    Parameters
    ----------
    bag
        Bag folder.
    topic
        Detections topic.

    Raises
    ------
    BagError
        The bag cannot be read or does not hold the topic.

    """
    names: dict[str, int] = {}
    by_stamp: dict[int, Detections] = {}
    try:
        with Reader(bag) as reader:
            connections = [each for each in reader.connections if each.topic == topic]
            if not connections:
                raise BagError(f'{bag} holds no topic {topic}')
            for _, _, data in reader.messages(connections):
                message = load_typestore().deserialize_cdr(data, connections[0].msgtype)
                by_stamp[stamp_to_ns(message.header.stamp)] = _detections(message, names)
    except DAMAGE as exc:
        raise BagError(f'cannot read detections of {bag}: {exc}') from exc
    return DetectionTrack(by_stamp, tuple(names))


def _detections(message: Any, names: dict[str, int]) -> Detections:
    found = [each for each in message.detections if each.results]
    boxes = np.empty((len(found), 4), np.float32)
    for box, each in zip(boxes, found, strict=True):
        centre, size = each.bbox.center.position, (each.bbox.size_x, each.bbox.size_y)
        box[:] = (
            centre.x - size[0] / 2, centre.y - size[1] / 2,
            centre.x + size[0] / 2, centre.y + size[1] / 2,
        )
    hypotheses = [each.results[0].hypothesis for each in found]
    ids = [names.setdefault(each.class_id, len(names)) for each in hypotheses]
    scores = np.array([each.score for each in hypotheses], np.float32)
    return Detections(boxes, scores, np.array(ids, np.int32), (0, 0))
