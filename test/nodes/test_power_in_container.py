"""The power node in a container: what it changes goes through the power service of the host."""

from __future__ import annotations

from contextlib import ExitStack
import dataclasses
from pathlib import Path

from power_host import serving
from power_probe import PowerProbe
import pytest

from yolov7_trt_ros.emulated_board.board import EmulatedBoard
from yolov7_trt_ros.emulated_board.machine import board_host
from yolov7_trt_ros.power.machine import PowerHost
from yolov7_trt_ros.power.root.commands import SystemRunner

OK, WARN, ERROR = b'\x00', b'\x01', b'\x02'
GPU = '/sys/class/devfreq/17000000.gpu'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / 'power.sock'


def container(board: EmulatedBoard, path: Path) -> PowerHost:
    """Return a container's sight of the board: what /sys shows, none of its tools, the socket."""
    root = path.parent / 'container'
    root.mkdir(exist_ok=True)
    for name in ('sys', 'proc'):
        if not (root / name).exists():
            (root / name).symlink_to(board.root / name)
    return dataclasses.replace(
        board_host(board), root=root, power_socket=path,
        runner=SystemRunner(str(root), is_root=True),
    )


def gpu_mhz(board: EmulatedBoard) -> int:
    return int(board.read(f'{GPU}/max_freq')) // 10**6


def mode_id(board: EmulatedBoard) -> int:
    return int(board.read('/var/lib/nvpmodel/status').removeprefix('pmode:'))


def test_parameters_change_the_host_and_its_end_puts_back(
    power: PowerProbe, board: EmulatedBoard, path: Path
) -> None:
    with serving(board, path) as log:
        with power.node(None, container(board, path)):
            assert power.change('power_mode', '15W') == '15W (0)'
            assert power.change('gpu_max_freq_mhz', 408.0) == 'GPU at most 408 MHz'
            assert (mode_id(board), gpu_mhz(board)) == (0, 408)
            power.wait_for_status(
                lambda _, values, __: values['mode'] == '15W' and 'Orin' in values['board']
                and values['changed here'] == 'power_mode, gpu_max_frequency', 'the new mode'
            )
            success, reason = power.set_parameter('fan_profile', 'cool')
            assert not success and '--fan' in reason
            success, reason = power.set_parameter('power_mode', '7W')
            assert not success and 'needs a reboot' in reason
        assert (mode_id(board), gpu_mhz(board)) == (1, 918)
        assert any('(power node): set_mode(15W): done' in line for line in log)


def test_a_service_that_ends_is_an_error_and_one_that_comes_back_a_warning(
    power: PowerProbe, board: EmulatedBoard, path: Path
) -> None:
    with ExitStack() as first:
        first.enter_context(serving(board, path))
        with power.node(None, container(board, path), gpu_max_freq_mhz=408.0):
            power.wait_for_status(
                lambda _, values, __: values['changed here'] == 'gpu_max_frequency', 'the cap'
            )
            first.close()
            assert gpu_mhz(board) == 918
            power.wait_for_status(
                lambda message, _, level: level == ERROR and 'nobody answers' in message, 'the end'
            )
            with serving(board, path):
                power.wait_for_status(
                    lambda message, _, level: level == WARN
                    and 'put back gpu_max_frequency: set that again' in message, 'a new one'
                )
                assert power.change('gpu_max_freq_mhz', 510.0) == 'GPU at most 510 MHz'
                power.wait_for_status(lambda _, __, level: level == OK, 'all is well')


def test_without_the_service_the_reason_is_told(
    power: PowerProbe, board: EmulatedBoard, path: Path
) -> None:
    with power.node(None, container(board, path)):
        success, reason = power.set_parameter('power_mode', '15W')
        assert not success and 'nvpmodel' in reason
    assert mode_id(board) == 1
