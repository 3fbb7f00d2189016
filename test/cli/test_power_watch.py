"""`power watch` on a whole terminal: what it draws, and that the terminal is as before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import dataclasses
import fcntl
import os
from pathlib import Path
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time

import pytest

from yolov7_trt_ros.cli.power import watch as power_watch
from yolov7_trt_ros.cli.power.view import draw, Marks, Row, WatchHistory
from yolov7_trt_ros.power.rails import RailPower
from yolov7_trt_ros.power.telemetry.memory import BoardMemory
from yolov7_trt_ros.power.telemetry.sample import BoardSample

SAMPLE = BoardSample(
    time_ns=10**9,
    rails={'VDD_IN': RailPower(9000), 'VDD_CPU_GPU_CV': RailPower(4500)},
    total_mw=9000,
    temperatures_c={'cpu': 51.5, 'gpu': 71.0, 'tj': 90.0},
    clocks_mhz={'gpu': 918, 'emc': 3199, **{f'cpu{core}': 1344 for core in range(6)}},
    loads_percent={'gpu': 50, 'cpu': 25, 'emc': 40, **{f'cpu{core}': 25 for core in range(6)}},
    fan_percent=30, fan_rpm=0,
    memory=BoardMemory(7607, 4000, 3800, 3800, 4.0, 12),
)
FACTS = {'board': 'Jetson', 'mode': '25W', 'jetson_clocks': 'off', 'source': 'sysfs'}
SIZES = ('COLUMNS', 'LINES')
"""What would count instead of the terminal's own size."""
ENTER, LEAVE = b'\x1b[?1049h', b'\x1b[?1049l'


def history_of(*samples: BoardSample) -> WatchHistory:
    history = WatchHistory()
    for sample in samples:
        history.add(sample)
    return history


def text_of(rows: list[Row]) -> str:
    return '\n'.join(''.join(text for text, _ in row).rstrip() for row in rows)


def style_of(rows: list[Row], part: str) -> str:
    return next(style for row in rows for text, style in row if part in text)


# What it draws


def test_everything_of_a_sample_is_there() -> None:
    later = dataclasses.replace(SAMPLE, time_ns=2 * 10**9, total_mw=4500)
    text = text_of(draw(history_of(SAMPLE, later), FACTS, width=80, height=40))
    assert text.startswith('Jetson') and 'q quits' in text.splitlines()[0]
    assert 'mode 25W   jetson_clocks off   source sysfs' in text
    assert re.search(r'^total +4\.50 +█{10,11}░{10,11} █▅$', text, re.M), text
    assert re.search(r'^VDD_IN +9\.00 +█{21}$', text, re.M)
    assert re.search(r'^gpu +50 918 +█+░+ +██$', text, re.M)
    assert len(re.findall(r'cpu\d +25  1344 █+░+', text)) == 6
    assert 'mean 6.75 W   6.8 J' in text
    assert re.search(r'^RAM +3607 of 7607 ', text, re.M)
    assert re.search(r'^swap +0 of 3800 ', text, re.M)
    assert 'largest free block 4 MiB' in text and 'fan 30 %   fan 0 rpm' in text
    assert re.search(r'tj +90\.0', text)


@pytest.mark.parametrize('width', [40, 79, 80, 120, 200])
def test_no_row_is_wider_than_the_terminal(width: int) -> None:
    many = dataclasses.replace(
        SAMPLE, alarms=('throttling for heat: ' + 'x' * 300,), problems=('y' * 300,),
        rails={f'rail {"z" * number}': RailPower(100) for number in range(60)},
        clocks_mhz={f'cpu{core}': 1000 for core in range(128)},
    )
    for sample in (SAMPLE, many):
        rows = draw(history_of(sample), FACTS | {'disk': 'w' * 300}, width=width, height=1000)
        assert max(len(line) for line in text_of(rows).splitlines()) <= width
    assert len(text_of(rows).splitlines()) > 60


def test_what_does_not_fit_is_counted() -> None:
    rows = draw(history_of(SAMPLE), FACTS, width=80, height=10)
    whole = draw(history_of(SAMPLE), FACTS, width=80, height=100)
    assert len(rows) == 10 and rows[:9] == whole[:9]
    assert text_of(rows).splitlines()[-1] == f'... {len(whole) - 9} more lines'


def test_throttling_is_red_and_first() -> None:
    sample = dataclasses.replace(
        SAMPLE, alarms=('throttling for heat: cpu-throttle-alert',),
        memory=BoardMemory(7607, 100), problems=('rail\x1b[2J gone',),
    )
    rows = draw(history_of(sample), FACTS, width=80, height=40)
    assert 'red' in style_of(rows, 'throttling for heat')
    assert text_of(rows).splitlines()[2].startswith('throttling')
    assert 'yellow' in style_of(rows, 'memory is nearly full')
    assert '\x1b' not in text_of(rows) and 'gone' in text_of(rows)
    assert style_of(rows, '  90.0') == 'bold red' and style_of(rows, '  71.0') == 'yellow'


