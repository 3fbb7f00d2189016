"""Detections as bytes, against what rclpy makes of message objects."""

from __future__ import annotations

import struct
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Header
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.messages.detection_cdr import DetectionsToCdr, Field
from yolov7_trt_ros.core.messages.serialized_image import MessageHeader
from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.nodes.conversions import DetectionsToMsg, header_to_msg
from yolov7_trt_ros.nodes.detector.worker.detections_wire import DetectionsWire, read_layout

TYPES = (Detection2DArray, Detection2D, ObjectHypothesisWithPose)
LAYOUT = read_layout(TYPES)
NAMES = ('', *('x' * length for length in range(1, 18)), 'Fußgänger', '人', '\U0001f6a6')
TEXTS = st.text(st.characters(exclude_categories=['Cs']), max_size=40)


@st.composite
def found(draw: st.DrawFn) -> Detections:
    """Return 0 to 300 detections, of classes with a name and without; tracked or not."""
    count = draw(st.integers(0, 300) | st.integers(0, 9))
    numbers = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    boxes = numbers.uniform(-10, 5000, (count, 4)).astype(np.float32)
    ids = numbers.integers(-2, len(NAMES) + draw(st.sampled_from([0, 2000])) + 1, count, np.int32)
    tracks = numbers.integers(0, 10 ** numbers.integers(0, 13, count)) if draw(
        st.booleans()
    ) else None
    return Detections(boxes, numbers.random(count, np.float32), ids, (640, 480), tracks)


TO_CDR = DetectionsToCdr(NAMES, LAYOUT)
HEADERS = st.builds(
    MessageHeader, st.integers(-2**31, 2**31 - 1), st.integers(0, 2**32 - 1), TEXTS
)


class PlainWriter:
    """CDR by the book, a value at a time; `is_padding` tells the bytes that stand for nothing."""

    def __init__(self, message: Any) -> None:
        self.octets, self.is_padding = bytearray(b'\0\1\0\0'), [False] * 4
        self._message(message)

    def _message(self, message: Any) -> None:
        for name, kind in message.get_fields_and_field_types().items():
            value = getattr(message, name)
            if kind == 'string':
                text = value.encode() + b'\0'
                self._number('I', len(text))
                self._put(text)
            elif kind.startswith('sequence'):
                self._number('I', len(value))
                for each in value:
                    self._message(each)
            elif hasattr(value, 'get_fields_and_field_types'):
                self._message(value)
            else:
                letter = {'int32': 'i', 'uint32': 'I'}.get(kind, 'd')
                for number in value if kind.endswith(']') else [value]:
                    self._number(letter, number)

    def _number(self, letter: str, number: float) -> None:
        padding = -(len(self.octets) - 4) % struct.calcsize(letter)
        self._put(bytes(padding), is_padding=True)
        self._put(struct.pack(f'<{letter}', number))

    def _put(self, octets: bytes, *, is_padding: bool = False) -> None:
        self.octets += octets
        self.is_padding += [is_padding] * len(octets)


def assert_same(octets: bytes, message: Detection2DArray) -> None:
    """Compare with rclpy, whose padding is whatever lay in memory; ours is zeros."""
    plain, theirs = PlainWriter(deserialize_message(octets, Detection2DArray)), bytearray(
        serialize_message(message)
    )
    assert len(theirs) == len(octets) == len(plain.octets)
    for at, is_padding in enumerate(plain.is_padding):
        if is_padding:
            theirs[at] = 0
    assert theirs == octets


@settings(deadline=None)
@given(found(), HEADERS, st.sampled_from(['name', 'index']))
@example(Detections.empty((1, 1)), MessageHeader(0, 0, ''), 'name')
@example(Detections.empty((1, 1)), MessageHeader(0, 0, 'a\0b'), 'name')
def test_bytes_are_those_that_rclpy_writes(detections, header, class_id_format):
    message = DetectionsToMsg(NAMES).convert(
        detections, header_to_msg(header), class_id_format
    )
    assert_same(TO_CDR.serialize(detections, header, class_id_format), message)


