"""Parameters of one topic: given at start, set, refused, unset, dumped and loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
import numpy as np
import pytest
from rcl_interfaces.srv import (
    DescribeParameters,
    GetParameters,
    ListParameters,
    SetParameters,
    SetParametersAtomically,
)
from rclpy.parameter import Parameter
from ros_probe import DetectorProcess, image_msg, Probe
from sensor_msgs.msg import Image

from yolov7_trt_ros.nodes.detector_parameters.topic import PER_TOPIC

FRONT, REAR = '/front/image_raw', '/rear/image_raw'
OF_FRONT, OF_REAR = f'topics.{FRONT}', f'topics.{REAR}'
START = f"""
/detector:
  ros__parameters:
    image_topics: /front/image_raw, /rear/image_raw
    score_threshold: 0.05
    network_size: 320
    topics:
      {FRONT}:
        score_threshold: 1
        classes: [person, car]
"""


@pytest.fixture(scope='module')
def node(probe: Probe, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DetectorProcess]:
    """Return an active detector of two topics, of which the front one finds nothing."""
    folder = tmp_path_factory.mktemp('topics')
    (folder / 'parameters.yaml').write_text(START)
    with DetectorProcess(
        folder / 'log.txt', '--params-file', str(folder / 'parameters.yaml'), autostart=True
    ) as process:
        probe.wait_for_state('active')
        yield process


@pytest.fixture(scope='module')
def ask(probe: Probe, node: DetectorProcess, photograph: np.ndarray) -> Any:
    """Return what gives the detections of a photograph on one topic."""
    cameras = {topic: probe.publisher(topic) for topic in (FRONT, REAR)}
    found = {
        topic: probe.detections(topic.replace('image_raw', 'detections')) for topic in cameras
    }
    return lambda topic: probe.ask(
        cameras[topic], image_msg(photograph), found[topic]
    ).detections


@pytest.fixture(autouse=True)
def nothing_set(probe: Probe, node: DetectorProcess) -> Iterator[None]:
    """Unset the parameters of topics after each test."""
    yield
    for name in listed(probe):
        assert probe.set_parameter(name, None) == ''


def listed(probe: Probe) -> list[str]:
    """Return the names of the parameters of topics, as `ros2 param list` does."""
    request = ListParameters.Request()
    answer = probe.call(ListParameters, '/detector/list_parameters', request)
    return [name for name in answer.result.names if name.startswith('topics.')]


def test_a_parameter_file_gives_a_topic_values_of_its_own(probe, ask) -> None:
    assert set(listed(probe)) == {f'{OF_FRONT}.score_threshold', f'{OF_FRONT}.classes'}
    assert ask(FRONT) == []
    assert ask(REAR)


def test_a_topic_is_set_and_unset_at_run_time_and_no_other_changes(probe, ask) -> None:
    usual = len(ask(REAR))
    assert usual == len(ask(FRONT)) > 1
    assert probe.set_parameter(f'{OF_REAR}.max_detections', 1) == ''
    assert probe.set_parameter(f'{OF_FRONT}.class_thresholds', ['person:1']) == ''
    assert len(ask(REAR)) == 1
    assert not [each for each in ask(FRONT) if each.results[0].hypothesis.class_id == 'person']
    assert probe.set_parameter('max_detections', 2) == ''
    assert len(ask(REAR)) == 1 and len(ask(FRONT)) <= 2
    assert probe.set_parameter('max_detections', 300) == ''
    assert probe.set_parameter(f'{OF_REAR}.max_detections', None) == ''  # ros2 param delete
    assert len(ask(REAR)) == usual
    assert listed(probe) == [f'{OF_FRONT}.class_thresholds']


def test_a_rate_is_that_of_its_topic(probe, ask) -> None:
    assert probe.set_parameter(f'{OF_REAR}.max_rate_hz', 0.001) == ''
    ask(REAR)  # the one that is within the rate
    before = probe.counts(REAR)['processed'], probe.counts(FRONT)['processed']
    for _ in range(3):
        ask(FRONT)
    probe.wait_until(  # a status may have been made before, and come now
        lambda: probe.counts(FRONT)['processed'] >= before[1] + 3, 'three images'
    )
    assert probe.counts(REAR)['processed'] == before[0]


@pytest.mark.parametrize(('name', 'value', 'reason'), [
    ('topics./frnot/image_raw.score_threshold', 0.4, f'did you mean {FRONT}?'),
    ('topics./elsewhere.score_threshold', 0.4, 'is not an image topic'),
    (f'{OF_FRONT}.score_treshold', 0.4, 'did you mean score_threshold?'),
    (f'{OF_FRONT}.network_size', 320, 'topics.<image topic>.<name>'),
    ('topics.score_threshold', 0.4, 'topics.<image topic>.<name>'),
    ('topics./no topic.classes', '', 'is not a topic name'),
    (f'{OF_FRONT}.score_threshold', 1.5, 'must be within 0..1, got 1.5'),
    (f'{OF_FRONT}.score_threshold', 'high', 'must be a double, got str'),
    (f'{OF_FRONT}.classes', 'purson', "did you mean 'person'?"),
    (f'{OF_FRONT}.class_thresholds', 'purson:0.4', f"{FRONT}: the model has no class 'purson'"),
    (f'{OF_FRONT}.camera_frozen_frames', 1, 'at least 2'),
    (f'{OF_FRONT}.ignore_zones', '0,0 1,1 1,0 0,1', 'zone 1 crosses or touches itself'),
    (f'{OF_FRONT}.keep_zones', '0,0 641,0 0,100', f'{FRONT}: zone 1 of keep_zones reaches beyond '
     'the image, which has 640x480 pixels'),
    ('score_treshold', 0.4, "did you mean 'score_threshold'?"),
    ('topic./front/image_raw.classes', '', 'no parameter is called'),
])
def test_what_is_refused_says_why_and_leaves_nothing(probe, ask, name, value, reason) -> None:
    assert reason in probe.set_parameter(name, value)
    assert name not in listed(probe)
    request = SetParametersAtomically.Request(parameters=[
        Parameter(each, value=to).to_parameter_msg()
        for each, to in ((f'{OF_REAR}.max_detections', 1), (name, value))
    ])
    answer = probe.call(SetParametersAtomically, '/detector/set_parameters_atomically', request)
    assert not answer.result.successful and reason in answer.result.reason
    assert listed(probe) == []
    assert len(ask(REAR)) > 1


def test_zones_drop_what_lies_in_them_and_are_drawn(probe, ask) -> None:
    overlays = probe.listen(Image, '/front/detections/overlay')
    usual = len(ask(FRONT))
    left, right = '0,0 320,0 320,480 0,480', '0.5,0 1,0 1,1 0.5,1'
    centres = [each.bbox.center.position.x for each in ask(FRONT)]
    assert probe.set_parameter(f'{OF_FRONT}.ignore_zones', [left]) == ''
    assert len(ask(FRONT)) == sum(x >= 320 for x in centres) < usual
    assert probe.set_parameter(f'{OF_FRONT}.ignore_zones', [left, right]) == ''
    assert ask(FRONT) == []
    assert len(ask(REAR)) == usual
    overlay = probe.wait_until(lambda: next((
        image for image in overlays if bytes(image.data)[:3] == bytes((0, 0, 230))
    ), None), 'an overlay with a red corner')
    assert (overlay.width, overlay.height) == (640, 480)
    assert probe.set_parameter(f'{OF_FRONT}.zone_cover', 1) == ''
    within = [
        each for each in ask(FRONT)
        if abs(each.bbox.center.position.x - 320) >= each.bbox.size_x / 2
    ]
    assert within == []  # what lies across both is in neither, and stays


def test_objects_of_a_topic_keep_their_ids(probe, ask) -> None:
    def ids(topic: str) -> dict[str, float]:
        return {each.id: each.bbox.center.position.x for each in ask(topic)}

    assert probe.set_parameter(f'{OF_FRONT}.track_lost_s', 3600) == ''
    assert probe.set_parameter(f'{OF_FRONT}.track', 'bytetrack') == ''
    before = ids(FRONT)
    assert len(before) > 1 and all(int(each) > 0 for each in before)
    assert ids(FRONT) == before
    scores = [each.results[0].hypothesis.score for each in ask(FRONT)]
    assert len(scores) == len(before) and min(scores) > 0.05
    assert {each.id for each in ask(REAR)} == {''}
    assert probe.set_parameter('track', 'iou') == ''
    assert not before.keys() & ids(REAR).keys() and ids(FRONT) == before
    assert probe.set_parameter(f'{OF_FRONT}.track', 'iou') == ''
    assert not before.keys() & ids(FRONT).keys()  # another mode, all anew
    assert probe.set_parameter('track', False) == ''  # what YAML, and ros2 param, read in `off`
    assert {each.id for each in ask(REAR)} == {''}
    assert 'must be a string, got bool True' in probe.set_parameter('track', True)
    reason = probe.set_parameter(f'{OF_FRONT}.track', 'sort')
    assert 'must be one of off, iou, bytetrack' in reason


def test_a_zone_beyond_smaller_images_that_come_later_is_told(
    probe, ask, photograph: np.ndarray
) -> None:
    ask(FRONT)
    assert probe.set_parameter(f'{OF_FRONT}.ignore_zones', '0,0 640,0 0,480') == ''
    small = probe.node.create_publisher(Image, FRONT, 5)
    probe.wait_until(small.get_subscription_count, 'the subscription')

    def told() -> bool:
        small.publish(probe.stamp(image_msg(np.ascontiguousarray(photograph[::2, ::2]))))
        return 'beyond the image, which has 320x240 pixels' in probe.summary(FRONT)[0]

    probe.wait_until(told, 'a status that names the zone')
    assert probe.summary(FRONT)[1] == DiagnosticStatus.WARN
    probe.node.destroy_publisher(small)
    ask(FRONT)


def test_a_topic_has_a_parameter_by_one_name(probe, node) -> None:
    relative = OF_FRONT.replace('/', '', 1)
    assert relative == 'topics.front/image_raw'
    assert probe.set_parameter(f'{relative}.max_detections', 1) == ''
    reason = probe.set_parameter(f'{OF_FRONT}.max_detections', 2)
    assert f'is called {relative}.max_detections already' in reason
    assert listed(probe) == [f'{relative}.max_detections']
    assert probe.set_parameter(f'{OF_FRONT}.classes', 'person') == ''
    values = {f'{relative}.max_detections': None, f'{OF_FRONT}.max_detections': 2}
    assert probe.set_together(**values) == ''
    reason = probe.set_together(**{f'{name}.iou_threshold': 0.5 for name in (OF_REAR, relative)})
    assert reason == ''
    twice = {f'{name}.class_agnostic': True for name in (OF_FRONT, relative)}
    assert 'already' in probe.set_together(**twice)


def test_descriptors_are_complete(probe, node) -> None:
    values = {'score_threshold': 0.4, 'classes': 'person', 'max_detections': 7}
    for name, value in values.items():
        assert probe.set_parameter(f'{OF_REAR}.{name}', value) == ''
    request = DescribeParameters.Request(names=[f'{OF_REAR}.{name}' for name in values])
    answer = probe.call(DescribeParameters, '/detector/describe_parameters', request)
    for name, descriptor in zip(values, answer.descriptors, strict=True):
        assert descriptor.description == PER_TOPIC[name].description
    assert answer.descriptors[0].floating_point_range[0].to_value == 1.0
    assert answer.descriptors[2].integer_range[0].to_value == 1000


def test_what_is_dumped_is_loaded(probe, ask) -> None:
    assert probe.set_parameter(f'{OF_REAR}.max_detections', 1) == ''
    names = ['image_topics', f'{OF_REAR}.max_detections']
    values = probe.call(
        GetParameters, '/detector/get_parameters', GetParameters.Request(names=names)
    ).values
    assert probe.set_parameter(names[1], None) == ''
    parameters = []
    for name, value in zip(names, values, strict=True):
        parameters.append(Parameter(name).to_parameter_msg())
        parameters[-1].value = value
    request = SetParameters.Request(parameters=parameters)
    answer = probe.call(SetParameters, '/detector/set_parameters', request)
    assert [each.successful for each in answer.results] == [True, True]
    assert len(ask(REAR)) == 1


def test_topics_may_come_and_go(probe, node) -> None:
    """Their parameters stay; those of a pattern may be set before the topic is there."""
    assert probe.set_parameter('image_topics', f'{FRONT}, /later/*') == ''
    assert probe.set_parameter('topics./later/image_raw.max_detections', 1) == ''
    assert 'not an image topic' in probe.set_parameter(f'{OF_REAR}.max_detections', 1)
    assert probe.set_parameter('image_topics', f'{FRONT}, {REAR}') == ''
    assert listed(probe) == ['topics./later/image_raw.max_detections']
    assert 'topics./later/image_raw: is not an image topic at present' in node.text()
    together = {'image_topics': f'{FRONT}, {REAR}, /new/image'}
    request = SetParametersAtomically.Request(parameters=[
        Parameter(name, value=value).to_parameter_msg()
        for name, value in (together | {'topics./new/image.max_detections': 3}).items()
    ])
    answer = probe.call(SetParametersAtomically, '/detector/set_parameters_atomically', request)
    assert answer.result.successful, answer.result.reason
    assert probe.set_parameter('image_topics', f'{FRONT}, {REAR}') == ''


@pytest.mark.parametrize(('given', 'reason'), [
    (['-p', f'{OF_FRONT}.score_treshold:=0.4'], 'did you mean score_threshold?'),
    (['-p', f'{OF_FRONT}.score_threshold:=4.0'], '4.0'),
    (['-p', f'{OF_FRONT}.classes:=true'], 'must be a string, got bool'),
    (['-p', f'{OF_FRONT}.classes:=car', '-p', 'topics.front/image_raw.classes:=dog'], 'already'),
])
def test_a_start_that_cannot_be_meant_ends_with_the_reason(
    log: Path, given: list[str], reason: str
) -> None:
    process = DetectorProcess(log, *given)
    assert process.process.wait(600) == 1
    assert reason in process.text() and 'Traceback' not in process.text()
