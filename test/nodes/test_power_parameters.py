"""The power node's parameters in docs and config are those it declares; checks and small parts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
import struct
from typing import Any

import pytest
from rclpy.parameter import Parameter
from rclpy.serialization import serialize_message
from vision_msgs.msg import Detection2DArray
import yaml

from yolov7_trt_ros.core.messages.serialized_image import read_stamp_ns
from yolov7_trt_ros.emulated_board.board import create_board
from yolov7_trt_ros.emulated_board.machine import board_host
from yolov7_trt_ros.errors import PowerCommandError, SettingError
from yolov7_trt_ros.nodes.job_thread import Job, JobThread
from yolov7_trt_ros.nodes.power import power_parameters as parameters
from yolov7_trt_ros.nodes.power.changes import AppliedParameter, find_board_change
from yolov7_trt_ros.nodes.power.frames import EnergyPerFrame, FrameLog
from yolov7_trt_ros.nodes.power.governor_loop import GovernorLoop
from yolov7_trt_ros.nodes.power.mode_watch import ModeWatch
from yolov7_trt_ros.nodes.power.power_settings import PowerSettings
from yolov7_trt_ros.power.control import PowerControl
from yolov7_trt_ros.power.governor.inputs import FrameWindow, Limits
from yolov7_trt_ros.power.nvpmodel.values import CurrentMode
from yolov7_trt_ros.power.telemetry.sample import BoardSample

REPOSITORY = Path(__file__).resolve().parents[2]
DEFAULTS = {spec.name: spec.default for spec in parameters.PARAMETERS}


def test_the_table_in_the_docs_is_current(tool: Any) -> None:
    assert tool.main(['--check', str(REPOSITORY / 'docs' / 'power.md')]) == 0


def test_the_docs_name_the_read_only_parameters() -> None:
    text = (REPOSITORY / 'docs' / 'power.md').read_text(encoding='utf-8')
    assert all(f'`{name}`' in text for name in parameters.READ_ONLY)


def test_the_parameter_file_holds_the_defaults() -> None:
    text = (REPOSITORY / 'config' / 'power.yaml').read_text(encoding='utf-8')
    values = yaml.safe_load(text)['/**']['ros__parameters']
    checked = {name: parameters.BY_NAME[name].check(value) for name, value in values.items()}
    assert checked == DEFAULTS


def test_board_parameters_are_declared_and_may_change() -> None:
    assert all(parameters.BY_NAME[name].runtime for name in parameters.BOARD_PARAMETERS)


@pytest.mark.parametrize(('name', 'value', 'expected'), [
    ('power_mode', 2, '2'), ('gpu_max_freq_mhz', 612, 612.0), ('governor', 'off', 'off'),
])
def test_values_are_taken_in_the_types_people_write(
    name: str, value: Any, expected: Any
) -> None:
    assert parameters.check_changes({name: value, 'use_sim_time': True}) == {name: expected}


@pytest.mark.parametrize(('changes', 'reason'), [
    ({'governor': 'fast'}, 'one of off, deadline'), ({'jetson_clocks': 1}, 'must be a bool'),
    ({'gpu_max_freq_mhz': float('nan')}, 'within 0..10000'), ({'emulate': 'nano'}, 'fixed'),
    ({'power_mode': 'A', 'fan_profile': 'cool'}, 'one after the other'),
])
def test_what_cannot_be_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(SettingError, match=reason):
        parameters.check_changes(changes)


def test_no_temperature_limit_is_written_as_0() -> None:
    settings = PowerSettings(**DEFAULTS)
    assert settings.limits().temperature_limit_c == 85.0
    settings = dataclasses.replace(settings, temperature_limit_c=0.0)
    assert settings.limits().temperature_limit_c is None


def test_the_settings_have_a_field_for_each_parameter() -> None:
    names = [field.name for field in dataclasses.fields(PowerSettings)]
    assert sorted(names) == sorted([*DEFAULTS, 'deadlines_ms'])


def test_a_parameter_that_the_node_sets_itself_changes_nothing_on_the_board() -> None:
    asked = [Parameter('sample_rate_hz', value=5.0), Parameter('governor', value='off')]
    assert find_board_change(asked) == 'governor'
    assert find_board_change([asked[0], AppliedParameter('governor', value='off')]) == ''


# ---- frames


def test_the_stamp_is_read_without_making_the_message() -> None:
    message = Detection2DArray()
    message.header.frame_id = 'camera'
    message.header.stamp.sec, message.header.stamp.nanosec = 1_700_000_000, 123_456_789
    assert read_stamp_ns(serialize_message(message)) == 1_700_000_000_123_456_789
    big_endian = bytes(4) + struct.pack('>iI', 5, 6)
    assert read_stamp_ns(big_endian) == 5_000_000_006
    assert read_stamp_ns(b'short') == 0


def test_frames_without_a_usable_stamp_count_all_the_same() -> None:
    log, now_ns = FrameLog(), 100 * 10**9
    for stamp_ns in (now_ns - 20_000_000, 0, -1, now_ns + 1, now_ns - 90 * 10**9):
        log.add(stamp_ns, now_ns)
    assert (log.count, log.unknown_count) == (5, 4)
    assert log.take() == FrameWindow((20.0,), unknown=4, sources=('',))
    assert log.take() == FrameWindow()


def missing(steps_ms: list[float]) -> list[int]:
    """Return what a log says of frames that come after such times."""
    log, now_ns, dropped = FrameLog(), 100 * 10**9, []
    for step_ms in steps_ms:
        now_ns += int(step_ms * 1e6)
        log.add(now_ns, now_ns + 1, 'camera')
        dropped.append(log.take().dropped)
    return dropped


def test_missing_frames_of_a_steady_source_are_counted() -> None:
    steady = [33.0, 34.5, 32.0] * 10
    assert sum(missing(steady)) == 0
    assert missing([*steady, 66.0, 33.0, 100.0, 33.0, 5000.0])[-5:] == [1, 0, 2, 0, 0]
    slower = missing([*steady, *[66.0] * 100])
    assert slower[30:80] == [1] * 50 and slower[-10:] == [0] * 10  # the source itself


@pytest.mark.parametrize('steps_ms', [[3.0, 30.0], [10.0, 70.0, 31.0, 140.0], [0.0, 33.0]])
def test_a_source_that_is_not_steady_misses_nothing(steps_ms: list[float]) -> None:
    assert sum(missing(steps_ms * 40)) == 0


def test_joules_per_frame_over_a_window() -> None:
    energy = EnergyPerFrame()
    results = [
        energy.add(BoardSample(second * 10**9, total_mw=12_000.0), frames=30 * second)
        for second in range(1, 31)
    ]
    assert results[0] is None
    assert results[1:] == pytest.approx([0.4] * 29)
    assert energy.add(BoardSample(60 * 10**9, total_mw=12_000.0), frames=900) is None


# ---- threads


def test_jobs_are_done_in_order_and_errors_are_theirs() -> None:
    worker, done = JobThread('test'), []

    def fail() -> str:
        raise PowerCommandError('it hangs')

    jobs = [
        worker.submit('one', lambda: done.append(1) or 'first'),
        worker.submit('two', fail),
        worker.submit('three', lambda: done.append(3) or 'third'),
    ]
    assert all(job.wait(600, lambda: True) for job in jobs)
    assert [(job.result, job.error) for job in jobs] == [
        ('first', ''), ('', 'it hangs'), ('third', ''),
    ]
    assert done == [1, 3] and not worker.fault
    assert worker.close(600)
    assert 'ending' in worker.submit('four', fail).error


def test_waiting_ends_when_the_node_does() -> None:
    job = Job('never', lambda: '')
    assert not job.wait(60, lambda: False)


# ---- governor loop


class Caps:
    """Takes the caps that a governor asks for; the test ends the jobs."""

    def __init__(self) -> None:
        self.jobs: list[tuple[float, Job]] = []
        self.is_wanted: Any = None

    def submit(self, mhz: float, is_wanted: Any) -> Job:
        self.is_wanted = is_wanted
        self.jobs.append((mhz, Job('cap', lambda: '')))
        return self.jobs[-1][1]


SAMPLE = BoardSample(0, total_mw=9_000.0, temperatures_c={'tj': 50.0})
BUDGET = Limits(governor='power_budget', power_budget_w=5.0)


@pytest.fixture
def caps() -> Caps:
    return Caps()


def started(caps: Caps) -> GovernorLoop:
    """Return a governor over its budget, that has asked for a lower clock."""
    seconds = iter(range(0, 10_000, 5))
    governor = GovernorLoop(caps.submit, lambda: float(next(seconds)))
    governor.start([306.0, 612.0, 918.0], 'MHz')
    governor.step(SAMPLE, FrameWindow(), BUDGET)
    return governor


def test_the_governor_asks_once_until_it_is_done(caps: Caps) -> None:
    governor = started(caps)
    for _ in range(5):
        governor.step(SAMPLE, FrameWindow(), BUDGET)
    assert len(caps.jobs) == 1 and caps.jobs[0][0] < 918
    caps.jobs[0][1].run()
    for _ in range(5):
        governor.step(SAMPLE, FrameWindow(), BUDGET)
    assert governor.describe().startswith('306 MHz: ')


def test_frames_lead_to_a_decision_as_they_come_but_not_each(caps: Caps) -> None:
    times_s = iter(0.02 * count for count in range(10_000))
    governor = GovernorLoop(caps.submit, lambda: next(times_s))
    governor.start([306.0, 612.0, 918.0], 'MHz')
    taken: list[FrameWindow] = []

    def take() -> FrameWindow:
        taken.append(FrameWindow((20.0,)))
        return taken[-1]

    governor.step_frames(take, lambda: BUDGET, SAMPLE)  # not taken yet
    governor.step(SAMPLE, FrameWindow(), Limits())
    for _ in range(60):
        governor.step_frames(take, Limits, SAMPLE)
    assert 15 <= len(taken) <= 30
    assert governor.describe() == '918 MHz: deadline met' and not caps.jobs


def test_a_cap_that_waits_is_not_wanted_after_a_stop_or_start(caps: Caps) -> None:
    governor = started(caps)
    assert caps.is_wanted()
    governor.start([306.0, 612.0], 'MHz')
    assert not caps.is_wanted()
    governor.stop()
    assert governor.describe() == 'off'


def test_a_cap_that_fails_ends_the_governor(caps: Caps) -> None:
    governor = started(caps)
    caps.jobs[0][1].drop()
    governor.step(SAMPLE, FrameWindow(), BUDGET)
    assert 'the governor has ended: cap' in governor.fault
    assert len(caps.jobs) == 1


@pytest.mark.parametrize('newest', [None, BoardSample(0, total_mw=9_000.0)])
def test_frames_raise_no_clock_while_the_heat_is_not_known(
    caps: Caps, newest: BoardSample | None
) -> None:
    governor = started(caps)
    caps.jobs[0][1].run()
    late = FrameWindow((500.0,) * 30)
    for _ in range(20):
        governor.step_frames(lambda: late, Limits, newest)
    assert len(caps.jobs) == 1 and 'the temperature is not readable' in governor.problem
    governor.step_frames(lambda: late, Limits, SAMPLE)
    assert len(caps.jobs) == 2 and caps.jobs[1][0] == 918.0


def test_a_lost_sensor_may_be_the_hottest(caps: Caps) -> None:
    governor = started(caps)
    caps.jobs[0][1].run()
    late = FrameWindow((500.0,) * 30)
    lost = dataclasses.replace(SAMPLE, lost_sensors=('tj',))
    for _ in range(20):
        governor.step(lost, late, Limits())
    assert len(caps.jobs) == 1 and 'the temperature is not readable' in governor.problem
    governor.step(lost, late, Limits(temperature_limit_c=None))
    assert len(caps.jobs) == 2 and caps.jobs[1][0] == 918.0
    caps.jobs[1][1].run()
    hot = dataclasses.replace(lost, temperatures_c={'cpu': 99.0})
    governor.step(hot, late, Limits())
    assert len(caps.jobs) == 3 and caps.jobs[2][0] < 918.0


def test_a_job_that_ends_by_a_defect_is_an_error_and_the_next_is_done(
    capfd: pytest.CaptureFixture[str]
) -> None:
    worker = JobThread('test')
    first, second = worker.submit('first', lambda: str(int('x'))), worker.submit('second', str)
    assert second.wait(600.0, lambda: True) and not second.error and not worker.fault
    assert first.error.startswith('first: a defect') and 'ValueError: invalid' in first.error
    assert worker.close(600.0)
    assert 'Traceback' in capfd.readouterr().err


class NewBoard(PowerControl):
    """A board that answers in a way nobody has foreseen."""

    is_known = True

    def current_mode(self) -> CurrentMode:
        return super().current_mode() if self.is_known else CurrentMode('x', int('x'))


def test_a_mode_that_cannot_be_read_by_a_defect_is_unknown(tmp_path: Path) -> None:
    with create_board('orin_nano_super', tmp_path / 'board') as board:
        control = NewBoard(board.root, board_host(board).runner)
        watch = ModeWatch(control, board.root, control.board())
        try:
            for is_known, mode in ((True, '25W'), (False, 'unknown: '), (True, '25W')):
                control.is_known = is_known
                watch.read_again()
                assert watch._job is not None and watch._job.wait(600.0, lambda: True)
                assert watch.newest.facts['mode'].startswith(mode)
        finally:
            watch.close()
            control.close()
