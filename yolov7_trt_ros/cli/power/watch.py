"""`power watch` on the whole terminal: drawn by rich, ended by `q` or Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import itertools
import os
import select
import signal
import sys
import termios
import threading
import time
import tty
import types
from typing import Any, TextIO, TYPE_CHECKING

from yolov7_trt_ros.cli.power.view import draw, Marks, WatchHistory
from yolov7_trt_ros.errors import Yolov7TrtError
from yolov7_trt_ros.power.board.identity import JETSON
from yolov7_trt_ros.power.board.machine_facts import machine_facts
from yolov7_trt_ros.power.telemetry.sample import TelemetrySource
from yolov7_trt_ros.report.top_view import ASCII_BLOCKS

if TYPE_CHECKING:
    from pathlib import Path

    from rich.text import Text

    from yolov7_trt_ros.power.board_control import BoardControl

_LOOK_PERIOD_S = 5.0
_STOP_S = 0.5
_ROUNDING_S = 1e-6
_KEYS_BYTES = 1024


class BoardFacts:
    """
    Facts about a board besides its samples, read in a thread, since the tools may be slow.

    Parameters
    ----------
    control
        Reads mode and lock; it must not be closed before this.
    root
        Folder that holds `proc`.
    source_name
        Name of the source of samples.

    """

    def __init__(self, control: BoardControl, root: Path, source_name: str) -> None:
        self._control, self._root = control, root
        self._board = control.board()
        self._facts = {'board': self._board.name, 'source': source_name}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name='power_facts', daemon=True)
        self._thread.start()

    @property
    def now(self) -> dict[str, str]:
        """Return the facts known so far."""
        return self._facts

    def close(self) -> None:
        """End the thread; one whose tool hangs is abandoned."""
        self._ending.set()
        self._thread.join(_STOP_S)

    def _run(self) -> None:
        while True:
            facts = {'board': self._board.name}
            if self._board.kind == JETSON:
                facts['mode'] = _text_or_error(lambda: self._control.current_mode().name)
                facts['jetson_clocks'] = _text_or_error(self._control.describe_clock_lock)
            facts |= machine_facts(self._root, self._board)
            self._facts = facts | {'source': self._facts['source']}
            if self._ending.wait(_LOOK_PERIOD_S):
                return


class Keyboard:
    """
    Keys as they are pressed, without echo, and changes of the terminal's size.

    `close` restores the terminal; until then Ctrl-Z has no effect.

    """

    def __init__(self, keys: TextIO) -> None:
        self._descriptor = keys.fileno() if keys.isatty() else None
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._parts = contextlib.ExitStack()
        for descriptor in (self._wake_read, self._wake_write):
            self._parts.callback(os.close, descriptor)
        for number, handler in (
            (signal.SIGWINCH, self._wake), (signal.SIGTSTP, signal.SIG_IGN),
        ):
            self._parts.callback(signal.signal, number, signal.signal(number, handler))
        if self._descriptor is not None:
            before = termios.tcgetattr(self._descriptor)
            self._parts.callback(termios.tcsetattr, self._descriptor, termios.TCSADRAIN, before)
            tty.setcbreak(self._descriptor)

    def wait(self, timeout_s: float) -> str:
        """Return the pressed keys, '' after a change of size or the time limit."""
        watched = [self._wake_read]
        if self._descriptor is not None:
            watched.append(self._descriptor)
        ready = select.select(watched, [], [], max(0.0, timeout_s))[0]
        if self._wake_read in ready:
            os.read(self._wake_read, _KEYS_BYTES)
        if self._descriptor not in ready:
            return ''
        pressed = os.read(self._descriptor, _KEYS_BYTES)
        if not pressed:  # the terminal was closed
            self._descriptor = None
        return pressed.decode('ascii', 'replace')

    def close(self) -> None:
        """Restore the terminal."""
        self._parts.close()

    def _wake(self, _number: int, _frame: types.FrameType | None) -> None:
        with contextlib.suppress(BlockingIOError):  # a wake-up is pending
            os.write(self._wake_write, b'.')


def can_draw(output: TextIO) -> bool:
    """Whether the output is a terminal and rich is installed."""
    if not output.isatty():
        return False
    try:
        import rich.live  # noqa: F401
    except ImportError:
        return False
    return True


def watch(
    source: TelemetrySource,
    facts: Callable[[], dict[str, str]],
    period_s: float,
    seconds: float | None,
) -> None:
    """
    Show samples until `q`, Ctrl-C, or for `seconds`.

    Parameters
    ----------
    source
        Source of the samples.
    facts
        Returns further facts; see `draw`.
    period_s, seconds
        Time between two samples; total time, None: endless.

    Raises
    ------
    PowerError
        Nothing can be read.

    """
    history = WatchHistory()
    with _screen(sys.stdout) as show, contextlib.closing(Keyboard(sys.stdin)) as keyboard:
        start_s = time.monotonic()
        for number in itertools.count():
            history.add(source.read())
            due_s = start_s + (number + 1) * period_s
            while True:
                show(history, facts())
                if 'q' in keyboard.wait(due_s - time.monotonic()).lower():
                    return
                if time.monotonic() >= due_s:
                    break
            if seconds is not None and due_s - start_s > seconds + _ROUNDING_S:
                return


@contextlib.contextmanager
def _screen(output: TextIO) -> Iterator[Callable[[WatchHistory, dict[str, str]], None]]:
    """Use the whole terminal; afterwards restore it, with the last snapshot below."""
    from rich.console import Console
    from rich.live import Live

    console = Console(file=output, highlight=False)
    marks = Marks() if console.encoding.startswith('utf') else Marks(ASCII_BLOCKS, '#', '.')
    last: list[Text] = []

    def show(history: WatchHistory, facts: dict[str, str]) -> None:
        size = console.size
        last[:] = [_styled(draw(
            history, facts, width=size.width, height=size.height, marks=marks
        ))]
        live.update(last[0], refresh=True)

    live = Live(console=console, screen=True, auto_refresh=False)
    try:
        with live:
            yield show
    finally:
        for text in last:
            console.print(text)


def _styled(rows: list[list[tuple[str, str]]]) -> Any:
    from rich.text import Text

    lines = [Text.assemble(*row) for row in rows]
    return Text('\n', end='', no_wrap=True, overflow='crop').join(lines)


def _text_or_error(look: Callable[[], str]) -> str:
    try:
        return look()
    except Yolov7TrtError as exc:
        return f'unknown ({exc})'
