"""Foxglove's ImageAnnotations: what is in them, and where they are published or refused."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

from builtin_interfaces.msg import Time
from fake_engine import FakeEngine
import pytest
from ros_probe import Probe
from seam_camera import Camera, TOPIC
from vision_msgs.msg import Detection2DArray

from yolov7_trt_ros.core.overlay import class_colour
from yolov7_trt_ros.nodes.detector.worker import detection_worker
from yolov7_trt_ros.nodes.images.annotations import annotations_to_msg
from yolov7_trt_ros.testing import FakeDetector, make_detections

# The fields of foxglove_msgs 3.4.3 with their types; what is a list there ends in [].
FIELDS = {
    'ImageAnnotations': {
        'timestamp': Time, 'circles': 'CircleAnnotation[]', 'points': 'PointsAnnotation[]',
        'texts': 'TextAnnotation[]', 'metadata': 'KeyValuePair[]',
    },
    'PointsAnnotation': {
        'timestamp': Time, 'type': int, 'points': 'Point2[]', 'outline_color': 'Color',
        'outline_colors': 'Color[]', 'fill_color': 'Color', 'thickness': float,
        'metadata': 'KeyValuePair[]',
    },
    'TextAnnotation': {
        'timestamp': Time, 'position': 'Point2', 'text': str, 'font_size': float,
        'text_color': 'Color', 'background_color': 'Color', 'metadata': 'KeyValuePair[]',
    },
    'Point2': {'x': float, 'y': float},
    'Color': {'r': float, 'g': float, 'b': float, 'a': float},
}
FOUND = make_detections((64, 48), ((10, 20, 50, 40), 0.9, 0), ((1.5, 2, 3, 4), 0.5, 16))


def kind_of(name: str) -> type:
    """Return a class that takes the fields of a message, of their types, and no others."""
    fields = FIELDS[name]

    def begin(self: Any, **given: Any) -> None:
        assert given.keys() <= fields.keys()
        self.__dict__ |= {field: [] for field, kind in fields.items() if str(kind).endswith('[]')}
        for field, value in given.items():
            kind = fields[field]
            for each in value if isinstance(value, list) else [value]:
                assert type(each) is kind or type(each).__name__ == str(kind).removesuffix('[]')
        self.__dict__ |= given

    return type(name, (), {'__init__': begin, '__slots__': ('__dict__',), 'LINE_LOOP': 2})


def test_each_detection_is_a_rectangle_with_a_label_of_its_colour() -> None:
    messages = SimpleNamespace(**{name: kind_of(name) for name in FIELDS})
    stamp = Time(sec=7)
    names = ('person', *['thing'] * 15, 'dog')
    message = annotations_to_msg(messages, FOUND, names, stamp)
    assert message.timestamp is stamp and len(message.points) == len(message.texts) == 2
    box, label = message.points[0], message.texts[0]
    assert (box.type, [(each.x, each.y) for each in box.points]) == (
        2, [(10, 20), (50, 20), (50, 40), (10, 40)])
    assert (label.text, label.position.x, label.position.y) == ('person 0.90', 10, 20)
    assert message.texts[1].text == 'dog 0.50'
    colour = tuple(round(255 * each) for each in (
        box.outline_color.b, box.outline_color.g, box.outline_color.r))
    assert colour == class_colour(0) and box.outline_color.a == 1.0


def test_without_the_messages_of_foxglove_they_are_refused_with_what_to_install(
    probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, 'foxglove_msgs.msg', None)
    monkeypatch.setitem(sys.modules, 'foxglove_msgs', None)
    with probe.host(FakeEngine(FakeDetector()).seam, image_topics=TOPIC):
        refused = probe.set_parameter('publish_annotations', True)
        assert 'sudo apt install ros-$ROS_DISTRO-foxglove-msgs' in refused
        assert probe.change_state('configure')
    engine = FakeEngine(FakeDetector()).seam
    with probe.host(engine, image_topics=TOPIC, publish_annotations=True):
        assert not probe.change_state('configure')
        probe.wait_until(
            lambda: 'publish_annotations needs the messages of Foxglove' in probe.summary()[0],
            'the reason',
        )


def test_they_are_published_below_the_detections_while_somebody_subscribes(
    probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []

    def make(messages: Any, detections: Any, names: Any, stamp: Any) -> Any:
        made.append(detections)
        message = messages.ImageAnnotations()
        message.header.stamp = stamp
        return message

    # Any message serves to see where and when it is published.
    stand_in = SimpleNamespace(ImageAnnotations=Detection2DArray)
    monkeypatch.setitem(sys.modules, 'foxglove_msgs', SimpleNamespace(msg=stand_in))
    monkeypatch.setitem(sys.modules, 'foxglove_msgs.msg', stand_in)
    monkeypatch.setattr(detection_worker, 'annotations_to_msg', make)
    camera = Camera(probe)
    engine = FakeEngine(FakeDetector([FOUND] * 100)).seam
    settings = {'image_topics': TOPIC, 'publish_annotations': True, 'autostart': True}
    with probe.host(engine, **settings):
        probe.wait_for_state('active')
        assert camera.ask() and not made
        heard = probe.detections('/seam/detections/annotations')
        probe.wait_until(lambda: camera.send() or heard, 'annotations')
        assert len(made[0]) == 2
    camera.close()
