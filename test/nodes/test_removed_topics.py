"""Topics that are removed while a frame of theirs waits, is in work or is being drawn."""

from __future__ import annotations

from collections.abc import Iterator
import threading
from typing import Any

from fake_engine import FakeEngine
import numpy as np
import pytest
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from ros_probe import fresh_probe, image_msg, Probe
from sensor_msgs.msg import Image

from yolov7_trt_ros.nodes.detector.worker import detection_worker
from yolov7_trt_ros.nodes.images import stream_set
from yolov7_trt_ros.nodes.images.image_stream import ImageStream
from yolov7_trt_ros.nodes.images.topic_plan import plan_streams, wanted_topics
from yolov7_trt_ros.nodes.qos import OVERLAY
from yolov7_trt_ros.testing import FakeDetector

KEPT, GONE = '/kept/image_raw', '/gone/image_raw'
IMAGE = np.zeros((48, 64, 3), np.uint8)
LONG_S = 600


class Gate:
    """Holds whoever comes by until it is opened."""

    def __init__(self) -> None:
        self.reached, self.open = threading.Event(), threading.Event()

    def pass_through(self) -> None:
        self.reached.set()
        assert self.open.wait(LONG_S)


@pytest.fixture
def cameras(probe: Probe) -> Iterator[dict]:
    cameras = {
        topic: probe.node.create_publisher(Image, topic, qos_profile_sensor_data)
        for topic in (KEPT, GONE)
    }
    yield cameras
    for camera in cameras.values():
        probe.node.destroy_publisher(camera)


def send(probe: Probe, camera) -> None:
    camera.publish(probe.stamp(image_msg(IMAGE)))


def test_a_frame_in_work_and_one_that_waits_are_counted_as_dropped(
    probe: Probe, cameras, receive
):
    gate = Gate()
    detector = FakeDetector(on_detect=gate.pass_through)
    topics = {'image_topics': f'{KEPT},{GONE}', 'receive': receive}
    with probe.host(FakeEngine(detector).seam, autostart=True, **topics):
        for camera in cameras.values():
            probe.wait_until(camera.get_subscription_count, 'the detector')
        send(probe, cameras[GONE])
        probe.wait_until(gate.reached.is_set, 'a frame in work')
        send(probe, cameras[GONE])
        probe.wait_until(lambda: probe.counts(GONE)['received'] == 2, 'a frame that waits')
        assert probe.set_parameter('image_topics', KEPT) == ''
        probe.wait_until(lambda: 'removed topics: dropped' in probe.values(), 'its counters')
        probe.wait_until(lambda: removed(probe) == (2, 0, 1), 'the one that waited, dropped')
        gate.open.set()
        probe.wait_until(lambda: removed(probe) == (2, 0, 2), 'the one in work, dropped')
        send(probe, cameras[KEPT])
        probe.wait_until(lambda: probe.counts(KEPT)['processed'] == 1, 'the other topic')
        assert probe.change_state('deactivate') and probe.change_state('cleanup')
        probe.forget_diagnostics()
        probe.wait_until(probe.values, 'diagnostics')
        assert 'removed topics: dropped' not in probe.values()  # since configure


def removed(probe: Probe) -> tuple[int, int, int]:
    names = ('received', 'processed', 'dropped')
    return tuple(int(probe.values()[f'removed topics: {name}']) for name in names)


def test_removing_a_topic_does_not_wait_for_a_drawing(probe: Probe, cameras, monkeypatch):
    gate = Gate()
    draw = detection_worker.annotated_copy

    def held(*arguments):
        gate.pass_through()
        return draw(*arguments)

    monkeypatch.setattr(detection_worker, 'annotated_copy', held)
    overlays = probe.node.create_subscription(Image, '/gone/detections/overlay', print, OVERLAY)
    topics = f'{KEPT},{GONE}'
    with probe.host(FakeEngine(FakeDetector()).seam, autostart=True, image_topics=topics) as node:
        probe.wait_until(cameras[GONE].get_subscription_count, 'the detector')
        overlay = node._configured.streams[GONE]._overlay
        probe.wait_until(lambda: overlay.has_subscribers, 'who wants overlays')
        send(probe, cameras[GONE])
        probe.wait_until(gate.reached.is_set, 'a drawing')
        timer = threading.Timer(LONG_S / 2, gate.open.set)  # a failure, but no hanging test
        timer.start()
        assert probe.set_parameter('image_topics', KEPT) == ''
        assert not gate.open.is_set()
        timer.cancel()
        gate.open.set()
        assert probe.change_state('deactivate')
        assert node._configured.worker is None
    probe.node.destroy_subscription(overlays)