@settings(deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=9), st.integers(0, 40))
def test_class_names_and_frame_ids_of_any_length(names, length):
    detections = Detections(
        np.ones((len(names), 4), np.float32), np.ones(len(names), np.float32),
        np.arange(len(names), dtype=np.int32), (1, 1),
    )
    header = MessageHeader(1, 2, 'x' * length)
    message = DetectionsToMsg(tuple(names)).convert(detections, header_to_msg(header), 'name')
    to_cdr = DetectionsToCdr(tuple(names), LAYOUT)
    for _ in range(2):  # the second time from pieces that are there
        assert_same(to_cdr.serialize(detections, header, 'name'), message)


def test_the_wire_gives_bytes_that_read_back():
    wire = DetectionsWire(('person', 'dog'))
    assert (wire.reason, wire.form) == ('', 'bytes')
    one = Detections(
        np.array([[10, 20, 50, 100]], np.float32), np.array([0.5], np.float32),
        np.array([1], np.int32), (640, 480), np.array([1234567]),
    )
    message = deserialize_message(
        wire.make(one, MessageHeader(3, 4, 'cam'), 'name'), Detection2DArray
    )
    (detection,) = message.detections
    assert detection.header == message.header == header_to_msg(MessageHeader(3, 4, 'cam'))
    assert detection.results[0].hypothesis.class_id == 'dog'
    assert detection.results[0].pose.pose.orientation.w == 1.0
    assert detection.bbox.center.position.x == 30
    assert detection.id == '1234567'


def renamed(fields: tuple[Field, ...], old: str, new: str) -> tuple[Field, ...]:
    return tuple(each._replace(path=each.path.replace(old, new)) for each in fields)


ODD_LAYOUTS = {
    'no header': LAYOUT._replace(array=LAYOUT.array[1:]),
    'more in the array': LAYOUT._replace(array=(*LAYOUT.array, Field('size', 'uint32', 0))),
    'Galactic': LAYOUT._replace(result=renamed(LAYOUT.result, 'hypothesis.', '')),
    'no position': LAYOUT._replace(detection=renamed(LAYOUT.detection, 'position.', '')),
    'no id': LAYOUT._replace(detection=LAYOUT.detection[:-1]),
    'id in between': LAYOUT._replace(detection=(
        *LAYOUT.detection[:3], LAYOUT.detection[-1], *LAYOUT.detection[3:-1]
    )),
    'no results': LAYOUT._replace(detection=renamed(LAYOUT.detection, 'results', 'found')),
    'float scores': LAYOUT._replace(result=tuple(
        each._replace(kind=each.kind.replace('double', 'float')) for each in LAYOUT.result
    )),
    'wide text': LAYOUT._replace(detection=(*LAYOUT.detection, Field('note', 'wstring', ''))),
    'text behind the numbers': LAYOUT._replace(
        result=(LAYOUT.result[1], *LAYOUT.result[2:], LAYOUT.result[0]),
        detection=tuple(
            each for name in ('header', 'bbox', 'results') for each in LAYOUT.detection
            if each.path.startswith(name)
        ),
    ),
}


@pytest.mark.parametrize('layout', ODD_LAYOUTS.values(), ids=ODD_LAYOUTS)
def test_layouts_that_are_not_known_are_refused(layout):
    with pytest.raises(SettingError):
        DetectionsToCdr(NAMES, layout)


class OlderArray:
    """An array message without the field types that generated messages have."""

    def __init__(self, header: Header | None = None) -> None:
        self.header, self.detections = header, []


def test_messages_where_the_layout_cannot_be_read():
    wire = DetectionsWire(NAMES, (OlderArray, Detection2D, ObjectHypothesisWithPose))
    assert 'message objects' in wire.form and 'OlderArray' in wire.reason
    message = wire.make(Detections.empty((1, 1)), MessageHeader(1, 2, 'cam'), 'name')
    assert isinstance(message, OlderArray) and message.header.frame_id == 'cam'


def test_messages_where_another_middleware_serialises_otherwise(monkeypatch):
    monkeypatch.setattr(
        'yolov7_trt_ros.nodes.detector.worker.detections_wire.serialize_message',
        lambda message: b'\0\7\0\0' + serialize_message(message)[4:],
    )
    wire = DetectionsWire(NAMES)
    assert wire.reason == 'this middleware serialises otherwise'
    message = wire.make(Detections.empty((1, 1)), MessageHeader(1, 2, 'cam'), 'name')
    assert message == Detection2DArray(header=header_to_msg(MessageHeader(1, 2, 'cam')))
