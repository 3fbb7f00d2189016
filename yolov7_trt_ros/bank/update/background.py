"""BackgroundThread: runs jobs one after the other, beside the detection thread."""

from __future__ import annotations

from collections.abc import Callable
import queue
import threading
from typing import Protocol

THREAD_NAME = 'engine_bank'


class Background(Protocol):
    """Runs jobs some time."""

    def submit(self, job: Callable[[], None]) -> None:
        """Have a job run; it raises nothing."""

    def stop(self) -> None:
        """Take no more jobs, and end after those submitted."""

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; returns whether it has come."""


class BackgroundThread:
    """
    A thread for jobs that must not delay the detection thread.

    It has normal priority. With a low one it would be descheduled while it holds Python's lock,
    and the detection thread would wait; docs/bank.md has the figures. It is a daemon: an engine
    that hangs must not keep the process alive.

    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[], None]) -> None:
        """Have a job run; it raises nothing."""
        self._jobs.put(job)

    def stop(self) -> None:
        """Take no more jobs, and end after those submitted."""
        self._jobs.put(None)

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; returns whether it has come."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # or it would keep images until the next
