"""Caps, holds and locks never exceed nor outlive a power mode that somebody else has set."""

from __future__ import annotations

from changed_boards import control_of, Make, ORIN_GPU, replace_tool, settings
from power_host import PatientRunner
import pytest

from yolov7_trt_ros.emulated_board.board import EmulatedBoard
from yolov7_trt_ros.emulated_board.boards.catalogue import BOARDS
from yolov7_trt_ros.errors import PowerCommandError
from yolov7_trt_ros.power.control import PowerControl


def set_by_hand(board: EmulatedBoard, mode: int) -> None:
    PatientRunner(environment=board.env).run(['nvpmodel', '-m', str(mode)])


def limits_of(board: EmulatedBoard) -> tuple[int, ...]:
    return tuple(int(board.read(f'{ORIN_GPU}/{end}_freq')) // 10**6 for end in ('min', 'max'))


def live_modes(board: EmulatedBoard) -> list[int]:
    """Return the modes that need no reboot from the default, which is not among them."""
    definition = board.definition
    now = definition.mode(definition.default_mode)
    assert now is not None
    return [
        mode.mode_id for mode in definition.modes
        if mode is not now and definition.reboot_rule != 'always'
        and (definition.reboot_rule == 'never' or mode.tpc_mask == now.tpc_mask)
    ]


@pytest.mark.parametrize('name', sorted(BOARDS))
@pytest.mark.parametrize('changes', ['hold', 'cap', 'lock'])
def test_at_the_end_the_board_is_as_in_their_mode(
    make_board: Make, name: str, changes: str
) -> None:
    board, fresh = make_board(name), make_board(name)
    control = control_of(board)
    for mode in live_modes(board):
        if changes == 'lock':
            control.set_jetson_clocks(True)
        for unit in ('gpu', 'cpu') if changes != 'lock' else ():
            table = getattr(control, f'{unit}_frequencies_mhz')()
            if changes == 'hold':
                control.hold_frequency(unit, table[-1])
            else:
                control.set_max_frequency(unit, table[-2])
        set_by_hand(board, mode)
        set_by_hand(fresh, mode)
        control.restore()
        board.settle()
        assert settings(board) == settings(fresh)
        assert control.changed == ()


def test_a_mode_that_comes_while_ours_is_checked_is_theirs(make_board: Make) -> None:
    """Else it would be taken for ours: never followed, and undone at the end."""
    board = make_board()
    set_once = board.root / 'set_once'
    replace_tool(
        board, 'nvpmodel',
        f'if [ "$1" = -q ] && [ -e {set_once} ]; then rm {set_once}; "$original" -m 0; fi\n'
        f'if [ "$1 $2" = "-m 2" ]; then touch {set_once}; fi\nexec "$original" "$@"',
    )
    control = control_of(board)
    with pytest.raises(PowerCommandError):
        control.set_mode('MAXN_SUPER')
    assert not set_once.exists() and control.mode_was_changed()
    assert control.follow_mode() == '15W' and control.foreign_modes == 1
    assert not control.mode_was_changed() and control.changed == ()
    control.restore()
    assert board.read('/var/lib/nvpmodel/status') == 'pmode:0000'
    control.close()


def test_a_hold_that_goes_on_is_within_their_mode(make_board: Make) -> None:
    board = make_board()
    control = control_of(board)
    control.hold_frequency('gpu', 918)
    set_by_hand(board, 0)
    assert control.mode_was_changed()
    assert control.hold_frequency('gpu', 816) == 612
    assert not control.mode_was_changed() and control.foreign_modes == 1
    assert control.gpu_frequencies_mhz()[-1] == 612
    set_by_hand(board, 2)
    assert control.hold_frequency('gpu', 5000) == 1020
    control.restore()
    assert limits_of(board) == (306, 1020)


def test_a_hold_written_while_they_change_the_mode_is_corrected(make_board: Make) -> None:
    board = make_board()
    control = control_of(board)
    control.hold_frequency('gpu', 918)
    set_by_hand(board, 0)
    for end in ('max', 'min'):  # as a hold between their writing and their noting it would
        board.write(f'{ORIN_GPU}/{end}_freq', 918000000)
    assert control.follow_mode() == '15W'
    assert limits_of(board) == (612, 612)
    control.restore()
    assert limits_of(board) == (306, 612)


def test_following_without_another_change_is_enough(make_board: Make) -> None:
    board = make_board()
    control = control_of(board)
    control.set_max_frequency('gpu', 816)
    control.hold_frequency('gpu', 714)
    set_by_hand(board, 0)
    control.follow_mode()
    assert limits_of(board) == (612, 612)
    assert control.hold_frequency('gpu', None) == 612
    set_by_hand(board, 2)
    control.follow_mode()
    assert limits_of(board) == (306, 816)  # the cap comes back into force
    assert control.set_max_frequency('gpu', None) == 1020


def test_their_mode_is_not_put_back_to_ours(make_board: Make) -> None:
    board = make_board()
    control = control_of(board)
    control.set_mode('MAXN_SUPER')
    set_by_hand(board, 0)
    control.restore()
    assert control.current_mode().name == '15W' and control.changed == ()


def test_the_same_mode_set_by_them_is_still_ours_to_put_back(make_board: Make) -> None:
    board = make_board()
    before = settings(board)
    control = control_of(board)
    control.set_mode('MAXN_SUPER')
    control.hold_frequency('gpu', 612)
    set_by_hand(board, 2)
    control.follow_mode()
    assert limits_of(board) == (612, 612)
    control.restore()
    assert settings(board) == before


def test_a_lock_goes_on_at_the_caps_of_their_mode(make_board: Make) -> None:
    board = make_board()
    control = control_of(board)
    control.set_jetson_clocks(True)
    set_by_hand(board, 0)
    control.follow_mode()
    assert control.jetson_clocks_state() == 'on'
    assert limits_of(board) == (612, 612)


def test_a_status_file_that_nothing_follows_raises_no_limit(make_board: Make) -> None:
    """In a container nvpmodel notes the mode and applies nothing."""
    board = make_board(in_container=True)
    control = control_of(board)
    control.hold_frequency('gpu', 816)
    set_by_hand(board, 2)
    assert control.hold_frequency('gpu', 5000) == 918
    control.restore()
    assert limits_of(board) == (306, 918)


def test_without_the_journal_of_this_process_too(make_board: Make) -> None:
    """A process that held the clock was killed, then somebody set a lower mode."""
    board = make_board()
    killed: PowerControl = control_of(board)
    killed.hold_frequency('gpu', 918)
    killed.close()
    set_by_hand(board, 0)
    board.write(f'{ORIN_GPU}/max_freq', 918000000)
    later = control_of(board)
    later.adopt()
    later.restore()
    assert limits_of(board) == (306, 612)


@pytest.mark.parametrize('status', ['', 'pmode:9999\n', 'unsupported', None])
def test_their_mode_is_found_where_nvpmodel_s_file_does_not_tell(
    make_board: Make, status: str | None
) -> None:
    board = make_board()
    control = control_of(board)
    control.hold_frequency('gpu', 918)
    set_by_hand(board, 0)
    path = board.root / 'var/lib/nvpmodel/status'
    replace_tool(
        board, 'nvpmodel', '[ "$1" = -q ] && printf "NV Power Mode: 15W\\n0\\n" && exit 0\n'
        'exec $original "$@"',
    )
    path.unlink() if status is None else path.write_text(status)
    control.follow_mode()
    assert limits_of(board) == (612, 612)


def test_a_mode_of_theirs_that_nothing_tells_is_reported(make_board: Make) -> None:
    board = make_board()
    lines: list[str] = []
    control = control_of(board, lines)
    control.hold_frequency('gpu', 918)
    replace_tool(board, 'nvpmodel', 'echo nonsense')
    (board.root / 'var/lib/nvpmodel/status').write_text('unsupported')
    board.write('/sys/devices/system/cpu/cpu3/online', 0)  # as in no mode
    control.follow_mode()
    assert any('which it is now is not known' in line for line in lines)


def test_limits_left_in_a_mode_that_is_not_known_now_are_told(make_board: Make) -> None:
    board = make_board()
    killed = control_of(board)
    killed.hold_frequency('gpu', 918)
    killed.close()
    replace_tool(board, 'nvpmodel', 'echo nonsense')
    (board.root / 'var/lib/nvpmodel/status').write_text('unsupported')
    board.write('/sys/devices/system/cpu/cpu3/online', 0)
    lines: list[str] = []
    control = control_of(board, lines)
    control.adopt()
    assert any('those of the mode with id 1' in line for line in lines)
    control.restore()
    assert limits_of(board) == (306, 918)
