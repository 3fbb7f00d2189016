"""The second look in the node: real ROS, real engines where that is quick."""

from __future__ import annotations

from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from fake_engine import FakeEngine, NO_PLAN
import numpy as np
import pytest
from rclpy.qos import qos_profile_sensor_data
from ros_probe import image_msg, LATCHED, photograph_bgr, Probe
from seam_camera import Camera, TOPIC
from sensor_msgs.msg import Image

from yolov7_trt_ros.bank.looks.second_look import SecondLook
from yolov7_trt_ros.nodes.detector.plan_build import Engine
from yolov7_trt_ros.nodes.detector_parameters.parameters import PARAMETERS
from yolov7_trt_ros.testing import fake_spec, FakeDetector, make_detections

DOUBT = make_detections((64, 48), ((10, 20, 30, 40), 0.4, 0))
CROP = make_detections((64, 48), ((10, 20, 30, 40), 0.9, 0))
VALUES = {'autostart': True, 'image_topics': TOPIC, 'second_look_first_size': 32}


def told(probe: Probe) -> str:
    return probe.values().get('second look', '')


def test_doubt_is_looked_at_again_with_what_is_known_of_its_topic(probe: Probe) -> None:
    first, second = FakeDetector([DOUBT]), FakeDetector([CROP])
    engine = FakeEngine(first, second)
    with probe.host(engine.seam, second_look='on', **VALUES) as node:
        camera = Camera(probe)
        assert camera.ask() == ['person']
        probe.wait_until(lambda: 'crops of 128 px an image' in told(probe), 'the facts')
        assert isinstance(node._updates.bank.serving.detector, SecondLook)
        assert [call.size_wh for call in second.calls] == [(64, 48)]
        assert list(node._updates.bank.serving.detector._memories) == [TOPIC]
        camera.close()
    assert first.closed == second.closed == 1


def test_auto_tells_that_it_does_not_pay(probe: Probe) -> None:
    once, first = FakeDetector(), FakeDetector()
    # whatever else the machine does: a crop takes longer than a whole image
    second = FakeDetector(on_detect=lambda: np.ones((2160, 3840)).sum())
    engine = FakeEngine(first, second, once)
    with probe.host(engine.seam, second_look='auto', **VALUES) as node:
        probe.wait_until(lambda: 'does not pay' in told(probe), 'the facts')
        assert node._updates.bank.serving.detector is once
    assert first.closed == second.closed == once.closed == 1


def slow() -> FakeDetector:
    """Return one that takes long, whatever else the machine does."""
    return FakeDetector(on_detect=lambda: np.ones((2160, 3840)).sum())


@pytest.mark.parametrize('pays', [False, True])
def test_what_auto_chose_holds_for_the_next_model_too(probe: Probe, pays: bool) -> None:
    once = slow() if pays else FakeDetector()
    next_ones = [FakeDetector(), FakeDetector()][:1 + pays]
    engine = FakeEngine(FakeDetector(), FakeDetector() if pays else slow(), once, *next_ones)
    values = VALUES | {'model_folders': '/models', 'update': 'immediate'}
    with probe.host(engine.seam, second_look='auto', **values) as node:
        probe.wait_until(lambda: ('does not pay' in told(probe)) != pays and told(probe), 'choice')
        assert probe.set_parameter('model', '/models/new.onnx') == ''
        probe.wait_until(
            lambda: node._updates.bank.serving.model.name == '/models/new.onnx', 'the new model'
        )
        serving = node._updates.bank.serving.detector
        assert (serving._first if pays else serving) is next_ones[0]
        probe.forget_diagnostics()
        said = probe.wait_until(lambda: told(probe), 'later diagnostics')
        assert 'crops of 128 px' in said if pays else 'measured with the first model' in said


def test_a_model_that_auto_does_not_use_is_not_replaced(probe: Probe) -> None:
    engine = FakeEngine(FakeDetector(), slow(), FakeDetector(), FakeDetector())
    values = VALUES | {'model_folders': '/models', 'second_look_model': '/models/precise.onnx'}
    with probe.host(engine.seam, second_look='auto', **values) as node:
        probe.wait_until(lambda: '/models/precise.onnx looks alone' in told(probe), 'the choice')
        assert probe.set_parameter('model', '/models/new.onnx') == ''
        probe.wait_until(
            lambda: 'second_look auto has left /models/precise.onnx alone'
            in node._updates.bank.update_status().last, 'the reason',
        )
        assert node.get_parameter('model').value == 'yolov7-nano'


def test_sizes_without_a_second_look_are_in_the_diagnostics(probe: Probe) -> None:
    engine = FakeEngine(FakeDetector([DOUBT]), FakeDetector([CROP]))
    values = VALUES | {'second_look_first_size': 640}
    with probe.host(engine.seam, second_look='on', **values):
        camera = Camera(probe)
        camera.ask()
        probe.wait_until(
            lambda: 'images of 64x48 get no second look' in probe.values().get('left out', ''),
            'the reason',
        )
        camera.close()


def test_models_without_a_common_class_keep_the_node_from_being_configured(probe: Probe) -> None:
    engine = FakeEngine(FakeDetector(), FakeDetector(spec=fake_spec(('tyre',))))
    with probe.host(engine.seam, second_look='on', **VALUES):
        probe.wait_until(
            lambda: 'no class of the first one' in probe.values().get('last error', ''),
            'the reason',
        )


