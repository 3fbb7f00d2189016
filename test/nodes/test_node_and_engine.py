"""The node on engines that lack a plan or lose their device: real ROS, scripted detectors."""

from __future__ import annotations

from pathlib import Path
import sys
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from fake_engine import build_threads, FakeEngine, NO_PLAN
import pytest
from ros_probe import DetectorProcess, LATCHED, Probe, TIMEOUT_S
from seam_camera import Camera, TOPIC
from vision_msgs.msg import VisionInfo

from yolov7_trt_ros.errors import BuildError, DeviceLostError, DeviceMemoryError
from yolov7_trt_ros.testing import FakeDetector, make_detections

PERSON = make_detections((64, 48), ((10, 20, 50, 40), 0.9, 0))
LOST = DeviceLostError('the CUDA context is lost: an illegal memory access was encountered')


@pytest.fixture
def camera(probe: Probe):
    """Return a camera."""
    camera = Camera(probe)
    yield camera
    camera.close()


def hosted(probe: Probe, engine: FakeEngine, **parameters):
    """Host a detector of one topic."""
    return probe.host(engine.seam, image_topics=TOPIC, **parameters)


def change(probe: Probe, *transitions: str) -> None:
    """Make transitions that must succeed."""
    for transition in transitions:
        assert probe.change_state(transition), transition


def wait_for_summary(probe: Probe, level: bytes, *parts: str) -> str:
    """Wait for a status of the node with a level and texts; returns its message."""
    def told() -> str:
        message, found = probe.summary()
        return message if found == level and all(part in message for part in parts) else ''

    return str(probe.wait_until(told, f'a status with {parts}, not {probe.summary()}'))


# ---- a plan that has to be built


def test_a_missing_plan_is_built_beside_an_active_node_that_detects_then(probe, camera):
    engine = FakeEngine(NO_PLAN, FakeDetector([PERSON], status={'graph hits': '7'}))
    with hosted(probe, engine, autostart=True, network_size=320):
        probe.wait_for_state('active')
        wait_for_summary(
            probe, DiagnosticStatus.WARN, 'building a plan: tactics: head.2 43 %, ', ' s'
        )
        assert probe.node.count_subscribers(TOPIC) == 0
        assert probe.node.count_publishers('/detector/vision_info') == 0
        assert not probe.values(TOPIC)
        engine.go.set()
        assert camera.ask() == ['person']
        wait_for_summary(probe, DiagnosticStatus.OK, 'active')
        assert probe.values()['backend'] == 'fake' and probe.values()['graph hits'] == '7'
        methods = probe.listen(VisionInfo, '/detector/vision_info', LATCHED)
        probe.wait_until(lambda: methods, 'vision_info')
    assert [each.network_size for each in engine.options] == [320]
    probe.wait_until(lambda: not build_threads(), 'the end of the build')


def test_parameters_changed_during_a_build_hold_after_it(probe, camera):
    detector = FakeDetector([PERSON])
    engine = FakeEngine(NO_PLAN, detector)
    with hosted(probe, engine):
        change(probe, 'configure', 'activate')
        assert probe.set_parameter('score_threshold', 0.75) == ''
        assert probe.set_parameter('classes', ['person', 'dog']) == ''
        assert probe.set_parameter('class_id_format', 'index') == ''
        assert 'out of range' in probe.set_parameter('iou_threshold', 1.5)
        assert 'takes effect at configure' in probe.set_parameter('model', 'other.onnx')
        engine.go.set()
        assert camera.ask() == ['0']
    settings = detector.calls[0].settings
    assert settings.score_threshold == 0.75 and settings.iou_threshold == 0.45
    assert settings.class_ids == {0, 16}


def test_a_class_the_model_lacks_shows_when_the_model_is_there(probe, camera):
    refused = FakeDetector()
    engine = FakeEngine(NO_PLAN, refused, FakeDetector([PERSON]))
    with hosted(probe, engine):
        change(probe, 'configure')
        assert probe.set_parameter('classes', 'purson') == ''
        engine.go.set()
        wait_for_summary(probe, DiagnosticStatus.ERROR, "did you mean 'person'?", 'cleanup')
        assert refused.closed == 1
        assert probe.set_parameter('classes', 'person') == ''
        change(probe, 'cleanup', 'configure', 'activate')
        assert camera.ask() == ['person']


def test_a_plan_that_comes_while_inactive_is_used_on_activate(probe, camera):
    engine = FakeEngine(NO_PLAN, FakeDetector([PERSON]))
    with hosted(probe, engine):
        change(probe, 'configure', 'activate', 'deactivate')
        engine.go.set()
        probe.wait_until(lambda: 'backend' in probe.values(), 'the detector')
        assert probe.node.count_subscribers(TOPIC) == 0
        change(probe, 'activate')
        assert camera.ask() == ['person']


def test_told_to_fail_it_does_not_build(probe):
    engine = FakeEngine(NO_PLAN)
    with hosted(probe, engine, on_plan_mismatch='fail'):
        assert not probe.change_state('configure')
        assert probe.state() == 'unconfigured'
        wait_for_summary(probe, DiagnosticStatus.ERROR, str(NO_PLAN))
    assert engine.options == []


def test_a_build_that_fails_says_why_and_can_be_tried_again(probe, camera):
    engine = FakeEngine(
        NO_PLAN, FakeDetector([PERSON]), build_error=BuildError('no kernel for node Foo')
    )
    engine.go.set()
    with hosted(probe, engine):
        change(probe, 'configure', 'activate')
        wait_for_summary(probe, DiagnosticStatus.ERROR, 'no kernel for node Foo', str(NO_PLAN))
        assert probe.state() == 'active'
        assert 'no kernel for node Foo' in probe.values()['last error']
        change(probe, 'deactivate', 'cleanup')
        wait_for_summary(probe, DiagnosticStatus.OK, 'unconfigured')
        change(probe, 'configure', 'activate')
        assert camera.ask() == ['person']


