"""
The frequencies of an emulated kernel: written values are rounded to the table and checked.

A minimum is rounded up to the table, a maximum in the direction of the board's definition; a
minimum above the maximum is refused. The direction of a maximum is recorded only on the Nano (CPU
up, GPU down); that of the other boards (CPU down, GPU up) is our guess.

"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from yolov7_trt_ros.emulated_board.boards.board_definition import BoardDefinition
from yolov7_trt_ros.emulated_board.state import BoardState
from yolov7_trt_ros.emulated_board.tree import (
    BPMP_FOLDER,
    CPU_FOLDER,
    EMC_DEVFREQ_FOLDER,
    OVERRIDE_FOLDER,
    policy_folder,
    read_number,
    read_text,
    write_value,
)


def round_up(table: Sequence[int], value: int) -> int:
    """Return the lowest frequency of an ascending table that is not below the value."""
    return next((entry for entry in table if entry >= value), table[-1])


def round_down(table: Sequence[int], value: int) -> int:
    """Return the highest frequency of an ascending table that is not above the value."""
    return next((entry for entry in reversed(table) if entry <= value), table[0])


def settle_clocks(root: Path, board: BoardDefinition, state: BoardState) -> None:
    """Round and check the written frequencies as a kernel does."""
    for leader in board.cpu.leaders:
        folder = policy_folder(leader)
        _settle_pair(root, state, f'{folder}/scaling_min_freq', f'{folder}/scaling_max_freq',
                     board.cpu.table_khz, max_goes_up=board.cpu.max_goes_up)
    for clock in board.gpu.clocks:
        _settle_pair(root, state, f'{clock.folder}/min_freq', f'{clock.folder}/max_freq',
                     clock.table_hz, max_goes_up=board.gpu.max_goes_up)
    if board.emc.kind == 'devfreq':
        _settle_pair(root, state, f'{EMC_DEVFREQ_FOLDER}/min_freq',
                     f'{EMC_DEVFREQ_FOLDER}/max_freq', board.emc.table_hz, max_goes_up=True)
    _settle_emc_cap(root, board, state)
    _settle_cores(root, board, state)
    _settle_mask(root, board)


def _settle_pair(
    root: Path, state: BoardState, min_path: str, max_path: str, table: Sequence[int], *,
    max_goes_up: bool,
) -> None:
    settled = state['settled']
    old_min = settled.get(min_path, table[0])
    old_max = settled.get(max_path, table[-1])
    texts = read_text(root, min_path), read_text(root, max_path)
    raw_min, raw_max = _written(texts[0], old_min), _written(texts[1], old_max)
    new_max = (round_up if max_goes_up else round_down)(table, raw_max)
    new_min = min(round_up(table, raw_min), new_max)
    if raw_min > raw_max:  # refused: the changed one is restored
        new_min, new_max = old_min, old_max
    for path, text, value in ((min_path, texts[0], new_min), (max_path, texts[1], new_max)):
        settled[path] = value
        if text and text != str(value):
            write_value(root, path, value)


def _written(text: str, old: int) -> int:
    """Return the written number; the old one while the file is being written."""
    try:
        value = int(text, 0)
    except ValueError:
        return old
    return value if value >= 0 else old


def _settle_emc_cap(root: Path, board: BoardDefinition, state: BoardState) -> None:
    path = board.emc.cap_file
    top = board.emc.table_hz[-1]
    old = state['settled'].get(path, 0 if 'emc_cap' in path else top)
    text = read_text(root, path)
    value = _written(text, old)
    accepted = value if value == 0 and 'emc_cap' in path else min(value or top, top)
    state['settled'][path] = accepted
    if text and text != str(accepted):
        write_value(root, path, accepted)


def _settle_cores(root: Path, board: BoardDefinition, state: BoardState) -> None:
    for core in range(board.cpu.core_count):
        path = f'{CPU_FOLDER}/cpu{core}/online'
        text = read_text(root, path)
        old = state['settled'].get(path, 1)
        value = 1 if core == 0 else old if text not in ('0', '1') else int(text)
        state['settled'][path] = value
        if text and text != str(value):
            write_value(root, path, value)


def _settle_mask(root: Path, board: BoardDefinition) -> None:
    """Restore the mask of a board that was seen to ignore written masks."""
    path = f'{board.gpu.device}/tpc_pg_mask'
    if board.real_tpc_mask is not None and read_number(root, path) != board.real_tpc_mask:
        write_value(root, path, board.real_tpc_mask)


def online_cores(root: Path, board: BoardDefinition) -> list[int]:
    """Return the numbers of the cores that are online."""
    return [core for core in range(board.cpu.core_count)
            if read_number(root, f'{CPU_FOLDER}/cpu{core}/online', 1)]


def cpu_frequency_khz(state: BoardState, board: BoardDefinition, leader: int, cap: float) -> int:
    """Return the clock that schedutil picks for the load, below cap, a share of the top."""
    folder = policy_folder(leader)
    low = state['settled'][f'{folder}/scaling_min_freq']
    high = state['settled'][f'{folder}/scaling_max_freq']
    return _pick(board.cpu.table_khz, low, high, state['cpu_load'], cap)


def gpu_frequency_hz(state: BoardState, board: BoardDefinition, index: int, cap: float) -> int:
    """Return the clock that the GPU's governor picks for the load."""
    clock = board.gpu.clocks[index]
    low = state['settled'][f'{clock.folder}/min_freq']
    high = state['settled'][f'{clock.folder}/max_freq']
    load = state['gpu_load'] if index == 0 else 0.0  # Thor's second clock is the video part's
    return _pick(clock.table_hz, low, high, load, cap)


