"""PowerControl caps and holds clocks of emulated boards, through their files."""

from __future__ import annotations

from changed_boards import control_of, Make, ORIN_GPU, replace_tool, settings
import pytest

from yolov7_trt_ros.emulated_board.board import EmulatedBoard
from yolov7_trt_ros.emulated_board.boards.catalogue import BOARDS
from yolov7_trt_ros.errors import (
    PowerCommandError,
    PowerPermissionError,
    SettingError,
)
from yolov7_trt_ros.power.clocks.clock_files import round_cap_hz
from yolov7_trt_ros.power.gpu_clock import BoardGpuClock

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
