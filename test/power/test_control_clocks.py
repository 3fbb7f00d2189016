"""PowerControl locks and frees the clocks of emulated boards with jetson_clocks."""

from __future__ import annotations

from collections.abc import Iterator

from changed_boards import control_of, Make, ORIN_GPU, replace_tool, settings
from power_host import PatientRunner
import pytest

from yolov7_trt_ros.emulated_board.board import EmulatedBoard
from yolov7_trt_ros.emulated_board.boards.catalogue import BOARDS
from yolov7_trt_ros.errors import (
    PowerCommandError,
    PowerError,
    PowerPermissionError,
    PowerRebootError,
)
from yolov7_trt_ros.power.clocks.clock_files import ClockLimits, find_clocks, read_limits
from yolov7_trt_ros.power.clocks.clock_lock import BASELINE_FILE
from yolov7_trt_ros.power.control import PowerControl
from yolov7_trt_ros.power.sysfs import SysfsTree


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
    PatientRunner(environment=board.env).run(['jetson_clocks'])
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
    PatientRunner(environment=board.env).run(['jetson_clocks'])
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
        PatientRunner(environment=board.env).run(['nvpmodel', '-m', '1'])
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


# What is not known


IDLE = '/sys/devices/system/cpu/cpu0/cpuidle/state{}/disable'


@pytest.mark.parametrize('text', ['', 'unsupported', '-1', '\u0660', '9' * 99])
def test_idle_states_of_an_unknown_form_do_not_make_a_lock(make_board: Make, text: str) -> None:
    board = make_board()
    control = control_of(board)
    for clock in (ORIN_GPU, *sorted(
        f'/{path.relative_to(board.root)}'
        for path in board.root.glob('sys/devices/system/cpu/cpufreq/policy*')
    )):
        kind = 'scaling_' if 'cpufreq' in clock else ''
        board.write(f'{clock}/{kind}max_freq', board.read(f'{clock}/{kind}min_freq'))
    assert control.jetson_clocks_state() == 'off'
    for state in range(len(board.definition.cpu.idle_states)):
        (board.root / IDLE.format(state).lstrip('/')).write_text(text)
    for ask in (control.jetson_clocks_state, lambda: control.set_jetson_clocks(True)):
        with pytest.raises(PowerError, match='whether the clocks are locked is not known'):
            ask()


def test_our_own_lock_is_undone_whatever_the_idle_states_say(make_board: Make) -> None:
    board = make_board()
    before = settings(board)
    control = control_of(board)
    control.set_jetson_clocks(True)
    files = [board.root / IDLE.format(state).lstrip('/')
             for state in range(len(board.definition.cpu.idle_states))]
    for file in files:
        file.write_text('unsupported')
    assert control.jetson_clocks_state() == 'on'
    control.restore()
    assert settings(board) == before


@pytest.mark.parametrize('end', ['min', 'max'])
@pytest.mark.parametrize('text', ['-306000000', '1' * 18, 'unsupported', '', '\u0663\u0660'])
def test_a_limit_of_an_unknown_form_is_an_error_and_nothing_is_written(
    make_board: Make, text: str, end: str
) -> None:
    board = make_board()
    file = board.root / f'{ORIN_GPU}/{end}_freq'.lstrip('/')
    file.write_text(text)
    before = settings(board)
    control = control_of(board)
    with pytest.raises(PowerError, match=f'{end}_freq should hold a'):
        control.set_max_frequency('gpu', 612)
    assert settings(board) == before and control.changed == ()


def test_limits_read_while_another_program_writes_them_can_be_restored(make_board: Make) -> None:
    board = make_board()
    low, high = (board.root / f'{ORIN_GPU}/{end}_freq'.lstrip('/') for end in ('min', 'max'))
    low.write_text('918000000')
    high.write_text('612000000')
    assert read_limits(SysfsTree(board.root), find_clocks(SysfsTree(board.root), 'gpu')[0]) == (
        ClockLimits(612_000_000, 612_000_000)
    )


def test_a_file_that_cannot_be_read_after_unlocking_does_not_count_as_restored(
    make_board: Make
) -> None:
    board = make_board()
    before = settings(board)
    control = control_of(board)
    control.set_jetson_clocks(True)
    file = board.root / '/sys/devices/system/cpu/cpu1/cpuidle/state0/disable'.lstrip('/')
    kept = file.with_name('kept')
    replace_tool(
        board, 'jetson_clocks',
        f'$original "$@"; mv {file} {kept}; mkdir {file}',  # a read of it fails from now on
    )
    with pytest.raises(PowerError, match='not all is as before: .*disable'):
        control.set_jetson_clocks(False)
    file.rmdir()
    kept.rename(file)
    replaced = board.tools / 'jetson_clocks'
    replaced.with_name('jetson_clocks.original').rename(replaced)
    control.restore()
    assert settings(board) == before
