"""Interruption: let Ctrl-C end a long task between two of its steps."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import types
from typing import Any


class Interruption:
    """
    While it is open, the first Ctrl-C only notes that an end was asked for.

    A second one raises KeyboardInterrupt, as always.

    """

    def __init__(self) -> None:
        self._asked = False
        self._handler: Any = None

    def asked(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self._asked

    def __enter__(self) -> Interruption:
        """Take Ctrl-C over."""
        if threading.current_thread() is threading.main_thread():
            self._handler = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        """Give Ctrl-C back."""
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)

    def _interrupt(self, _signal: int, _frame: types.FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        with contextlib.suppress(OSError):
            os.write(2, b'\nyolov7_trt: ending after this step; Ctrl-C again to quit at once\n')
