"""
Make calls that may hang in a thread of their own, and abandon those that do.

Some files below /sys call into a driver, and a driver in trouble does not answer: the reading
thread then sleeps in the kernel (state D), out of reach of signals and time-outs. On Jetson
Thor the clocks of the GPU were seen to do that. `CallGuard` makes such calls in one worker thread;
a call that takes too long is reported, its thread is left behind, and the same call is not begun
again until the first has returned. So at most one thread hangs for each file.

"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import queue
import threading
import time
from typing import Generic, TypeVar

from yolov7_trt_ros.errors import PowerError

CALL_TIMEOUT_S = 0.5
"""A healthy read below /sys takes well under a millisecond, one over I2C a few."""

T = TypeVar('T')


class _Batch(Generic[T]):
    """Calls that one worker makes one after the other, and how far it has come."""

    def __init__(self, calls: Mapping[str, Callable[[], T]]) -> None:
        self.outcomes: dict[str, T | PowerError] = {}
        self._calls = tuple(calls.items())
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._current = ''
        self._since_s: float | None = None
        self._given_up = False

    def run(self) -> str | None:
        """Make the calls; return the name of one that was given up and has returned now."""
        try:
            for name, function in self._calls:
                with self._lock:
                    self._current, self._since_s = name, time.monotonic()
                outcome = _outcome_of(function)
                with self._lock:
                    if self._given_up:
                        return name
                    self.outcomes[name] = outcome
                    self._since_s = None
        finally:
            self._ended.set()
        return None

    def wait(self, timeout_s: float, given_up: Callable[[str], None]) -> str | None:
        """Wait for the end; the call that takes longer than that is given up and named."""
        left_s = timeout_s
        while not self._ended.wait(left_s):
            with self._lock:
                if self._since_s is None:  # between two calls, or the thread has not begun yet
                    left_s = timeout_s
                    continue
                left_s = self._since_s + timeout_s - time.monotonic()
                if left_s <= 0.0:
                    self._given_up = True
                    given_up(self._current)  # before the worker can report that it returned
                    return self._current
        return None


def _outcome_of(function: Callable[[], T]) -> T | PowerError:
    try:
        return function()
    except PowerError as exc:
        return exc


class _Worker:
    """A thread that runs batches until None comes or one of its calls was given up."""

    def __init__(self, returned: Callable[[str], None]) -> None:
        self.batches: queue.SimpleQueue[_Batch[object] | None] = queue.SimpleQueue()
        self._returned = returned
        self._thread = threading.Thread(target=self._work, name='power-read', daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def _work(self) -> None:
        while (batch := self.batches.get()) is not None:
            given_up = batch.run()
            if given_up is not None:
                self._returned(given_up)
                return


class CallGuard:
    """
    Makes calls that may hang, for any number of threads.

    The callers take turns. A caller waits no longer than the time-out for each call that newly
    hangs, and not at all for one known to hang. Threads left behind end when their call returns;
    the process cannot end before they do, as long as the kernel holds them.

    Parameters
    ----------
    timeout_s
        Time limit of one call.

    """

    def __init__(self, timeout_s: float = CALL_TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._hanging: dict[str, float] = {}
        self._worker: _Worker | None = None

    @property
    def timeout_s(self) -> float:
        """How long one call may take."""
        return self._timeout_s

    @property
    def hanging(self) -> tuple[str, ...]:
        """Names of the calls that have not returned yet."""
        with self._lock:
            return tuple(sorted(self._hanging))

    def call(self, name: str, function: Callable[[], T]) -> T:
        """
        Make one call.

        Parameters
        ----------
        name
            What is called; calls of one name are taken to hang together.
        function
            May raise PowerError and nothing else.

        Raises
        ------
        PowerError
            What the function raised, or: it hangs.

        """
        outcome = self.call_all({name: function})[name]
        if isinstance(outcome, PowerError):
            raise outcome
        return outcome

    def call_all(self, calls: Mapping[str, Callable[[], T]]) -> dict[str, T | PowerError]:
        """Make several calls in order; a call that fails returns its error."""
        outcomes: dict[str, T | PowerError] = {}
        with self._turn:
            left = dict(calls)
            while left:
                outcomes.update(self._skip_hanging(left))
                outcomes.update(self._run(left))
                left = {name: call for name, call in left.items() if name not in outcomes}
        return {name: outcomes[name] for name in calls}

    def close(self) -> None:
        """End the idle thread; a later call starts a new one."""
        with self._turn:
            if self._worker is not None:
                self._worker.batches.put(None)
            self._worker = None

    def _skip_hanging(self, calls: dict[str, Callable[[], T]]) -> dict[str, PowerError]:
        """Remove the calls known to hang."""
        with self._lock:
            hanging = {name: since for name, since in self._hanging.items() if name in calls}
        for name in hanging:
            del calls[name]
        now_s = time.monotonic()
        return {name: _still_hanging(name, now_s - since_s) for name, since_s in hanging.items()}

    def _run(self, calls: Mapping[str, Callable[[], T]]) -> dict[str, T | PowerError]:
        """Run calls until they are done or one hangs; returns the outcomes so far."""
        if not calls:
            return {}
        if self._worker is None or not self._worker.is_alive:
            self._worker = _Worker(self._forget)
        batch = _Batch(calls)
        self._worker.batches.put(batch)  # type: ignore[arg-type]  # the worker reads no outcome
        hung = batch.wait(self._timeout_s, self._remember)
        if len(batch.outcomes) < len(calls):  # that worker hangs, or an unforeseen error ended it
            self._worker = None
        if hung is None:
            return {name: batch.outcomes.get(name, _lost(name)) for name in calls}
        return {**batch.outcomes, hung: _hangs(hung, self._timeout_s)}

    def _remember(self, name: str) -> None:
        with self._lock:
            self._hanging[name] = time.monotonic()

    def _forget(self, name: str) -> None:
        with self._lock:
            self._hanging.pop(name, None)


def _hangs(name: str, timeout_s: float) -> PowerError:
    return PowerError(
        f'{name}: no answer within {timeout_s:g} s, so it hangs, probably in its driver; it is '
        'left alone until it returns'
    )


def _still_hanging(name: str, age_s: float) -> PowerError:
    return PowerError(
        f'{name}: has not answered for {age_s:.0f} s; a read that hangs in the kernel ends when '
        'its driver recovers, or with the next boot'
    )


def _lost(name: str) -> PowerError:
    return PowerError(f'{name}: the reading thread ended early; its traceback went to stderr')
