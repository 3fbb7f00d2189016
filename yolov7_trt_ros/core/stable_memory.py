"""StableMemory: memory that keeps its address until its owner releases it, so it can be locked."""

from __future__ import annotations

from collections.abc import Callable
import threading


class StableMemory:
    """
    A block of memory that its owner reuses for images.

    A user of its address, who for example page-locks it for a GPU, registers with `on_release`.
    The owner calls `release` before it frees the block, or as soon as it finds it moved: while no
    image is in it, and before there is one elsewhere. Thread-safe.

    Parameters
    ----------
    address, size_bytes
        Where it lies.

    """

    def __init__(self, address: int, size_bytes: int) -> None:
        self.address, self.size_bytes = address, size_bytes
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] | None = []

    def holds(self, address: int, size_bytes: int) -> bool:
        """Whether a piece of memory lies within the block."""
        return (
            self.address <= address
            and address + size_bytes <= self.address + self.size_bytes
        )

    def on_release(self, callback: Callable[[], None]) -> bool:
        """Register a callback for the release of the block; False: it is already released."""
        with self._lock:
            if self._callbacks is None:
                return False
            self._callbacks.append(callback)
            return True

    def release(self) -> None:
        """Call all callbacks, as the block is released; calling it twice is harmless."""
        with self._lock:
            callbacks, self._callbacks = self._callbacks, None
        for callback in callbacks or ():
            callback()
