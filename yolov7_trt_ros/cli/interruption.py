"""What Ctrl-C and SIGTERM do: end the work and tell what is left of it, or ask it to stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import signal
import threading
import types
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


NOTHING = 'nothing was written'


@contextlib.contextmanager
def told(left: Callable[[], str] = lambda: NOTHING) -> Iterator[None]:
    """
    Let the KeyboardInterrupt that ends the work say what is left of it.

    Parameters
    ----------
    left
        Gives a sentence without a full stop, `nothing was written`.

    """
    try:
        yield
    except KeyboardInterrupt as exc:
        raise KeyboardInterrupt(str(exc) or left()) from exc


@contextlib.contextmanager
def by_sigterm_too() -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does, with all that is to be done at the end."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(_signal: int, _frame: types.FrameType | None) -> None:
    raise KeyboardInterrupt


class Interruption:
    """
    While open, the first Ctrl-C or SIGTERM is noted and the second one ends the process.

    Outside the main thread, where signals cannot be taken over, nothing is noted.

    """

    def __init__(self) -> None:
        self._requested = False
        self._previous: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether somebody wants an end."""
        return self._requested

    def __enter__(self) -> Interruption:
        """Take the signals over."""
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
        """Give the signals back."""
        self._restore()

    def _note(self, number: int, frame: types.FrameType | None) -> None:
        self._requested = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()
