"""Another model while the node detects: real ROS, scripted engines; docs/bank.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from fake_engine import build_threads, FakeEngine, NO_PLAN
import pytest
from ros_probe import LATCHED, Probe
from seam_camera import Camera, TOPIC
from std_srvs.srv import Trigger
from vision_msgs.msg import LabelInfo, VisionInfo

from yolov7_trt_ros.core.units import stamp_to_ns
from yolov7_trt_ros.errors import BuildError, InferenceError, ModelLayoutError
from yolov7_trt_ros.testing import fake_spec, FakeDetector, make_detections

NEW = '/models/new.onnx'
NAN = InferenceError('the model gave 3 score value(s) of 9 that are NaN or infinite')
CUP = make_detections((64, 48), ((10, 20, 50, 40), 0.9, 0))
ELSEWHERE = make_detections((64, 48), ((0, 0, 9, 9), 0.9, 0))


def person(**fields: Any) -> FakeDetector:
    """Return a detector that sees a person."""
    return FakeDetector([make_detections((64, 48), ((10, 20, 50, 40), 0.9, 0))], **fields)


class Update:
    """A hosted node with a camera, what `~/update` says, and the images that were answered."""

    def __init__(self, probe: Probe, engine: FakeEngine, **parameters: Any) -> None:
        self.probe, self.engine = probe, engine
        values = {
            'autostart': True, 'image_topics': TOPIC, 'model_folders': '/models',
            'update_shadow_frames': 3, 'update_shadow_share': 1.0, 'update_min_detections': 3,
        }
        self._host = probe.host(engine.seam, **(values | parameters))

    def __enter__(self) -> Update:
        self.node = self._host.__enter__()
        self.probe.wait_until(lambda: 'backend' in self.probe.values(), 'the first model')
        self.told = self.probe.listen(DiagnosticStatus, '/detector/update', LATCHED)
        self.camera = Camera(self.probe)
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self.camera.close()
        self._host.__exit__(*exc_info)

    @property
    def values(self) -> dict[str, str]:
        return {each.key: each.value for each in self.told[-1].values} if self.told else {}

    def drive(self, condition: Any, what: str) -> Any:
        """Send and have images answered until something holds."""
        def holds() -> Any:
            self.camera.ask()
            return condition()

        return self.probe.wait_until(holds, f'{what}, not {self.values}')

    def wait(self, state: str, part: str = '') -> dict[str, str]:
        """Send images until the update is in a state and its last words have a part."""
        self.drive(
            lambda: self.values.get('state') == state and part in self.values['last'],
            f'{state} with {part!r}',
        )
        return self.values

    def call(self, name: str) -> tuple[bool, str]:
        """Call ~/promote or ~/roll_back."""
        answer = self.probe.call(Trigger, f'/detector/{name}', Trigger.Request())
        return answer.success, answer.message

    def model(self) -> str:
        """Return the parameter."""
        return str(self.node.get_parameter('model').value)


def test_a_model_that_agrees_serves_and_everybody_is_told(probe: Probe) -> None:
    first = person()
    new = FakeDetector(
        [make_detections((64, 48), ((10, 20, 50, 40), 0.9, 1))], spec=fake_spec(('cup', 'person'))
    )
    with Update(probe, FakeEngine(first, new), update_keep_s=3600.0) as update:
        # the node's other classes are no classes of the new model, which is immediate's affair
        assert update.probe.set_parameter('update', 'immediate') == ''
        labels = probe.listen(LabelInfo, '/detector/label_info', LATCHED)
        methods = probe.listen(VisionInfo, '/detector/vision_info', LATCHED)
        assert update.camera.ask() == ['person']
        assert probe.set_parameter('classes', 'person') == ''
        assert probe.set_parameter('model', NEW) == ''
        values = update.wait('kept', 'serves')
        assert (values['serving'], values['number'], values['kept']) == (NEW, '2', 'yolov7-nano')
        assert update.camera.ask() == ['person']
        assert new.calls[-1].settings.class_ids == {1}
        probe.wait_until(lambda: methods[-1].database_version == 2, 'vision_info')
        assert NEW in methods[-1].method
        probe.wait_until(lambda: labels[-1].class_map[0].class_name == 'cup', 'label_info')
        probe.wait_until(lambda: probe.values()['model'] == NEW, 'diagnostics')
        assert update.model() == NEW
        assert update.call('promote') == (True, f'{NEW} serves, yolov7-nano is let go')
        probe.wait_until(lambda: first.closed, 'the former engine to be closed')
        assert update.wait('steady')['serving'] == NEW
    assert new.closed == 1


def test_a_replay_can_tell_which_model_answered_which_image(probe: Probe) -> None:
    with Update(probe, FakeEngine(person(), person())) as update:
        found = probe.detections('/seam/detections')
        update.camera.ask()
        assert probe.set_parameter('model', NEW) == ''
        update.wait('kept')
        update.drive(lambda: update.values[f'since {TOPIC}'].startswith('model 2, '), 'the stamp')
        seconds, _, rest = update.values[f'since {TOPIC}'].removeprefix('model 2, ').partition('.')
        first_ns = int(seconds) * 10**9 + int(rest)
        old, new = update.node._updates.bank._engines.values()
        stamps = sorted({stamp_to_ns(each.header.stamp) for each in found})
        assert first_ns in stamps
        answered = [stamp for stamp in stamps if stamp >= first_ns]
        assert len(stamps) - len(answered) == len(old.detector.calls)
        assert new.model.number == 2


@pytest.mark.parametrize(('opened', 'reason'), [
    (ModelLayoutError('4 outputs, none of a YOLOv7 export'), 'none of a YOLOv7 export'),
    (ZeroDivisionError('a defect'), 'ZeroDivisionError: a defect'),
    (FakeDetector([ELSEWHERE]), 'is under update_min_agreement 0.8; most differ: person'),
    (FakeDetector([CUP, NAN]), 'it failed on a frame: the model gave 3 score'),
    (person(spec=fake_spec(('cup',))), 'it does not have the classes person, bicycle, car and 76'),
], ids=['no detector', 'defect', 'disagrees', 'NaN', 'classes'])
def test_one_that_is_no_good_is_dropped_and_the_old_one_goes_on(
    probe: Probe, opened: Any, reason: str
) -> None:
    with Update(probe, FakeEngine(person(), opened)) as update:
        assert probe.set_parameter('model', NEW) == ''
        update.wait('steady', reason)
        assert update.values['last'].startswith(f'{NEW} dropped, yolov7-nano goes on: ')
        assert update.told[-1].level == DiagnosticStatus.WARN
        assert update.camera.ask() == ['person'] and update.model() == 'yolov7-nano'
        probe.forget_diagnostics()
        probe.wait_until(lambda: reason in probe.summary('update')[0], 'diagnostics')
        counts = probe.settled_counts(TOPIC)
        assert counts['failed'] == counts['dropped'] == 0


def test_the_plan_is_built_while_the_old_one_detects(probe: Probe) -> None:
    engine = FakeEngine(person(), NO_PLAN, person())
    with Update(probe, engine) as update:
        assert probe.set_parameter('model', NEW) == ''
        update.drive(
            lambda: 'building a plan: tactics: head.2 43 %' in update.values.get('progress', ''),
            'the progress of the build',
        )
        engine.go.set()
        update.wait('kept', 'agreement 1.0000')


def test_a_build_that_is_killed_is_told(probe: Probe) -> None:
    engine = FakeEngine(
        person(), NO_PLAN, build_error=BuildError('the build process was killed (SIGKILL)')
    )
    engine.go.set()
    with Update(probe, engine) as update:
        assert probe.set_parameter('model', NEW) == ''
        update.wait('steady', 'the build process was killed (SIGKILL)')


def test_the_frame_that_the_new_one_fails_on_is_answered_all_the_same(probe: Probe) -> None:
    new = person()
    with Update(probe, FakeEngine(person(), new), update='immediate') as update:
        assert probe.set_parameter('model', NEW) == ''
        update.wait('kept')
        calls = len(new.calls)
        new._script = [NAN]
        assert update.camera.ask() == ['person'] and len(new.calls) == calls + 1
        update.wait('steady', f'{NEW} rolled back to yolov7-nano: it failed: the model gave')
        assert probe.counts(TOPIC)['failed'] == 0 and update.model() == 'yolov7-nano'
        probe.wait_until(lambda: new.closed, 'the new engine to be closed')


def test_services_and_names_end_an_update(probe: Probe) -> None:
    engine = FakeEngine(person(), NO_PLAN, NO_PLAN, NO_PLAN)
    with Update(probe, engine) as update:
        for name in ('promote', 'roll_back'):
            assert update.call(name) == (False, f'nothing to {name}: no update is under way')
        assert probe.set_parameter('model', NEW) == ''
        update.drive(lambda: 'progress' in update.values, 'the build')
        assert update.call('roll_back') == (True, f'{NEW} is dropped, yolov7-nano goes on')
        assert update.wait('steady')['serving'] == 'yolov7-nano'
        assert update.model() == 'yolov7-nano'
        assert probe.set_parameter('model', NEW) == ''
        assert probe.set_parameter('model', 'yolov7-nano') == ''
        update.wait('steady', 'yolov7-nano was asked for again')
        assert probe.set_parameter('model', NEW) == ''
        update.drive(lambda: update.values['state'] == 'opening', 'another update')
        assert probe.change_state('deactivate') and probe.change_state('cleanup')
        assert update.model() == 'yolov7-nano'
    probe.wait_until(lambda: not build_threads(), 'the end of the build')


def test_what_cannot_be_is_refused_in_the_answer(probe: Probe) -> None:
    with Update(probe, FakeEngine(person(), person()), update='immediate') as update:
        assert 'may only name files in' in probe.set_parameter('model', '/elsewhere/new.onnx')
        assert probe.set_parameter('update', 'off') == ''
        assert 'the parameter update is off' in probe.set_parameter('model', NEW)
        assert probe.set_parameter('update', 'immediate') == ''
        assert 'takes effect at configure' in probe.set_parameter('network_size', 320)
        assert probe.change_state('deactivate')
        assert 'takes effect at configure' in probe.set_parameter('model', NEW)
        assert probe.set_parameter('model', 'yolov7-nano') == ''
        assert probe.change_state('activate')
        assert probe.set_parameter('model', NEW) == ''
        update.wait('kept')
        assert 'call ~/promote' in probe.set_parameter('model', '/models/third.onnx')
        assert update.model() == NEW


def test_limits_and_a_model_that_are_set_together_belong_together(probe: Probe) -> None:
    with Update(probe, FakeEngine(person(), person()), update='off') as update:
        assert probe.set_together(update='immediate', model=NEW) == ''
        update.wait('kept')
        assert probe.set_parameter('update_keep_s', 0.0) == ''  # holds for this one, too
        update.wait('steady')
        together = {'update': 'off', 'model': '/models/third.onnx'}
        assert 'the parameter update is off' in probe.set_together(**together)
        assert update.node.get_parameter('update').value == 'immediate'


def test_the_way_back_needs_no_file(probe: Probe, tmp_path: Path) -> None:
    folder, away = tmp_path / 'models', tmp_path / 'away.onnx'
    folder.mkdir()
    old, new = folder / 'old.onnx', folder / 'new.onnx'
    engine = FakeEngine(*(person() for _ in range(4)))
    fields = {'update': 'immediate', 'model_folders': str(folder), 'update_keep_s': 3600.0}
    with Update(probe, engine, **fields) as update:
        assert probe.set_parameter('model', str(old)) == ''
        update.wait('kept')
        assert update.call('promote')[0]
        assert probe.set_parameter('model', str(new)) == ''
        update.wait('kept')
        old.symlink_to(away)  # its name leads out of the trusted folders by now
        assert update.call('roll_back')[0]
        assert update.wait('steady')['serving'] == update.model() == str(old)
        assert probe.set_parameter('model', str(old)) == ''
        assert probe.set_parameter('model', str(new)) == ''  # no refit, but an update
        assert update.wait('kept')['serving'] == str(new)
        assert probe.set_parameter('model', str(old)) == ''
        assert update.wait('steady')['serving'] == update.model() == str(old)
        assert probe.change_state('deactivate') and probe.change_state('cleanup')
        assert not probe.change_state('configure')  # that opens files
        probe.wait_until(lambda: 'may only name files in' in probe.summary()[0], 'the reason')


def test_after_cleanup_no_model_is_said_to_serve(probe: Probe) -> None:
    with Update(probe, FakeEngine(person(), person(), person()), update='immediate') as update:
        assert probe.set_parameter('model', NEW) == ''
        update.wait('kept')
        assert probe.change_state('deactivate') and probe.change_state('cleanup')
        told = probe.listen(DiagnosticStatus, '/detector/update', LATCHED)
        probe.wait_until(lambda: told, 'what is latched')
        assert [(each.key, each.value) for each in told[0].values] == [('state', 'none')]
        assert told[0].message == 'there is no model'
        assert probe.change_state('configure')
        probe.wait_until(lambda: update.values.get('serving') == NEW, 'the model')
        assert update.values['state'] == 'steady' and update.values['number'] == '1'


def test_after_a_transition_that_failed_the_candidate_is_not_the_model(
    probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Update(probe, FakeEngine(person(), NO_PLAN)) as update:
        assert probe.set_parameter('model', NEW) == ''
        update.drive(lambda: 'progress' in update.values, 'the build')

        def fail() -> None:
            raise ZeroDivisionError('a defect')

        monkeypatch.setattr(update.node, '_deactivate', fail)
        probe.change_state('deactivate')
        probe.wait_for_state('unconfigured')
        assert update.model() == 'yolov7-nano'
    assert not build_threads()


def test_an_update_waits_for_an_inactive_node(probe: Probe) -> None:
    with Update(probe, FakeEngine(person(), person()), update_shadow_frames=50) as update:
        assert probe.set_parameter('model', NEW) == ''
        update.drive(lambda: 'agreement' in update.values, 'a comparison')
        assert probe.change_state('deactivate') and probe.change_state('activate')
        assert probe.set_parameter('update_shadow_frames', 3) == ''
        update.wait('kept')


def test_a_saturated_node_compares_nothing_and_says_so(probe: Probe) -> None:
    with Update(probe, FakeEngine(person(), person())) as update:
        waiting = type(update.node._configured.worker._slots).has_waiting
        try:
            type(update.node._configured.worker._slots).has_waiting = lambda _: True
            assert probe.set_parameter('model', NEW) == ''
            update.drive(lambda: update.values['state'] == 'shadow', 'the shadow')
            for _ in range(5):
                update.camera.ask()
            assert 'this needs frames, and time between them' in update.told[-1].message
        finally:
            type(update.node._configured.worker._slots).has_waiting = waiting
        update.wait('kept')


def test_parameters_that_do_not_fit_the_new_model_are_told_until_they_do(probe: Probe) -> None:
    cups = FakeDetector([CUP], spec=fake_spec(('cup',)))
    engine = FakeEngine(person(), NO_PLAN, cups)
    with Update(probe, engine, update='immediate', update_keep_s=3600.0) as update:
        assert probe.set_parameter('model', NEW) == ''
        assert probe.set_parameter('classes', 'person') == ''  # while it is built
        engine.go.set()
        update.wait('kept', 'serves')
        probe.wait_until(
            lambda: 'do not fit it, and classes that only the former model has are not'
            in probe.summary()[0], 'the warning',
        )
        text, level = probe.summary()
        assert level == DiagnosticStatus.WARN and "no class 'person'" in text
        update.camera.ask()
        assert cups.calls[-1].settings.class_ids == frozenset()
        assert probe.set_parameter('classes', '') == ''
        probe.wait_until(lambda: 'do not fit' not in probe.summary()[0], 'no warning')
        update.camera.ask()
        assert cups.calls[-1].settings.class_ids is None
