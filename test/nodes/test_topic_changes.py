"""Topics that change while the detector runs, what patterns pass over, and remapping."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from fake_engine import FakeEngine
import pytest
from rclpy.node import Node
from ros_probe import DetectorProcess, fresh_probe, image_msg, Probe
from sensor_msgs.msg import Image
from std_msgs.msg import String

from yolov7_trt_ros.testing import FakeDetector

LONG = '/' + 'a' * 239
DEEP = '/' + 'a' * 230 + '/b'
"""A valid name; that of its overlay would not be."""


def test_outputs_may_be_exchanged(probe: Probe, log, photograph) -> None:
    """What goes makes room for what comes, also where the names stay the same."""
    first = {'image_topics': '/x/i, /y/i', 'detections_topics': '/x/o, /y/o'}
    with DetectorProcess(log, autostart=True, **first):
        cameras = {name: probe.publisher(f'/{name}/i') for name in 'xy'}
        answers = {name: probe.detections(f'/{name}/o') for name in 'xy'}
        assert probe.set_together(detections_topics='/y/o, /x/o') == ''
        probe.wait_until(cameras['x'].get_subscription_count, 'the subscription')
        assert probe.ask(cameras['x'], image_msg(photograph), answers['y']).detections
        assert probe.set_together(image_topics='/z/i', detections_topics='/z/i/o') == ''
        probe.wait_until(lambda: not probe.node.count_publishers('/x/o'), 'its end')
    for camera in cameras.values():
        probe.node.destroy_publisher(camera)


def test_what_the_middleware_refuses_is_a_refusal_and_all_is_as_before(probe: Probe) -> None:
    """Another node in this process has the topic in another type: DDS allows one of the two."""
    topic = '/fixed/image_raw'
    other = Node('other', context=probe.node.context)
    taken = other.create_subscription(String, '/taken/detections', print, 10)
    with probe.host(FakeEngine(FakeDetector()).seam, autostart=True, image_topics=topic) as node:
        camera = probe.publisher(topic)
        stream = node._configured.streams[topic]
        probe.wait_until(
            lambda: camera.publish(probe.stamp(Image())) or stream.statistics.counts().failed,
            'a frame',
        )
        reason = probe.set_parameter('image_topics', '/new/image_raw, /taken/image_raw')
        assert '/taken/image_raw' in reason or '/taken/detections' in reason
        assert list(node._configured.streams) == [topic]
        assert node._configured.streams[topic] is stream
        assert not probe.node.count_publishers('/new/detections')
        failed = stream.statistics.counts().failed
        probe.wait_until(
            lambda: camera.publish(probe.stamp(Image()))
            or stream.statistics.counts().failed > failed, 'a frame on the same stream',
        )
        assert probe.set_parameter('image_topics', '/new/image_raw') == ''
    other.destroy_subscription(taken)
    other.destroy_node()
    probe.node.destroy_publisher(camera)


def test_a_middleware_that_refuses_late_brings_back_what_was_left(
    probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = '/late/image_raw'
    with probe.host(FakeEngine(FakeDetector()).seam, autostart=True, image_topics=topic) as node:
        camera = probe.publisher(topic)
        create = node.create_publisher

        def create_some(kind: Any, name: str, *more: Any, **named: Any) -> Any:
            if name.startswith('/bad/'):
                raise RuntimeError('no more endpoints')
            return create(kind, name, *more, **named)

        monkeypatch.setattr(node, 'create_publisher', create_some)
        stream = node._configured.streams[topic]
        reason = probe.set_parameter('image_topics', '/good/image_raw, /bad/image_raw')
        assert 'the middleware refuses it: RuntimeError: no more endpoints' in reason
        assert dict(node._configured.streams) == {topic: stream}
        probe.wait_until(camera.get_subscription_count, 'the subscription')
        probe.wait_until(lambda: probe.node.count_publishers('/late/detections'), 'its output')
        probe.wait_until(lambda: not probe.node.count_publishers('/good/detections'), 'no other')
    probe.node.destroy_publisher(camera)


STRANGE = (
    '/diagnostics', '/detector/label_info', '/parameter_events', LONG, DEEP,
    '/fine/detections', '/fine/detections/overlay',
)


def test_a_pattern_passes_over_what_it_cannot_take(log, photograph) -> None:
    with fresh_probe() as probe:
        with DetectorProcess(log, autostart=True, image_topics='/**') as process:
            camera = probe.publisher('/fine/image_raw')
            answers = probe.detections('/fine/detections')
            assert probe.ask(camera, image_msg(photograph), answers).detections
            strange = foreign_publishers()
            for topic in ('/diagnostics', '/detector/label_info', '/fine/detections', DEEP):
                probe.wait_until(
                    lambda topic=topic: probe.summary(topic)[0].startswith('passed over: '), topic
                )
            assert probe.values().get('callbacks failed') is None
            assert probe.ask(camera, image_msg(photograph), answers).detections
            assert 'callback failed' not in process.text()
        strange.kill()
        strange.wait()
        probe.node.destroy_publisher(camera)


def test_a_name_that_ros_does_not_have_is_passed_over(
    probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of a DDS application that is no ROS node, `rt/cam-1/image`."""
    topics = '/dds/**'
    with probe.host(FakeEngine(FakeDetector()).seam, autostart=True, image_topics=topics) as node:
        probe.wait_for_state('active')
        listed = node.get_topic_names_and_types
        monkeypatch.setattr(node, 'get_topic_names_and_types', lambda: [
            *listed(), ('/dds/cam-1/image', ['sensor_msgs/msg/Image'])
        ])
        camera = probe.publisher('/dds/image_raw')
        probe.wait_until(
            lambda: 'is not a topic name' in probe.summary('/dds/cam-1/image')[0], 'the status'
        )
        assert list(node._configured.streams) == ['/dds/image_raw']
        assert probe.values().get('callbacks failed') is None
    probe.node.destroy_publisher(camera)


