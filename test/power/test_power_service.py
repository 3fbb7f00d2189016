"""The power service of a host: what its clients can change, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
import os
from pathlib import Path
import signal
import subprocess
import sys
import threading

from board_tools import current_mode
from changed_boards import control_of, CPU0, Make, ORIN_GPU, replace_tool, settings
from power_host import client_of, PatientRunner, SERVE, serving, TOOL_LIMIT_S
import pytest

from yolov7_trt_ros.emulated_board.board import EmulatedBoard
from yolov7_trt_ros.emulated_board.machine import board_host
from yolov7_trt_ros.errors import (
    PowerCommandError,
    PowerError,
    PowerPermissionError,
    PowerRebootError,
    SettingError,
)
from yolov7_trt_ros.power.board_control import open_control
from yolov7_trt_ros.power.control import PowerControl
from yolov7_trt_ros.power.service.remote_control import RemoteControl
from yolov7_trt_ros.power.service.verbs import Grants

JOURNAL = 'run/yolov7_trt_ros/power.json'
CLIENT = """
import sys
from pathlib import Path
from yolov7_trt_ros.power.service.remote_control import RemoteControl
control = RemoteControl(Path(sys.argv[1]), timeout_s=600.0, program='power node')
control.set_mode('MAXN_SUPER')
control.set_jetson_clocks(True)
control.hold_frequency('gpu', 612)
print(flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / 'power.sock'


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a program and wait for its first line."""
    process = subprocess.Popen(
        [sys.executable, '-c', program, *map(str, arguments)], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    )
    assert process.stdout is not None and process.stdout.readline()
    return process


def end(process: subprocess.Popen[str], number: int = signal.SIGKILL) -> None:
    process.send_signal(number)
    process.communicate()


# What a client sees


@pytest.mark.parametrize('name', ['nano', 'agx_orin', 'thor'])
def test_what_is_read_is_what_the_host_itself_reads(
    make_board: Make, name: str, path: Path
) -> None:
    board = make_board(name)
    here = control_of(board)
    with serving(board, path):
        there = client_of(path)
        for read in (
            'board', 'modes', 'default_mode_id', 'current_mode', 'jetson_clocks_state',
            'describe_clock_lock', 'cpu_frequencies_mhz', 'gpu_frequencies_mhz', 'fan_profile',
        ):
            assert getattr(there, read)() == getattr(here, read)(), read
        assert there.changed == () and not there.holds_journal and there.journal_problem == ''
        there.close()


def test_all_is_changed_on_the_host_and_put_back(orin: EmulatedBoard, path: Path) -> None:
    before, lines = settings(orin), list[str]()
    with serving(orin, path, grants=Grants(fan=True)):
        control = client_of(path, report=lines.append)
        assert control.set_mode('15W').name == '15W' and current_mode(orin) == 0
        assert control.set_jetson_clocks(True) == 'on'
        assert control.hold_frequency('gpu', 460) == 408
        assert control.set_max_frequency('cpu', 1200) == pytest.approx(1190.4)
        assert control.set_fan_profile('cool') == 'cool'
        assert control.changed == (
            'power_mode', 'jetson_clocks', 'gpu_max_frequency', 'cpu_max_frequency',
            'fan_profile',
        )
        assert control.holds_journal and (orin.root / JOURNAL).exists()
        assert any('nvpmodel -m 0' in line for line in lines)
        control.restore()
        assert control.changed == () and not (orin.root / JOURNAL).exists()
        control.close()
    assert settings(orin) == before


@pytest.mark.parametrize(('ask', 'error'), [
    (lambda control: control.set_mode('NOSUCH'), PowerError),
    (lambda control: control.set_max_frequency('gpu', -1.0), PowerError),
    (lambda control: control.set_max_frequency('gpu', float('nan')), PowerError),
    (lambda control: control.set_max_frequency('../gpu', 612.0), PowerError),
    (lambda control: control.set_mode('x' * 5000), PowerError),
    (lambda control: control.set_fan_profile('cool'), PowerPermissionError),
    (lambda control: control.set_mode('7W'), PowerRebootError),
])
def test_what_is_refused_and_the_session_goes_on(
    orin: EmulatedBoard, path: Path, ask: Callable[[RemoteControl], object],
    error: type[Exception],
) -> None:
    before = settings(orin)
    with serving(orin, path):
        control = client_of(path)
        with pytest.raises(error):
            ask(control)
        assert control.current_mode().name == '25W'
        control.close()
    assert settings(orin) == before


def test_reboot_modes_are_nvpmodels_to_refuse_where_they_are_granted(
    orin: EmulatedBoard, path: Path
) -> None:
    with serving(orin, path, grants=Grants(reboot_modes=True)):
        control = client_of(path)
        with pytest.raises(PowerRebootError, match='nothing is ever rebooted'):
            control.set_mode('7W')
        control.close()
    assert current_mode(orin) == 1


def test_a_dry_run_changes_nothing(orin: EmulatedBoard, path: Path) -> None:
    before, lines = settings(orin), list[str]()
    with serving(orin, path):
        control = client_of(path, dry_run=True, report=lines.append)
        assert control.dry_run and control.set_mode('15W').name == '15W'
        control.close()
    assert settings(orin) == before and 'would run' in lines[-1]


# Whose changes they are


def test_a_second_client_is_refused_as_a_second_process_is(
    orin: EmulatedBoard, path: Path
) -> None:
    with serving(orin, path):
        first, second = client_of(path, program='power node'), client_of(path)
        first.set_mode('15W')
        with pytest.raises(PowerError, match=f'pid {os.getpid()}, power service for power node'):
            second.set_mode('MAXN_SUPER')
        assert not second.holds_journal and second.current_mode().name == '15W'
        with pytest.raises(PowerError, match='power service for power node'):
            control_of(orin).set_mode('MAXN_SUPER')  # somebody on the host itself
        first.restore()
        first.close()
        second.close()


def test_what_a_killed_client_changed_is_put_back_at_once(
    orin: EmulatedBoard, path: Path
) -> None:
    before = settings(orin)
    with serving(orin, path) as log:
        client = start(CLIENT, path)
        assert current_mode(orin) == 2 and (orin.root / JOURNAL).exists()
        end(client)
        line = log.wait_for('has gone; put back')
        assert f'pid {client.pid}, uid {os.getuid()} (power node)' in line
        assert 'power_mode, jetson_clocks, gpu_max_frequency' in line
        assert settings(orin) == before


def test_what_is_kept_stays_when_the_client_ends(orin: EmulatedBoard, path: Path) -> None:
    with serving(orin, path):
        control = client_of(path)
        control.set_mode('15W')
        control.keep()
        control.close()
    assert current_mode(orin) == 0 and not (orin.root / JOURNAL).exists()


def test_the_end_of_the_service_puts_back_and_its_client_is_told(
    orin: EmulatedBoard, path: Path
) -> None:
    with serving(orin, path):
        control = client_of(path)
        control.set_mode('15W')
        control.set_max_frequency('gpu', 408)
    assert current_mode(orin) == 1 and not path.exists()
    assert control.mode_was_changed()
    with pytest.raises(PowerCommandError, match='nobody answers'):
        control.follow_mode()
    with serving(orin, path):
        assert control.follow_mode() == '25W'
        assert control.foreign_modes == 1 and control.changed == ()
        assert 'put back gpu_max_frequency, power_mode' in control.journal_problem
        control.set_mode('15W')
        assert control.journal_problem.endswith('gpu_max_frequency: set that again')
        control.set_max_frequency('gpu', 408)
        assert control.journal_problem == ''
        control.close()


def test_what_a_killed_service_left_is_put_back_at_its_next_start(
    orin: EmulatedBoard, path: Path
) -> None:
    before = settings(orin)
    service = start(SERVE, orin.root.parent, path)
    client = start(CLIENT, path)
    end(service)
    end(client)
    assert current_mode(orin) == 2 and path.exists()
    with serving(orin, path) as log:  # the socket that was left is its own: replaced
        assert 'earlier process: power_mode, jetson_clocks, gpu_max_frequency' in log[-1]
        assert settings(orin) == before


def test_a_service_that_is_told_to_end_puts_back(orin: EmulatedBoard, path: Path) -> None:
    before = settings(orin)
    service, client = start(SERVE, orin.root.parent, path), start(CLIENT, path)
    assert current_mode(orin) == 2
    service.send_signal(signal.SIGTERM)
    service.communicate()
    assert service.returncode == 0 and settings(orin) == before and not path.exists()
    end(client)


def test_a_mode_that_somebody_else_sets_is_noticed(orin: EmulatedBoard, path: Path) -> None:
    with serving(orin, path):
        control = client_of(path)
        control.hold_frequency('gpu', 918)
        assert not control.mode_was_changed()
        PatientRunner(environment=orin.env).run(['nvpmodel', '-m', '0'])
        assert control.mode_was_changed()
        assert control.follow_mode() == '15W' and control.foreign_modes == 1
        assert not control.mode_was_changed()
        assert int(orin.read(f'{ORIN_GPU}/max_freq')) <= 612_000_000
        control.restore()
        control.close()
    assert current_mode(orin) == 0


def test_a_look_does_not_wait_for_a_change_in_work(make_board: Make, path: Path) -> None:
    board = make_board()
    go_on = board.root / 'go_on'
    os.mkfifo(go_on)
    replace_tool(
        board, 'jetson_clocks', f'[ ! -p {go_on} ] || read line < {go_on}; exec "$original" "$@"'
    )
    with serving(board, path):
        control = client_of(path)
        change = threading.Thread(target=control.set_jetson_clocks, args=(True,))
        change.start()
        with go_on.open('w') as writing:  # the tool waits for a line by now
            assert control.current_mode().name == '25W'
            assert not control.mode_was_changed() and change.is_alive()
            go_on.unlink()
            writing.write('\n')
        change.join()
        assert control.jetson_clocks_state() == 'on'
        control.restore()
        control.close()


# Which of the two is taken


def test_without_a_service_the_process_itself_makes_changes(
    orin: EmulatedBoard, path: Path
) -> None:
    host, lines = board_host(orin), list[str]()
    control = open_control(host.root, host.runner, timeout_s=TOOL_LIMIT_S)
    assert isinstance(control, PowerControl)
    control.close()
    control = open_control(
        host.root, host.runner, timeout_s=TOOL_LIMIT_S, socket=path, report=lines.append
    )
    assert isinstance(control, PowerControl) and 'nobody answers' in lines[0]
    control.close()
    with serving(orin, path):
        control = open_control(host.root, host.runner, timeout_s=TOOL_LIMIT_S, socket=path)
        assert isinstance(control, RemoteControl)
        control.close()
    with pytest.raises(SettingError):
        control_of(orin).set_max_frequency('gpu', -1)
    assert int(orin.read(f'{CPU0}/scaling_max_freq')) > 0
