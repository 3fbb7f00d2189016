"""The active detector node over real ROS topics and parameters, in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
import time
from typing import Any

import numpy as np
import pytest
from rclpy.serialization import serialize_message
from ros_probe import image_msg, LATCHED, Probe
from sensor_msgs.msg import Image
from vision_msgs.msg import LabelInfo, VisionInfo

pytestmark = pytest.mark.usefixtures('detector')

BOTH_WAYS = pytest.mark.parametrize('detector', ['auto', 'rclpy'], indirect=True, scope='module')
"""Of receiving: auto is taking below rclpy, which a test of the diagnostics sees to."""

BLANK = np.full((480, 640, 3), 60, np.uint8)


@pytest.fixture(scope='module')
def camera(probe: Probe, detector):
    """Return a publisher of /camera/image_raw."""
    return probe.publisher()


@pytest.fixture(scope='module')
def found(probe: Probe, detector) -> list:
    """Return the list of detections received."""
    return probe.detections()


@pytest.fixture(autouse=True)
def default_parameters(probe: Probe, detector):
    """Put the run-time parameters back after each test."""
    yield
    for name, value in (
        ('score_threshold', 0.25), ('iou_threshold', 0.45), ('max_detections', 300),
        ('classes', ''), ('class_thresholds', ''), ('max_rate_hz', 0.0),
        ('class_id_format', 'name'),
    ):
        assert probe.set_parameter(name, value) == ''


def persons(message) -> list:
    """Return the detections of class person."""
    return [each for each in message.detections if each.results[0].hypothesis.class_id == 'person']


@BOTH_WAYS
def test_finds_the_person_and_copies_the_header(probe, camera, found, photograph):
    message = image_msg(photograph)
    answer = probe.ask(camera, message, found)
    assert answer.header == message.header
    assert answer.header.frame_id == 'camera'
    person = max(persons(answer), key=lambda each: each.results[0].hypothesis.score)
    assert person.header == message.header
    assert person.results[0].hypothesis.score > 0.4
    centre, size = person.bbox.center.position, (person.bbox.size_x, person.bbox.size_y)
    assert 200 < centre.x < 360 and size[0] > 200 and size[1] > 300
    assert centre.x + size[0] / 2 <= 640 and centre.y + size[1] / 2 <= 480


def test_publishes_an_empty_array_when_nothing_is_found(probe, camera, found):
    assert probe.ask(camera, image_msg(BLANK), found).detections == []


@pytest.mark.parametrize('encoding', ['rgb8', 'mono8', 'bgra8'])
def test_other_encodings_give_about_the_same_box(probe, camera, found, photograph, encoding):
    import cv2

    code = {'rgb8': cv2.COLOR_BGR2RGB, 'mono8': cv2.COLOR_BGR2GRAY, 'bgra8': cv2.COLOR_BGR2BGRA}
    expected = persons(probe.ask(camera, image_msg(photograph), found))[0].bbox
    pixels = cv2.cvtColor(photograph, code[encoding])
    box = persons(probe.ask(camera, image_msg(pixels, encoding), found))[0].bbox
    tolerance = 40 if encoding == 'mono8' else 0.01  # the network sees other pixels
    assert box.center.position.x == pytest.approx(expected.center.position.x, abs=tolerance)
    assert box.size_x == pytest.approx(expected.size_x, abs=2 * tolerance)


@BOTH_WAYS
def test_a_padded_step_changes_nothing(probe, camera, found, photograph):
    expected = probe.ask(camera, image_msg(photograph), found)
    padded = np.zeros((480, 640 * 3 + 64), np.uint8)
    padded[:, : 640 * 3] = photograph.reshape(480, -1)
    answer = probe.ask(camera, image_msg(padded, width=640), found)
    assert [each.bbox for each in answer.detections] == [each.bbox for each in expected.detections]


def test_thresholds_act_at_once(probe, camera, found, photograph):
    message = image_msg(photograph)
    few = len(probe.ask(camera, message, found).detections)
    assert probe.set_parameter('score_threshold', 0.01) == ''
    many = probe.ask(camera, image_msg(photograph), found)
    assert len(many.detections) > few
    assert probe.set_parameter('max_detections', 2) == ''
    two = probe.ask(camera, image_msg(photograph), found).detections
    assert [each.bbox for each in two] == [each.bbox for each in many.detections[:2]]


def test_an_integer_is_accepted_for_a_double(probe, camera, found, photograph):
    assert probe.set_parameter('score_threshold', 1) == ''
    assert probe.ask(camera, image_msg(photograph), found).detections == []


def test_class_filter_and_class_id_format(probe, camera, found, photograph):
    assert probe.set_parameter('classes', ['car', 'dog']) == ''
    assert probe.ask(camera, image_msg(photograph), found).detections == []
    assert probe.set_parameter('classes', 'person') == ''
    assert probe.set_parameter('class_id_format', 'index') == ''
    answer = probe.ask(camera, image_msg(photograph), found)
    assert {each.results[0].hypothesis.class_id for each in answer.detections} == {'0'}


def test_classes_have_thresholds_of_their_own(probe, camera, found, photograph):
    score = max(
        each.results[0].hypothesis.score
        for each in persons(probe.ask(camera, image_msg(photograph), found))
    )
    assert probe.set_parameter('class_thresholds', [f'person:{score + 0.01}', 'car:0.3']) == ''
    assert not persons(probe.ask(camera, image_msg(photograph), found))
    assert probe.set_parameter('class_thresholds', 'car:1, person:0.01') == ''
    assert probe.set_parameter('score_threshold', 1.0) == ''
    answer = probe.ask(camera, image_msg(photograph), found)
    assert len(persons(answer)) == len(answer.detections) > 0


@pytest.mark.parametrize(
    ('name', 'value', 'reason'),
    [
        ('score_threshold', 1.5, 'out of range'),
        ('score_threshold', -1, 'within 0..1'),
        ('score_threshold', float('nan'), '0'),
        ('score_threshold', 'high', 'must be a double, got str'),
        ('max_detections', 0, 'out of range'),
        ('max_detections', 1.5, 'must be an integer, got float'),
        ('publish_overlay', 1, 'must be a bool, got int'),
        ('classes', 'purson', "did you mean 'person'?"),
        ('class_thresholds', 'purson:0.4', "did you mean 'person'?"),
        ('class_thresholds', ['person:2'], 'score within 0..1'),
        ('class_id_format', 'text', 'must be one of name, index'),
        ('model', 'other.onnx', 'model may only name files in'),
        ('image_transport', 'raw', 'takes effect at configure'),
        ('image_topics', '', 'must name at least one topic'),
        ('image_topics', '/one, /one', 'none twice'),
        ('image_topics', '/no topic', "'/no topic' is not a topic name"),
        ('detections_topics', '/one, /two', 'one topic for each of the 1 image topics, got 2'),
    ],
)
def test_refused_values_say_why(probe, camera, found, photograph, name, value, reason):
    assert reason in probe.set_parameter(name, value)
    assert persons(probe.ask(camera, image_msg(photograph), found))  # nothing has changed


def count_failed(probe: Probe, camera: Any, make: Callable[[], Any]) -> dict[str, int]:
    """
    Publish what fails until it is counted, and return the counters.

    Best effort loses some on a busy machine; what is published once more fails once more.

    """
    before, sent = probe.counts(), 0

    def counted() -> dict[str, int] | None:
        nonlocal sent
        camera.publish(make())
        sent += 1
        counts = probe.counts()
        return counts if counts['failed'] > before['failed'] else None

    after: dict[str, int] = probe.wait_until(counted, 'failed + 1')
    assert after['failed'] <= before['failed'] + sent
    assert after['received'] > before['received']
    return after


BAD = {
    'truncated': {'height': 960},
    'step too small': {'step': 10},
    'unknown encoding': {'encoding': 'bgr9'},
    'empty': {'height': 0, 'width': 0},
    'absurd': {'height': 4_000_000_000, 'width': 4_000_000_000},
}


@BOTH_WAYS
@pytest.mark.parametrize('fields', BAD.values(), ids=BAD.keys())
def test_a_bad_image_is_counted_and_the_next_one_processed(
    probe, camera, found, photograph, fields
):
    count_failed(probe, camera, lambda: probe.stamp(image_msg(photograph, **fields)))
    assert persons(probe.ask(camera, image_msg(photograph), found))
    assert '/camera/image_raw: ' in probe.values()['last error']


ON_THE_WIRE = {
    'cut off': lambda message: message[:1000],
    'a few bytes': lambda message: message[:6],
    'rubbish': lambda message: message[:4] + b'\xff' * 400,
}


@BOTH_WAYS
@pytest.mark.parametrize('spoil', ON_THE_WIRE.values(), ids=ON_THE_WIRE.keys())
def test_a_message_spoilt_on_its_way_is_counted_and_the_next_one_processed(
    probe, camera, found, photograph, spoil
):
    whole = image_msg(photograph)
    count_failed(probe, camera, lambda: spoil(serialize_message(probe.stamp(whole))))
    assert persons(probe.ask(camera, image_msg(photograph), found))
    error = probe.values()['last error']
    assert 'truncated image message' in error or 'truncated or damaged image message' in error


@BOTH_WAYS
def test_every_frame_is_accounted_for(probe, camera, found, photograph):
    before = probe.counts()
    images = [image_msg(photograph) for _ in range(4)]

    def are_enough() -> bool:  # best effort: on a busy machine some do not arrive
        for _ in range(10):  # four at once: faster than they can be processed
            for image in images:
                camera.publish(probe.stamp(image))
            probe.spin(0.05)
        return probe.counts()['received'] - before['received'] >= 30

    probe.wait_until(are_enough, '30 frames that arrive')
    probe.ask(camera, image_msg(photograph), found)

    def settled():
        now = {name: value - before[name] for name, value in probe.counts().items()}
        done = now['processed'] + now['dropped'] + now['failed'] + now['skipped']
        return now if now['received'] == done and now['received'] else None

    counts = probe.wait_until(settled, 'all frames accounted for')
    assert counts['dropped'] > 0
    assert counts['failed'] == counts['skipped'] == 0


@BOTH_WAYS
def test_max_rate_skips_frames(probe, camera, found, photograph):
    assert probe.set_parameter('max_rate_hz', 1) == ''
    before, start_s = probe.counts(), time.monotonic()

    def are_enough() -> Any:  # best effort: on a busy machine some do not arrive
        for _ in range(20):
            camera.publish(probe.stamp(image_msg(photograph)))
            probe.spin(0.05)
        now = probe.counts()
        return now if now['received'] - before['received'] >= 15 else None

    after = probe.wait_until(are_enough, '15 frames that arrive')
    assert after['processed'] - before['processed'] <= 2 + time.monotonic() - start_s
    assert after['skipped'] > before['skipped']


def test_overlay_is_published_only_while_somebody_listens(probe, camera, found, photograph):
    probe.ask(camera, image_msg(photograph), found)
    overlays = probe.listen(Image, '/camera/detections/overlay')
    probe.wait_until(
        lambda: probe.ask(camera, image_msg(photograph), found) and overlays, 'an overlay'
    )
    overlay = overlays[-1]
    assert (overlay.width, overlay.height, overlay.encoding) == (640, 480, 'bgr8')
    pixels = np.frombuffer(overlay.data, np.uint8).reshape(480, 640, 3)
    changed = (pixels != photograph).any(axis=2)
    assert 500 < changed.sum() < 0.2 * changed.size  # boxes and labels, not another picture
    assert probe.set_parameter('publish_overlay', False) == ''
    seen = len(overlays)
    probe.ask(camera, image_msg(photograph), found)
    probe.spin(0.5)
    assert len(overlays) == seen
    assert probe.set_parameter('publish_overlay', True) == ''


def test_labels_are_latched(probe):
    labels = probe.listen(LabelInfo, '/detector/label_info', LATCHED)
    methods = probe.listen(VisionInfo, '/detector/vision_info', LATCHED)
    probe.wait_until(lambda: labels and methods, 'latched messages')
    names = {each.class_id: each.class_name for each in labels[0].class_map}
    assert len(names) == 80 and names[0] == 'person' and names[79] == 'toothbrush'
    assert 'yolov7-nano' in methods[0].method


@BOTH_WAYS
def test_diagnostics_tell_rates_and_stages(probe, camera, found, photograph, request):
    for _ in range(5):
        probe.ask(camera, image_msg(photograph), found)
    probe.forget_diagnostics()
    values = probe.wait_until(lambda: probe.values('/camera/image_raw'), 'diagnostics')
    for stage in ('transport', 'wait', 'preprocess', 'infer', 'postprocess', 'publish'):
        assert 0 <= float(values[f'{stage} p50 (ms)']) <= float(values[f'{stage} p99 (ms)'])
    assert float(values['stamp_to_publish p50 (ms)']) > float(values['infer p50 (ms)'])
    node = probe.values()
    assert node['state'] == 'active'
    way = request.node.callspec.params['detector']
    assert node['receive'] == ('direct' if way == 'auto' else way)
    assert node['model'] == 'yolov7-nano'
    assert 'ONNX Runtime' in node['backend'] and node['published as'] == 'bytes'


@BOTH_WAYS
def test_a_hundred_reconnects(probe, camera, found, photograph):
    for _ in range(100):
        extra = probe.node.create_publisher(Image, '/camera/image_raw', 1)
        extra.publish(probe.stamp(image_msg(BLANK)))
        probe.node.destroy_publisher(extra)
    assert persons(probe.ask(camera, image_msg(photograph), found))