def _pick(table: Sequence[int], low: int, high: int, load: float, cap: float) -> int:
    wanted = min(max(low, round_up(table, int(high * min(1.0, 1.25 * load)))), high)
    return min(wanted, round_down(table, int(table[-1] * cap)))


def is_gpu_off(root: Path, board: BoardDefinition, state: BoardState) -> bool:
    """Whether the GPU is off because it is idle, which jetson_clocks forbids."""
    return bool(board.gpu.gated) and state['gpu_load'] == 0.0 and bool(
        read_number(root, f'{board.gpu.device}/railgate_enable'))


def emc_range_hz(root: Path, board: BoardDefinition, state: BoardState) -> tuple[int, int]:
    """Return the lowest and highest memory clock allowed now."""
    emc = board.emc
    top = state['settled'].get(emc.cap_file, 0) or emc.table_hz[-1]
    if emc.kind == 'devfreq':
        settled = state['settled']
        top = min(top, settled[f'{EMC_DEVFREQ_FOLDER}/max_freq'])
        return min(settled[f'{EMC_DEVFREQ_FOLDER}/min_freq'], top), top
    top = round_down(emc.table_hz, top)
    low = round_down(emc.table_hz, min(emc.idle_hz, top))
    if is_emc_locked(root, board):
        rate = read_number(root, emc_rate_file(board), top)
        low = top = min(round_up(emc.table_hz, rate), top)
    return low, top


def is_emc_locked(root: Path, board: BoardDefinition) -> bool:
    """Whether jetson_clocks holds the memory clock."""
    if board.emc.kind == 'bpmp':
        return bool(read_number(root, f'{BPMP_FOLDER}/mrq_rate_locked'))
    if board.emc.kind == 'clk':
        return bool(read_number(root, f'{OVERRIDE_FOLDER}/clk_state'))
    low = read_number(root, f'{EMC_DEVFREQ_FOLDER}/min_freq')
    return low == read_number(root, f'{EMC_DEVFREQ_FOLDER}/max_freq')


def emc_frequency_hz(root: Path, board: BoardDefinition, state: BoardState) -> int:
    """Return the memory clock that its governor picks for the load."""
    low, top = emc_range_hz(root, board, state)
    if low == top:
        return top
    rest = max(low, round_down(board.emc.table_hz, min(board.emc.idle_hz, top)))
    wanted = round_up(board.emc.table_hz, int(top * min(1.0, 1.5 * state['emc_load'])))
    return min(max(rest, wanted), top)


def emc_rate_file(board: BoardDefinition) -> str:
    """Return the file that shows the memory clock, and through which it is locked."""
    return {'bpmp': f'{BPMP_FOLDER}/rate', 'clk': f'{OVERRIDE_FOLDER}/clk_rate',
            'devfreq': f'{EMC_DEVFREQ_FOLDER}/cur_freq'}[board.emc.kind]
