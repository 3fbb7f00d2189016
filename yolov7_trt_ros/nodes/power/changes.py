"""BoardChanges: what the parameters ask of the board, done one after the other and followed up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from yolov7_trt_ros.nodes.job_thread import Job, JobThread
from yolov7_trt_ros.nodes.power import power_parameters as parameters


class BoardChanges:
    """
    Has changes of the board made in the thread of a worker, and keeps the parameters true.

    A value given at start, or one whose answer took too long, is nobody's to wait for: `follow_up`
    brings its parameter in line with what came of it.

    Parameters
    ----------
    worker
        Makes the changes.
    apply
        Applies one parameter, by name, given the values of all; returns what holds now.
    values
        All parameters; kept up to date here for those that change the board.
    put
        Sets a parameter to what holds.
    on_success
        Is told what was changed, and to what.

    """

    def __init__(
        self,
        worker: JobThread,
        apply: Callable[[str, dict[str, Any]], str],
        values: dict[str, Any],
        *,
        put: Callable[[str, Any], None],
        on_success: Callable[[str], None],
    ) -> None:
        self._worker, self._apply, self._values = worker, apply, values
        self._put, self._on_success = put, on_success
        self._start_jobs: dict[str, Job] = {}
        self._late_jobs: list[tuple[Job, str, Any]] = []
        self._putting: tuple[str, Any] | None = None
        self._failed: tuple[str, str] | None = None
        self._last_change = 'none'

    @property
    def error(self) -> str:
        """Return what failed without an answer and still holds, '' for nothing."""
        return '' if self._failed is None else self._failed[1]

    @property
    def last_change(self) -> str:
        """Return the change that succeeded last, and what held then."""
        return self._last_change

    def is_put(self, name: str, value: Any) -> bool:
        """Whether a parameter is being set by `put`: the board has that value already."""
        return self._putting == (name, value)

    def tell(self, name: str, value: Any) -> None:
        """Set a parameter to what somebody else has made of the board."""
        if self._values[name] and self._values[name] != value:
            self._put_value(name, value)

    def start(self) -> None:
        """Have the values applied that are not the defaults."""
        for name in parameters.BOARD_PARAMETERS:
            if self._values[name] != parameters.BY_NAME[name].default:
                self._start_jobs[name] = self._submit(name, dict(self._values))

    def change(
        self, name: str, value: Any, timeout_s: float, goes_on: Callable[[], bool]
    ) -> str:
        """
        Make a change, and wait for it as long as `goes_on`, but not longer than the time-out.

        Returns
        -------
        str
            Why it did not come about, '' when it did.

        """
        job = self._submit(name, {**self._values, name: value})
        if not job.wait(timeout_s, goes_on):
            self._late_jobs.append((job, name, value))
            return self._explain_late(job, timeout_s)
        if job.error:
            return job.error
        # what an earlier job about this parameter comes to no longer touches it
        self._start_jobs.pop(name, None)
        self._late_jobs = [entry for entry in self._late_jobs if name != entry[1]]
        self._values[name] = value
        self._note_success(name, job)
        return ''

    def follow_up(self) -> list[str]:
        """Bring parameters in line with jobs that nobody waited for; returns what failed."""
        failed = []
        for name, job in list(self._start_jobs.items()):
            if job.is_done and self._start_jobs.pop(name, None) is job:
                default = parameters.BY_NAME[name].default
                value = default if job.error else self._values[name]
                failed.append(self._settle(job, name, value))
        for entry in list(self._late_jobs):
            job, name, value = entry
            if job.is_done and entry in self._late_jobs:
                self._late_jobs.remove(entry)
                failed.append(self._settle(job, name, self._values[name] if job.error else value))
        return list(filter(None, failed))

    def _submit(self, name: str, values: dict[str, Any]) -> Job:
        return self._worker.submit(
            f'{name} = {values[name]}', lambda: self._apply(name, values)
        )

    def _explain_late(self, job: Job, timeout_s: float) -> str:
        ahead = self._worker.current
        return (
            f'{job.what}: no answer within {timeout_s:g} s, in work is '
            f'{job.what if ahead is None else ahead.what}. It goes on; /diagnostics and the log '
            'will say how it ends, and the parameter follows'
        )

    def _note_success(self, name: str, job: Job) -> None:
        """Tell what holds now, which the answer to a success cannot."""
        self._last_change = f'{job.what}: {job.result}'
        if self._failed is not None and self._failed[0] == name:
            self._failed = None
        self._on_success(self._last_change)

    def _settle(self, job: Job, name: str, value: Any) -> str:
        """Set the parameter to what holds; returns what failed, '' for nothing."""
        if job.error:
            self._failed = (name, f'{job.what} failed: {job.error}')
        else:
            self._note_success(name, job)
        self._put_value(name, value)
        return self.error if job.error else ''

    def _put_value(self, name: str, value: Any) -> None:
        self._putting = (name, value)
        self._put(name, value)
        self._putting = None
        self._values[name] = value
