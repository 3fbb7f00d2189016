"""The real power node on emulated boards, over real ROS parameters."""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import time

from fake_nvml import boot_pc, FakeNvml, NO_PERMISSION, UNKNOWN
from power_host import TOOL_LIMIT_S
from power_probe import HOSTED, mode_of, PowerProbe, STATUS
import pytest
import rclpy
from rclpy._rclpy_pybind11 import RCLError
from ros_probe import Probe, start_node
from std_msgs.msg import Float32
from vision_msgs.msg import Detection2DArray

from yolov7_trt_ros.emulated_board.board import EmulatedBoard
from yolov7_trt_ros.emulated_board.machine import board_host, EmulatedHost
from yolov7_trt_ros.nodes.power.power_node import PowerNode
from yolov7_trt_ros.power.governor import governor as policy
from yolov7_trt_ros.power.machine import PowerHost
from yolov7_trt_ros.power.nvml.gpu import NvmlGpu
from yolov7_trt_ros.power.nvml.gpu_journal import GpuJournal
from yolov7_trt_ros.power.root.commands import SystemRunner

OK, WARN, ERROR = b'\x00', b'\x01', b'\x02'
GPU = '/sys/class/devfreq/17000000.gpu'


# ---- what it tells


def test_read_only_parameters_tell_the_board(power: PowerProbe, board: EmulatedBoard) -> None:
    with power.node(board):
        assert 'Orin Nano' in power.get('board')
        assert power.get('l4t_release').startswith('36.')
        assert list(power.get('available_power_modes')) == [
            f'{mode.mode_id} {mode.name}' for mode in board.definition.modes
        ]
        assert not power.set_parameter('board', 'another')[0]


def test_telemetry_on_topics_and_in_diagnostics(power: PowerProbe, board: EmulatedBoard) -> None:
    with power.node(board, sample_rate_hz=20.0):
        heard = {
            name: power.probe.listen(Float32, f'/power_manager/{name}')
            for name in ('power_w', 'gpu_load', 'temperature_c')
        }
        power.probe.wait_until(lambda: all(len(values) > 3 for values in heard.values()))
        message, values, level = power.wait_for_status(
            lambda _, values, __: values.get('mode') == '25W', 'the mode'
        )
        assert level == OK and message.startswith('25W, ')
        assert heard['power_w'][-1].data == pytest.approx(
            float(values['VDD_IN (mW)']) / 1000, abs=0.01
        )
        assert heard['gpu_load'][-1].data == pytest.approx(70, abs=1)
        assert 25 < heard['temperature_c'][-1].data < 90
        assert values['jetson_clocks'] == 'off' and values['source'] == 'sysfs'
        assert {'tj temperature (C)', 'gpu clock (MHz)', 'gpu load (%)', 'alarms'} <= set(values)


def test_another_rate_reaches_a_running_tegrastats(
    power: PowerProbe, board: EmulatedBoard
) -> None:
    for chip in board.root.glob('sys/class/hwmon/hwmon*/name'):  # no rail in the kernel's files
        chip.write_text('another')
    shutil.rmtree(board.root / 'sys/bus/i2c')
    tool, seen = board.tools / 'tegrastats', board.root / 'seen'
    original = tool.rename(tool.with_name('tegrastats.original'))
    tool.write_text(f'#!/bin/sh\necho "$@" >> {seen}\nexec {original} "$@"\n')
    tool.chmod(0o755)
    with power.node(board, sample_rate_hz=5.0):
        power.wait_for_status(lambda _, values, __: 'VDD_IN (mW)' in values, 'a line')
        assert power.status()[1]['source'] == 'tegrastats+sysfs'
        assert power.set_parameter('sample_rate_hz', 8.0) == (True, '')
        wanted = ['--interval 200', '--interval 125']
        power.probe.wait_until(lambda: seen.read_text().splitlines() == wanted, 'another tool')
        power.probe.wait_until(lambda: 'VDD_IN (mW)' in power.status()[1], 'a line of it')


def test_every_part_has_its_status(power: PowerProbe, board: EmulatedBoard) -> None:
    with power.node(board, sample_rate_hz=20.0):
        _, values, _ = power.wait_for_status(lambda _, values, __: 'module' in values, 'facts')
        assert values['module'] == 'Jetson Orin Nano 8GB' and values['JetPack'] == '6.2.1'
        statuses = power.probe._statuses
        parts = ('supply', 'temperatures', 'cpu', 'gpu', 'memory', 'fan')
        power.probe.wait_until(
            lambda: all(f'/power_manager: {part}' in statuses for part in parts), 'the parts')
        assert all(statuses[f'/power_manager: {part}'][2] == OK for part in parts)
        assert float(statuses['/power_manager: memory'][1]['RAM available (MiB)']) > 1000
        assert float(statuses['/power_manager: fan'][1]['fan (rpm)']) > 0


