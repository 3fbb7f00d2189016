"""Make detection messages: as serialised bytes if a check passed, otherwise with rclpy."""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
from typing import Any

import numpy as np
from rclpy.serialization import deserialize_message, serialize_message

from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.messages.detection_cdr import ArrayLayout, DetectionsToCdr, Field
from yolov7_trt_ros.core.messages.serialized_image import MessageHeader
from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.nodes.conversions import (
    DetectionsToMsg,
    header_to_msg,
    MESSAGE_TYPES,
    MessageTypes,
)

_REPRESENTATION_BYTES = 4
_SAMPLE_HEADER = MessageHeader(1_700_000_000, 123_456_789, 'caméra')


class DetectionsWire:
    """
    Converts Detections to what a publisher takes.

    That is bytes, twenty times faster than message objects, where the layout of the installed
    vision_msgs is known and a sample of bytes stands for the message that rclpy makes. Else it is
    messages, and `reason` says why.

    Parameters
    ----------
    class_names
        Of the model.
    types
        The messages; vision_msgs' own unless a test brings others.

    """

    def __init__(
        self,
        class_names: tuple[str, ...],
        types: MessageTypes = MESSAGE_TYPES,
    ) -> None:
        self._to_msg = DetectionsToMsg(class_names, types)
        self._to_cdr: DetectionsToCdr | None = None
        self.reason = ''
        """Why messages are published, '' if bytes are."""
        try:
            self._to_cdr = DetectionsToCdr(class_names, read_layout(types))
            self._check(self._to_cdr, len(class_names))
        except SettingError as exc:
            self._to_cdr, self.reason = None, str(exc)

    @property
    def form(self) -> str:
        """Return what is published, in words."""
        return f'message objects, which is slower: {self.reason}' if self.reason else 'bytes'

    def make(self, detections: Detections, header: MessageHeader, class_id_format: str) -> Any:
        """Return the message or its bytes; arguments as for DetectionsToCdr.serialize."""
        if self._to_cdr is not None:
            return self._to_cdr.serialize(detections, header, class_id_format)
        return self._to_msg.convert(detections, header_to_msg(header), class_id_format)

    def _check(self, to_cdr: DetectionsToCdr, classes: int) -> None:
        """Raise SettingError where rclpy writes a sample otherwise, as on other middlewares."""
        sample = _sample(classes)
        untracked = dataclasses.replace(sample, track_ids=None)
        for detections in (sample, untracked, Detections.empty(sample.source_wh)):
            for class_id_format in ('name', 'index'):
                message = self._to_msg.convert(
                    detections, header_to_msg(_SAMPLE_HEADER), class_id_format
                )
                octets = to_cdr.serialize(detections, _SAMPLE_HEADER, class_id_format)
                if not _stands_for(octets, message):
                    raise SettingError('this middleware serialises otherwise')


def _stands_for(octets: bytes, message: Any) -> bool:
    """Whether bytes are those of a message; padding may differ, as rclpy does not write it."""
    theirs = serialize_message(message)
    begin = slice(_REPRESENTATION_BYTES)
    if len(octets) != len(theirs) or octets[begin] != theirs[begin]:
        return False
    try:
        return bool(deserialize_message(octets, type(message)) == message)
    except RuntimeError:  # what rclpy's errors are
        return False


def read_layout(types: MessageTypes) -> ArrayLayout:
    """
    Return the fields of message classes.

    Raises
    ------
    SettingError
        They do not list their fields, because they are not generated messages.

    """
    array, detection, result = (tuple(_fields(each())) for each in types)
    return ArrayLayout(array, detection, result)


def _fields(message: Any, path: str = '') -> Iterator[Field]:
    if not hasattr(message, 'get_fields_and_field_types'):
        raise SettingError(f'{type(message).__name__} does not list its fields')
    for name, kind in message.get_fields_and_field_types().items():
        value = getattr(message, name)
        if hasattr(value, 'get_fields_and_field_types'):
            yield from _fields(value, f'{path}{name}.')
        else:
            yield Field(path + name, kind, value)


def _sample(classes: int) -> Detections:
    """Return detections of some classes, and of one that has no name, with ids of any length."""
    ids = np.array([*range(min(classes, 8)), classes], np.int32)
    numbers = np.arange(5 * len(ids), dtype=np.float32).reshape(-1, 5)
    boxes = numbers[:, :4].copy()
    boxes[:, 2:] += 1
    tracks = 10 ** np.arange(len(ids), dtype=np.int64) - 1  # 0 for the first: none
    return Detections(boxes, numbers[:, 4] / np.float32(100), ids, (640, 480), tracks)
