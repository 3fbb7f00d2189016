"""A transition that fails says why, whatever was raised, and leaves a state that can go on."""

from __future__ import annotations

from collections.abc import Iterator
import threading
from typing import Any

from fake_engine import FakeEngine
import pytest
from ros_probe import Probe

from yolov7_trt_ros.nodes.callback_net import failures_of
from yolov7_trt_ros.testing import FakeDetector

TOPIC = '/reasons/image_raw'


def defect(*_: Any) -> Any:
    raise KeyError('weights')


@pytest.fixture
def engine() -> FakeEngine:
    """Return an engine that opens one detector; a test may put something before it."""
    return FakeEngine(FakeDetector())


@pytest.fixture
def node(probe: Probe, engine: FakeEngine) -> Iterator[Any]:
    with probe.host(engine.seam, image_topics=TOPIC) as node:
        probe.wait_for_state('unconfigured')
        yield node


def wait_for(probe: Probe, text: str) -> None:
    probe.wait_until(lambda: probe.summary()[0] == text, text)


def test_configure_tells_what_a_defect_raised(probe: Probe, engine, node, capfd) -> None:
    engine.opened.insert(0, KeyError('weights'))
    assert not probe.change_state('configure')
    assert probe.state() == 'unconfigured'
    wait_for(probe, "cannot configure: KeyError: 'weights'")
    assert probe.values()['last error'] == "cannot configure: KeyError: 'weights'"
    assert probe.change_state('configure') and probe.state() == 'inactive'
    told = capfd.readouterr().err
    assert told.count("cannot configure: KeyError: 'weights'") == 1 and 'Traceback' not in told


def test_activate_tells_and_may_be_tried_again(
    probe: Probe, node, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert probe.change_state('configure')
    with monkeypatch.context() as patch:
        patch.setattr(node._configured.streams, 'subscribe', defect)
        assert not probe.change_state('activate')
    assert probe.state() == 'inactive' and node._configured.worker is None
    wait_for(probe, "cannot activate: KeyError: 'weights'")
    assert probe.change_state('activate')
    wait_for(probe, 'active')


def test_deactivate_tells_and_frees_everything(
    probe: Probe, node, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert probe.change_state('configure') and probe.change_state('activate')
    configured = node._configured
    with monkeypatch.context() as patch:
        patch.setattr(configured.streams, 'close', defect)
        assert not probe.change_state('deactivate')
    assert probe.state() == 'unconfigured'
    wait_for(probe, "cannot deactivate: KeyError: 'weights'")
    assert node._configured is None and not configured.streams and configured.model is None
    assert not any(each.name == 'detection_worker' for each in threading.enumerate())


def test_what_cannot_be_freed_leaves_the_rest_to_be_freed(
    probe: Probe, node, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert probe.change_state('configure') and probe.change_state('activate')
    configured, worker = node._configured, node._configured.worker
    monkeypatch.setattr(worker, 'stop', defect)
    monkeypatch.setattr(configured.model.detector, 'close', defect)
    assert probe.change_state('shutdown_active')
    assert probe.state() == 'finalized'
    assert node._configured is None
    assert not configured.streams and configured.model is None and configured.worker is None
    assert failures_of(node).count == 2
    monkeypatch.undo()
    worker.stop()


def test_a_defect_while_a_built_model_is_taken_up_is_told(
    probe: Probe, node, engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fake_engine import NO_PLAN

    engine.opened.insert(0, NO_PLAN)
    monkeypatch.setattr(node._labels, 'publish', defect)
    assert probe.change_state('configure')
    engine.go.set()
    probe.wait_until(
        lambda: probe.summary()[0].startswith("no detector: KeyError: 'weights'"), 'the reason'
    )
    assert node._configured.model is None and not node._loading.progress()


def test_a_start_that_fails_after_a_build_leaves_no_worker_with_a_closed_model(
    probe: Probe, node, engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fake_engine import NO_PLAN

    detector = engine.opened[0]
    engine.opened.insert(0, NO_PLAN)
    assert probe.change_state('configure') and probe.change_state('activate')
    configured, threads = node._configured, set(threading.enumerate())
    monkeypatch.setattr(configured.streams, 'subscribe', defect)
    monkeypatch.setattr(configured.streams, 'close', defect)
    engine.go.set()
    wait_for(probe, "no detector: KeyError: 'weights'. Fix that, then cleanup and configure "
                    f'(a plan was needed: {NO_PLAN})')
    assert detector.closed == 1 and failures_of(node).count == 1
    assert configured.model is None and configured.worker is None
    started = set(threading.enumerate()) - threads
    assert not any(each.name == 'detection_worker' for each in started)
    assert not node._loading.progress()


def test_a_value_that_was_wrong_at_start_can_be_mended(probe: Probe, engine: FakeEngine) -> None:
    with probe.host(engine.seam, image_topics=TOPIC, backend='none', threads='many'):
        probe.wait_for_state('unconfigured')
        assert not probe.change_state('configure')
        probe.wait_until(lambda: 'backend must be one of' in probe.summary()[0], 'the reason')
        assert 'must be an integer' in probe.set_parameter('threads', 'some')
        assert probe.set_parameter('backend', 'onnx') == ''
        assert probe.set_parameter('threads', 1) == ''
        assert probe.change_state('configure')


def test_the_topics_are_wrong_only_at_configure(probe: Probe, node) -> None:
    assert 'is not a topic name' in probe.set_parameter('image_topics', '/no topic')
    assert probe.set_parameter('image_topics', '/diagnostics') == ''
    assert not probe.change_state('configure')
    probe.wait_until(lambda: "it is the node's own" in probe.summary()[0], 'the reason')
    assert probe.set_parameter('image_topics', TOPIC) == ''
    assert probe.change_state('configure')
