"""PowerControl on emulated boards: fan, the way back, a dry run, several threads."""

from __future__ import annotations

from collections.abc import Callable
import threading

from changed_boards import control_of, Make, ORIN_GPU, replace_tool, settings
import pytest

from yolov7_trt_ros.errors import (
    PowerError,
    PowerPermissionError,
    PowerRebootError,
)
from yolov7_trt_ros.power.changes.records import LockRecord
from yolov7_trt_ros.power.changes.undo import UndoList
from yolov7_trt_ros.power.root.sudoers import sudoers_text

# Fan


@pytest.mark.parametrize('name', ['xavier_nx', 'agx_orin', 'orin_nano_super', 'thor'])
def test_fan_profile(make_board: Make, name: str) -> None:
    board = make_board(name)
    control = control_of(board)
    before = settings(board)
    assert control.fan_profile() == 'quiet'
    assert control.set_fan_profile('cool') == 'cool'
    assert control_of(board).fan_profile() == 'cool'
    control.restore()
    assert control.fan_profile() == 'quiet'
    assert settings(board) == before


def test_unknown_fan_profile_lists_those_there_are(make_board: Make) -> None:
    with pytest.raises(PowerError, match="'loud'.*quiet, cool"):
        control_of(make_board()).set_fan_profile('loud')
    with pytest.raises(PowerError, match='none'):
        control_of(make_board('nano')).set_fan_profile('cool')


def test_fan_without_permission(make_board: Make) -> None:
    for name in ('xavier_nx', 'orin_nano_super'):
        board = make_board(name, as_root=False, sudo_allowed=False)
        control = control_of(board, is_root=False)
        with pytest.raises(PowerPermissionError) as caught:
            control.set_fan_profile('cool')
        line = str(caught.value).splitlines()[1].strip()
        commands = control.privileged_commands(fan=True)
        assert line in sudoers_text('alice', commands).splitlines()
        control.restore()


WARNINGS = (
    'sudo: unable to resolve host jetson: Name or service not known',
    'sudo: setrlimit(RLIMIT_CORE): Operation not permitted',
)


@pytest.mark.parametrize('line', WARNINGS)
@pytest.mark.parametrize('name', ['xavier_nx', 'orin_nano_super'])
def test_a_warning_of_sudo_is_no_refusal(make_board: Make, name: str, line: str) -> None:
    board = make_board(name, as_root=False)
    replace_tool(board, 'sudo', f'echo "{line}" >&2; exec $original "$@"')
    control = control_of(board, is_root=False)
    before = settings(board)
    assert control.set_fan_profile('cool') == 'cool'
    assert control.set_jetson_clocks(True) == 'on'
    control.set_mode(control.modes()[0].name)
    control.restore()
    assert control.changed == () and settings(board) == before


# Putting back


def test_restore_puts_all_back_in_reverse_and_can_be_called_again(make_board: Make) -> None:
    board = make_board()
    lines: list[str] = []
    control = control_of(board, lines)
    before = settings(board)
    control.set_mode('MAXN_SUPER')
    control.set_jetson_clocks(True)
    control.set_max_frequency('gpu', 408)
    control.set_fan_profile('cool')
    control.set_mode('15W')
    assert control.changed == ('power_mode', 'jetson_clocks', 'gpu_max_frequency', 'fan_profile')
    lines.clear()
    control.restore()
    assert [line for line in lines if 'systemctl start' in line or 'nvpmodel -m' in line][-1] == (
        f'ran {board.tools}/nvpmodel -m 1: exit status 0'
    )
    assert settings(board) == before
    lines.clear()
    control.restore()
    assert lines == [] and settings(board) == before


def test_what_could_not_be_put_back_is_tried_again(make_board: Make) -> None:
    board = make_board()
    before = settings(board)
    control = control_of(board)
    control.set_mode('15W')
    control.set_max_frequency('gpu', 408)
    board.set_options(stale_prompt=True)
    with pytest.raises(PowerRebootError):
        control.restore()
    assert control.changed == ('power_mode',)  # the cap is gone
    board.set_options(stale_prompt=False)
    control.restore()
    assert control.changed == () and settings(board) == before


def test_dry_run_says_what_it_would_do_and_does_nothing(make_board: Make) -> None:
    board = make_board(as_root=False, sudo_allowed=False)
    before = settings(board)
    lines: list[str] = []
    control = control_of(board, lines, is_root=False, dry_run=True)
    assert control.set_mode('MAXN_SUPER').name == 'MAXN_SUPER'
    control.set_mode('7W')
    control.set_jetson_clocks(True)
    assert control.set_max_frequency('gpu', 500) == 408
    control.set_fan_profile('cool')
    control.restore()
    assert settings(board) == before
    text = '\n'.join(lines)
    assert f'would run sudo -n {board.tools}/nvpmodel -m 2\n' in text
    assert '7W (3) would probably need a reboot: TPC_PG_MASK 240 -> 252' in text
    assert f'would run sudo -n {board.tools}/jetson_clocks --store' in text
    assert f'would write 408000000 to {ORIN_GPU}/max_freq' in text
    assert 'would write FAN_DEFAULT_PROFILE cool' in text
    assert all(line.startswith('would ') or 'would probably' in line for line in lines)
    with pytest.raises(PowerError, match='no power mode'):
        control.set_mode('nope')


def test_two_threads_wait_for_each_other(make_board: Make) -> None:
    board = make_board()
    control = control_of(board)
    errors: list[PowerError] = []

    def change(work: Callable[[], object]) -> None:
        try:
            for _ in range(3):
                work()
        except PowerError as exc:
            errors.append(exc)

    works = (
        lambda: (control.set_mode('15W'), control.set_mode('25W')),
        lambda: (control.set_jetson_clocks(True), control.set_jetson_clocks(False)),
        lambda: [control.set_max_frequency('gpu', mhz) for mhz in (306, 408, 510)],
    )
    threads = [threading.Thread(target=change, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_defect_in_one_change_leaves_none_of_the_others_undone() -> None:
    lines: list[str] = []
    undo, undone = UndoList(lines.append, None), []
    for name in ('power_mode', 'jetson_clocks', 'fan_profile'):
        undo.put(name, LockRecord(False))

    def restore(name: str, record: object) -> None:
        if name == 'jetson_clocks':
            raise KeyError('new')
        undone.append(name)

    with pytest.raises(PowerError, match="jetson_clocks: a defect: KeyError: 'new'"):
        undo.run(restore)
    assert undone == ['fan_profile', 'power_mode'] and undo.names == ('jetson_clocks',)
    assert 'Traceback' in lines[0]