def test_memory_that_fills_up_is_a_warning(power: PowerProbe, board: EmulatedBoard) -> None:
    board.set_memory(0.97)
    with power.node(board, sample_rate_hz=20.0):
        power.wait_for_status(
            lambda message, _, level: level == WARN and 'nearly full' in message, 'the warning')
        statuses = power.probe._statuses
        assert statuses['/power_manager: memory'][2] == WARN
        assert statuses['/power_manager: gpu'][2] == OK


def test_the_rate_may_change(power: PowerProbe, board: EmulatedBoard) -> None:
    with power.node(board, sample_rate_hz=0.5):
        heard = power.probe.listen(Float32, '/power_manager/power_w')
        assert power.set_parameter('sample_rate_hz', 50) == (True, '')
        power.probe.wait_until(lambda: len(heard) > 10, 'samples')
        assert not power.set_parameter('sample_rate_hz', 0.0)[0]


def test_throttling_is_a_warning(power: PowerProbe, board: EmulatedBoard) -> None:
    with power.node(board, sample_rate_hz=20.0):
        power.status()
        board.set_heat_sink(120)  # hot enough to throttle
        _, values, level = power.wait_for_status(
            lambda _, __, level: level == WARN, 'an alarm'
        )
        assert values['alarms'] != 'none'


def test_a_machine_that_tells_nothing_lets_the_node_idle(
    power: PowerProbe, tmp_path: Path
) -> None:
    host = PowerHost(tmp_path, SystemRunner(str(tmp_path)))
    with power.node(None, host):
        message, values, level = power.wait_for_status(
            lambda message, *_: message.startswith('idle: '), 'idle'
        )
        assert level == WARN and 'looked for' in message
        assert values['source'] == 'none'
        succeeded, reason = power.set_parameter('power_mode', 'MAXN')
        assert not succeeded and 'nvpmodel' in reason


# ---- power mode


@pytest.mark.parametrize('value', ['MAXN_SUPER', '2', 2])
def test_a_mode_is_set_by_name_or_id_and_restored(
    power: PowerProbe, board: EmulatedBoard, value: str | int
) -> None:
    with power.node(board):
        assert power.change('power_mode', value) == 'MAXN_SUPER (2)'
        assert mode_of(board) == 'MAXN_SUPER'
        assert power.get('power_mode') == value
        power.wait_for_status(
            lambda _, values, __: values.get('changed here') == 'power_mode', 'what was changed'
        )
    assert mode_of(board) == '25W'


def test_an_unknown_mode_lists_those_there_are(power: PowerProbe, board: EmulatedBoard) -> None:
    with power.node(board):
        succeeded, reason = power.set_parameter('power_mode', 'MAXN')
        assert not succeeded
        assert all(mode.name in reason for mode in board.definition.modes)
        assert power.get('power_mode') == ''


def test_a_mode_that_needs_a_reboot_says_which_mask(
    power: PowerProbe, board: EmulatedBoard
) -> None:
    with power.node(board):
        succeeded, reason = power.set_parameter('power_mode', '7W')
        assert not succeeded and 'reboot' in reason and 'TPC_PG_MASK 240 -> 252' in reason
        assert mode_of(board) == '25W' and board.state['reboots'] == 0


def test_without_permission_the_sudoers_line_is_the_reason(
    power: PowerProbe, board: EmulatedBoard
) -> None:
    board.set_options(as_root=False, sudo_allowed=False)
    with power.node(board):
        succeeded, reason = power.set_parameter('power_mode', 'MAXN_SUPER')
        assert not succeeded
        assert f'NOPASSWD: {board.tools}/nvpmodel -m 2' in reason


def test_sudo_is_enough(power: PowerProbe, board: EmulatedBoard) -> None:
    board.set_options(as_root=False, sudo_allowed=True)
    with power.node(board):
        assert power.set_parameter('power_mode', 'MAXN_SUPER')[0]


def test_in_a_container_the_reason_says_so(power: PowerProbe, board: EmulatedBoard) -> None:
    board.set_options(in_container=True)
    with power.node(board):
        succeeded, reason = power.set_parameter('power_mode', 'MAXN_SUPER')
        assert not succeeded and 'container' in reason and 'chroot' in reason


def test_a_missing_tool_is_named(power: PowerProbe, board: EmulatedBoard) -> None:
    (board.tools / 'nvpmodel').unlink()
    with power.node(board):
        succeeded, reason = power.set_parameter('power_mode', 'MAXN_SUPER')
        assert not succeeded and 'the tool nvpmodel is not installed' in reason