@pytest.mark.parametrize('transition', ['cleanup', 'shutdown_inactive'])
def test_leaving_during_a_build_cancels_it(probe, transition):
    engine = FakeEngine(NO_PLAN)
    with hosted(probe, engine):
        change(probe, 'configure')
        assert build_threads()
        change(probe, transition)
        probe.wait_until(lambda: not build_threads(), 'the end of the build')


def test_destroying_the_node_during_a_build_cancels_it(probe):
    with hosted(probe, FakeEngine(NO_PLAN)):
        change(probe, 'configure', 'activate')
    probe.wait_until(lambda: not build_threads(), 'the end of the build')


def test_a_build_that_cannot_be_stopped_holds_nobody_up(probe, camera):
    unused = FakeDetector()
    engine = FakeEngine(NO_PLAN, FakeDetector([PERSON]), unused, deaf=True)
    with hosted(probe, engine):
        change(probe, 'configure', 'cleanup')
        assert build_threads()
        change(probe, 'configure', 'activate')
        engine.go.set()
        probe.wait_until(lambda: not build_threads(), 'the end of the cancelled build')
        assert camera.ask() == ['person']
    assert engine.opened == [unused]


# ---- a device that fails


def test_a_lost_device_stops_detection_and_the_node_stays_to_say_so(probe, camera):
    lost = FakeDetector([PERSON, LOST])
    engine = FakeEngine(lost, LOST, FakeDetector([PERSON]))
    with hosted(probe, engine):
        change(probe, 'configure', 'activate')
        assert camera.ask() == ['person']
        camera.send_until_one_failed()
        wait_for_summary(
            probe, DiagnosticStatus.ERROR, f'detection has stopped, restart the node: {LOST}'
        )
        assert probe.state() == 'active'
        change(probe, 'deactivate', 'cleanup')
        assert lost.closed == 1
        probe.forget_diagnostics()
        wait_for_summary(probe, DiagnosticStatus.ERROR, str(LOST))
        assert not probe.change_state('configure')  # on the GPU: refused by CUDA for good
        wait_for_summary(probe, DiagnosticStatus.ERROR, f'cannot configure: {LOST}')
        change(probe, 'configure', 'activate')  # on the CPU, say
        assert camera.ask() == ['person']
        wait_for_summary(probe, DiagnosticStatus.OK, 'active')


def test_a_device_lost_behind_a_build_asks_for_a_restart(probe):
    engine = FakeEngine(NO_PLAN, LOST)
    engine.go.set()
    with hosted(probe, engine):
        change(probe, 'configure')
        wait_for_summary(
            probe, DiagnosticStatus.ERROR, f'no detector, restart the node: {LOST}'
        )


def exiting(log: Path, script: str, **parameters: Any) -> DetectorProcess:
    """Start a detector of its own process whose model loses the device; told to exit then."""
    return DetectorProcess(
        log, on_device_lost='exit', image_topics=TOPIC, **parameters,
        command=[sys.executable, '-c', script],
    )


LOSING = """
from yolov7_trt_ros.errors import DeviceLostError
from yolov7_trt_ros.nodes.detector.detector_node import DetectorNode
from yolov7_trt_ros.nodes.detector.plan_build import Engine
from yolov7_trt_ros.nodes.process.node_main import run_node
from yolov7_trt_ros.testing import FakeDetector, make_detections

class Told(FakeDetector):
    def close(self):
        print('closed', flush=True)

LOST = DeviceLostError('the CUDA context is lost')
EMPTY = make_detections((64, 48))
def open_lost(options):
    raise LOST
engine = Engine(open_detector=OPEN)
raise SystemExit(run_node('detector', lambda: DetectorNode(engine=engine), None))
"""
IN_A_FRAME = LOSING.replace('OPEN', 'lambda options: Told([EMPTY, LOST])')
AT_CONFIGURE = LOSING.replace('OPEN', 'open_lost')


def test_told_to_exit_it_ends_with_status_3_after_saying_why(probe, camera, log):
    process = exiting(log, IN_A_FRAME, autostart=True)
    probe.forget_diagnostics()
    assert camera.ask() == []
    probe.wait_until(lambda: camera.send() or process.process.poll() is not None, 'its end')
    wait_for_summary(probe, DiagnosticStatus.ERROR, 'the CUDA context is lost')
    assert process.process.wait(TIMEOUT_S) == 3, process.text()
    text = process.text()
    assert '[FATAL]' in text and 'ending with exit status 3: detection has stopped' in text
    assert text.endswith('closed\n') and 'Traceback' not in text


def test_told_to_exit_it_answers_a_configure_that_meets_a_lost_device_first(probe, log):
    process = exiting(log, AT_CONFIGURE)
    probe.wait_for_state('unconfigured')
    assert not probe.change_state('configure')
    assert process.process.wait(TIMEOUT_S) == 3, process.text()
    assert 'Traceback' not in process.text()


def test_a_signal_ends_a_node_that_would_exit_with_status_0(probe, log):
    with exiting(log, IN_A_FRAME, autostart=True):
        probe.wait_for_state('active')


def test_too_little_memory_costs_the_frame_only(probe, camera):
    engine = FakeEngine(FakeDetector([DeviceMemoryError('31 MiB are missing'), PERSON]))
    with hosted(probe, engine):
        change(probe, 'configure', 'activate')
        camera.send_until_one_failed()
        wait_for_summary(probe, DiagnosticStatus.ERROR, '31 MiB are missing')
        assert camera.ask() == ['person']
