"""Topics that cannot be taken are refused before anything changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from ros_probe import DetectorProcess, image_msg, Probe
from std_msgs.msg import String

HERE = '/change/image_raw'
LONG = '/' + 'a' * 239
"""Valid, but `<LONG without its last part>/detections/overlay` of one so long may not be."""
DEEP = '/' + 'a' * 230 + '/b'


@pytest.fixture(scope='module')
def active(probe: Probe, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DetectorProcess]:
    """Return a detector that is active on one topic, with somebody else's topic in the graph."""
    log = tmp_path_factory.mktemp('changes') / 'log.txt'
    other = probe.node.create_publisher(String, '/change/text', 10)
    with DetectorProcess(log, autostart=True, image_topics=HERE) as process:
        probe.wait_for_state('active')
        yield process
    probe.node.destroy_publisher(other)


@pytest.fixture(scope='module')
def camera(probe: Probe, active: DetectorProcess) -> Any:
    return probe.publisher(HERE)


@pytest.fixture(scope='module')
def found(probe: Probe, active: DetectorProcess) -> list[Any]:
    return probe.detections('/change/detections')


REFUSED = {
    'a pattern as output': ({'detections_topics': '/a/*'}, 'without stars'),
    'an input as output': ({'detections_topics': HERE}, 'it is an image topic'),
    'diagnostics as output': ({'detections_topics': '/diagnostics'}, "it is the node's own"),
    'labels as output': ({'detections_topics': '/detector/label_info'}, "it is the node's own"),
    'labels as input': ({'image_topics': '/detector/label_info'}, "it is the node's own"),
    'diagnostics as input': ({'image_topics': f'{HERE}, /diagnostics'}, "it is the node's own"),
    'parameter events': ({'image_topics': '/parameter_events'}, "it is the node's own"),
    'its output as input': (
        {'image_topics': f'{HERE}, /change/detections',
         'detections_topics': '/change/detections, /o'}, 'it is the detections topic of'),
    'its overlay as input': (
        {'image_topics': f'{HERE}, /change/detections/overlay'}, 'it is the overlay of'),
    'two alike': (
        {'image_topics': '/a/i, /b/i', 'detections_topics': '/o, /o'}, 'none twice'),
    'an output on an overlay': (
        {'image_topics': '/a/i, /b/i', 'detections_topics': '/o, /o/overlay'},
        'it is the overlay of /o'),
    'outputs crossed with inputs': (
        {'image_topics': '/a/i, /b/i', 'detections_topics': '/b/i, /a/i'}, 'cannot be'),
    'too long': ({'image_topics': '/' + 'a' * 300}, 'is not a topic name: topic length'),
    'an output too long': ({'image_topics': DEEP}, 'is not a topic name: topic length'),
    'no name': ({'image_topics': '/a//b'}, 'is not a topic name'),
    'a pattern of no name': ({'image_topics': '/a b/*'}, 'is not a topic name'),
    'a hole': ({'image_topics': '/{nowhere}/image'}, 'is not a topic name'),
    'too many': ({'image_topics': ','.join(f'/n{i}' for i in range(300))}, '256 topics, got 300'),
    'another type': ({'image_topics': f'{HERE}, /change/text'}, 'carries std_msgs/msg/String'),
    'an output of another type': (
        {'detections_topics': '/change/text'}, 'carries std_msgs/msg/String already'),
    'with a clock of no kind': (
        {'image_topics': '/elsewhere', 'use_sim_time': 5}, 'Wrong parameter type'),
    'with a parameter that is refused': (
        {'image_topics': '/elsewhere', 'score_threshold': 7.0}, 'out of range'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_what_cannot_be_taken_changes_nothing(
    probe: Probe, active, camera, found, photograph, case: str
) -> None:
    values, reason = REFUSED[case]
    assert reason in probe.set_together(**values)
    assert probe.ask(camera, image_msg(photograph), found).detections
    assert not probe.node.count_publishers('/o')
    assert not probe.node.count_subscribers('/elsewhere')
    assert probe.values().get('callbacks failed') is None


def test_long_texts_come_back_short(probe: Probe, active) -> None:
    for name, value in (
        ('image_topics', '/' + 'a' * 3_000_000), ('classes', 'x' * 3_000_000),
        ('classes', 'y' * 60_000), ('class_id_format', 'z' * 60_000),
    ):
        assert 0 < len(probe.set_parameter(name, value)) < 2500
