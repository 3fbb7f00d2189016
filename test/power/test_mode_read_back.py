"""A power mode counts when the board shows it, whatever nvpmodel, its status or its file say."""

from __future__ import annotations

from changed_boards import control_of, CPU0, Make, ORIN_GPU, replace_tool
import pytest

from yolov7_trt_ros.emulated_board.board import EmulatedBoard
from yolov7_trt_ros.errors import PowerCommandError
from yolov7_trt_ros.power.nvpmodel.mode_check import find_heat
from yolov7_trt_ros.power.sysfs import SysfsTree

GPU_CAP = f'{ORIN_GPU}/max_freq'
COOLING = 'sys/class/thermal/cooling_device1/cur_state'


def only_notes(board: EmulatedBoard) -> None:
    """Let nvpmodel -m write its status file and nothing else."""
    status = board.root / 'var/lib/nvpmodel/status'
    replace_tool(
        board, 'nvpmodel',
        f'[ "$1" = -m ] && echo "pmode:000$2" > {status} && exit 0\nexec $original "$@"',
    )


# What a mode promises


def test_a_lower_cap_of_somebody_is_removed(make_board: Make) -> None:
    board = make_board()
    control = control_of(board)
    control.set_mode('MAXN_SUPER')
    board.write(GPU_CAP, 306000000)
    assert control.set_mode('MAXN_SUPER').name == 'MAXN_SUPER'
    assert board.read(GPU_CAP) == '1020000000'


@pytest.mark.parametrize('name', ['15W', '25W', 'MAXN_SUPER'])
def test_a_lower_cap_that_stays_is_no_success(make_board: Make, name: str) -> None:
    board = make_board()
    board.write(GPU_CAP, 306000000)
    replace_tool(
        board, 'nvpmodel',
        '$original "$@"; status=$?\n'
        f'[ "$1" = -m ] && echo 306000000 > {board.root}{GPU_CAP}\nexit $status',
    )
    with pytest.raises(PowerCommandError, match=r'max_freq is 306000000, expected'):
        control_of(board).set_mode(name)


@pytest.mark.parametrize('name', ['15W', '25W', 'MAXN_SUPER'])
def test_a_tool_that_only_writes_its_status_file_does_not_pass(
    make_board: Make, name: str
) -> None:
    board = make_board()
    start = 'MAXN_SUPER' if name == '25W' else '25W'
    control = control_of(board)
    control.set_mode(start)
    only_notes(board)
    with pytest.raises(PowerCommandError, match='the board does not show it'):
        control.set_mode(name)
    assert start in control.current_mode().name
    assert control.current_mode().contradiction == ''  # its status file says so again


@pytest.mark.parametrize(('kind', 'found'), [
    ('gpu-throttle-alert', 'gpu-throttle-alert is at 3'), ('pwm-fan', ''), ('', ''), (None, ''),
])
def test_a_cooling_device_of_an_unknown_kind_is_no_heat(
    make_board: Make, kind: str | None, found: str
) -> None:
    board = make_board()
    (board.root / COOLING).write_text('3')
    path = board.root / COOLING.replace('cur_state', 'type')
    path.unlink() if kind is None else path.write_text(kind)
    assert find_heat(SysfsTree(board.root)) == found


def test_heat_that_holds_a_cap_lower_is_named(make_board: Make) -> None:
    board = make_board()
    replace_tool(
        board, 'nvpmodel',
        '$original "$@"; status=$?\n'
        f'[ "$1" = -m ] && echo 816000000 > {board.root}{GPU_CAP}\nexit $status',
    )
    (board.root / COOLING).write_text('2\n')
    lines: list[str] = []
    assert control_of(board, lines).set_mode('MAXN_SUPER').name == 'MAXN_SUPER'
    assert any('816000000, expected no cap, for heat (gpu-throttle-alert is at 2)' in line
               for line in lines)


def test_a_cap_of_the_memory_is_compared_where_it_can_be_read(make_board: Make) -> None:
    board = make_board('xavier_nx')
    control = control_of(board)
    cap = '/sys/kernel/nvpmodel_emc_cap/emc_iso_cap'
    replace_tool(
        board, 'nvpmodel',
        '$original "$@"; status=$?\n'
        f'[ "$1" = -m ] && echo 1866000000 > {board.root}{cap}\nexit $status',
    )
    with pytest.raises(PowerCommandError, match='emc_iso_cap is 1866000000, expected 1600000000'):
        control.set_mode('MODE_15W_6CORE')


def test_a_cap_of_ours_is_no_deviation(make_board: Make) -> None:
    board = make_board()
    lines: list[str] = []
    control = control_of(board, lines)
    control.set_max_frequency('gpu', 408)
    lines.clear()
    assert control.set_mode('25W').name == '25W'
    assert lines == [] and control.current_mode().contradiction == ''
    board.write(f'{CPU0}/scaling_max_freq', 729600)
    control.set_mode('25W')
    assert board.read(f'{CPU0}/scaling_max_freq') == '1344000'
    assert board.read(GPU_CAP) == '408000000'


# What the tool says


@pytest.mark.parametrize('ending', ['exit 1', 'echo "NVPM ERROR: Fan failed to set mode:quiet"'])
def test_a_complaint_about_a_mode_that_is_set(make_board: Make, ending: str) -> None:
    board = make_board()
    replace_tool(
        board, 'nvpmodel', f'[ "$1" != -m ] && exec $original "$@"\n$original "$@"\n{ending}'
    )
    lines: list[str] = []
    control = control_of(board, lines)
    assert control.set_mode('15W').name == '15W'
    assert any('complained' in line and 'the board shows 15W (0)' in line for line in lines)
    assert control.changed == ('power_mode',)
    control.restore()
    assert control.current_mode().name == '25W'


def test_in_a_container_the_board_is_believed_in_either_direction(make_board: Make) -> None:
    board = make_board(in_container=True)
    control = control_of(board)
    status = board.root / 'var/lib/nvpmodel/status'
    with pytest.raises(PowerCommandError, match='Running in chroot'):
        control.set_mode('15W')  # nvpmodel notes it all the same
    assert status.read_text() == 'pmode:0001\n' and control.changed == ()
    status.write_text('pmode:0000\n')
    assert control.current_mode().name == '25W'
    assert 'nvpmodel says 15W (0)' in control.current_mode().contradiction
    assert control.set_mode('25W').name == '25W'
    assert control.changed == ()


@pytest.mark.parametrize('answer', ['exit 0', 'echo Leistungsmodus: 25W; exit 0'])
def test_a_query_that_says_nothing_known_is_replaced_by_the_board(
    make_board: Make, answer: str
) -> None:
    board = make_board()
    control = control_of(board)
    replace_tool(
        board, 'nvpmodel', f'[ "$1" = -q ] && {{ {answer}; }}\nexec $original "$@"')
    assert control.set_mode('15W').name == '15W'
    control.restore()
    assert control.changed == () and board.read(GPU_CAP) == '918000000'
    only_notes(board)
    with pytest.raises(PowerCommandError, match='does not show it'):
        control.set_mode('MAXN_SUPER')