def test_missing_plans_of_both_looks_are_built_one_after_the_other(probe: Probe) -> None:
    # first is there; opening second fails; both are tried again for the build, then opened
    first, second = FakeDetector([DOUBT]), FakeDetector([CROP])
    engine = FakeEngine(
        FakeDetector(), NO_PLAN, FakeDetector(), NO_PLAN, first, second,
    )
    engine.go.set()
    with probe.host(engine.seam, second_look='on', second_look_model='yolov7-nano', **VALUES):
        probe.wait_until(lambda: 'crops' in told(probe), 'both engines')
        assert [(each.model, each.network_size) for each in engine.options] == [
            ('yolov7-nano', 192)
        ]
        assert not engine.opened


def test_another_model_looks_twice_as_well(probe: Probe) -> None:
    pairs = [(FakeDetector([DOUBT]), FakeDetector([CROP])) for _ in range(2)]
    engine = FakeEngine(*pairs[0], *pairs[1])
    values = VALUES | {
        'update_shadow_frames': 3, 'update_shadow_share': 1.0, 'update_min_detections': 3,
        'model_folders': '/models',
    }
    with probe.host(engine.seam, second_look='on', **values) as node:
        probe.wait_until(lambda: 'backend' in probe.values(), 'the first model')
        heard = probe.listen(DiagnosticStatus, '/detector/update', LATCHED)
        camera = Camera(probe)
        assert probe.set_parameter('model', '/models/new.onnx') == ''

        def serves() -> Any:
            camera.ask()
            state = {each.key: each.value for each in heard[-1].values} if heard else {}
            return state.get('state') == 'kept' and state['serving'] == '/models/new.onnx'

        probe.wait_until(serves, 'the new model')
        serving = node._updates.bank.serving.detector
        assert isinstance(serving, SecondLook) and serving._first is pairs[1][0]
        camera.close()


@pytest.mark.parametrize(('values', 'words'), [
    ({'second_look_object_px': 120}, 'does not fit into a crop of second_look_crop_px 128'),
    ({'second_look_classes': 'dogg'}, "no class 'dogg'"),
])
def test_what_does_not_go_together_keeps_it_from_being_configured(
    probe: Probe, values: dict[str, Any], words: str
) -> None:
    engine = FakeEngine(FakeDetector(), FakeDetector())
    with probe.host(engine.seam, second_look='on', **(VALUES | values)):
        probe.wait_until(lambda: words in probe.values().get('last error', ''), 'the reason')


def test_tiles_are_looked_at_by_one_engine_whose_plan_takes_them_all(probe: Probe) -> None:
    detector = FakeDetector([DOUBT], max_batch=5)
    engine = FakeEngine(NO_PLAN, detector)
    engine.go.set()
    values = {'autostart': True, 'image_topics': TOPIC, 'tiles': '2x2', 'max_batch': 3}
    with probe.host(engine.seam, **values):
        camera = Camera(probe)
        assert camera.ask() == ['person']
        assert detector.batches[-1] == 5 and engine.options[0].max_batch == 15
        probe.wait_until(lambda: '5 views of 1 image(s) in 1 pass(es)' in probe.values().get(
            'tiles', ''
        ), 'the facts')
        reason = probe.set_parameter(f'topics.{TOPIC}.tiles', '3x3')
        assert 'parameters of a topic are called' in reason
        assert "got '1x1', which is 1" in probe.set_parameter('tiles', '1x1')
        assert 'takes effect at configure' in probe.set_parameter('tiles', '3x3')
        camera.close()
    assert detector.closed == 1


@pytest.mark.parametrize(('values', 'words'), [
    ({'second_look': 'on'}, 'tiles and second_look exclude each other'),
    ({'engines': 'yolov7-nano'}, 'tiles and engines exclude each other'),
])
def test_what_excludes_tiles_is_told_at_configure(
    probe: Probe, values: dict[str, Any], words: str
) -> None:
    engine = FakeEngine(FakeDetector(), FakeDetector())
    with probe.host(engine.seam, autostart=True, image_topics=TOPIC, tiles='2x2', **values):
        probe.wait_until(lambda: words in probe.values().get('last error', ''), 'the reason')


def test_real_engines_find_what_one_of_them_finds_too(probe: Probe) -> None:
    values = VALUES | {
        'image_topics': '/real/image_raw', 'second_look_first_size': 320, 'threads': 1,
        'backend': 'onnx',
    }
    with probe.host(Engine(), second_look='on', **values):
        publisher = probe.node.create_publisher(Image, '/real/image_raw', qos_profile_sensor_data)
        found = probe.detections('/real/detections')
        probe.wait_until(publisher.get_subscription_count, 'the detector')
        message = probe.ask(publisher, image_msg(photograph_bgr()), found)
        names = [each.results[0].hypothesis.class_id for each in message.detections]
        assert 'person' in names
        probe.node.destroy_publisher(publisher)


def test_every_parameter_is_one_of_the_options() -> None:
    names = {spec.name for spec in PARAMETERS if spec.name.startswith('second_look')}
    assert len(names) == 13
