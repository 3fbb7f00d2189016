"""
The emulated ``tegrastats``: lines in the grammar of the board's release.

The first line comes after one interval; each rail's second value is its mean since then. A
caller that is not root misses what it misses on boards: clocks, and rails before JetPack 6.

"""

from __future__ import annotations

import contextlib
from datetime import datetime
import os
from pathlib import Path
import signal
import subprocess
import sys
import time
from typing import TextIO

from yolov7_trt_ros.emulated_board import clocks, kernel, physics
from yolov7_trt_ros.emulated_board.boards.board_definition import BoardDefinition
from yolov7_trt_ros.emulated_board.conf_board import board_of
from yolov7_trt_ros.emulated_board.state import BoardState, FOLDER, load_state
from yolov7_trt_ros.emulated_board.tool_process import is_root, tool_command
from yolov7_trt_ros.emulated_board.tree import CPU_FOLDER, read_number, zone_folder

_PID_FILE = f'{FOLDER}/tegrastats.pid'
_USAGE = """\
Usage: tegrastats [-option]
Options:
    --help                  : print this help screen
    --interval <millisec>   : sample the information in <milliseconds>
    --logfile  <filename>   : dump the output of tegrastats to <filename>
    --readall               : collect all stats including performance intensive stats
    --start                 : run tegrastats as a daemon process in the background
    --stop                  : stop any running instances of tegrastats
    --verbose               : print verbose message"""


def run_tegrastats(root: Path, arguments: list[str]) -> int:
    """Print lines until a signal, or start or stop a background process."""
    options = _read_options(arguments)
    if options is None or '--help' in options:
        print(_USAGE)
        return 0 if options is not None else 1
    if '--stop' in options:
        return _stop_daemon(root)
    if '--start' in options:
        return _start_daemon(root, arguments)
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    interval_s = max(int(options.get('--interval', '1000')), 1) / 1000
    if '--logfile' not in options:
        return _print_lines(root, sys.stdout, interval_s)
    with Path(options['--logfile']).open('w', encoding='utf-8') as file:
        return _print_lines(root, file, interval_s)


def _read_options(arguments: list[str]) -> dict[str, str] | None:
    options = {}
    words = list(arguments)
    while words:
        word = words.pop(0)
        if word in ('--interval', '--logfile', '--load_cfg', '--save_cfg') and words:
            options[word] = words.pop(0)
        elif word in ('--help', '--start', '--stop', '--verbose', '--readall'):
            options[word] = ''
        else:
            return None
    return options if options.get('--interval', '1').isdecimal() else None


def _start_daemon(root: Path, arguments: list[str]) -> int:
    rest = [word for word in arguments if word != '--start']
    process = subprocess.Popen(
        [*tool_command('tegrastats'), *rest], stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    (root / _PID_FILE).write_text(str(process.pid), encoding='utf-8')
    return 0


def _stop_daemon(root: Path) -> int:
    file = root / _PID_FILE
    if file.exists():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(file.read_text(encoding='utf-8')), signal.SIGTERM)
        file.unlink(missing_ok=True)
    return 0


def _print_lines(root: Path, stream: TextIO, interval_s: float) -> int:
    """Print a line after each interval while the board exists."""
    lines = LineWriter(root)
    due = time.monotonic()
    while True:
        due += interval_s
        time.sleep(max(0.0, due - time.monotonic()))
        try:
            kernel.settle(root)
            line = lines.line()
        except FileNotFoundError:  # the board's folder was removed
            return 0
        print(line, file=stream, flush=True)