def test_the_last_detections_of_a_removed_topic_can_still_be_read(monkeypatch):
    monkeypatch.setattr(stream_set, '_LAST_READ_NS', 10**18)
    engine = FakeEngine(FakeDetector()).seam
    topics = f'{KEPT},{GONE}'
    with (  # on another domain: the reader has to discover the node, whatever was killed before
        fresh_probe() as probe, Probe() as reader,
        probe.host(engine, autostart=True, image_topics=topics) as node,
    ):
        camera = probe.node.create_publisher(Image, GONE, qos_profile_sensor_data)
        probe.wait_until(camera.get_subscription_count, 'the detector')
        found = reader.detections('/gone/detections')
        publisher = node._configured.streams[GONE]._detections
        probe.wait_until(publisher.get_subscription_count, 'who reads')
        send(probe, camera)
        probe.wait_until(lambda: probe.counts(GONE)['processed'] == 1, 'its detections')
        assert probe.set_parameter('image_topics', KEPT) == ''
        probe.wait_until(lambda: probe.values().get('removed topics: processed'), 'its counters')
        assert removed(probe) == (1, 1, 0) and not found
        reader.wait_until(lambda: found, 'what was published before')
        monkeypatch.undo()
        probe.wait_until(lambda: not probe.node.count_publishers('/gone/detections'), 'its end')


def test_an_overlay_of_a_stream_that_was_destroyed_meanwhile_goes_nowhere(probe: Probe):
    node = Node('streams', context=probe.node.context)
    listener = probe.node.create_subscription(Image, '/d/detections/overlay', print, OVERLAY)
    plan = plan_streams(node, wanted_topics(node, '/d/image_raw', ''))
    stream = ImageStream(
        node, plan.streams[0], image_transport='auto', image_qos='auto', on_error=print
    )
    stream.open_publishers()
    probe.wait_until(lambda: stream._overlay.has_subscribers, 'who wants overlays')

    def destroy_meanwhile() -> Image:
        stream.destroy()
        return Image()

    stream.publish_overlay(destroy_meanwhile)
    stream.publish_overlay(lambda: pytest.fail('drawn though the stream is destroyed'))
    node.destroy_node()
    probe.node.destroy_subscription(listener)


def test_an_inactive_node_takes_down_what_a_removed_topic_published(probe: Probe) -> None:
    with probe.host(FakeEngine(FakeDetector()).seam, image_topics=GONE):
        assert probe.change_state('configure')
        probe.wait_until(lambda: probe.node.count_publishers('/gone/detections'), 'its output')
        assert probe.set_parameter('image_topics', KEPT) == ''
        probe.wait_until(lambda: not probe.node.count_publishers('/gone/detections'), 'its end')
        assert probe.node.count_publishers('/kept/detections') == 1


def test_an_idle_topic_that_a_pattern_finds_is_held_back_from_its_first_frame_on(
    probe: Probe, cameras: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    reasons = {}
    subscribe = ImageStream.subscribe

    def watched(stream: ImageStream, receiver: Any) -> None:
        reasons[stream.topic] = stream.gate.reason
        subscribe(stream, receiver)

    monkeypatch.setattr(ImageStream, 'subscribe', watched)
    topics = {'image_topics': '/*/image_raw', f'topics.{GONE}.idle': True}
    with probe.host(FakeEngine(FakeDetector()).seam, autostart=True, **topics):
        probe.wait_until(lambda: {KEPT, GONE} <= reasons.keys(), 'both topics')
    assert (reasons[KEPT], reasons[GONE]) == ('', 'idle')
