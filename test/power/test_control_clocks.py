"""PowerControl locks and frees the clocks of emulated boards with jetson_clocks."""

from __future__ import annotations

from collections.abc import Iterator

from changed_boards import control_of, Make, ORIN_GPU, replace_tool, settings
import pytest

from yolov7_trt_ros.emulated_board.board import EmulatedBoard
from yolov7_trt_ros.emulated_board.boards.catalogue import BOARDS
from yolov7_trt_ros.errors import (
    PowerCommandError,
    PowerError,
    PowerPermissionError,
    PowerRebootError,
)
from yolov7_trt_ros.power.clocks.clock_lock import BASELINE_FILE
from yolov7_trt_ros.power.control import PowerControl
from yolov7_trt_ros.power.root.commands import SystemRunner


@pytest.mark.parametrize('name', sorted(BOARDS))
def test_clocks_are_locked_and_put_back(make_board: Make, name: str) -> None:
    board = make_board(name)
    control = control_of(board)
    before = settings(board)
    assert control.jetson_clocks_state() == 'off'
    assert control.set_jetson_clocks(True) == 'on'
    assert board.read(BASELINE_FILE) != ''
    assert control.set_jetson_clocks(True) == 'on'  # and the baseline is not stored again
    assert control.set_jetson_clocks(False) == 'off'
    assert settings(board) == before
    control.restore()
    assert settings(board) == before


def test_clocks_locked_by_someone_else_are_uncontrolled(make_board: Make) -> None:
    board = make_board()
    SystemRunner(environment=board.env).run(['jetson_clocks'])
    control = control_of(board)
    locked = settings(board)
    assert control.jetson_clocks_state() == 'uncontrolled'
    assert control.set_jetson_clocks(True) == 'uncontrolled'
    with pytest.raises(PowerCommandError, match='not by this program'):
        control.set_jetson_clocks(False)
    control.restore()
    assert settings(board) == locked


def test_a_later_process_finds_the_baseline(make_board: Make) -> None:
    board = make_board()
    before = settings(board)
    earlier = control_of(board)
    earlier.set_jetson_clocks(True)
    earlier.close()  # as if it were killed
    assert control_of(board).set_jetson_clocks(False) == 'off'
    assert settings(board) == before


def test_old_baseline_is_not_asked_about(make_board: Make) -> None:
    board = make_board()
    before = settings(board)
    baseline = board.root / BASELINE_FILE.lstrip('/')
    baseline.write_text('/sys/devices/system/cpu/cpu0/online:1\n')
    control = control_of(board)
    control.set_jetson_clocks(True)
    control.set_jetson_clocks(False)
    assert settings(board) == before


def test_without_a_baseline_nothing_is_locked(make_board: Make) -> None:
    board = make_board()
    replace_tool(board, 'jetson_clocks', '[ "$1" = --store ] && exit 0\nexec $original "$@"')
    with pytest.raises(PowerCommandError, match='nothing was locked'):
        control_of(board).set_jetson_clocks(True)
    assert control_of(board).jetson_clocks_state() == 'off'


def test_lock_that_did_nothing(make_board: Make) -> None:
    board = make_board()
    before = settings(board)
    replace_tool(board, 'jetson_clocks', '[ $# = 0 ] && exit 0\nexec $original "$@"')
    with pytest.raises(PowerCommandError, match='the clocks are not locked'):
        control_of(board).set_jetson_clocks(True)
    assert settings(board) == before


def test_restore_that_did_nothing(make_board: Make) -> None:
    board = make_board()
    control = control_of(board)
    control.set_jetson_clocks(True)
    replace_tool(board, 'jetson_clocks', '[ "$1" = --restore ] && exit 0\nexec $original "$@"')
    with pytest.raises(PowerCommandError, match='still locked'):
        control.set_jetson_clocks(False)


def test_clocks_need_root(make_board: Make) -> None:
    board = make_board(as_root=False, sudo_allowed=False)
    with pytest.raises(PowerPermissionError) as caught:
        control_of(board, is_root=False).set_jetson_clocks(True)
    baseline = board.root / BASELINE_FILE.lstrip('/')
    assert f'NOPASSWD: {board.tools}/jetson_clocks --store {baseline}\n' in str(caught.value)
    with pytest.raises(PowerPermissionError, match='root user'):
        control_of(board, is_root=True).set_jetson_clocks(True)


def test_mode_is_changed_with_the_clocks_free(make_board: Make) -> None:
    board = make_board()
    lines: list[str] = []
    control = control_of(board, lines)
    before = settings(board)
    control.set_jetson_clocks(True)
    lines.clear()
    control.set_mode('15W')
    tools = [line.split(':')[0].removeprefix(f'ran {board.tools}/').split()[:2] for line in lines]
    assert tools == [
        ['jetson_clocks', '--restore'], ['ran', '/usr/bin/rm'], ['nvpmodel', '-m'],
        ['jetson_clocks', '--store'], ['jetson_clocks'],
    ]
    assert control.jetson_clocks_state() == 'on'
    assert board.read(f'{ORIN_GPU}/min_freq') == board.read(f'{ORIN_GPU}/max_freq') == '612000000'
    control.restore()
    assert settings(board) == before


