"""FrameGate: pass all frames of a topic, none, or one on request."""

from __future__ import annotations

from collections.abc import Callable
import threading
from typing import Generic, TypeVar

T = TypeVar('T')


class FrameGate(Generic[T]):
    """
    Passes all frames of a topic, or holds the latest for the next request; thread-safe.

    Attributes
    ----------
    reason
        Why it is closed, '' while it is open.

    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reason = ''
        self._is_asked = False
        self._held: T | None = None
        self._on_result: Callable[[str], None] | None = None

    @property
    def is_closed(self) -> bool:
        """Whether the next frame is held back."""
        return bool(self.reason) and not self._is_asked

    @property
    def decides(self) -> bool:
        """Whether the gate decides on the next frame, instead of the rate limit."""
        return bool(self.reason) or self._is_asked

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for the result of a frame."""
        return self._on_result is not None

    def close(self, reason: str) -> None:
        """Hold frames back from now on, for a reason; '' opens the gate."""
        with self._lock:
            self.reason = reason
            if not reason:
                self._held = None

    def admits(self, frame: T) -> bool:
        """Return whether a frame passes; otherwise it is held until the next one."""
        with self._lock:
            if self.reason and not self._is_asked:
                self._held = frame
                return False
            self._is_asked = False
            return True

    def ask(self, on_result: Callable[[str], None]) -> T | None:
        """
        Request one frame; `on_result` is called once with its result, in any thread.

        Returns
        -------
        The held frame, if there is one; else the next one passes.

        """
        with self._lock:
            held, self._held = self._held, None
            self._on_result = on_result
            self._is_asked = held is None
            return held

    def forget(self) -> None:
        """Drop the held frame: its subscription has ended."""
        with self._lock:
            self._held = None

    def ask_no_more(self) -> None:
        """Cancel the request for a frame."""
        with self._lock:
            self._on_result, self._is_asked = None, False

    def report(self, result: str) -> None:
        """Report the result of a frame to whoever asked for it."""
        if self._on_result is None:
            return
        with self._lock:
            on_result, self._on_result = self._on_result, None
            self._is_asked = False
        if on_result is not None:
            on_result(result)