def test_what_is_not_known_is_a_dash_and_what_is_not_there_is_left_out() -> None:
    bare = BoardSample(1, loads_percent={'cpu': 5.0}, rails={'a': RailPower(1)})
    text = text_of(draw(history_of(bare), {'board': 'PC'}, width=80, height=40))
    assert re.search(r'^total +- ', text, re.M) and re.search(r'^cpu +5  +█', text, re.M)
    assert 'memory' not in text and 'temperature' not in text and 'mode' not in text
    assert text_of(draw(history_of(BoardSample(1)), {}, width=80, height=40)).strip() == 'q quits'


def test_programs_on_a_gpu_are_listed() -> None:
    sample = dataclasses.replace(SAMPLE, gpu_processes_mib={'4711 python3': 512.0, '9': None})
    text = text_of(draw(history_of(sample), FACTS, width=80, height=40))
    assert re.search(r'^4711 python3 +512  9 +-$', text, re.M), text


def test_a_terminal_without_blocks_gets_others() -> None:
    marks = Marks('.:-=+*#@', '#', '.')
    text = text_of(draw(history_of(SAMPLE), FACTS, width=80, height=40, marks=marks))
    assert text.isascii() and '#####' in text


# On a terminal


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, *arguments: str, columns: int = 80, **environment: str) -> None:
        self.master, self._slave = pty.openpty()
        self.resize(columns, 50)
        self.before = termios.tcgetattr(self._slave)
        known = {name: value for name, value in os.environ.items() if name not in SIZES}
        self.process = subprocess.Popen(
            [sys.executable, '-m', 'yolov7_trt_ros', 'power', '--emulate', 'orin_nano_super',
             'watch', '--period', '0.1', *arguments],
            stdin=self._slave, stdout=self._slave, stderr=self._slave, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(self._slave, termios.TIOCSCTTY, 0),
            env={**known, 'TERM': 'xterm-256color', 'PYTHONUTF8': '1', **environment},
        )
        self.shown = b''

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack('4H', rows, columns, 0, 0))

    def wait_for(self, pattern: bytes, *, start: int = 0) -> int:
        """Return the place behind the pattern, once that was shown."""
        end_s = time.monotonic() + 600
        while (found := re.search(pattern, self.shown[start:], re.S)) is None:
            assert time.monotonic() < end_s, self.shown[-3000:]
            assert self._read(1.0) or self.process.poll() is None, self.shown[-3000:]
        return start + found.end()

    def end(self) -> int:
        while self.process.poll() is None:
            self._read(0.1)
        while self._read(0.0):
            pass
        assert termios.tcgetattr(self._slave) == self.before
        return self.process.returncode

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self._slave)

    def _read(self, timeout_s: float) -> bytes:
        if not select.select([self.master], [], [], timeout_s)[0]:
            return b''
        part = os.read(self.master, 65536)
        self.shown += part
        return part


@contextmanager
def terminal(*arguments: str, **options: str) -> Iterator[Terminal]:
    opened = Terminal(*arguments, **options)
    try:
        yield opened
    finally:
        opened.close()


def test_q_quits_and_the_last_snapshot_stays() -> None:
    with terminal() as term:
        drawn = term.wait_for(re.escape(ENTER) + b'.*mode .{0,20}25W.*temperature')
        term.resize(120, 50)
        term.wait_for(b' {40,}[^\r\n ]{0,20}q quits', start=drawn)
        os.write(term.master, b'xq')
        assert term.end() == 0
    before, _, after = term.shown.rpartition(LEAVE)
    assert ENTER in before and b'VDD_IN' in after and after.count(b'q quits') == 1
    assert b'Traceback' not in term.shown and after.endswith(b'\n')


@pytest.mark.parametrize(('how', 'status'), [('Ctrl-C', 130), ('SIGTERM', 143)])
def test_ctrl_c_and_sigterm_put_the_terminal_back(how: str, status: int) -> None:
    with terminal() as term:
        term.wait_for(b'temperature')
        if how == 'Ctrl-C':
            os.write(term.master, b'\x1a\x03')  # Ctrl-Z before it does nothing
        else:
            term.process.terminate()
        assert term.end() == status
    assert term.shown.count(ENTER) == term.shown.count(LEAVE) == 1
    assert term.shown.rindex(b'\x1b[?25h') > term.shown.rindex(b'\x1b[?25l')  # the cursor
    assert b'Traceback' not in term.shown


def test_it_ends_by_itself_and_without_keys() -> None:
    with terminal('--seconds', '0.3') as term:
        assert term.end() == 0
    assert LEAVE in term.shown


def test_plain_on_a_terminal_is_as_elsewhere() -> None:
    with terminal('--plain', '--seconds', '0.2') as term:
        assert term.end() == 0
    assert ENTER not in term.shown and b'VDD_IN (W)' in term.shown and b'rich' not in term.shown


def test_without_rich_it_says_so_and_is_plain(tmp_path: Path) -> None:
    (tmp_path / 'rich.py').write_text('raise ImportError')
    with terminal('--seconds', '0.2', PYTHONPATH=str(tmp_path)) as term:
        assert term.end() == 0
    assert b'pip install rich' in term.shown and ENTER not in term.shown
    assert b'VDD_IN (W)' in term.shown


def test_what_is_no_terminal_is_not_drawn_on() -> None:
    with open(os.devnull, 'w') as nothing:
        assert not power_watch.can_draw(nothing)