def test_clocks_are_locked_again_when_the_mode_was_refused(make_board: Make) -> None:
    board = make_board()
    control = control_of(board)
    control.set_jetson_clocks(True)
    locked = settings(board)
    with pytest.raises(PowerRebootError):
        control.set_mode('7W')
    assert control.jetson_clocks_state() == 'on'
    assert settings(board) == locked


def test_mode_changes_under_someone_else_s_lock(make_board: Make) -> None:
    board = make_board()
    SystemRunner(environment=board.env).run(['jetson_clocks'])
    control = control_of(board)
    control.set_mode('15W')
    assert control.jetson_clocks_state() == 'uncontrolled'
    assert board.read(f'{ORIN_GPU}/min_freq') == board.read(f'{ORIN_GPU}/max_freq') == '612000000'


def test_a_gpu_that_does_not_answer_leaves_the_cores_to_tell(make_board: Make) -> None:
    board = make_board('thor')
    control = control_of(board)
    control.set_jetson_clocks(True)
    path = '/sys/class/devfreq/gpu-gpc-0/max_freq'
    board.hang(path)
    try:
        assert control.jetson_clocks_state() == 'on'
        with pytest.raises(PowerError):
            control.set_max_frequency('gpu', 500)
    finally:
        board.release(path)


# A lock of which somebody undid a part


@pytest.fixture(params=[True, False])
def broken(
    make_board: Make, request: pytest.FixtureRequest
) -> Iterator[tuple[PowerControl, EmulatedBoard, dict[str, str]]]:
    """Give a board whose lock nvpmodel or a write has undone in part, and what was before it."""
    board = make_board()
    before = settings(board)
    control = control_of(board)
    control.set_jetson_clocks(True)
    if request.param:
        SystemRunner(environment=board.env).run(['nvpmodel', '-m', '1'])
    else:
        board.write(f'{ORIN_GPU}/min_freq', 408000000)
    yield control, board, before


Broken = tuple[PowerControl, EmulatedBoard, dict[str, str]]


def test_a_broken_lock_is_undone_in_whole(broken: Broken) -> None:
    control, board, before = broken
    assert control.jetson_clocks_state() == 'broken'
    assert control.set_jetson_clocks(False) == 'off'
    assert settings(board) == before


def test_a_broken_lock_is_undone_at_the_end(broken: Broken) -> None:
    control, board, before = broken
    control.restore()
    assert settings(board) == before


def test_a_broken_lock_is_locked_again_over_the_same_baseline(broken: Broken) -> None:
    control, board, before = broken
    baseline = board.read(BASELINE_FILE)
    assert control.set_jetson_clocks(True) == 'on'
    assert board.read(BASELINE_FILE) == baseline
    control.restore()
    assert settings(board) == before


def test_a_broken_lock_is_undone_before_the_mode_changes(broken: Broken) -> None:
    control, board, before = broken
    control.set_mode('15W')
    assert control.jetson_clocks_state() == 'on'
    control.restore()
    assert settings(board) == before


@pytest.mark.parametrize('cut', ['', '/sys/devices/system/cpu/cpu0/onl', '\x00\xff' * 40])
def test_a_damaged_baseline_is_not_stored_over(make_board: Make, cut: str) -> None:
    board = make_board()
    (board.root / BASELINE_FILE.lstrip('/')).write_text(cut)
    control = control_of(board)
    assert control.jetson_clocks_state() == 'broken'
    before = settings(board)
    with pytest.raises(PowerCommandError, match='cannot be used'):
        control.set_jetson_clocks(True)
    assert settings(board) == before


def test_a_restore_that_leaves_something_keeps_the_baseline(make_board: Make) -> None:
    board = make_board()
    before = settings(board)
    control = control_of(board)
    control.set_jetson_clocks(True)
    disable = '/sys/devices/system/cpu/cpu1/cpuidle/state0/disable'
    replace_tool(
        board, 'jetson_clocks',
        '$original "$@"; status=$?\n'
        f'[ "$1" = --restore ] && [ ! -e {board.root}/kind ] && echo 1 > {board.root}{disable}\n'
        'exit $status',
    )
    with pytest.raises(PowerCommandError, match='cpu1/cpuidle/state0/disable is 1, it was 0'):
        control.set_jetson_clocks(False)
    assert control.jetson_clocks_state() == 'broken'
    (board.root / 'kind').touch()
    control.restore()
    assert settings(board) == before