def test_a_dry_run_changes_nothing(power: PowerProbe, board: EmulatedBoard) -> None:
    with power.node(board, dry_run=True):
        assert power.set_parameter('power_mode', 'MAXN_SUPER')[0]
        assert mode_of(board) == '25W'


# ---- a tool that hangs


def test_a_tool_that_hangs_is_ended_and_diagnostics_go_on(
    power: PowerProbe, board: EmulatedBoard
) -> None:
    with power.node(board, tool_timeout_s=8.0, sample_rate_hz=20.0):
        power.wait_for_status(lambda _, values, __: values.get('mode') == '25W', 'the mode')
        heard = power.probe.listen(Float32, '/power_manager/power_w')
        board.delay_tool('nvpmodel', 600)
        power.probe.forget_diagnostics()
        answer = power.send('power_mode', 'MAXN_SUPER')
        _, _, level = power.wait_for_status(
            lambda message, *_: 'power_mode = MAXN_SUPER: in work for' in message,
            'a change in work',
        )
        assert level == WARN and not answer.done()
        before = len(heard)
        power.probe.wait_until(lambda: len(heard) > before + 5, 'samples while a tool hangs')
        assert not answer.done()
        power.probe.wait_until(answer.done, 'the answer')
        result = answer.result().results[0]
        assert not result.successful and 'not done after 8 s' in result.reason
        board.delay_tool('nvpmodel', 0)
        assert power.set_parameter('power_mode', 'MAXN_SUPER')[0]


