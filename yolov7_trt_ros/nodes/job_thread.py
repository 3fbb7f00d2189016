"""JobThread: does jobs that may hang, one after the other, in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable
import queue
import threading
import time
import traceback

from yolov7_trt_ros.errors import Yolov7TrtError
from yolov7_trt_ros.nodes.one_line import describe_error

_SLICE_S = 0.05


class Job:
    """
    A job of a `JobThread`.

    Attributes
    ----------
    what
        Its name in messages: `power_mode = MAXN`.
    result, error
        Valid once it is done; `error` is '' on success.

    """

    def __init__(self, what: str, work: Callable[[], str]) -> None:
        self.what = what
        self.result = ''
        self.error = ''
        self._work = work
        self._done = threading.Event()
        self._submitted_s = time.monotonic()

    @property
    def is_done(self) -> bool:
        """Whether it has succeeded, failed or was dropped."""
        return self._done.is_set()

    @property
    def age_s(self) -> float:
        """Time since it was submitted."""
        return time.monotonic() - self._submitted_s

    def wait(self, timeout_s: float, goes_on: Callable[[], bool]) -> bool:
        """Wait until it is done, while `goes_on`; False if it is not done in time."""
        end_s = time.monotonic() + timeout_s
        while goes_on() and (left_s := end_s - time.monotonic()) > 0:
            if self._done.wait(min(left_s, _SLICE_S)):
                return True
        return self.is_done

    def run(self) -> None:
        """Do the job."""
        try:
            self.result = self._work()
        except Yolov7TrtError as exc:
            self.error = str(exc)
        except Exception as exc:  # of anything below: the thread has more jobs to do
            self.error = f'{self.what}: a defect, see stderr: {describe_error(exc)}'
            traceback.print_exc()
        finally:
            self._done.set()

    def drop(self) -> None:
        """End it without doing the job."""
        self.error = f'{self.what}: not done, the node is ending'
        self._done.set()


class JobThread:
    """
    Does jobs in order in a thread of its own, so that a hanging tool blocks no caller.

    Parameters
    ----------
    name
        Name of the thread.

    """

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._current: Job | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def current(self) -> Job | None:
        """Return the running job."""
        return self._current

    @property
    def fault(self) -> str:
        """Why the thread ended although it was not closed; '' while it runs."""
        if self._thread.is_alive() or self._closing:
            return ''
        return f'the thread {self._thread.name} has ended by a defect: restart the node'

    def submit(self, what: str, work: Callable[[], str]) -> Job:
        """Submit a job; `work` returns a line about its result, or raises one of our errors."""
        job = Job(what, work)
        if self._closing or self.fault:
            job.drop()
        else:
            self._jobs.put(job)
        return job

    def close(self, timeout_s: float | None = None) -> bool:
        """Finish the running job and drop waiting ones; False if it is not done in time."""
        self._closing = True
        self._jobs.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            if self._closing:
                job.drop()
                continue
            self._current = job
            job.run()
            self._current = None
