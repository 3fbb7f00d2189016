"""The power node after a SIGKILL, beside another node, and under somebody else's power mode."""

from __future__ import annotations

import os
from pathlib import Path
import signal
import sys

from power_host import PatientRunner, TOOL_LIMIT_S
from power_probe import HOSTED, PowerProbe
import pytest
from ros_probe import Probe, start_node

from yolov7_trt_ros.cli import main
from yolov7_trt_ros.emulated_board.board import EmulatedBoard
from yolov7_trt_ros.emulated_board.machine import board_host
from yolov7_trt_ros.power import machine
from yolov7_trt_ros.power.control import PowerControl

OK, WARN, ERROR = b'\x00', b'\x01', b'\x02'
GPU = '/sys/class/devfreq/17000000.gpu'


def limits_mhz(board: EmulatedBoard) -> tuple[int, int]:
    low, high = (int(board.read(f'{GPU}/{end}_freq')) // 10**6 for end in ('min', 'max'))
    return low, high


def mode_id(board: EmulatedBoard) -> int:
    return int(board.read('/var/lib/nvpmodel/status').removeprefix('pmode:'))


def set_by_hand(board: EmulatedBoard, mode: int) -> None:
    PatientRunner(environment=board.env).run(['nvpmodel', '-m', str(mode)])


@pytest.fixture
def killed(probe: Probe, board: EmulatedBoard, log: Path) -> EmulatedBoard:
    """Give a board whose node was killed with mode, lock and cap changed."""
    process = start_node(
        '', [
            '-r', '__ns:=/killed', '-p', 'power_mode:=MAXN_SUPER', '-p', 'jetson_clocks:=true',
            '-p', 'gpu_max_freq_mhz:=612.0',
        ], log, [sys.executable, '-c', HOSTED, str(board.root.parent)],
    )
    try:
        probe.wait_until(lambda: limits_mhz(board) == (612, 612), 'the changes')
    finally:
        process.kill()
        process.wait()
    assert mode_id(board) == 2
    return board


def test_the_next_start_puts_back_what_a_killed_node_left(
    power: PowerProbe, killed: EmulatedBoard
) -> None:
    with power.node(killed):
        power.wait_for_status(
            lambda _, values, level: level == OK and values['mode'] == '25W', 'the mode of before'
        )
        assert limits_mhz(killed) == (306, 918)
        assert power.set_parameter('power_mode', '15W')[0]
    assert mode_id(killed) == 1 and limits_mhz(killed) == (306, 918)


def test_without_restore_on_exit_it_is_offered_and_stays(
    power: PowerProbe, killed: EmulatedBoard, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with power.node(killed, restore_on_exit=False):
        power.wait_for_status(
            lambda _, values, __: 'power_mode' in values['changed here'], 'what was left'
        )
        assert mode_id(killed) == 2
    assert mode_id(killed) == 2
    monkeypatch.setattr(machine, 'this_host', lambda: board_host(killed))
    assert main.main(['power', 'restore']) == 0
    assert 'put back: power_mode, jetson_clocks, gpu_max_frequency' in capsys.readouterr().out
    assert mode_id(killed) == 1 and limits_mhz(killed) == (306, 918)
    assert main.main(['power', 'restore']) == 0
    assert 'nothing to put back' in capsys.readouterr().out


def test_a_second_node_is_refused_with_the_pid_of_the_first(
    power: PowerProbe, board: EmulatedBoard
) -> None:
    first = PowerControl(
        board.root, board_host(board).runner, program='power node', timeout_s=TOOL_LIMIT_S
    )
    first.set_mode('15W')
    with power.node(board):
        message, _, _ = power.wait_for_status(
            lambda _, __, level: level == ERROR, 'the refusal'
        )
        assert f'pid {os.getpid()}, power node' in message
        success, reason = power.set_parameter('power_mode', 'MAXN_SUPER')
        assert not success and f'pid {os.getpid()}' in reason
        assert mode_id(board) == 0
        first.close()  # as if it were killed: this node puts its changes back
        power.probe.wait_until(lambda: mode_id(board) == 1, 'the mode of before')
        power.wait_for_status(
            lambda _, values, level: level == OK and values['changed here'] == 'nothing',
            'no refusal any more',
        )
        assert power.set_parameter('power_mode', 'MAXN_SUPER')[0]
    assert mode_id(board) == 1


def test_a_damaged_journal_is_a_warning(power: PowerProbe, board: EmulatedBoard) -> None:
    path = board.root / 'run/yolov7_trt_ros/power.json'
    path.parent.mkdir(parents=True)
    path.write_text('{')
    with power.node(board):
        message, _, level = power.wait_for_status(
            lambda message, *_: 'journal' in message, 'the damage'
        )
        assert level == WARN and 'is kept as' in message
        assert power.set_parameter('power_mode', '15W')[0]
    assert mode_id(board) == 1


# Somebody else's power mode


def test_a_governor_stays_within_a_mode_that_somebody_else_sets(
    power: PowerProbe, board: EmulatedBoard
) -> None:
    with power.node(board, governor='power_budget', power_budget_w=100.0):
        power.wait_for_status(
            lambda _, values, __: values['governor'].startswith('918 MHz'), 'the governor'
        )
        assert limits_mhz(board) == (918, 918)
        set_by_hand(board, 0)
        power.wait_for_status(
            lambda _, values, __: values['governor'].startswith('612 MHz'), 'the new table'
        )
        assert limits_mhz(board) == (612, 612)
        set_by_hand(board, 2)
        power.wait_for_status(
            lambda _, values, __: values['governor'].startswith('1020 MHz'), 'a higher table'
        )
        set_by_hand(board, 0)
    assert mode_id(board) == 0 and limits_mhz(board) == (306, 612)


def test_the_parameter_follows_and_their_mode_stays(
    power: PowerProbe, board: EmulatedBoard
) -> None:
    with power.node(board, power_mode='MAXN_SUPER', gpu_max_freq_mhz=816.0):
        power.wait_for_status(
            lambda _, values, __: '816' in values['last change'], 'the start'
        )
        set_by_hand(board, 0)
        power.wait_for_status(
            lambda _, values, __: values['mode'] == '15W'
            and 'power_mode' not in values['changed here'], 'their mode',
        )
        power.probe.wait_until(lambda: power.get('power_mode') == '15W', 'the parameter')
        assert limits_mhz(board) == (306, 612)
    assert mode_id(board) == 0 and limits_mhz(board) == (306, 612)


def test_a_parameter_that_followed_changes_the_board_when_it_is_set_again(
    power: PowerProbe, board: EmulatedBoard
) -> None:
    with power.node(board, power_mode='MAXN_SUPER') as node:
        # the mode alone is told while the node still checks what it has set
        power.wait_for_status(
            lambda _, values, __: values['last change'].endswith(': MAXN_SUPER (2)'), 'the start'
        )
        set_by_hand(board, 0)
        power.probe.wait_until(lambda: power.get('power_mode') == '15W', 'the parameter')
        followed = node.get_parameter('power_mode')
        assert power.set_parameter('power_mode', '25W') == (True, '')
        assert node.set_parameters([followed])[0].successful
        assert mode_id(board) == 0


# The end


def test_the_exit_status_tells_that_not_everything_was_put_back(
    power: PowerProbe, board: EmulatedBoard, log: Path
) -> None:
    process = start_node('', [], log, [sys.executable, '-c', HOSTED, str(board.root.parent)])
    try:
        assert power.set_parameter('power_mode', 'MAXN_SUPER')[0]
        board.set_options(stale_prompt=True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(600) == 1, log.read_text()
    finally:
        process.kill()
        process.wait()
    assert 'not everything was put back' in log.read_text()
    assert mode_id(board) == 2
    board.set_options(stale_prompt=False)
    with power.node(board):
        power.wait_for_status(lambda _, values, __: values['mode'] == '25W', 'the mode of before')


def test_a_lower_cap_of_somebody_is_named(power: PowerProbe, board: EmulatedBoard) -> None:
    board.write(f'{GPU}/max_freq', 306000000)
    with power.node(board):
        message, _, _ = power.wait_for_status(
            lambda _, __, level: level == WARN, 'what does not fit the mode'
        )
        assert 'max_freq is 306000000, expected 918000000' in message
        assert power.set_parameter('power_mode', 'MAXN_SUPER')[0]
        power.wait_for_status(lambda _, __, level: level == OK, 'nothing left of it')


def test_a_lock_is_told_with_what_is_kept_below_it(
    power: PowerProbe, board: EmulatedBoard
) -> None:
    with power.node(board, jetson_clocks=True, gpu_max_freq_mhz=408.0):
        power.wait_for_status(
            lambda _, values, __: values['jetson_clocks'] == 'on, GPU kept lower', 'the lock'
        )
