"""Ctrl-C and SIGTERM: end the work and say what is left of it, or request its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import signal
import threading
import types
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


NOTHING_WRITTEN = 'nothing was written'


@contextlib.contextmanager
def explain(message: Callable[[], str] = lambda: NOTHING_WRITTEN) -> Iterator[None]:
    """
    Add to a KeyboardInterrupt what is left of the work.

    Parameters
    ----------
    message
        Returns a sentence without a full stop, such as `nothing was written`.

    """
    try:
        yield
    except KeyboardInterrupt as exc:
        raise KeyboardInterrupt(str(exc) or message()) from exc


@contextlib.contextmanager
def by_sigterm_too() -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does, with its clean-up."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(_signal: int, _frame: types.FrameType | None) -> None:
    raise KeyboardInterrupt


class Interruption:
    """
    While open, the first Ctrl-C or SIGTERM is recorded and the second one ends the process.

    Outside the main thread, which alone gets signals, nothing is recorded.

    """

    def __init__(self) -> None:
        self._requested = False
        self._previous: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether an end was requested."""
        return self._requested

    def __enter__(self) -> Interruption:
        """Install the signal handlers."""
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        """Restore the signal handlers."""
        self._restore()

    def _note(self, number: int, frame: types.FrameType | None) -> None:
        self._requested = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()