class LineWriter:
    """
    Makes the lines of one run of tegrastats.

    Parameters
    ----------
    root : Path
        The board.

    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._board: BoardDefinition = board_of(root, load_state(root))
        self._sums: dict[str, float] = {}
        self._count = 0

    def line(self) -> str:
        """Return the next line, without its end."""
        state = load_state(self._root)
        board = self._board
        root_user = is_root(state)
        self._count += 1
        fields = [] if board.grammar == 'jp4' else [datetime.now().strftime('%m-%d-%Y %H:%M:%S')]
        fields += [self._memory(state, root_user), self._cpus(state)]
        fields += self._emc(state, root_user)
        fields += self._gpu(state, root_user)
        fields += self._engines(state, root_user)
        fields += self._temperatures()
        if root_user or board.grammar != 'jp5':
            fields += self._rails(state)
        return ' '.join(fields)

    def _memory(self, state: BoardState, root_user: bool) -> str:
        board = self._board
        used, swapped = physics.memory_used_mb(board, state['memory_used'], state['gpu_load'])
        text = f'RAM {used}/{board.ram_mb}MB (lfb 105x4MB)'
        if board.swap_mb:
            text += f' SWAP {swapped}/{board.swap_mb}MB (cached 0MB)'
        if board.name == 'nano' and root_user:
            text += ' IRAM 0/252kB(lfb 252kB)'
        return text

    def _cpus(self, state: BoardState) -> str:
        online = clocks.online_cores(self._root, self._board)
        load = round(state['cpu_load'] * 100)
        cores = []
        for core in range(self._board.cpu.core_count):
            khz = read_number(self._root, f'{CPU_FOLDER}/cpu{core}/cpufreq/scaling_cur_freq')
            cores.append(f'{load}%@{khz // 1000}' if core in online else 'off')
        return f'CPU [{",".join(cores)}]'

    def _emc(self, state: BoardState, root_user: bool) -> list[str]:
        grammar = self._board.grammar
        load = round(state['emc_load'] * 100)
        if root_user:
            hertz = clocks.emc_frequency_hz(self._root, self._board, state)
            return [f'EMC_FREQ {load}%@{hertz // 1000000}']
        return [] if grammar in ('jp6', 'jp7') else [f'EMC_FREQ {load}%']

    def _gpu(self, state: BoardState, root_user: bool) -> list[str]:
        grammar = self._board.grammar
        load = round(state['gpu_load'] * 100)
        mhz = read_number(self._root, f'{self._board.gpu.clocks[0].folder}/cur_freq') // 1000000
        if grammar == 'jp7':
            shown = f'{load}%' if load else ''
            return [f'GR3D_FREQ {shown}@[{mhz},{mhz},{mhz}]'] if root_user else []
        if not root_user:
            return [f'GR3D_FREQ {load}%@{mhz}' if grammar == 'jp6' and load
                    else f'GR3D_FREQ {load}%']
        listed = {'jp4': f'{mhz}', 'jp5': f'[{mhz},{mhz}]', 'jp6': f'[{mhz}]'}[grammar]
        return [f'GR3D_FREQ {load}%@{listed}']

    def _engines(self, state: BoardState, root_user: bool) -> list[str]:
        if not root_user:
            return []
        grammar = self._board.grammar
        if grammar == 'jp4':
            if self._board.name == 'nano':
                return ['APE 25']
            return ['APE 150', 'MTS fg 0% bg 0%']
        if grammar == 'jp5':
            return ['VIC_FREQ 729', 'APE 174']
        if grammar == 'jp6':
            return ['NVDEC off', 'NVJPG off', 'NVJPG1 off', 'VIC off', 'OFA off', 'APE 200']
        mhz = read_number(self._root, f'{self._board.gpu.clocks[1].folder}/cur_freq') // 1000000
        names = ('NVENC0', 'NVENC1', 'NVDEC0', 'NVDEC1', 'NVJPG0')
        return [*(f'{name}_FREQ @{mhz}' for name in names), 'VIC off', f'OFA_FREQ @{mhz}',
                'PVA0_FREQ off', 'APE 300']

    def _temperatures(self) -> list[str]:
        fields = []
        for number, zone in enumerate(self._board.thermal.zones):
            if not (self._root / zone_folder(number) / 'temp').is_symlink():
                celsius = read_number(self._root, f'{zone_folder(number)}/temp') / 1000
                fields.append(f'{zone.label}@{celsius:.3f}'.rstrip('0').rstrip('.') + 'C')
            elif self._board.grammar == 'jp5':
                fields.append(f'{zone.label}@-256C')
        return fields

    def _rails(self, state: BoardState) -> list[str]:
        unit = '' if self._board.grammar == 'jp4' else 'mW'
        fields = []
        for chip in self._board.chips:
            for name in chip.channels:
                now = self._now_mw(state, chip.driver, name)
                self._sums[name] = self._sums.get(name, 0.0) + now
                mean = int(self._sums[name] / self._count)
                fields.append(f'{name} {now}{unit}/{mean}{unit}')
        return fields

    def _now_mw(self, state: BoardState, driver: str, name: str) -> int:
        rail = self._board.rail(name)
        if rail is None:
            return 0
        milliamp = physics.measured_ma(rail, state['rails_mw'][name], driver, state['time_s'])
        return milliamp * rail.voltage_mv // 1000
