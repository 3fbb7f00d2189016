"""StableMemory: memory that keeps its address until its owner releases it, so it can be locked."""

from __future__ import annotations

from collections.abc import Callable
import threading


class StableMemory:
    """
    A block of memory that is used again and again for images, told of by its owner.

    Whoever makes something of its place, such as page-locking it for a GPU, asks to be told with
    `on_release`. The owner calls `release` before it frees the block, or as soon as it finds it
    moved, in any case while nobody has an image in it and before anybody has one elsewhere.
    Thread-safe.

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
        """Have something called when the block is given up; False: it is given up already."""
        with self._lock:
            if self._callbacks is None:
                return False
            self._callbacks.append(callback)
            return True

    def release(self) -> None:
        """Tell everybody that the block is given up; calling it twice is harmless."""
        with self._lock:
            callbacks, self._callbacks = self._callbacks, None
        for callback in callbacks or ():
            callback()
