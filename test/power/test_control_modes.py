"""PowerControl changes power modes of emulated boards, through their real executables."""

from __future__ import annotations

from pathlib import Path
import time

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
from yolov7_trt_ros.power.control import PowerControl
from yolov7_trt_ros.power.root.commands import SystemRunner, TOOL_FOLDERS
from yolov7_trt_ros.power.root.sudoers import SUDOERS_FILE, sudoers_text


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
    sudoers.write_text(sudoers_text('alice', control.privileged_commands(fan=True)))
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
    control = control_of(board, is_root=True)
    with pytest.raises(PowerPermissionError, match='nvpmodel -m 0'):
        control.set_mode('15W')
    board.set_options(as_root=True)
    replace_tool(
        board, 'nvpmodel',
        '[ "$1" = -m ] && echo "NVPM ERROR: something broke" && exit 0\nexec $original "$@"',
    )
    with pytest.raises(PowerCommandError, match='something broke'):
        control.set_mode('15W')


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


def edit_conf(board: EmulatedBoard, before: str, after: str) -> None:
    conf = (board.root / 'etc/nvpmodel.conf').resolve()
    text = conf.read_text()
    assert before in text
    conf.write_text(text.replace(before, after))


@pytest.mark.parametrize(('asked', 'edit', 'clear'), [
    ('1', ('ID=2 NAME', 'ID=1 NAME'), '15W'), ('15W', ('ID=2 NAME', 'ID=0 NAME'), '25W'),
    ('0', ('ID=2 NAME', 'ID=0 NAME'), '25W'), ('15W', ('NAME=25W', 'NAME=15W'), 'MAXN_SUPER'),
])
def test_a_mode_of_which_there_are_two_is_not_guessed(
    make_board: Make, asked: str, edit: tuple[str, str], clear: str
) -> None:
    board = make_board()
    before = settings(board)
    edit_conf(board, *edit)
    control = control_of(board)
    with pytest.raises(PowerError, match=f"which power mode '{asked}' is, is not known: "):
        control.set_mode(asked)
    assert settings(board) == before and control.set_mode(clear).name == clear


def test_a_mode_of_which_nothing_can_be_seen_does_not_count_as_set(make_board: Make) -> None:
    board = make_board()
    edit_conf(board, ' /sys/', ' /sys/of_another_board/')
    replace_tool(
        board, 'nvpmodel',
        f'[ "$1" = -m ] && echo "pmode:000$2" > {board.root}/var/lib/nvpmodel/status && exit 0\n'
        f'[ "$1" = -q ] && echo "NV Power Mode: 15W" && cut -d: -f2 '
        f'{board.root}/var/lib/nvpmodel/status && exit 0\nexec $original "$@"',
    )
    control = control_of(board)
    with pytest.raises(PowerCommandError, match='whether it was applied is not known'):
        control.set_mode('15W')


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
    board.delay_tool('nvpmodel', 600)
    began_s = time.monotonic()
    with pytest.raises(PowerCommandError, match='was not done after 1 s'):
        control.set_mode('15W')
    assert time.monotonic() - began_s < 600


def never_set(board: EmulatedBoard) -> None:
    """Let nvpmodel say that no mode was ever set, until one is."""
    replace_tool(
        board, 'nvpmodel',
        f'[ "$1" = -q ] && [ ! -e {board.root}/set ] && echo "NVPM WARN: power mode is not set!" '
        f'&& exit 0\ntouch {board.root}/set\nexec $original "$@"',
    )


@pytest.mark.parametrize('status', ['pmode:0001\n', 'nonsense', ''])
def test_no_mode_was_ever_set_so_status_file_default_and_board_tell(
    make_board: Make, status: str
) -> None:
    board = make_board()
    before = settings(board)
    (board.root / 'var/lib/nvpmodel/status').write_text(status)
    never_set(board)
    control = control_of(board)
    assert control.set_mode('15W').name == '15W'
    assert control.changed == ('power_mode',)
    control.restore()
    assert settings(board) == before


def test_a_mode_that_nothing_tells_is_said_to_be_lost(make_board: Make) -> None:
    board = make_board()
    (board.root / 'var/lib/nvpmodel/status').write_text('nonsense')
    board.write(f'{ORIN_GPU}/max_freq', 510000000)  # as in no mode
    never_set(board)
    lines: list[str] = []
    control = control_of(board, lines)
    control.set_mode('15W')
    assert control.changed == ()
    assert any('before 15W (0) is not known' in line for line in lines)
