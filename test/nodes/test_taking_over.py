"""Who takes over a board or a GPU from an earlier process, and what is never undone by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
import threading
from typing import Any

from fake_nvml import boot_pc, FakeNvml, UNKNOWN
from power_host import TOOL_LIMIT_S
from power_probe import PowerProbe
import pytest

from yolov7_trt_ros.emulated_board.board import EmulatedBoard
from yolov7_trt_ros.emulated_board.machine import board_host
from yolov7_trt_ros.nodes.job_thread import Job, JobThread
from yolov7_trt_ros.nodes.power.board_holding import BoardHolding, HoldingState
from yolov7_trt_ros.nodes.power.gpu_holding import GpuHolding
from yolov7_trt_ros.power.control import PowerControl
from yolov7_trt_ros.power.machine import PowerHost
from yolov7_trt_ros.power.nvml.gpu import NvmlGpu
from yolov7_trt_ros.power.nvml.gpu_journal import GpuJournal
from yolov7_trt_ros.power.root.commands import SystemRunner

ERROR = b'\x02'
GPU_MAX = '/sys/class/devfreq/17000000.gpu/max_freq'
TIMEOUT_S = 600.0


class Interrupted(JobThread):
    """A worker before whose next job another thread comes, once."""

    before_next: Callable[[], object] | None = None

    def submit(self, what: str, work: Callable[[], str]) -> Job:
        between, self.before_next = self.before_next, None
        if between is not None:
            thread = threading.Thread(target=between)
            thread.start()
            thread.join()
        return super().submit(what, work)


@pytest.fixture
def worker() -> Iterator[Interrupted]:
    worker = Interrupted('taking over')
    yield worker
    assert worker.close(TIMEOUT_S)


def finish(job: Job) -> Job:
    assert job.wait(TIMEOUT_S, lambda: True)
    return job


def ignore(*_: Any) -> None:
    pass


def control_of(board: EmulatedBoard) -> PowerControl:
    return PowerControl(board.root, board_host(board).runner, timeout_s=TOOL_LIMIT_S)


def test_two_at_the_same_time_do_not_undo_what_was_set_between_them(
    board: EmulatedBoard, worker: Interrupted
) -> None:
    first, control = control_of(board), control_of(board)
    first.set_max_frequency('cpu', 1000)
    holding = BoardHolding(
        control, worker, restores=lambda: True, on_follow=ignore, changed=lambda: control.changed,
        info=ignore, warning=ignore,
    )
    finish(worker.submit('the refusal', str))
    assert holding.state is HoldingState.REFUSED
    first.close()

    def take_and_change() -> None:
        holding.ask_again()
        worker.submit('a cap', lambda: str(control.set_max_frequency('gpu', 408)))

    worker.before_next = take_and_change  # after the state was looked at
    holding.ask_again()
    finish(worker.submit('the end', str))
    assert holding.state is HoldingState.STEADY
    assert control.changed == ('gpu_max_frequency',) and board.read(GPU_MAX) == '408000000'
    control.restore()
    control.close()


def test_a_change_takes_over_first(power: PowerProbe, board: EmulatedBoard) -> None:
    killed = control_of(board)
    killed.hold_frequency('gpu', 306)
    with power.node(board):
        power.wait_for_status(lambda _, __, level: level == ERROR, 'the refusal')
        killed.close()  # as if it were killed: the change comes before the node asks again
        assert power.set_parameter('power_mode', '15W')[0]
        assert power.get('gpu_max_freq_mhz') == 0.0
        assert board.read(GPU_MAX) == '612000000'
        assert power.status()[1]['changed here'] == 'power_mode'


def test_on_a_pc_a_change_of_ours_is_not_taken_for_that_of_an_earlier_process(
    power: PowerProbe, tmp_path: Path
) -> None:
    nvml = FakeNvml()
    killed = NvmlGpu(lambda: nvml, journal=GpuJournal(boot_pc(tmp_path), 'killed'))
    killed.hold(1095)
    host = PowerHost(tmp_path, SystemRunner(str(tmp_path), is_root=True), nvml=lambda: nvml)
    with power.node(None, host):
        power.wait_for_status(lambda _, __, level: level == ERROR, 'the refusal')
        killed.close()
        assert power.change('gpu_max_freq_mhz', 1500) == 'GPU at most 1500 MHz'
        power.wait_for_status(lambda _, __, level: level != ERROR, 'no refusal any more')
        assert nvml.clocks == (345, 1500)
    assert nvml.clocks is None


def test_a_gpu_that_could_not_be_freed_is_not_freed_from_a_later_change(
    worker: Interrupted, tmp_path: Path
) -> None:
    nvml = FakeNvml()
    killed = NvmlGpu(lambda: nvml, journal=GpuJournal(boot_pc(tmp_path), 'killed'))
    killed.hold(1095)
    killed.close()
    gpu = NvmlGpu(lambda: nvml, journal=GpuJournal(tmp_path, 'node'))
    nvml.fails['nvmlDeviceResetGpuLockedClocks'] = UNKNOWN
    holding = GpuHolding(gpu, worker, restores=lambda: True, info=ignore)
    finish(worker.submit('the failure', str))
    assert holding.error
    nvml.fails.clear()

    def change() -> str:
        holding.take_first()
        return str(gpu.set_cap(1500))

    finish(worker.submit('a cap', change))
    holding.ask_again()
    finish(worker.submit('the end', str))
    assert nvml.clocks == (345, 1500) and not holding.error
    gpu.restore()
    gpu.close()
