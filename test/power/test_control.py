"""PowerControl on emulated boards, through their real executables and files."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from yolov7_trt_ros.emulated_board import BOARDS, EmulatedBoard, create_board
from yolov7_trt_ros.errors import (
    PowerCommandError,
    PowerError,
    PowerPermissionError,
    PowerRebootError,
    SettingError,
)
from yolov7_trt_ros.power.clock_lock import BASELINE_FILE
from yolov7_trt_ros.power.commands import TOOL_FOLDERS, SystemRunner
from yolov7_trt_ros.power.control import PowerControl
from yolov7_trt_ros.power.frequency_caps import round_cap_hz
from yolov7_trt_ros.power.gpu_clock import BoardGpuClock
from yolov7_trt_ros.power.permissions import SUDOERS_FILE, sudoers_text

Make = Callable[..., EmulatedBoard]

ORIN_GPU = '/sys/class/devfreq/17000000.gpu'
CPU0 = '/sys/devices/system/cpu/cpu0/cpufreq'


@pytest.fixture
def make_board(tmp_path: Path) -> Iterator[Make]:
    boards: list[EmulatedBoard] = []

    def make(name: str = 'orin_nano_super', **options: object) -> EmulatedBoard:
        boards.append(create_board(name, tmp_path / f'board{len(boards)}', **options))
        return boards[-1]

    yield make
    for board in boards:
        board.close()


def control_of(
    board: EmulatedBoard,
    lines: list[str] | None = None,
    *,
    is_root: bool = True,
    dry_run: bool = False,
    timeout_s: float = 20.0,
) -> PowerControl:
    runner = SystemRunner(environment=board.env, is_root=is_root, user='alice')
    report = (lambda line: None) if lines is None else lines.append
    return PowerControl(
        board.root, runner, dry_run=dry_run, report=report, timeout_s=timeout_s
    )


def replace_tool(board: EmulatedBoard, tool: str, script: str) -> None:
    """Put a shell script in the place of a tool; `original` in it is the emulated one."""
    path = board.tools / tool
    original = path.rename(path.with_name(f'{tool}.original'))
    path.write_text(f'#!/bin/sh\noriginal={original}\n{script}\n')
    path.chmod(0o755)


def settings(board: EmulatedBoard) -> dict[str, str]:
    """Return every file of the board that this room may change, and what is in it."""
    patterns = (
        'sys/**/*_freq', 'sys/**/online', 'sys/**/disable', 'sys/**/*_mask', 'sys/**/railgate*',
        'sys/**/fan_profile', 'sys/kernel/nvpmodel*/*', 'var/lib/nv*/status', 'etc/nvfan*',
        'run/*',
    )
    return {
        str(file.relative_to(board.root)): file.read_text().strip()
        for pattern in patterns for file in sorted(board.root.glob(pattern))
        if file.is_file() and 'cur_freq' not in file.name
    }


# Power modes


@pytest.mark.parametrize('name', sorted(BOARDS))
def test_each_mode_is_set_and_read_back_or_needs_a_reboot(make_board: Make, name: str) -> None:
    board = make_board(name)
    control = control_of(board)
    outcomes = set()
    for mode in control.modes():
        try:
            now = control.set_mode(mode.name)
        except PowerRebootError as exc:
            outcomes.add('reboot')
            assert 'TPC_PG_MASK' in str(exc)
        else:
            outcomes.add('set')
            assert (now.name, now.mode_id) == (mode.name, mode.mode_id)
            assert control.current_mode().mode_id == mode.mode_id
    assert 'set' in outcomes
    assert board.state['reboots'] == 0
    control.restore()
    assert control.current_mode().mode_id == board.definition.default_mode


def test_mode_by_name_or_id_whatever_the_case(make_board: Make) -> None:
    control = control_of(make_board())
    assert control.set_mode('maxn_super').mode_id == 2
    assert control.set_mode('0').name == '15W'
    assert control.set_mode(' 25W ').mode_id == 1


def test_unknown_mode_lists_those_there_are(make_board: Make) -> None:
    with pytest.raises(PowerError, match=r"no power mode 'MAXN'.*0 15W, 1 25W, 2 MAXN_SUPER"):
        control_of(make_board()).set_mode('MAXN')


def test_mode_in_force_is_not_set_again(make_board: Make) -> None:
    lines: list[str] = []
    control = control_of(make_board(), lines)
    assert control.set_mode('25W').mode_id == 1
    assert lines == [] and control.changed == ()


def test_reboot_is_needed_and_the_message_says_why(make_board: Make) -> None:
    board = make_board()
    board.set_load(gpu=0.5)
    before = settings(board)
    with pytest.raises(PowerRebootError, match='TPC_PG_MASK 240 -> 252') as caught:
        control_of(board).set_mode('7W')
    assert 'sudo nvpmodel -m 3' in str(caught.value)
    assert settings(board) == before
    assert board.state['reboots'] == 0


def test_stale_prompt_with_equal_masks(make_board: Make) -> None:
    board = make_board()
    board.set_options(stale_prompt=True)
    with pytest.raises(PowerRebootError, match='no mask differs'):
        control_of(board).set_mode('15W')
    assert board.state['reboots'] == 0


def test_nvpmodel_gets_no_answer_and_never_force(make_board: Make, tmp_path: Path) -> None:
    board = make_board()
    seen = tmp_path / 'seen'
    replace_tool(
        board, 'nvpmodel',
        f'if [ "$1" = -m ]; then echo "$@ [$(cat)]" >> {seen}; fi\nexec $original "$@"',
    )
    control = control_of(board)
    control.set_mode('15W')
    with pytest.raises(PowerRebootError):
        control.set_mode('7W')
    control.restore()
    assert seen.read_text().splitlines() == ['-m 0 []', '-m 3 []', '-m 1 []']


def test_no_permission_names_the_exact_line(make_board: Make) -> None:
    board = make_board(as_root=False, sudo_allowed=False)
    before = settings(board)
    control = control_of(board, is_root=False)
    with pytest.raises(PowerPermissionError) as caught:
        control.set_mode('MAXN_SUPER')
    line = f'alice ALL=(root) NOPASSWD: {board.tools}/nvpmodel -m 2'
    assert f'\n    {line}\n' in str(caught.value)
    assert settings(board) == before and control.changed == ()


def test_that_line_is_enough(make_board: Make) -> None:
    board = make_board(as_root=False, sudo_allowed=False)
    line = f'alice ALL=(root) NOPASSWD: {board.tools}/nvpmodel -m 2\n'
    sudoers = board.root / SUDOERS_FILE
    sudoers.parent.mkdir(parents=True, exist_ok=True)
    sudoers.write_text(line)
    control = control_of(board, is_root=False)
    assert control.set_mode('MAXN_SUPER').mode_id == 2
    with pytest.raises(PowerPermissionError):
        control.set_mode('15W')


def test_all_privileged_commands_are_enough_and_none_is_missing(make_board: Make) -> None:
    board = make_board(as_root=False, sudo_allowed=False)
    control = control_of(board, is_root=False)
    sudoers = board.root / SUDOERS_FILE
    sudoers.parent.mkdir(parents=True, exist_ok=True)
    sudoers.write_text(sudoers_text('alice', control.privileged_commands()))
    before = settings(board)
    control.set_max_frequency('gpu', 400)
    control.set_jetson_clocks(True)
    control.set_mode('0')
    control.set_max_frequency('cpu', 600)
    control.set_fan_profile('cool')
    control.restore()
    assert settings(board) == before


def test_exit_status_0_with_nvpm_error_is_a_failure(make_board: Make) -> None:
    """As nvpmodel of a caller who only thinks to be root, and any other NVPM ERROR."""
    board = make_board(as_root=False)
    with pytest.raises(PowerPermissionError, match='nvpmodel -m 0'):
        control_of(board, is_root=True).set_mode('15W')
    board.set_options(as_root=True)
    replace_tool(
        board, 'nvpmodel',
        '[ "$1" = -m ] && echo "NVPM ERROR: something broke" && exit 0\nexec $original "$@"',
    )
    with pytest.raises(PowerCommandError, match='something broke'):
        control_of(board).set_mode('15W')


def test_exit_status_alone_is_a_failure_too(make_board: Make) -> None:
    board = make_board()
    replace_tool(board, 'nvpmodel', '[ "$1" = -m ] && exit 3\nexec $original "$@"')
    with pytest.raises(PowerCommandError, match=r'did not set.*nothing was printed.*status 3'):
        control_of(board).set_mode('15W')


def test_silent_success_that_did_nothing(make_board: Make) -> None:
    board = make_board()
    replace_tool(board, 'nvpmodel', '[ "$1" = -m ] && exit 0\nexec $original "$@"')
    with pytest.raises(PowerCommandError, match=r'the mode is still 25W \(1\)'):
        control_of(board).set_mode('15W')


def test_success_that_only_the_status_file_shows(make_board: Make) -> None:
    board = make_board()
    status = board.root / 'var/lib/nvpmodel/status'
    replace_tool(
        board, 'nvpmodel', f'[ "$1" = -m ] && echo pmode:0000 > {status} && exit 0\n'
        'exec $original "$@"',
    )
    control = control_of(board)
    with pytest.raises(PowerCommandError, match=r'max_freq is \d+, expected \d+') as caught:
        control.set_mode('15W')
    assert 'the board does not show it' in str(caught.value)


def test_mode_with_fewer_cores_is_checked_by_its_cores(make_board: Make) -> None:
    board = make_board('xavier_nx')
    replace_tool(
        board, 'nvpmodel',
        '$original "$@"; status=$?\n'
        f'[ "$1" = -m ] && echo 1 > {board.root}/sys/devices/system/cpu/cpu3/online\nexit $status',
    )
    with pytest.raises(PowerCommandError, match=r'cpu3/online is 1, expected 0'):
        control_of(board).set_mode('MODE_10W_2CORE')


def test_container_ignores_the_request_each_time(make_board: Make) -> None:
    """The second time the status file already shows the mode that was never set."""
    board = make_board(in_container=True)
    control = control_of(board)
    for _ in range(2):
        with pytest.raises(PowerCommandError, match='Running in chroot') as caught:
            control.set_mode('15W')
        assert 'On the host run: sudo nvpmodel -m 0' in str(caught.value)
    assert control.changed == ()
    control.restore()


def test_missing_tool(make_board: Make) -> None:
    board = make_board()
    (board.tools / 'nvpmodel').unlink()
    control = control_of(board)
    assert (control.current_mode().name, control.current_mode().mode_id) == ('25W', 1)
    with pytest.raises(PowerCommandError, match='nvpmodel is not installed'):
        control.set_mode('15W')


def test_no_jetson_at_all(tmp_path: Path) -> None:
    control = PowerControl(tmp_path, SystemRunner(TOOL_FOLDERS))
    for ask in (control.modes, control.current_mode, control.jetson_clocks_state,
                control.gpu_frequencies_mhz):
        with pytest.raises(PowerError, match='not a Jetson'):
            ask()
    control.restore()


def test_modes_from_the_tool_where_the_conf_cannot_be_read(make_board: Make) -> None:
    board = make_board()
    conf = board.root / 'etc/nvpmodel.conf'
    names = [mode.name for mode in control_of(board).modes()]
    hidden = conf.resolve().rename(board.root / 'hidden.conf')
    replace_tool(board, 'nvpmodel', f'exec $original -f {hidden} "$@"')
    conf.unlink()
    assert [mode.name for mode in control_of(board).modes()] == names


def test_tool_that_hangs(make_board: Make) -> None:
    board = make_board()
    control = control_of(board, timeout_s=1.0)
    board.delay_tool('nvpmodel', 60)
    began_s = time.monotonic()
    with pytest.raises(PowerCommandError, match='was not done after 1 s'):
        control.set_mode('15W')
    assert time.monotonic() - began_s < 10


def test_no_mode_was_ever_set(make_board: Make) -> None:
    board = make_board()
    replace_tool(
        board, 'nvpmodel',
        f'[ "$1" = -q ] && [ ! -e {board.root}/set ] && echo "NVPM WARN: power mode is not set!" '
        f'&& exit 0\ntouch {board.root}/set\nexec $original "$@"',
    )
    control = control_of(board)
    assert control.set_mode('15W').name == '15W'
    assert control.changed == ()  # there is nothing to go back to


# jetson_clocks


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
    control_of(board).set_jetson_clocks(True)  # and is killed
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


# Caps


@pytest.mark.parametrize(
    ('wanted_mhz', 'expected_mhz'),
    [(700, 612), (612, 612), (611.5, 612), (5000, 918), (1, 306), (917.9, 918)],
)
def test_cap_is_rounded_down_to_the_table(
    make_board: Make, wanted_mhz: float, expected_mhz: float
) -> None:
    board = make_board()
    control = control_of(board)
    assert control.set_max_frequency('gpu', wanted_mhz) == expected_mhz
    board.settle()
    assert board.read(f'{ORIN_GPU}/max_freq') == f'{expected_mhz}000000'
    assert control.set_max_frequency('gpu', None) == 918


@pytest.mark.parametrize('name', sorted(BOARDS))
def test_caps_on_every_board_and_back(make_board: Make, name: str) -> None:
    board = make_board(name)
    control = control_of(board)
    before = settings(board)
    for unit, table in (('gpu', control.gpu_frequencies_mhz()),
                        ('cpu', control.cpu_frequencies_mhz())):
        assert list(table) == sorted(table) and len(table) > 3
        for mhz in table:
            assert control.set_max_frequency(unit, mhz) == mhz
            board.settle()
        assert control.changed[-1] == f'{unit}_max_frequency'
    control.restore()
    board.settle()
    assert settings(board) == before
    assert control.changed == ()


def test_table_ends_at_the_mode_s_cap(make_board: Make) -> None:
    control = control_of(make_board())
    assert control.gpu_frequencies_mhz() == (306, 408, 510, 612, 714, 816, 918)
    control.set_max_frequency('gpu', 408)
    assert control.gpu_frequencies_mhz() == (306, 408, 510, 612, 714, 816, 918)


def test_write_order_is_what_the_kernel_accepts(make_board: Make) -> None:
    board = make_board()
    board.write(f'{ORIN_GPU}/min_freq', 612000000)
    lines: list[str] = []
    control = control_of(board, lines)
    control.set_max_frequency('gpu', 408)
    control.set_max_frequency('gpu', 816)
    gpu = ORIN_GPU
    assert lines == [
        f'wrote 408000000 to {gpu}/min_freq', f'wrote 408000000 to {gpu}/max_freq',
        f'wrote 816000000 to {gpu}/max_freq', f'wrote 612000000 to {gpu}/min_freq',
    ]


def test_caps_that_make_no_sense(make_board: Make) -> None:
    control = control_of(make_board())
    for mhz in (0, -1, float('nan')):
        with pytest.raises(SettingError, match='above 0 MHz'):
            control.set_max_frequency('gpu', mhz)
    with pytest.raises(SettingError, match='gpu or cpu'):
        control.set_max_frequency('emc', 500)
    assert control.changed == ()


def test_kernel_that_does_not_take_the_cap(make_board: Make) -> None:
    board = make_board(as_root=False)
    replace_tool(board, 'sudo', 'exit 0')  # tee that writes nothing
    with pytest.raises(PowerCommandError, match='wrote 408000000 .* read back 918000000'):
        control_of(board, is_root=False).set_max_frequency('gpu', 408)


def test_cap_without_root_goes_through_tee(make_board: Make) -> None:
    board = make_board(as_root=False, sudo_allowed=False)
    control = control_of(board, is_root=False)
    with pytest.raises(PowerPermissionError) as caught:
        control.set_max_frequency('gpu', 408)
    real = board.root / f'{ORIN_GPU}/max_freq'.lstrip('/')
    assert f'/tee {real}\n' in str(caught.value)
    control.restore()  # nothing was changed, so nothing has to be permitted
    board.set_options(sudo_allowed=[f'tee {real}'])
    assert control.set_max_frequency('gpu', 408) == 408


def test_cap_survives_a_change_of_mode_within_its_limits(make_board: Make) -> None:
    board = make_board()
    control = control_of(board)
    before = settings(board)
    control.set_max_frequency('gpu', 816)
    control.set_mode('15W')
    assert board.read(f'{ORIN_GPU}/max_freq') == '612000000'
    control.set_mode('MAXN_SUPER')
    assert board.read(f'{ORIN_GPU}/max_freq') == '816000000'
    assert control.set_max_frequency('gpu', None) == 1020
    control.restore()
    assert settings(board) == before


def test_cap_and_locked_clocks(make_board: Make) -> None:
    board = make_board()
    control = control_of(board)
    before = settings(board)
    control.set_jetson_clocks(True)
    control.set_max_frequency('gpu', 510)
    assert board.read(f'{ORIN_GPU}/min_freq') == board.read(f'{ORIN_GPU}/max_freq') == '510000000'
    control.set_max_frequency('gpu', 714)
    assert board.read(f'{ORIN_GPU}/min_freq') == board.read(f'{ORIN_GPU}/max_freq') == '714000000'
    control.set_jetson_clocks(False)
    assert board.read(f'{ORIN_GPU}/min_freq') == '306000000'
    assert board.read(f'{ORIN_GPU}/max_freq') == '714000000'
    control.restore()
    assert settings(board) == before


def test_lowest_cap_is_no_lock(make_board: Make) -> None:
    control = control_of(make_board())
    control.set_max_frequency('gpu', 1)
    control.set_max_frequency('cpu', 1)
    assert control.jetson_clocks_state() == 'off'


def test_cap_that_someone_raised_is_left_alone(make_board: Make) -> None:
    board = make_board()
    control = control_of(board)
    control.set_max_frequency('gpu', 408)
    board.write(f'{ORIN_GPU}/max_freq', 1020000000)  # nvpmodel, by hand
    control.restore()
    assert board.read(f'{ORIN_GPU}/max_freq') == '1020000000'


# Holds


def limits_of(board: EmulatedBoard) -> tuple[int, int]:
    return tuple(int(board.read(f'{ORIN_GPU}/{end}_freq')) // 10**6 for end in ('min', 'max'))


def test_a_hold_sets_both_limits_in_the_order_the_kernel_accepts(make_board: Make) -> None:
    board = make_board()
    lines: list[str] = []
    control = control_of(board, lines)
    assert control.hold_frequency('gpu', 700) == 612
    assert control.hold_frequency('gpu', 816) == 816
    assert control.hold_frequency('gpu', 408) == 408
    assert control.changed == ('gpu_max_frequency',)
    assert control.hold_frequency('gpu', None) == 918
    assert control.changed == ()
    written = [(line.split()[1][:-6], line.split('/')[-1]) for line in lines]
    low, high = 'min_freq', 'max_freq'
    assert written == [
        ('612', low), ('612', high), ('816', high), ('816', low),
        ('408', low), ('408', high), ('918', high), ('306', low),
    ]


@pytest.mark.parametrize('name', sorted(BOARDS))
def test_holds_on_every_board_and_back(make_board: Make, name: str) -> None:
    board = make_board(name)
    control = control_of(board)
    before = settings(board)
    for unit, table in (('gpu', control.gpu_frequencies_mhz()),
                        ('cpu', control.cpu_frequencies_mhz())):
        for mhz in (*table, *table[::-2]):
            assert control.hold_frequency(unit, mhz) == mhz
            board.settle()
    control.restore()
    board.settle()
    assert settings(board) == before


def test_a_hold_stays_below_the_cap_which_outlives_it(make_board: Make) -> None:
    board = make_board()
    control = control_of(board)
    control.set_max_frequency('gpu', 612)
    assert control.hold_frequency('gpu', 5000) == 612
    assert limits_of(board) == (612, 612)
    control.set_max_frequency('gpu', 510)
    assert limits_of(board) == (510, 510)
    control.hold_frequency('gpu', 408)
    control.set_max_frequency('gpu', None)
    assert limits_of(board) == (408, 408)
    control.set_max_frequency('gpu', 714)
    assert control.hold_frequency('gpu', None) == 714
    assert limits_of(board) == (306, 714)
    control.restore()
    assert limits_of(board) == (306, 918)


def test_a_hold_survives_a_change_of_mode_and_a_lock(make_board: Make) -> None:
    board = make_board()
    control = control_of(board)
    before = settings(board)
    control.hold_frequency('gpu', 816)
    control.set_mode('15W')
    assert limits_of(board) == (612, 612)
    control.set_jetson_clocks(True)
    control.set_mode('MAXN_SUPER')
    assert limits_of(board) == (816, 816)
    control.set_jetson_clocks(False)
    assert limits_of(board) == (816, 816)
    control.restore()
    assert settings(board) == before


def test_a_held_clock_whose_limit_someone_raised_is_let_go(make_board: Make) -> None:
    board = make_board()
    control = control_of(board)
    control.hold_frequency('gpu', 408)
    board.write(f'{ORIN_GPU}/max_freq', 1020000000)  # nvpmodel, by hand
    assert control.hold_frequency('gpu', 510) == 510
    board.write(f'{ORIN_GPU}/max_freq', 1020000000)
    control.restore()
    assert limits_of(board) == (306, 1020)


def test_without_the_minimum_there_is_only_a_cap(make_board: Make) -> None:
    board = make_board(as_root=False, sudo_allowed=False)
    real = board.root / f'{ORIN_GPU}/max_freq'.lstrip('/')
    board.set_options(sudo_allowed=[f'tee {real}'])
    control = control_of(board, is_root=False)
    gpu = BoardGpuClock(control)
    assert gpu.hold(408) == 408
    assert limits_of(board) == (306, 408)
    assert 'only capped' in gpu.note and '/min_freq' in gpu.note
    assert gpu.hold(816) == 816
    assert limits_of(board) == (306, 816)
    assert gpu.hold(None) == 918 and not gpu.note
    assert limits_of(board) == (306, 918)
    board.set_options(sudo_allowed=False)
    with pytest.raises(PowerPermissionError):
        gpu.hold(408)


def test_rounding_without_a_table() -> None:
    assert round_cap_hz(500e6, (), 900_000_000) == 500_000_000
    assert round_cap_hz(5e9, (), 900_000_000) == 900_000_000


def test_limit_beside_the_table_can_be_gone_back_to() -> None:
    assert round_cap_hz(5e9, (100_000_000, 600_000_000), 520_000_000) == 520_000_000


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
        assert line in sudoers_text('alice', control.privileged_commands()).splitlines()
        control.restore()


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
