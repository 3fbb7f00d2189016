"""Ctrl-C, SIGTERM and SIGHUP: end the work and say what is left of it, or request its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
import contextlib
import signal
import threading
import types

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
Handler = Callable[[int, 'types.FrameType | None'], None]

NOTHING_WRITTEN = 'nothing was written'


class EndedBySignal(KeyboardInterrupt):
    """SIGTERM or SIGHUP came: the work ends as after Ctrl-C, with its clean-up."""


class _Latest:
    """The latest signal that ended something; handlers of signals are process-wide as well."""

    number = int(signal.SIGINT)


def status() -> int:
    """Return the exit status of an interrupted command: 130 for Ctrl-C, 143 or 129 for others."""
    return 128 + _Latest.number


@contextlib.contextmanager
def handled(handler: Handler, numbers: Sequence[int] = SIGNALS) -> Iterator[None]:
    """
    Let `handler` handle signals, in the main thread, which alone gets them.

    SIGTERM and SIGHUP stay ignored if they are, as SIGHUP under nohup.

    """
    def noted(number: int, frame: types.FrameType | None) -> None:
        _Latest.number = number
        handler(number, frame)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in numbers:
            if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, noted)
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


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
def by_other_signals() -> Iterator[None]:
    """
    Let SIGTERM and SIGHUP end the work as Ctrl-C does, with its clean-up.

    The first one does; more of them, as systemd sends, do not disturb the clean-up.

    """
    ended = False

    def end(_number: int, _frame: types.FrameType | None) -> None:
        nonlocal ended
        if not ended:
            ended = True
            raise EndedBySignal

    _Latest.number = signal.SIGINT
    with handled(end, (signal.SIGTERM, signal.SIGHUP)):
        yield


class Interruption:
    """
    While open, the first of Ctrl-C, SIGTERM and SIGHUP is recorded; the second ends the process.

    Outside the main thread, which alone gets signals, nothing is recorded.

    """

    def __init__(self) -> None:
        self._requested = False
        self._handled = contextlib.ExitStack()

    @property
    def requested(self) -> bool:
        """Whether an end was requested."""
        return self._requested

    def __enter__(self) -> Interruption:
        """Install the signal handlers."""
        self._handled.enter_context(handled(self._note))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        """Restore the signal handlers."""
        self._handled.close()

    def _note(self, number: int, frame: types.FrameType | None) -> None:
        self._requested = True
        self._handled.close()
