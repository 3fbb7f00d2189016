"""GpuHolding: restores the GPU of a PC after an earlier process, as BoardHolding does a board."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from yolov7_trt_ros.errors import PowerError
from yolov7_trt_ros.nodes.job_thread import Job, JobThread
from yolov7_trt_ros.power.gpu_clock import GpuClock


class GpuHolding:
    """
    Takes over the changes of an earlier process, in the thread of a worker.

    Parameters
    ----------
    gpu
        The GPU.
    worker
        Its thread makes the changes.
    restores
        Whether these changes are restored.
    info
        Called with a line for the log.

    """

    def __init__(
        self, gpu: GpuClock, worker: JobThread, *, restores: Callable[[], bool],
        info: Callable[[str], object],
    ) -> None:
        self._gpu, self._worker, self._restores, self._info = gpu, worker, restores, info
        self._is_adopted = self._is_taken = False
        self._error = ''
        self._taking = self._take()

    @property
    def error(self) -> str:
        """Return why the GPU was not taken over, '' if it was."""
        if self._is_taken and not self._gpu.changed:
            return ''
        return self._error or (self._taking.error if not self._is_taken else '')

    def ask_again(self) -> None:
        """Try again after a failure."""
        if self.error and not self._is_taken and self._taking.is_done:
            self._taking = self._take()

    def take_first(self) -> None:
        """Take over before a change, in the worker's thread; does nothing if that is done."""
        with suppress(PowerError):  # of the journal: the change itself reports it
            self._take_over()
        self._is_taken = self._is_adopted  # what changes from now on is our own

    def notice(self) -> tuple[str, str]:
        """Return no power mode and no failure: a PC has no power modes."""
        return '', ''

    def _take(self) -> Job:
        return self._worker.submit(
            'changes of the GPU left by an earlier process', self._take_over
        )

    def _take_over(self) -> str:
        if self._is_taken:
            return ''
        try:
            left = ', '.join(self._gpu.adopt())
            self._is_adopted = True
            if left and self._restores():
                self._gpu.restore()
                self._info(f'put back changes left by an earlier process: {left}')
        except PowerError as exc:
            self._error = str(exc)
            raise
        self._is_taken, self._error = True, ''
        return left
