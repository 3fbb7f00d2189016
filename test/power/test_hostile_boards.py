"""
Tools that lie, hang and stop half-way, files that vanish, block and hold nonsense, and SIGKILL.

In the end the board is as it was, or one error says what is not, and it is once the board lets it.

"""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import os
from pathlib import Path
import signal
from typing import Any

from changed_boards import (
    control_of,
    CPU0,
    end_tools_after,
    Make,
    ORIN_GPU,
    replace_tool,
    settings,
)
import pytest

from yolov7_trt_ros.emulated_board.board import create_board, EmulatedBoard
from yolov7_trt_ros.errors import PowerError
from yolov7_trt_ros.power.changes import journal
from yolov7_trt_ros.power.changes.journal import Journal
from yolov7_trt_ros.power.control import PowerControl
from yolov7_trt_ros.power.root.commands import SystemRunner
from yolov7_trt_ros.power.sysfs import SysfsTree
from yolov7_trt_ros.power.telemetry.source import find_source

GPU_MAX, GPU_MIN = f'{ORIN_GPU}/max_freq', f'{ORIN_GPU}/min_freq'
STATUS = '/var/lib/nvpmodel/status'
HANGING_TOOL_S = 2.0


# SIGKILL


def clocks(control: PowerControl) -> None:
    control.set_max_frequency('gpu', 714)
    control.hold_frequency('gpu', 408)
    control.hold_frequency('gpu', 5000)
    control.set_max_frequency('cpu', 1000)
    control.hold_frequency('gpu', None)
    control.restore()


def mode(control: PowerControl) -> None:
    control.hold_frequency('gpu', 816)
    control.set_mode('15W')
    control.set_max_frequency('cpu', 900)
    control.set_mode('MAXN_SUPER')


def lock(control: PowerControl) -> None:
    control.hold_frequency('gpu', 510)
    control.set_jetson_clocks(True)
    control.set_jetson_clocks(False)


def mode_under_lock(control: PowerControl) -> None:
    control.set_jetson_clocks(True)
    control.set_mode('15W')
    control.restore()


SEQUENCES = (clocks, mode, lock, mode_under_lock)
POINTS = 10


class KilledAt:
    """
    Kills its process at the n-th step of the changes, and counts those there are.

    Steps lie before and after each file that is written, each tool that changes something, and
    each state of the journal: as it was, written aside, and in place.

    """

    def __init__(self, point: int) -> None:
        self.steps = 0
        self._point = point

    def install(self) -> None:
        for owner, name in (
            (SysfsTree, 'write_text'), (SystemRunner, 'run'), (Journal, 'write'),
            (journal.os, 'replace'),
        ):
            setattr(owner, name, self._around(name, getattr(owner, name)))

    def _around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def stepping(*args: Any, **kwargs: Any) -> Any:
            if name == 'run' and '-q' in args[1]:
                return function(*args, **kwargs)
            self._step()
            result = function(*args, **kwargs)
            self._step()
            return result

        return stepping

    def _step(self) -> None:
        if self.steps == self._point:
            os.kill(os.getpid(), signal.SIGKILL)
        self.steps += 1


