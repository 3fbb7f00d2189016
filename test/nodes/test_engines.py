"""Several engines of one node, over ROS: real ONNX Runtime engines, one made to fail."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
from pathlib import Path
import threading
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from fake_engine import FakeEngine, NO_PLAN
import pytest
from rcl_interfaces.msg import Log
from rclpy.qos import qos_profile_sensor_data
from ros_probe import image_msg, Probe
from seam_camera import Camera, IMAGE, TOPIC
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger
from vision_msgs.msg import VisionInfo

from yolov7_trt_ros.bank.team.engine_schedule import Phase
from yolov7_trt_ros.engine.open import open_detector
from yolov7_trt_ros.engine.options import DetectorOptions
from yolov7_trt_ros.errors import InferenceError
from yolov7_trt_ros.nodes.detector.plan_build import Engine
from yolov7_trt_ros.testing import fake_spec, FakeDetector, make_detections

NAN = InferenceError('the model gave 3 score value(s) of 9 that are NaN or infinite')


class Real:
    """ONNX Runtime detectors as they are, but for what a test has one of them raise."""

    def __init__(self) -> None:
        self.opened: list[Any] = []
        self.seam = Engine(self._open)

    def _open(self, options: DetectorOptions) -> Any:
        detector = open_detector(dataclasses.replace(options, network_size=320, threads=1))
        whole, detector.calls, detector.error = detector.detect_batch, 0, None

        def detect_batch(images: Sequence[Any], settings: Any) -> Any:
            detector.calls += 1
            if detector.error is not None:
                raise detector.error
            return whole(images, settings)

        detector.detect_batch = detect_batch
        self.opened.append(detector)
        return detector


@pytest.fixture
def listed(tmp_path: Path) -> str:
    """Return a file that lists one more CPU engine."""
    file = tmp_path / 'engines.yaml'
    file.write_text('engines: [{model: yolov7-nano, name: second, backend: onnx}]')
    return str(file)


def test_where_the_first_fails_the_second_answers_and_diagnostics_warn(
    probe: Probe, listed: str, photograph: Any
) -> None:
    real = Real()
    with probe.host(real.seam, autostart=True, image_topics=TOPIC, engines=listed):
        publisher = probe.node.create_publisher(Image, TOPIC, qos_profile_sensor_data)
        found = probe.detections('/seam/detections')
        probe.wait_until(publisher.get_subscription_count, 'the detector')

        def ask() -> list[str]:
            message = probe.ask(publisher, image_msg(photograph), found)
            return [each.results[0].hypothesis.class_id for each in message.detections]

        named: list[tuple[int, str]] = []
        probe.node.create_subscription(
            VisionInfo, '/seam/detections/engine',
            lambda info: named.append((info.header.stamp.nanosec, info.method)), 10,
        )
        probe.wait_until(
            lambda: probe.node.get_subscriptions_info_by_topic('/seam/detections/engine')
            and probe.node.count_publishers('/seam/detections/engine'), 'the topic of the engine',
        )
        before = ask()
        first, second = real.opened
        assert 'person' in before and (first.calls > 0 and second.calls == 0)
        assert probe.wait_until(lambda: probe.summary('engines')[0], 'diagnostics') == (
            'the first serves alone, and is measured'
        )
        of_first = {each.header.stamp.nanosec for each in found}
        first.error = NAN
        assert ask() == before and second.calls == 1
        calls = first.calls
        assert ask() == before and first.calls == calls
        probe.wait_until(
            lambda: probe.summary('engines')[0].startswith('engine 1 is out, tried again in'),
            'the warning',
        )
        text, level = probe.summary('engines')
        assert level == DiagnosticStatus.WARN and 'it failed: the model gave 3 score' in text
        probe.wait_until(
            lambda: probe.values('engines')['2: second'].startswith('in service; 2 frames'),
            'the frames of the second',
        )
        later = {each.header.stamp.nanosec for each in found} - of_first
        probe.wait_until(
            lambda: later == {stamp for stamp, name in named if name == 'second'},
            'the engine of the last two',
        )
        assert {name for stamp, name in named if stamp in of_first} <= {'yolov7-nano'}
        assert probe.settled_counts(TOPIC)['failed'] == 0
        probe.node.destroy_publisher(publisher)


@pytest.mark.parametrize(('second', 'reason'), [
    (FakeDetector(spec=fake_spec(('cup', 'bus'))), 'lacks the classes person, bicycle, car and'),
    (NO_PLAN, 'The node builds the plan of `model` only: build this one first'),
    (NAN, 'engine 2 of `engines`, /opt/second.onnx: the model gave 3 score'),
], ids=['classes', 'no plan', 'fails'])
def test_an_engine_that_is_no_good_is_refused_at_configure(
    probe: Probe, second: Any, reason: str
) -> None:
    first = FakeDetector()
    engine = FakeEngine(first, second, FakeDetector())
    with probe.host(
        engine.seam, image_topics=TOPIC, engines='/opt/second.onnx', on_plan_mismatch='fail'
    ):
        probe.wait_for_state('unconfigured')
        assert not probe.change_state('configure')
        probe.wait_until(lambda: reason in probe.summary()[0], reason)
        assert first.closed == 1 and getattr(second, 'closed', 1) == 1
        assert probe.set_parameter('engines', '') == ''
        assert probe.change_state('configure') and probe.change_state('activate')


def test_what_is_set_while_the_node_runs_is_checked_at_once(probe: Probe, listed: str) -> None:
    with probe.host(FakeEngine(FakeDetector()).seam, image_topics=TOPIC):
        probe.wait_for_state('unconfigured')
        assert 'engines may only name files in' in probe.set_parameter('engines', '/x/v.onnx')
        assert 'engines may only name files in' in probe.set_parameter('engines', listed)
        assert 'twice, including `model`' in probe.set_parameter('engines', 'yolov7-nano')
        assert probe.change_state('configure')
        assert 'takes effect at configure' in probe.set_parameter('engines', '/x/v.onnx')


def test_images_of_two_topics_are_worked_on_at_the_same_time(probe: Probe, receive: str) -> None:
    both = threading.Barrier(2)
    engines = [FakeDetector(on_detect=lambda: both.wait(600)) for _ in range(2)]
    topics = [f'/team/{name}/image_raw' for name in 'ab']
    with probe.host(
        FakeEngine(*engines).seam, image_topics=','.join(topics), engines='/b.onnx',
        receive=receive,
    ) as node:
        probe.wait_for_state('unconfigured')
        assert probe.change_state('configure')
        try_together(node._configured.model.detector._schedule)
        assert probe.change_state('activate')
        found = [probe.detections(f'/team/{name}/detections') for name in 'ab']
        publishers = [
            probe.node.create_publisher(Image, topic, qos_profile_sensor_data) for topic in topics
        ]
        for each in publishers:
            probe.wait_until(each.get_subscription_count, 'the detector')
        for _ in range(3):
            before = [len(each) for each in found]
            for each in publishers:
                each.publish(probe.stamp(image_msg(IMAGE)))
            probe.wait_until(
                lambda before=before: all(
                    len(each) > count for each, count in zip(found, before, strict=True)
                ), 'both to be answered',
            )
        assert [len(each.calls) for each in engines] == [3, 3]
        for each in publishers:
            probe.node.destroy_publisher(each)


def test_a_second_look_and_another_model_go_with_several_engines_also_of_an_idle_node(
    probe: Probe
) -> None:
    doubt, other = (
        make_detections((64, 48), ((10, 20, 30, 40), score, 0)) for score in (0.4, 0.9)
    )
    looks = [FakeDetector([doubt]) for _ in range(4)]  # two of each model
    second = FakeDetector([other])
    engine = FakeEngine(*looks[:2], second, *looks[2:])
    with probe.host(
        engine.seam, image_topics=TOPIC, engines='/b.onnx', second_look='on',
        second_look_first_size=32, model_folders='/models', update='immediate', update_keep_s=0.0,
    ) as node:
        probe.wait_for_state('unconfigured')
        assert probe.change_state('configure')
        try_together(node._configured.model.detector._schedule)
        assert probe.change_state('activate')
        camera = Camera(probe)
        assert camera.ask() == ['person'] and looks[1].calls
        assert probe.set_parameter('model', '/models/new.onnx') == ''
        probe.wait_until(lambda: camera.ask() and looks[3].calls, 'both looks of the new model')
        probe.wait_until(lambda: looks[1].closed, 'the former model to be closed')
        camera.ask()  # the schedule learns of it
        looks[2]._script = [NAN]
        assert camera.ask() == ['person'] and second.calls  # by the one that was left
        assert probe.set_parameter('idle', True) == ''
        camera.send()
        answer = probe.call(Trigger, '/detector/detect_once', Trigger.Request())
        assert answer.success and '1 detection (1 person)' in answer.message
        assert probe.change_state('deactivate') and probe.change_state('cleanup')
        assert [each.closed for each in (*looks, second)] == [1] * 5
        camera.close()


def test_an_engine_without_a_class_of_the_new_model_and_second_looks_are_told(
    probe: Probe
) -> None:
    wider = fake_spec((*fake_spec().class_names, 'extra'))
    first, second = FakeDetector(), FakeDetector()
    engine = FakeEngine(first, FakeDetector(), second, FakeDetector(spec=wider),
                        FakeDetector(spec=wider))
    logged = probe.listen(Log, '/rosout', 1000)
    with probe.host(
        engine.seam, autostart=True, image_topics=TOPIC, engines='/b.onnx', second_look='on',
        second_look_first_size=32, model_folders='/models', update='immediate', update_keep_s=0.0,
    ):
        camera = Camera(probe)
        camera.ask()
        once = 'with several engines only the first looks twice; the others look once'
        assert probe.wait_until(lambda: probe.values('engines'), 'state')['second look'] == once
        assert probe.set_parameter('model', '/models/new.onnx') == ''
        lacks = 'engine 2 is out: it lacks the classes extra'

        def told() -> bool:
            camera.ask()
            return probe.summary('engines') == (lacks, DiagnosticStatus.WARN)

        probe.wait_until(told, 'the reason')
        for text in (
            f'engines: {once}', f'engines: {lacks}',
            'engines: the first serves alone, and is measured',
        ):
            assert probe.wait_until(
                lambda text=text: [each.msg for each in logged].count(text), text
            ) == 1
        camera.close()


def try_together(schedule: Any) -> None:
    """Have a schedule know what its engines take, and use all of them."""
    kind = (IMAGE.shape[1::-1],)
    for member, ms in zip(schedule._members, (600_000, 700_000), strict=True):
        for _ in range(6):
            member.times.add(kind, ms * 10**6)
    schedule._kinds.add(kind)
    schedule._trial.add_alone([10**15] * 100)  # nothing is late
    schedule._enter(Phase.TRYING, 0)
    schedule._begin_block(0, alone=False)


def test_all_engines_are_closed_at_cleanup(probe: Probe) -> None:
    engines = [FakeDetector() for _ in range(3)]
    engine = FakeEngine(*engines)
    with probe.host(engine.seam, autostart=True, image_topics=TOPIC, engines='/b.onnx,/c.onnx'):
        camera = Camera(probe)
        camera.ask()
        assert probe.change_state('deactivate') and probe.change_state('activate')
        camera.ask()
        assert probe.change_state('deactivate') and probe.change_state('cleanup')
        assert [each.closed for each in engines] == [1, 1, 1]
        camera.close()
