"""Show the progress of a build, which may take minutes, and let Ctrl-C end it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import types
from typing import Any, TYPE_CHECKING

from yolov7_trt_ros.cli import interruption, output
from yolov7_trt_ros.errors import BuildError

if TYPE_CHECKING:
    from yolov7_trt_ros.core.detector import Detector
    from yolov7_trt_ros.engine.options import DetectorOptions

_LINE_EVERY_S = 3.0
_PATIENCE_S = 5.0


def open_model(options: DetectorOptions, warned: set[str] | None = None) -> Detector:
    """
    Open a detector, and warn on stderr of what was assumed about its model.

    A plan that it needs is built first, with progress on stderr. Warnings in `warned` are not
    repeated.

    """
    from yolov7_trt_ros.engine.open import open_or_build

    with BuildDisplay() as display:
        detector = open_or_build(options, display.report, display.cancelled)
    output.warn_of_doubts(detector.spec, warned)
    return detector


class BuildDisplay:
    """
    A bar if stderr is a terminal and rich is installed, otherwise a line every few seconds.

    Nothing is shown until the first report. While open, Ctrl-C, SIGTERM or SIGHUP cancel the
    reported build. TensorRT 8 cannot be stopped while it builds, so a second one ends the process,
    and SIGTERM or SIGHUP do after five seconds: who sends them does not wait for minutes.

    """

    def __init__(self) -> None:
        self._cancelled = False
        self._started_at: float | None = None
        self._shown: _Bar | _Lines | None = None
        self._handled = contextlib.ExitStack()
        self._end: threading.Timer | None = None

    def __enter__(self) -> BuildDisplay:
        """Handle Ctrl-C and other signals that end a command from here."""
        self._handled.enter_context(interruption.handled(self._interrupt))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        """Restore the signals; a cancelled build ends like any interrupted command."""
        self._handled.close()
        if self._end is not None:
            self._end.cancel()
        if self._shown is not None:
            self._shown.close()
        if self._cancelled and (error is None or isinstance(error, BuildError)):
            raise KeyboardInterrupt from error

    def report(self, phase: str, fraction: float | None) -> None:
        """Show the progress of the build."""
        if self._shown is None:
            self._started_at = time.monotonic()
            self._shown = _make_view()
        self._shown.show(phase, fraction)

    def cancelled(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self._cancelled

    def _interrupt(self, number: int, _frame: types.FrameType | None) -> None:
        if self._started_at is None:
            raise KeyboardInterrupt
        if self._cancelled:
            _quit()
        self._cancelled = True
        if number != signal.SIGINT:
            self._end = threading.Timer(_PATIENCE_S, _quit)
            self._end.daemon = True
            self._end.start()
        with contextlib.suppress(OSError):
            os.write(2, b'\nyolov7_trt: stopping the build; Ctrl-C again to quit at once\n')


def _quit() -> None:
    os._exit(interruption.status())  # a plan is written whole or not at all


class _Bar:
    """A progress bar of rich."""

    def __init__(self, console: Any) -> None:
        from rich.progress import (
            BarColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
        )

        self._progress = Progress(
            TextColumn('building'), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
            TextColumn('{task.description}', markup=False), console=console, transient=True,
        )
        self._task = self._progress.add_task('', total=None)
        self._progress.start()

    def show(self, phase: str, fraction: float | None) -> None:
        """Move the bar; it only pulses if the fraction is unknown."""
        self._progress.update(
            self._task, description=phase, completed=fraction or 0.0,
            total=None if fraction is None else 1.0,
        )

    def close(self) -> None:
        """Remove the bar from the terminal."""
        self._progress.stop()


class _Lines:
    """Plain lines, at most one in 3 s; a build reports every 2 s, so at least one in 5 s."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._printed_at = -_LINE_EVERY_S

    def show(self, phase: str, fraction: float | None) -> None:
        """Print a line, unless the last one is recent."""
        now = time.monotonic()
        if now - self._printed_at < _LINE_EVERY_S:
            return
        self._printed_at = now
        part = '' if fraction is None else f' ({fraction:.0%})'
        print(f'building, {now - self._start:.0f} s: {phase}{part}', file=sys.stderr, flush=True)

    def close(self) -> None:
        """Do nothing: the lines stay."""


def _make_view() -> _Bar | _Lines:
    try:
        from rich.console import Console
    except ImportError:
        return _Lines()
    console = Console(stderr=True)
    return _Bar(console) if console.is_terminal else _Lines()
