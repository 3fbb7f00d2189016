"""One frame on demand, of a node that is inactive or idle; and none that nobody listens to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fake_engine import FakeEngine
import numpy as np
import pytest
from ros_probe import DetectorProcess, image_msg, Probe
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger
from vision_msgs.msg import Detection2DArray

from yolov7_trt_ros.errors import DeviceLostError, InferenceError
from yolov7_trt_ros.testing import FakeDetector

TOPIC, DETECTIONS = '/shot/image_raw', '/shot/detections'
UNHEARD = '/unheard/image_raw'


@pytest.fixture
def node(probe: Probe, log: Any, receive: str) -> Iterator[DetectorProcess]:
    """Return a detector that is not configured yet."""
    probe.forget_diagnostics()
    with DetectorProcess(
        log, image_topics=TOPIC, network_size=320, receive=receive
    ) as process:
        yield process


class Camera:
    """Publishes one photograph, stamped, ten times a second."""

    def __init__(self, probe: Probe, photograph: np.ndarray, topic: str = TOPIC) -> None:
        self._probe, self.message = probe, image_msg(photograph)
        self._publisher = probe.node.create_publisher(type(self.message), topic, 5)
        self._timer = probe.node.create_timer(0.1, self.publish)
        self.stamp: Any = None

    def publish(self) -> None:
        """Publish once."""
        self.stamp = self._probe.stamp(self.message).header.stamp
        self._publisher.publish(self.message)

    def stop(self) -> None:
        """Publish no more by itself."""
        self._timer.cancel()

    def close(self) -> None:
        """Leave the graph."""
        self._probe.node.destroy_timer(self._timer)
        self._probe.node.destroy_publisher(self._publisher)


@pytest.fixture
def camera(probe: Probe, photograph: np.ndarray) -> Iterator[Camera]:
    """Return a camera that publishes."""
    camera = Camera(probe, photograph)
    yield camera
    camera.close()


def detect_once(probe: Probe) -> tuple[bool, str]:
    """Call the service."""
    answer = probe.call(Trigger, '/detector/detect_once', Trigger.Request())
    return answer.success, answer.message


def shoot(probe: Probe) -> tuple[bool, str]:
    """Call it until an image was there in its time: on a busy machine both may find late."""
    while (told := detect_once(probe))[1].endswith('no image within 5 s'):
        print(told)
    return told


def test_an_inactive_node_detects_once(probe: Probe, node, camera: Camera) -> None:
    success, message = detect_once(probe)
    assert not success and 'no model is loaded: the node is unconfigured' in message
    assert probe.change_state('configure')
    found = probe.detections(DETECTIONS)
    for count in (1, 2):
        success, message = shoot(probe)
        assert success and message.startswith(f'{TOPIC}: ') and ' person' in message, message
        probe.wait_until(lambda count=count: len(found) == count, 'its detections')
    assert any(
        each.results[0].hypothesis.class_id == 'person' for each in found[1].detections
    )
    assert probe.state() == 'inactive'
    probe.spin(1.0)
    assert len(found) == 2
    assert probe.change_state('activate')  # and the node can be used as ever
    probe.wait_until(lambda: len(found) > 4, 'detections of an active node')


def test_an_idle_node_detects_what_is_asked_for_and_nothing_else(
    probe: Probe, node, camera: Camera
) -> None:
    assert probe.set_parameter('idle', True) == ''
    assert probe.change_state('configure') and probe.change_state('activate')
    found = probe.detections(DETECTIONS)
    probe.wait_until(lambda: probe.counts(TOPIC)['skipped'] > 5, 'skipped images')
    assert found == []
    assert probe.values(TOPIC)['paused'] == 'idle' and 'paused: idle' in probe.summary(TOPIC)[0]
    assert detect_once(probe)[0]
    probe.wait_until(lambda: len(found) == 1, 'its detections')
    skipped = probe.counts(TOPIC)['skipped']
    probe.wait_until(lambda: probe.counts(TOPIC)['skipped'] > skipped, 'an image after that one')
    camera.stop()
    last, before = camera.stamp, {}
    while before != (before := probe.counts(TOPIC)):
        probe.spin(1.5)  # the last image was looked at, and held
    success, message = detect_once(probe)
    assert success, message
    probe.wait_until(lambda: len(found) == 2, 'its detections')
    assert found[1].header.stamp == last

    def ledger() -> tuple[int, int]:  # one image may have come, and be looked at later
        counts = probe.counts(TOPIC)
        return counts['received'] - counts['skipped'], counts['processed']

    probe.wait_until(lambda: ledger() == (2, 2), 'two images detected, and all others skipped')
    assert detect_once(probe) == (False, f'{TOPIC}: no image within 5 s')
    assert probe.set_parameter('idle', False) == ''
    camera.publish()
    probe.wait_until(lambda: camera.publish() or len(found) > 3, 'detections again')


def test_nothing_is_detected_while_nobody_listens(
    probe: Probe, node, photograph: np.ndarray
) -> None:
    camera = Camera(probe, photograph, UNHEARD)
    assert probe.set_parameter('image_topics', UNHEARD) == ''
    assert probe.set_parameter('only_when_subscribed', True) == ''
    assert probe.change_state('configure') and probe.change_state('activate')
    probe.wait_until(lambda: probe.counts(UNHEARD)['skipped'] > 3, 'skipped images')
    assert probe.counts(UNHEARD)['processed'] == 0
    assert probe.values(UNHEARD)['paused'] == 'nobody subscribes'
    messages: list[Any] = []
    subscription = probe.node.create_subscription(
        Detection2DArray, UNHEARD.replace('image_raw', 'detections'), messages.append, 10
    )
    probe.wait_until(lambda: len(messages) > 2, 'detections')
    probe.node.destroy_subscription(subscription)
    probe.wait_until(
        lambda: probe.values(UNHEARD).get('paused') == 'nobody subscribes', 'the pause'
    )
    before = probe.counts(UNHEARD)
    probe.wait_until(
        lambda: probe.counts(UNHEARD)['skipped'] > before['skipped'] + 3, 'skipped images'
    )
    assert probe.counts(UNHEARD)['processed'] == before['processed']
    overlays: list[Any] = []
    topic = UNHEARD.replace('image_raw', 'detections/overlay')
    subscription = probe.node.create_subscription(Image, topic, overlays.append, 10)
    probe.wait_until(lambda: len(overlays) > 2, 'overlays')
    assert probe.set_parameter('publish_overlay', False) == ''
    probe.wait_until(
        lambda: probe.values(UNHEARD).get('paused') == 'nobody subscribes', 'the pause'
    )
    probe.node.destroy_subscription(subscription)
    camera.close()


def test_an_image_that_fails_is_told(probe: Probe, node, camera: Camera) -> None:
    assert probe.change_state('configure')
    camera.message.encoding = 'no such encoding'
    success, message = shoot(probe)
    assert not success and f'{TOPIC}: failed: ' in message and 'no such encoding' in message


def test_a_rate_holds_up_nobody_who_asks(probe: Probe, node, camera: Camera) -> None:
    assert probe.set_parameter('max_rate_hz', 0.001) == ''
    assert probe.change_state('configure') and probe.change_state('activate')
    probe.wait_until(lambda: probe.counts(TOPIC)['skipped'] > 3, 'images beyond the rate')
    before = probe.counts(TOPIC)['processed']
    for count in (1, 2):
        assert detect_once(probe)[0]
        probe.wait_until(  # a status may have been made before, and come now
            lambda count=count: probe.counts(TOPIC)['processed'] >= before + count, 'the image'
        )
    assert probe.counts(TOPIC)['processed'] == before + 2


def test_what_a_lost_device_means_is_told_at_once(probe: Probe, camera: Camera) -> None:
    engine = FakeEngine(FakeDetector([DeviceLostError('gone')]))
    with probe.host(engine.seam, autostart=True, idle=True, image_topics=TOPIC):
        probe.wait_for_state('active')
        assert detect_once(probe) == (False, f'{TOPIC}: failed: DeviceLostError: gone')
        success, message = detect_once(probe)
        assert not success and 'restart the node: gone' in message


def test_a_trigger_that_is_late_ends_no_later_call(probe: Probe, camera: Camera) -> None:
    """As when the last answer and the end of the time that there is for it come together."""
    camera.stop()
    with probe.host(
        FakeEngine(FakeDetector()).seam, autostart=True, idle=True, image_topics=TOPIC
    ) as node:
        probe.wait_for_state('active')
        client = probe.node.create_client(Trigger, '/detector/detect_once')
        probe.wait_until(client.service_is_ready, 'the service')
        future = client.call_async(Trigger.Request())
        probe.wait_until(lambda: node._single_shot._future, 'the call')
        node._single_shot._answered.trigger()
        probe.wait_until(lambda: camera.publish() or future.done(), 'its answer')
        assert future.result().success


def test_several_engines_and_topics_of_a_pattern_are_asked_again_and_again(
    probe: Probe, photograph: np.ndarray, receive: str, tmp_path: Path
) -> None:
    """The first engine fails, so that the second has to answer, beside attempts at the first."""
    listed = tmp_path / 'engines.yaml'
    listed.write_text('engines: [{model: yolov7-nano, name: second}]')
    names = ('/several/one/image_raw', '/several/two/image_raw')  # nobody has ever listened
    cameras = [Camera(probe, photograph, name) for name in names]
    engine = FakeEngine(FakeDetector([InferenceError('no')]), FakeDetector())
    with probe.host(
        engine.seam, autostart=True, image_topics='/several/*/image_raw', engines=str(listed),
        only_when_subscribed=True, receive=receive,
        **{f'topics.{names[1]}.idle': True},
    ) as node:
        probe.wait_until(
            lambda: node._configured and len(node._configured.streams) == 2, 'both topics'
        )
        for count in range(1, 6):
            success, message = detect_once(probe)
            assert success and message.count('0 detections') == 2, message
            counts = [stream.statistics.counts() for stream in node._configured.streams.values()]
            assert [each.processed for each in counts] == [count, count]
    for camera in cameras:
        camera.close()
