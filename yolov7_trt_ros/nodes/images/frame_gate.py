"""FrameGate: whether all frames of a topic are worked on, none, or one that is asked for."""

from __future__ import annotations

from collections.abc import Callable
import threading
from typing import Generic, TypeVar

T = TypeVar('T')


class FrameGate(Generic[T]):
    """
    Lets all frames of a topic through, or holds the latest for whoever asks for one; thread-safe.

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
        """Whether the next frame is not let through."""
        return bool(self.reason) and not self._is_asked

    @property
    def decides(self) -> bool:
        """Whether it is asked about the next frame, and no rate counts."""
        return bool(self.reason) or self._is_asked

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for what comes of a frame."""
        return self._on_result is not None

    def close(self, reason: str) -> None:
        """Let no frames through from now on, for a reason; '' opens it."""
        with self._lock:
            self.reason = reason
            if not reason:
                self._held = None

    def admits(self, frame: T) -> bool:
        """Return whether a frame goes through; one that does not is held until the next."""
        with self._lock:
            if self.reason and not self._is_asked:
                self._held = frame
                return False
            self._is_asked = False
            return True

    def ask(self, on_result: Callable[[str], None]) -> T | None:
        """
        Ask for one frame, of which `on_result` is told what came of it, once, in any thread.

        Returns
        -------
        The frame that was held, if there is one; else the next one goes through.

        """
        with self._lock:
            held, self._held = self._held, None
            self._on_result = on_result
            self._is_asked = held is None
            return held

    def forget(self) -> None:
        """Hold no frame any more: it is of a subscription that has ended."""
        with self._lock:
            self._held = None

    def ask_no_more(self) -> None:
        """Forget who asked."""
        with self._lock:
            self._on_result, self._is_asked = None, False

    def report(self, result: str) -> None:
        """Tell whoever asked what came of a frame."""
        if self._on_result is None:
            return
        with self._lock:
            on_result, self._on_result = self._on_result, None
            self._is_asked = False
        if on_result is not None:
            on_result(result)