def run_killed(
    board: EmulatedBoard, sequence: Callable[[PowerControl], None], point: int
) -> tuple[int, int]:
    """Run a sequence in a process that is killed at a step; return its signal and its steps."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        killer = KilledAt(point)
        killer.install()
        try:
            sequence(control_of(board))
            os.write(writer, str(killer.steps).encode())
        finally:
            os._exit(0)  # never back into the tests
    os.close(writer)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reader) as told:
        return os.WTERMSIG(status), int(told.read() or 0)


@pytest.fixture(scope='module')
def steps() -> dict[str, int]:
    """Return how many steps each sequence has, none of them killed."""
    counted = {}
    for sequence in SEQUENCES:
        with create_board('orin_nano_super') as board:
            killed_by, counted[sequence.__name__] = run_killed(board, sequence, -1)
            assert killed_by == 0
    return counted


@pytest.mark.parametrize('part', range(POINTS))
@pytest.mark.parametrize('sequence', SEQUENCES)
def test_the_next_start_puts_a_killed_sequence_back(
    make_board: Make, steps: dict[str, int], sequence: Callable[[PowerControl], None], part: int
) -> None:
    board = make_board()
    before = settings(board)
    count = steps[sequence.__name__]
    assert count > POINTS
    killed_by, _ = run_killed(board, sequence, part * (count - 1) // (POINTS - 1))
    assert killed_by == signal.SIGKILL
    later = control_of(board)
    later.adopt()
    later.restore()
    board.settle()
    assert settings(board) == before
    assert later.changed == () and later.journal_problem == ''
    later.close()
    assert control_of(board).adopt() == ()


# Tools and files


def attempt_all(control: PowerControl) -> list[str]:
    """Ask for everything there is, and return what was refused."""
    refused = []
    for change in (
        lambda: control.set_max_frequency('cpu', 1000),
        lambda: control.set_mode('15W'),
        lambda: control.hold_frequency('gpu', 408),
        lambda: control.set_jetson_clocks(True),
        lambda: control.set_mode('MAXN_SUPER'),
        lambda: control.hold_frequency('gpu', None),
    ):
        try:
            change()
        except PowerError as exc:
            refused.append(str(exc))
    return refused


def lying(board: EmulatedBoard) -> Callable[[], None]:
    return change_tool(board, 'nvpmodel', (
        f'[ "$1" = -m ] && echo "pmode:000$2" > {board.root}{STATUS} && exit 0\n'
        'exec $original "$@"'
    ))


def half_applying(board: EmulatedBoard) -> Callable[[], None]:
    return change_tool(board, 'nvpmodel', (
        f'[ "$1" = -m ] && echo 408000000 > {board.root}{GPU_MAX} && exit 1\n'
        'exec $original "$@"'
    ))


def babbling(board: EmulatedBoard) -> Callable[[], None]:
    return change_tool(board, 'nvpmodel', r'printf "\377\000NV Power Mode: \n\n"; exit 0')


def crashing(board: EmulatedBoard) -> Callable[[], None]:
    return change_tool(board, 'nvpmodel', 'kill -SEGV $$')


def half_locking(board: EmulatedBoard) -> Callable[[], None]:
    return change_tool(board, 'jetson_clocks', (
        f'[ $# = 0 ] && echo 1 > {board.root}/sys/devices/system/cpu/cpu1/cpuidle/state0/disable'
        ' && exit 1\nexec $original "$@"'
    ))


def hanging(board: EmulatedBoard) -> Callable[[], None]:
    board.delay_tool('nvpmodel', 600)
    return lambda: board.delay_tool('nvpmodel', 0)


def change_tool(board: EmulatedBoard, tool: str, script: str) -> Callable[[], None]:
    replace_tool(board, tool, script)
    path = board.tools / tool
    return lambda: path.write_text(path.with_name(f'{tool}.original').read_text()) and None


def vanishing(path: str) -> Callable[[EmulatedBoard], Callable[[], None]]:
    def begin(board: EmulatedBoard) -> Callable[[], None]:
        full = Path(os.path.realpath(board.root / path.lstrip('/')))
        hidden = full.rename(full.with_name(f'{full.name}.hidden'))
        return lambda: None if full.exists() else hidden.rename(full) and None

    return begin


def blocking(path: str) -> Callable[[EmulatedBoard], Callable[[], None]]:
    def begin(board: EmulatedBoard) -> Callable[[], None]:
        board.hang(path)
        return lambda: board.release(path)

    return begin


def nonsense(path: str, text: str) -> Callable[[EmulatedBoard], Callable[[], None]]:
    def begin(board: EmulatedBoard) -> Callable[[], None]:
        full = Path(os.path.realpath(board.root / path.lstrip('/')))
        kept, new = full.read_bytes(), text.encode('latin-1')
        full.write_bytes(new)
        return lambda: full.write_bytes(kept) and None if full.read_bytes() == new else None

    return begin


HOSTILE = {
    'lying': lying, 'half applying': half_applying, 'babbling': babbling, 'crashing': crashing,
    'half locking': half_locking, 'hanging': hanging,
    'gpu maximum gone': vanishing(GPU_MAX), 'gpu minimum gone': vanishing(GPU_MIN),
    'gpu table gone': vanishing(f'{ORIN_GPU}/available_frequencies'),
    'cpu maximum gone': vanishing(f'{CPU0}/scaling_max_freq'),
    'status gone': vanishing(STATUS), 'conf gone': vanishing('/etc/nvpmodel.conf'),
    'gpu maximum blocks': blocking(GPU_MAX), 'cpu table blocks': blocking(
        f'{CPU0}/scaling_available_frequencies'),
    'status is nonsense': nonsense(STATUS, 'pmode:9999\n'),
    'status is bytes': nonsense(STATUS, '\xff\x00' * 99),
    'table is nonsense': nonsense(f'{ORIN_GPU}/available_frequencies', '1 x -5 \xb2 99\n'),
    'table is one long number': nonsense(f'{ORIN_GPU}/available_frequencies', '9' * 5000),
    'cpu table is long numbers': nonsense(
        f'{CPU0}/scaling_available_frequencies', f'{"9" * 5000} {"8" * 5000}\n'),
    'gpu maximum is one long number': nonsense(GPU_MAX, '9' * 5000),
    'heat is one long number': nonsense(
        '/sys/class/thermal/cooling_device1/cur_state', '9' * 5000),
    'idle states are nonsense': nonsense(
        '/sys/devices/system/cpu/cpu0/cpuidle/state0/disable', 'unsupported\n'),
    'gpu minimum is negative': nonsense(GPU_MIN, '-1\n'),
    'gpu maximum is a word': nonsense(GPU_MAX, 'unsupported\n'),
    'gpu minimum is empty': nonsense(GPU_MIN, ''),
    'conf of two modes with one id': nonsense('/etc/nvpmodel.conf', (
        '< POWER_MODEL ID=1 NAME=15W >\n< POWER_MODEL ID=1 NAME=MAXN_SUPER >\n')),
    'conf is nonsense': nonsense('/etc/nvpmodel.conf', '< POWER_MODEL ID=x >\n'),
}


@pytest.mark.parametrize('name', HOSTILE)
@pytest.mark.parametrize('turns', ['at once', 'later'])
def test_a_board_that_turns_hostile_is_as_it_was_in_the_end(
    make_board: Make, name: str, turns: str
) -> None:
    board = make_board()
    before = settings(board)
    control = control_of(board)
    if turns == 'later':
        assert attempt_all(control) == []
    heal = HOSTILE[name](board)
    if name == 'hanging':
        end_tools_after(control, HANGING_TOOL_S)
    refused = attempt_all(control)
    assert all(len(text) < 4000 for text in refused)
    try:
        control.restore()
    except PowerError as exc:
        assert str(exc) and control.changed != ()
    heal()
    board.settle()
    control.close()  # a read that hung may return a moment later: the next one asks anew
    later = control_of(board)
    later.adopt()
    later.restore()
    board.settle()
    assert later.changed == ()
    assert settings(board) == before


@pytest.mark.parametrize('name', HOSTILE)
def test_a_start_on_a_hostile_board_is_an_error_or_none(make_board: Make, name: str) -> None:
    board = make_board()
    before = settings(board)
    killed = control_of(board)
    assert attempt_all(killed) == []
    killed.close()
    heal = HOSTILE[name](board)
    control = control_of(board)
    if name == 'hanging':
        end_tools_after(control, HANGING_TOOL_S)
    with contextlib.suppress(PowerError):
        control.adopt()
        control.restore()
    control.close()
    heal()
    board.settle()
    later = control_of(board)
    later.adopt()
    later.restore()
    board.settle()
    assert settings(board) == before


def test_limits_that_block_at_the_next_start_are_not_forgotten(make_board: Make) -> None:
    board = make_board()
    before = settings(board)
    killed = control_of(board)
    killed.hold_frequency('gpu', 408)
    killed.close()
    board.hang(GPU_MAX)
    control = control_of(board)
    assert control.adopt() == ('gpu_max_frequency',)
    with pytest.raises(PowerError, match='max_freq'):
        control.restore()
    assert control.changed == ('gpu_max_frequency',)
    board.release(GPU_MAX)
    control.close()
    later = control_of(board)
    later.adopt()
    later.restore()
    assert settings(board) == before


def test_a_status_file_that_blocks_keeps_nobody_waiting(make_board: Make) -> None:
    board = make_board()
    control = control_of(board)
    board.hang(STATUS)
    assert control.mode_was_changed() and control.follow_mode() == ''
    board.release(STATUS)
    control.close()


@pytest.mark.parametrize('digits', ['9' * 5000, '\xb2', '\u0663'])
def test_a_number_of_no_kernel_is_unknown(make_board: Make, digits: str) -> None:
    board = make_board()
    for pattern in ('sys/**/update_interval', 'sys/**/temp', 'sys/**/curr1_input'):
        for path in board.root.glob(pattern):
            path.write_text(digits, 'utf-8')
    source = find_source(board.root)
    sample = source.read()
    source.close()
    assert sample.total_mw is None and sample.hottest_c is None and sample.problems