PUBLISH_IMAGES = """
import time
import rclpy
from rclpy.node import Node
from sensor_msgs.msg import Image
rclpy.init()
node = Node('strange')
publishers = []
for topic in TOPICS:
    try:
        publishers.append(node.create_publisher(Image, topic, 10))
    except RuntimeError:  # this node's own
        pass
print('ready', flush=True)
rclpy.spin(node)
"""


def foreign_publishers() -> Any:
    """
    Start a process that publishes images where nobody expects them.

    Another process: within one participant DDS lets a topic have but one type.

    """
    process = subprocess.Popen(
        [sys.executable, '-c', PUBLISH_IMAGES.replace('TOPICS', repr(STRANGE))],
        stdout=subprocess.PIPE, text=True, env=os.environ.copy(),
    )
    assert process.stdout is not None and process.stdout.readline() == 'ready\n'
    return process


REMAPPED = {
    'all three': (
        ['-r', 'image_raw:=/cam/image_color', '-r', 'detections:=objs',
         '-r', 'detections/overlay:=/debug/boxes'],
        '/cam/image_color', '/objs', '/debug/boxes',
    ),
    'the overlay follows': (
        ['-r', 'image_raw:=/cam/image_color', '-r', 'detections:=/objs'],
        '/cam/image_color', '/objs', '/objs/overlay',
    ),
    'the input alone': (
        ['-r', 'image_raw:=/cam/image_color'],
        '/cam/image_color', '/cam/detections', '/cam/detections/overlay',
    ),
    'the output alone': (
        ['-r', 'detections:=objs'], '/image_raw', '/objs', '/objs/overlay',
    ),
    'the output by what it is called in the graph': (
        ['-r', 'image_raw:=/cam/image_color', '-r', '/cam/detections:=/objs'],
        '/cam/image_color', '/objs', '/objs/overlay',
    ),
    'in a namespace': (
        ['-r', '__ns:=/robot', '-r', 'image_raw:=cam/image_color', '-r', 'detections:=objs'],
        '/robot/cam/image_color', '/robot/objs', '/robot/objs/overlay',
    ),
    'a name that is another rule': (
        ['-r', 'image_raw:=other', '-r', 'other:=third', '-r', 'detections:=objs'],
        '/other', '/objs', '/objs/overlay',
    ),
}


@pytest.mark.parametrize('case', REMAPPED)
def test_input_output_and_overlay_are_remapped_as_elsewhere(
    probe: Probe, log, photograph, case: str
) -> None:
    rules, image, output, overlay = REMAPPED[case]
    with DetectorProcess(log, *rules, autostart=True):
        camera = probe.publisher(image)
        answers = probe.detections(output)
        overlays = probe.listen(Image, overlay)
        probe.wait_until(
            lambda: probe.ask(camera, image_msg(photograph), answers) and overlays, 'an overlay'
        )
    probe.node.destroy_publisher(camera)


def test_cameras_may_be_exchanged_by_remapping(probe: Probe, log, photograph) -> None:
    rules = ['-r', '/left/image_raw:=/right/image_raw', '-r', '/right/image_raw:=/left/image_raw']
    topics = {
        'image_topics': '/left/image_raw, /right/image_raw', 'detections_topics': '/l, /r'
    }
    with DetectorProcess(log, *rules, autostart=True, **topics):
        right = probe.publisher('/right/image_raw')
        answers = probe.detections('/l')
        assert probe.ask(right, image_msg(photograph), answers).detections
    probe.node.destroy_publisher(right)


@pytest.mark.parametrize('topics', ['a/image_raw, b/image_raw', 'left_raw, right_raw'])
def test_where_detections_go_without_rules(probe: Probe, topics: str) -> None:
    from yolov7_trt_ros.core.topics import detections_topics, split_names
    from yolov7_trt_ros.nodes.images.topic_plan import plan_streams, wanted_topics

    node = Node('namer', context=probe.node.context, namespace='/here')
    plan = plan_streams(node, wanted_topics(node, topics, ''))
    expected = detections_topics([f'/here/{name}' for name in split_names(topics)])
    assert [each.detections.full for each in plan.streams] == expected
    assert [each.overlay.full for each in plan.streams] == [f'{e}/overlay' for e in expected]
    node.destroy_node()
