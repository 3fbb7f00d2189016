"""Turn Ctrl-C and SIGTERM into a wish to stop that long work asks for at its own pace."""

from __future__ import annotations

import signal
import threading
import types
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


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
