"""BackgroundThread: jobs one after the other, with the least right to the processor."""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import os
import queue
import threading
from typing import Protocol

THREAD_NAME = 'engine_bank'
_LEAST_PRIORITY = 19


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
    A thread with the least priority that Linux has (nice 19).

    Only this very thread has it: those of an engine's own, made before, keep theirs, for they
    serve later. A daemon: an engine that hangs must not keep the process.

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
        with contextlib.suppress(OSError):  # a sandbox: then at the common priority
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LEAST_PRIORITY)
        while (job := self._jobs.get()) is not None:
            job()
            del job  # or it would keep images until the next
