"""BoardHolding: takes exclusive control of the board, and follows power modes that others set."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
import enum

from yolov7_trt_ros.errors import PowerError
from yolov7_trt_ros.nodes.job_thread import Job, JobThread
from yolov7_trt_ros.power.board_control import BoardControl

Report = Callable[[str], object]


class HoldingState(enum.Enum):
    """
    The control of the node over the board.

    `TAKING`: taking the journal and restoring the changes of an earlier process. `REFUSED`:
    another process has the journal; the node tries again. `LEFTOVER`: the changes of an earlier
    process could not be restored. `FOLLOWING`: fitting our changes to a power mode set by another
    program. `STEADY`: none of these.
    """

    TAKING = 'taking'
    REFUSED = 'refused'
    LEFTOVER = 'leftover'
    FOLLOWING = 'following'
    STEADY = 'steady'


class BoardHolding:
    """
    Takes over from an earlier process, and follows foreign power modes, in a worker's thread.

    Parameters
    ----------
    control
        Changes the board.
    worker
        Its thread makes the changes.
    restores
        Whether the changes of an earlier process are restored, or only reported.
    on_follow
        Called in that thread after a foreign mode was followed.
    changed
        Returns the names of the current changes.
    info, warning
        Called with a line for the log.

    """

    def __init__(
        self,
        control: BoardControl,
        worker: JobThread,
        *,
        restores: Callable[[], bool],
        on_follow: Callable[[], object],
        changed: Callable[[], tuple[str, ...]],
        info: Report,
        warning: Report,
    ) -> None:
        self._control, self._worker = control, worker
        self._restores, self._on_follow, self._changed = restores, on_follow, changed
        self._info, self._warning = info, warning
        self._left: tuple[str, ...] = ()
        self._followed = 0
        self._following: Job | None = None
        self._follow_error = ''
        self._is_taken, self._left_error = False, ''
        self._taking = self._take()

    @property
    def state(self) -> HoldingState:
        """Return the current state."""
        if not self._taking.is_done:
            return HoldingState.TAKING
        if not self._is_taken:
            return HoldingState.REFUSED
        if self._left_error and set(self._left) & set(self._changed()):
            return HoldingState.LEFTOVER
        return HoldingState.STEADY if self._following is None else HoldingState.FOLLOWING

    @property
    def error(self) -> str:
        """Return why the node does not control the board, '' if it does."""
        state = self.state
        if state is HoldingState.REFUSED:
            return self._taking.error
        if state is HoldingState.LEFTOVER:
            return self._left_error
        return self._follow_error

    def ask_again(self) -> None:
        """Try to take the journal again if another process had it."""
        if self.state is HoldingState.REFUSED:
            self._taking = self._take()

    def take_first(self) -> None:
        """Take over before a change, in the worker's thread; does nothing if that is done."""
        with suppress(PowerError):  # the change itself reports it
            self._take_over()

    def notice(self) -> tuple[str, str]:
        """
        Follow a power mode set by another program; to be called periodically.

        Returns
        -------
        tuple
            Its name once it is followed, and the reason of a failure, each once, else ''.

        """
        job, name, failed = self._following, '', ''
        if job is not None and job.is_done:
            self._following = None
            name, failed = job.result, job.error if job.error != self._follow_error else ''
            self._follow_error = job.error
        is_foreign = self._control.mode_was_changed() or self._is_behind()
        if is_foreign and self._following is None:
            self._following = self._worker.submit('a power mode of another program', self._follow)
        return name, failed

    def _is_behind(self) -> bool:
        return self._followed < self._control.foreign_modes

    def _take(self) -> Job:
        return self._worker.submit('changes left by an earlier process', self._take_over)

    def _take_over(self) -> str:
        """Restore the changes of an earlier process, or report them; before any other change."""
        if self._is_taken:
            return ''
        self._left = self._control.adopt()
        self._is_taken = True
        left = ', '.join(self._left)
        if left and self._restores():
            try:
                self._control.restore()
            except PowerError as exc:
                self._left_error = str(exc)
                raise
            self._info(f'put back changes left by an earlier process: {left}')
        elif left:
            self._warning(
                f'an earlier process has left changed: {left}; `yolov7_trt power restore` puts it '
                'back once this node has ended, or this node at its end with restore_on_exit'
            )
        return left

    def _follow(self) -> str:
        self.take_first()
        name = self._control.follow_mode()
        if not self._is_behind():
            return ''  # it was a change of our own
        self._followed = self._control.foreign_modes
        self._on_follow()
        return name
