"""What a sender chooses is bounded: sizes of messages, texts that come back, counts of losses."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest
from ros_probe import DetectorProcess, image_msg, jpeg_msg, Probe
from sensor_msgs.msg import CompressedImage

from yolov7_trt_ros.core.plain_text import one_line
from yolov7_trt_ros.nodes.detector.detector_status import node_status
from yolov7_trt_ros.nodes.images.image_stream import known_loss
from yolov7_trt_ros.nodes.one_line import describe_error

TOPIC = '/bounds/image_raw'


@given(st.text(max_size=300), st.integers(40, 120))
def test_an_echo_is_one_printable_line_of_bounded_length(text: str, most: int) -> None:
    line = one_line(text, most)
    assert len(line) <= most
    assert line.isprintable()
    if text.isprintable() and text == ' '.join(text.split()) and len(text) <= most:
        assert line == text


def test_an_echo_of_a_long_text_keeps_its_ends() -> None:
    line = one_line('begin' + 'x' * 10_000_000 + 'end', 60)
    assert line.startswith('begin') and line.endswith('end') and '9999948' in line


def test_an_error_is_told_with_its_class_and_without_places_in_sources() -> None:
    error = RuntimeError('no such thing, at /project/src/rcl/node.c:12, at /x/y.cpp:3')
    assert describe_error(error) == 'RuntimeError: no such thing'
    assert describe_error(MemoryError()) == 'MemoryError'


def test_diagnostics_are_bounded_whatever_is_told() -> None:
    huge = 'x\x1b[31m\n' * 1_000_000
    status = node_status('/detector', 'active', {'last error': huge}, error=huge)
    for text in (status.message, status.values[-1].value):
        assert len(text) <= 2000 and text.isprintable()


@pytest.mark.parametrize(
    ('change', 'lost'),
    [(1, 1), (7, 7), (2**31 - 1, 0), (2**31 + 2, 3), (0, 0)],
)
def test_a_gap_of_unknown_length_is_not_two_thousand_million_messages(change, lost) -> None:
    """Three changes of 2147483650 were seen as `lost 6442450950` after publishers were killed."""
    assert known_loss(change) == lost


def test_a_message_beyond_the_limit_fails_and_the_next_is_processed(
    probe: Probe, log, photograph, receive
) -> None:
    values = {'image_topics': TOPIC, 'receive': receive, 'max_message_bytes': 500_000}
    with DetectorProcess(log, autostart=True, **values):
        camera = probe.publisher(TOPIC)
        answers = probe.detections('/bounds/detections')

        def failed() -> bool:
            camera.publish(probe.stamp(image_msg(photograph)))
            return probe.counts(TOPIC)['failed'] > 0

        probe.wait_until(failed, 'a frame that failed')
        assert 'max_message_bytes is 500000' in probe.values()['last error']
        assert probe.ask(camera, image_msg(np.ascontiguousarray(photograph[:200])), answers)
        assert probe.set_parameter('max_message_bytes', 1_000_000) == ''
        assert probe.ask(camera, image_msg(photograph), answers).detections
        assert 'out of range' in probe.set_parameter('max_message_bytes', 0)
    probe.node.destroy_publisher(camera)


def test_texts_of_images_come_back_short(probe: Probe, log, photograph) -> None:
    topic = '/bounds/jpeg/compressed'
    with DetectorProcess(log, autostart=True, image_topics=topic) as process:
        camera = probe.publisher(topic, kind=CompressedImage, reliable=True)
        answers = probe.detections('/bounds/detections')
        probe.ask(camera, jpeg_msg(photograph), answers)
        for field, size in (('format', 5_000_000), ('frame_id', 5_000_000)):
            message = jpeg_msg(photograph)
            probe.stamp(message)
            setattr(message if field == 'format' else message.header, field, 'x' * size)
            message.data = message.data[:300] if field == 'format' else message.data
            before = probe.counts(topic)['failed']
            camera.publish(message)
            probe.wait_until(
                lambda before=before: probe.counts(topic)['failed'] > before, f'its {field}'
            )
            assert len(probe.values()['last error']) <= 400
        assert probe.ask(camera, jpeg_msg(photograph), answers).detections
        assert len(process.text()) < 20_000
    probe.node.destroy_publisher(camera)