def test_an_answer_does_not_wait_for_ever_and_the_parameter_follows(
    power: PowerProbe, board: EmulatedBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr('yolov7_trt_ros.nodes.power.power_node.ANSWER_FACTOR', 0.1 / 100)
    with power.node(board, tool_timeout_s=400.0):
        power.get('power_mode')  # finding each other's services takes a while of its own
        board.delay_tool('nvpmodel', 4.0)
        started_s = time.monotonic()
        succeeded, reason = power.set_parameter('power_mode', 'MAXN_SUPER')
        assert not succeeded and 'no answer within 0.4 s' in reason and 'goes on' in reason
        assert time.monotonic() - started_s < 12, 'three calls of the tool alone take 12 s'
        power.probe.wait_until(lambda: power.get('power_mode') == 'MAXN_SUPER', 'the parameter')
        board.delay_tool('nvpmodel', 0)
        assert mode_of(board) == 'MAXN_SUPER'


def test_a_sensor_that_hangs_leaves_the_rest(power: PowerProbe, board: EmulatedBoard) -> None:
    with power.node(board, sample_rate_hz=5.0):
        power.status()
        path = f'{GPU}/cur_freq'
        board.hang(path)
        try:
            _, values, level = power.wait_for_status(
                lambda _, values, __: 'hang' in values.get('not readable', ''), 'a hanging file'
            )
            assert level == WARN and 'total (mW)' in values
            assert power.set_parameter('power_mode', 'MAXN_SUPER')[0]
        finally:
            board.release(path)


# ---- clocks, fan


def test_jetson_clocks_on_and_off(power: PowerProbe, board: EmulatedBoard) -> None:
    with power.node(board):
        assert power.change('jetson_clocks', True) == 'clocks locked: on'
        assert board.read(f'{GPU}/min_freq') == board.read(f'{GPU}/max_freq')
        assert power.change('jetson_clocks', False) == 'clocks locked: off'
        assert board.read(f'{GPU}/min_freq') != board.read(f'{GPU}/max_freq')
        assert not power.set_parameter('jetson_clocks', 'yes')[0]


def test_clocks_that_someone_else_locked_are_left(
    power: PowerProbe, board: EmulatedBoard
) -> None:
    board_host(board).runner.run(['jetson_clocks'], timeout_s=TOOL_LIMIT_S)
    with power.node(board):
        power.wait_for_status(
            lambda _, values, __: values.get('jetson_clocks') == 'uncontrolled', 'the lock'
        )
        succeeded, reason = power.set_parameter('jetson_clocks', False)
        assert not succeeded and 'not by this program' in reason
    assert board.read(f'{GPU}/min_freq') == board.read(f'{GPU}/max_freq')


@pytest.mark.parametrize('unit', ['gpu', 'cpu'])
def test_caps_are_rounded_to_the_table_and_lifted(
    power: PowerProbe, board: EmulatedBoard, unit: str
) -> None:
    with power.node(board):
        cap = float(power.change(f'{unit}_max_freq_mhz', 800).split()[-2])
        assert 500 < cap <= 801
        assert float(power.change(f'{unit}_max_freq_mhz', 0.0).split()[-2]) > cap
        assert not power.set_parameter(f'{unit}_max_freq_mhz', -1.0)[0]


def test_the_fan_profile(power: PowerProbe, board: EmulatedBoard) -> None:
    with power.node(board):
        assert power.change('fan_profile', 'cool') == 'cool'
        succeeded, reason = power.set_parameter('fan_profile', 'gale')
        assert not succeeded and 'quiet' in reason
        assert power.get('fan_profile') == 'cool'


def test_board_parameters_are_no_atomic_change(power: PowerProbe, board: EmulatedBoard) -> None:
    with power.node(board):
        succeeded, reason = power.set_atomically(power_mode='MAXN_SUPER', jetson_clocks=True)
        assert not succeeded and 'one after the other' in reason
        assert mode_of(board) == '25W'
        assert power.set_atomically(deadline_ms=20.0, power_budget_w=10.0) == (True, '')


def test_fixed_parameters_are_refused(power: PowerProbe, board: EmulatedBoard) -> None:
    with power.node(board):
        succeeded, reason = power.set_parameter('dry_run', True)
        assert not succeeded and 'fixed at start' in reason


# ---- values given at start


def test_values_given_at_start_are_applied(power: PowerProbe, board: EmulatedBoard) -> None:
    with power.node(board, power_mode='MAXN_SUPER', jetson_clocks=True):
        _, values, _ = power.wait_for_status(
            lambda _, values, __: values.get('jetson_clocks') == 'on', 'locked clocks'
        )
        assert values['changed here'] == 'power_mode, jetson_clocks'
        assert mode_of(board) == 'MAXN_SUPER'


def test_a_value_at_start_that_fails_is_told_and_taken_back(
    power: PowerProbe, board: EmulatedBoard
) -> None:
    with power.node(board, power_mode='7W'):
        message, _, level = power.wait_for_status(
            lambda _, __, level: level == ERROR, 'an error'
        )
        assert 'power_mode = 7W failed' in message and 'reboot' in message
        assert power.get('power_mode') == ''
        assert power.set_parameter('power_mode', 'MAXN_SUPER')[0]
        power.probe.forget_diagnostics()
        power.wait_for_status(lambda _, __, level: level == OK, 'no error any more')


def test_what_is_set_meanwhile_outlives_a_value_at_start_that_fails_late(
    power: PowerProbe, board: EmulatedBoard
) -> None:
    board.delay_tool('nvpmodel', 0.4)
    with power.node(board, power_mode='7W'):
        assert power.set_parameter('power_mode', 'MAXN_SUPER')[0]
        board.delay_tool('nvpmodel', 0)
        for _ in range(2):
            power.status()
        assert power.get('power_mode') == 'MAXN_SUPER'
        assert mode_of(board) == 'MAXN_SUPER'


# ---- frames, governor

DEADLINE_MS = 6000.0
EARLY_MS = 600.0
"""So long that what this process adds, some ms, is no change of the workload."""


class Camera:
    """
    Publishes detections whose stamps are so many milliseconds old.

    Each stamp comes twice, as from two cameras in step: such a source has no period, so that a
    pause of a busy machine is not taken for frames that the detector dropped.

    """

    def __init__(
        self, probe: Probe, topic: str = '/detections', period_s: float = 0.05
    ) -> None:
        self._probe, self._period_s = probe, period_s
        self._publisher = probe.publisher(topic, reliable=True, kind=Detection2DArray)
        self._due_s = 0.0

    def publish(self, age_ms: float | None) -> None:
        """Publish two of this age, at most once in the period: more would wait, and be older."""
        if time.monotonic() < self._due_s:
            return
        self._due_s = time.monotonic() + self._period_s
        message = Detection2DArray()
        stamp_ns = 0  # no stamp
        if age_ms is not None:
            stamp_ns = self._probe.node.get_clock().now().nanoseconds - int(age_ms * 1e6)
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
        for _ in range(2):
            self._publisher.publish(message)

    def close(self) -> None:
        self._probe.node.destroy_publisher(self._publisher)


@pytest.fixture
def governed(power: PowerProbe, board: EmulatedBoard) -> Iterator[PowerProbe]:
    with power.node(board, sample_rate_hz=20.0):
        yield power


def test_joules_per_frame(governed: PowerProbe) -> None:
    camera = Camera(governed.probe)
    heard = governed.probe.listen(Float32, '/power_manager/joules_per_frame')

    def known() -> bool:
        camera.publish(10)
        return len(heard) > 3

    governed.probe.wait_until(known, 'joules a frame')
    assert 0 < heard[-1].data < 50
    assert int(governed.status()[1]['frames']) > 3
    camera.close()


def test_the_governor_lowers_the_clock_and_gives_it_back(
    governed: PowerProbe, board: EmulatedBoard
) -> None:
    highest = board.read(f'{GPU}/max_freq')
    assert governed.change('governor', 'deadline').startswith('deadline, from ')
    camera = Camera(governed.probe)

    def lowered() -> bool:
        camera.publish(EARLY_MS)
        return int(board.read(f'{GPU}/max_freq')) < int(highest)

    assert governed.set_parameter('deadline_ms', DEADLINE_MS) == (True, '')
    governed.probe.wait_until(lowered, 'a lower cap')
    assert governed.status()[1]['governor'] != 'off'
    assert governed.change('governor', 'off') == f'GPU at most {int(highest) / 1e6:g} MHz'
    assert board.read(f'{GPU}/max_freq') == highest
    camera.close()


def clock_limits(board: EmulatedBoard) -> tuple[int, int]:
    """Return the limits of the GPU's clock, MHz."""
    return tuple(int(board.read(f'{GPU}/{end}_freq')) // 10**6 for end in ('min', 'max'))


def run_down(power: PowerProbe, board: EmulatedBoard, camera: Camera) -> None:
    """Let the governor go down with frames that are early, until it holds a lower clock."""
    _, highest_mhz = clock_limits(board)

    def held() -> bool:
        camera.publish(EARLY_MS)
        low_mhz, high_mhz = clock_limits(board)
        return low_mhz == high_mhz < highest_mhz

    assert power.set_parameter('deadline_ms', DEADLINE_MS) == (True, '')
    power.probe.wait_until(held, 'a lower clock, held')


def test_the_governor_holds_the_clock_and_raises_it_at_once_when_late(
    power: PowerProbe, board: EmulatedBoard
) -> None:
    before = clock_limits(board)
    with power.node(board, sample_rate_hz=10.0):
        assert power.change('governor', 'deadline').endswith(f' to {before[1]} MHz')
        assert clock_limits(board) == (before[1], before[1])
        camera = Camera(power.probe)
        run_down(power, board, camera)
        assert power.set_parameter('sample_rate_hz', 0.1) == (True, '')
        started_s = time.monotonic()
        while clock_limits(board) != (before[1], before[1]):
            camera.publish(2.0 * DEADLINE_MS)
            power.probe.spin(0.03)
        assert time.monotonic() - started_s < 9, 'a sample comes only every 10 s'
        assert power.set_parameter('sample_rate_hz', 10.0) == (True, '')
        run_down(power, board, camera)
        assert power.set_parameter('governor', 'off') == (True, '')
        assert clock_limits(board) == before
        assert power.set_parameter('governor', 'deadline') == (True, '')
        run_down(power, board, camera)
        camera.close()
    assert clock_limits(board) == before


def test_without_frames_the_governor_lets_go_of_the_clock(
    power: PowerProbe, board: EmulatedBoard
) -> None:
    before = clock_limits(board)
    with power.node(board, sample_rate_hz=10.0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(policy, 'TUNING', dataclasses.replace(policy.TUNING, idle_s=1e6))
            assert power.set_parameter('governor', 'deadline') == (True, '')
            assert clock_limits(board) == (before[1], before[1])
        power.wait_for_status(
            lambda _, values, __: values.get('governor', '') == 'clock released: no frames',
            'that it lets go',
        )
        assert clock_limits(board) == before


def test_frames_without_a_stamp_hold_the_clock_and_are_told(
    power: PowerProbe, board: EmulatedBoard
) -> None:
    before = clock_limits(board)
    with power.node(board, sample_rate_hz=10.0, governor='deadline'):
        camera = Camera(power.probe)

        def told() -> bool:
            camera.publish(None)
            message, values, _ = power.probe._statuses.get(STATUS, ('', {}, b''))
            return 'frames without a latency' in message and f'{before[1]} MHz' in str(values)

        power.probe.wait_until(told, 'that the latencies are unknown')
        assert power.probe._statuses[STATUS][2] == WARN
        assert clock_limits(board) == (before[1], before[1])
        camera.close()


def test_a_board_whose_temperature_is_gone_keeps_its_clock(
    power: PowerProbe, board: EmulatedBoard
) -> None:
    with power.node(board, sample_rate_hz=10.0):
        assert power.set_parameter('governor', 'deadline') == (True, '')
        camera = Camera(power.probe)
        run_down(power, board, camera)
        for sensor in (board.root / 'sys/class/thermal').glob('thermal_zone*/temp'):
            sensor.write_text('nonsense\n')
        power.wait_for_status(lambda _, values, __: 'tj temperature (C)' not in values, 'no heat')
        held = clock_limits(board)

        def told() -> bool:
            camera.publish(2.0 * DEADLINE_MS)
            message = power.probe._statuses.get(STATUS, ('',))[0]
            return 'the temperature is not readable' in message

        power.probe.wait_until(told, 'that the temperature is unknown')
        assert clock_limits(board) == held
        camera.close()


def test_a_load_that_the_detections_do_not_explain_keeps_the_clock_up(
    power: PowerProbe, board: EmulatedBoard
) -> None:
    _, highest_mhz = clock_limits(board)
    with power.node(board, sample_rate_hz=10.0, deadline_ms=DEADLINE_MS, governor='deadline'):
        camera = Camera(power.probe, period_s=0.5)

        def told() -> bool:
            camera.publish(1.0)  # with the way here they explain some percent of the load, 70 %
            _, values, _ = power.probe._statuses.get(STATUS, ('', {}, b''))
            return 'others use the GPU' in values.get('governor', '')

        power.probe.wait_until(told, 'that others use the GPU')
        power.probe.wait_until(
            lambda: clock_limits(board) == (highest_mhz, highest_mhz), 'the highest clock')
        camera.close()


def test_a_topic_has_a_deadline_of_its_own(power: PowerProbe, board: EmulatedBoard) -> None:
    topics = ['/front/detections', '/rear/detections']
    with power.node(
        board, sample_rate_hz=10.0, detections_topics=topics, deadline_ms=10.0,
    ):
        for wrong, reason in (
            (['/side/detections:50'], 'none of detections_topics'), (['/front'], 'entries like'),
            (['/front/image_raw:50', '/front/detections:60'], 'twice'),
        ):
            succeeded, told = power.set_parameter('topic_deadlines_ms', wrong)
            assert not succeeded and reason in told
        assert power.set_parameter('topic_deadlines_ms', [
            f'/front/image_raw:{DEADLINE_MS:g}', f'/rear/detections:{2 * DEADLINE_MS:g}',
        ]) == (True, '')
        assert power.set_parameter('governor', 'deadline') == (True, '')
        before = clock_limits(board)
        front, rear = (Camera(power.probe, topic) for topic in topics)

        def lower() -> bool:
            front.publish(EARLY_MS)
            rear.publish(1.5 * DEADLINE_MS)  # late for the front, not for the rear
            return clock_limits(board) < before

        power.probe.wait_until(lower, 'a lower clock')
        front.close()
        rear.close()


def test_a_governor_that_may_only_cap_says_so(power: PowerProbe, board: EmulatedBoard) -> None:
    real = board.root / f'{GPU}/max_freq'.lstrip('/')
    board.set_options(as_root=False, sudo_allowed=[f'tee {real}'])
    board.write(f'{GPU}/max_freq', 816000000)
    with power.node(board):
        assert power.set_parameter('governor', 'power_budget') == (True, '')
        power.wait_for_status(
            lambda _, values, __: 'only capped' in values.get('governor', ''), 'a mere cap'
        )
        assert clock_limits(board) == (306, 816)


def test_the_governor_stays_below_the_cap(governed: PowerProbe, board: EmulatedBoard) -> None:
    assert governed.set_parameter('gpu_max_freq_mhz', 612)[0]
    assert governed.change('governor', 'power_budget').endswith(' to 612 MHz')
    assert governed.set_parameter('governor', 'faster')[0] is False
    assert 'power_budget, from' in governed.change('gpu_max_freq_mhz', 0.0)


def test_a_governor_that_may_not_says_so(power: PowerProbe, board: EmulatedBoard) -> None:
    board.set_options(as_root=False, sudo_allowed=False)
    with power.node(board):
        succeeded, reason = power.set_parameter('governor', 'deadline')
        assert not succeeded and 'NOPASSWD' in reason
        assert power.get('governor') == 'off'


# ---- a PC


def test_on_a_pc_the_governor_locks_the_clock_of_the_gpu(
    power: PowerProbe, tmp_path: Path
) -> None:
    nvml = FakeNvml()
    host = PowerHost(tmp_path, SystemRunner(str(tmp_path)), nvml=lambda: nvml)
    with power.node(None, host, sample_rate_hz=20.0):
        assert power.change('gpu_max_freq_mhz', 1500) == 'GPU at most 1500 MHz'
        assert nvml.clocks == (345, 1500)
        assert power.set_parameter('power_budget_w', 100.0) == (True, '')  # it takes 250 W
        assert power.set_parameter('governor', 'power_budget') == (True, '')
        assert nvml.clocks is not None and nvml.clocks[0] == nvml.clocks[1] > 1200
        power.probe.wait_until(lambda: nvml.clocks == (345, 345), 'the lowest clock, held')
        assert power.set_parameter('governor', 'off') == (True, '')
        assert nvml.clocks == (345, 1500)
        assert power.status()[1]['changed here'] == 'gpu_locked_clocks'
    assert nvml.clocks is None and nvml.opened == 0


@pytest.mark.parametrize('restores', [True, False])
def test_on_a_pc_locked_clocks_of_a_killed_node_are_freed_at_the_next_start(
    power: PowerProbe, tmp_path: Path, restores: bool
) -> None:
    nvml = FakeNvml()
    killed = NvmlGpu(lambda: nvml, journal=GpuJournal(boot_pc(tmp_path), 'killed'))
    killed.hold(1095)
    killed.close()
    host = PowerHost(tmp_path, SystemRunner(str(tmp_path), is_root=True), nvml=lambda: nvml)
    with power.node(None, host, restore_on_exit=restores):
        left = 'nothing' if restores else 'gpu_locked_clocks'
        if restores:  # the first status may have been made before it looked at what was left
            power.probe.wait_until(lambda: nvml.clocks is None, 'free clocks')
        power.wait_for_status(lambda _, values, __: values['changed here'] == left, left)
        assert (nvml.clocks is None) is restores
    assert (nvml.clocks is None) is restores


def test_on_a_pc_what_is_to_stay_is_not_undone_by_the_next_start(
    power: PowerProbe, tmp_path: Path
) -> None:
    nvml = FakeNvml()
    host = PowerHost(tmp_path, SystemRunner(str(tmp_path), is_root=True), nvml=lambda: nvml)
    with power.node(None, host, restore_on_exit=False):
        assert power.change('gpu_max_freq_mhz', 1500) == 'GPU at most 1500 MHz'
    assert nvml.clocks == (345, 1500)
    with power.node(None, host):
        assert power.status()[1]['changed here'] == 'nothing'
    assert nvml.clocks == (345, 1500)


def test_a_governor_that_ends_by_itself_lets_go_of_the_clock(
    power: PowerProbe, tmp_path: Path
) -> None:
    nvml = FakeNvml()
    host = PowerHost(tmp_path, SystemRunner(str(tmp_path)), nvml=lambda: nvml)
    with power.node(None, host, sample_rate_hz=20.0):
        assert power.set_parameter('power_budget_w', 1000.0) == (True, '')
        assert power.set_parameter('governor', 'power_budget') == (True, '')
        assert nvml.clocks == (1980, 1980)
        nvml.fails['nvmlDeviceSetGpuLockedClocks'] = UNKNOWN
        assert power.set_parameter('power_budget_w', 100.0) == (True, '')
        message, _, level = power.wait_for_status(
            lambda _, __, level: level == ERROR, 'the end of the governor'
        )
        assert 'the governor has ended' in message and nvml.clocks is None


def test_on_a_pc_without_root_the_refusal_says_what_to_run(
    power: PowerProbe, tmp_path: Path
) -> None:
    nvml = FakeNvml()
    nvml.fails['nvmlDeviceSetGpuLockedClocks'] = NO_PERMISSION
    host = PowerHost(tmp_path, SystemRunner(str(tmp_path)), nvml=lambda: nvml)
    with power.node(None, host):
        succeeded, reason = power.set_parameter('governor', 'deadline')
        assert not succeeded and 'sudo nvidia-smi -i 0 -lgc 1980,1980' in reason
        assert power.get('governor') == 'off'


def test_on_a_pc_with_an_old_gpu_the_governor_limits_its_power(
    power: PowerProbe, tmp_path: Path
) -> None:
    nvml = FakeNvml()
    nvml.capability = [6, 1]
    host = PowerHost(tmp_path, SystemRunner(str(tmp_path)), nvml=lambda: nvml)
    with power.node(None, host, sample_rate_hz=20.0):
        succeeded, reason = power.set_parameter('gpu_max_freq_mhz', 1500)
        assert not succeeded and 'Volta' in reason
        assert power.set_parameter('power_budget_w', 100.0) == (True, '')  # it takes 250 W
        assert power.change('governor', 'power_budget') == 'power_budget, from 100 to 350 W'
        power.probe.wait_until(lambda: nvml.limit_mw == 100_000, 'the lowest limit')
        told = power.status()[1]['governor']
        assert told.startswith('100 W: ') and 'power is limited instead' in told
    assert nvml.limit_mw == 350_000 and nvml.opened == 0


# ---- the process


def test_a_signal_during_the_start_leaves_no_board_behind(
    ros_domain: None, board: EmulatedBoard, tmp_path: Path
) -> None:
    context = rclpy.Context()
    rclpy.init(context=context)

    class Interrupted(SystemRunner):

        def find(self, tool: str) -> None:
            context.handle.shutdown()  # as a signal does, when the board is open

    host = EmulatedHost(tmp_path / 'empty', Interrupted(), board=board)
    with pytest.raises(RCLError):
        PowerNode(host=host, context=context, namespace='/interrupted')
    assert not board.root.exists()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize('restores', [True, False])
def test_a_signal_restores_what_was_changed(
    power: PowerProbe, board: EmulatedBoard, log: Path, number: int, restores: bool
) -> None:
    process = start_node(
        '', ['-p', f'restore_on_exit:={str(restores).lower()}'], log,
        [sys.executable, '-c', HOSTED, str(board.root.parent)],
    )
    try:
        assert power.set_parameter('power_mode', 'MAXN_SUPER')[0]
        assert power.set_parameter('jetson_clocks', True)[0]
        process.send_signal(number)
        assert process.wait(600) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
    text = log.read_text()
    assert 'Traceback' not in text and 'rosout' not in text, text
    assert mode_of(board) == ('25W' if restores else 'MAXN_SUPER')
    locked = board.read(f'{GPU}/min_freq') == board.read(f'{GPU}/max_freq')
    assert locked is not restores


@pytest.fixture
def putting_back(
    power: PowerProbe, board: EmulatedBoard, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Return a node that has been told to end, and is putting the mode back with a slow tool."""
    process = start_node('', [], log, [sys.executable, '-c', HOSTED, str(board.root.parent)])
    try:
        assert power.set_parameter('power_mode', 'MAXN_SUPER')[0]
        board.delay_tool('nvpmodel', 1.0)
        process.send_signal(signal.SIGTERM)
        power.probe.wait_until(lambda: 'putting back' in log.read_text(), 'the end')
        yield process
    finally:
        process.kill()
        process.wait()
    assert 'Traceback' not in log.read_text()
    assert mode_of(board) == '25W', log.read_text()


def test_more_signals_do_not_disturb_what_is_put_back(
    putting_back: subprocess.Popen[bytes], log: Path
) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        putting_back.send_signal(number)
    assert putting_back.wait(600) == 0, log.read_text()


def test_a_tool_that_is_ended_while_it_puts_back_is_run_again(
    putting_back: subprocess.Popen[bytes], power: PowerProbe, log: Path
) -> None:
    """As systemd does, which sends SIGTERM to every process of a service, twice."""
    tasks = Path(f'/proc/{putting_back.pid}/task')

    def tools() -> list[int]:
        return [int(pid) for each in tasks.glob('*/children') for pid in each.read_text().split()]

    os.kill(power.probe.wait_until(tools, 'a tool')[0], signal.SIGTERM)
    assert putting_back.wait(600) == 0, log.read_text()
    assert 'could not put back power_mode' in log.read_text()
    assert 'put back at the second try' in log.read_text()


def test_under_nohup_a_closed_terminal_leaves_it(
    power: PowerProbe, board: EmulatedBoard, log: Path
) -> None:
    command = [sys.executable, '-c', HOSTED, str(board.root.parent)]
    process = start_node('', [], log, ['env', '--ignore-signal=HUP', *command])
    try:
        assert power.set_parameter('power_mode', 'MAXN_SUPER')[0]
        process.send_signal(signal.SIGHUP)
        assert power.get('power_mode') == 'MAXN_SUPER'
        process.send_signal(signal.SIGTERM)
        assert process.wait(600) == 0
    finally:
        process.kill()
        process.wait()
    assert log.read_text().count('putting back') == 1


def test_a_signal_while_a_tool_hangs_ends_the_node_in_time(
    power: PowerProbe, board: EmulatedBoard, log: Path
) -> None:
    process = start_node(
        '', ['-p', 'tool_timeout_s:=8.0'], log,
        [sys.executable, '-c', HOSTED, str(board.root.parent)],
    )
    try:
        power.wait_for_status(lambda _, values, __: values.get('mode') == '25W', 'the mode')
        board.delay_tool('nvpmodel', 600)
        power.send('power_mode', 'MAXN_SUPER')
        power.wait_for_status(lambda message, *_: 'in work' in message, 'a change in work')
        process.send_signal(signal.SIGTERM)
        assert process.wait(600) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
    assert 'Traceback' not in log.read_text()


def test_the_process_emulates_a_board_and_removes_it(
    power: PowerProbe, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('TMPDIR', str(tmp_path))
    process = start_node('power_node', ['-p', 'emulate:=xavier_nx'], log)
    try:
        power.wait_for_status(lambda _, __, level: level == OK, 'diagnostics')
        assert 'Xavier NX' in power.get('board')
        assert list(tmp_path.glob('emulated_board_*'))
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(600) == 0, log.read_text()
    assert not list(tmp_path.glob('emulated_board_*'))


def test_without_emulate_the_emulator_is_not_imported() -> None:
    code = (
        'import sys; from yolov7_trt_ros.nodes.power import power_node; '
        'power_node._open_host("").close(); '
        'print(*(name for name in sys.modules if "emulated_board" in name))'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ''


def test_an_unknown_board_is_one_line(log: Path) -> None:
    process = start_node('power_node', ['-p', 'emulate:=tx9'], log)
    assert process.wait(600) == 1
    assert 'orin_nano_super' in log.read_text() and 'Traceback' not in log.read_text()
