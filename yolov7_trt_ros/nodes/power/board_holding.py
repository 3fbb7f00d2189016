"""BoardHolding: takes exclusive control of the board, and follows power modes that others set."""

from __future__ import annotations

from collections.abc import Callable
import enum

from yolov7_trt_ros.nodes.job_thread import Job, JobThread
from yolov7_trt_ros.power.board_control import BoardControl

Report = Callable[[str], object]


class HoldingState(enum.Enum):
    """
    Where the node stands with the board.

    `TAKING`: asking for the journal, and putting back what a process before has left. `REFUSED`:
    another process has the journal; it is asked for again. `LEFTOVER`: what was left could not be
    put back. `FOLLOWING`: keeping to a power mode that somebody else has set. `STEADY`: none of
    these.
    """

    TAKING = 'taking'
    REFUSED = 'refused'
    LEFTOVER = 'leftover'
    FOLLOWING = 'following'
    STEADY = 'steady'


class BoardHolding:
    """
    Takes over from a process before, and follows the power modes of others, in a worker's thread.

    Parameters
    ----------
    control
        Changes the board.
    worker
        Has the thread.
    restores
        Whether what a process before has left is put back, or only told of.
    on_follow
        Called in the thread after a foreign mode was followed.
    changed
        Returns what is changed now.
    info, warning
        Take a line each for the log.

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
        self._taking = self._take()

    @property
    def state(self) -> HoldingState:
        """Return where the node stands."""
        if not self._taking.is_done:
            return HoldingState.TAKING
        if self._taking.error and not self._control.holds_journal:
            return HoldingState.REFUSED
        if self._taking.error and set(self._left) & set(self._changed()):
            return HoldingState.LEFTOVER
        return HoldingState.STEADY if self._following is None else HoldingState.FOLLOWING

    @property
    def error(self) -> str:
        """Return what keeps the node from holding the board, '' for nothing."""
        if self.state in (HoldingState.REFUSED, HoldingState.LEFTOVER):
            return self._taking.error
        return self._follow_error

    def ask_again(self) -> None:
        """Ask for the journal anew where another process had it."""
        if self.state is HoldingState.REFUSED:
            self._taking = self._take()

    def notice(self) -> tuple[str, str]:
        """
        Have a power mode followed that somebody else has set; to be called again and again.

        Returns
        -------
        tuple
            Its name once it is followed, and why that failed, each once, else ''.

        """
        job, name, failed = self._following, '', ''
        if job is not None and job.is_done:
            self._following = None
            name, failed = job.result, job.error if job.error != self._follow_error else ''
            self._follow_error = job.error
        is_foreign = self._control.mode_was_changed() or self._is_behind()
        if is_foreign and self._following is None:
            self._following = self._worker.submit('a power mode of somebody else', self._follow)
        return name, failed

    def _is_behind(self) -> bool:
        return self._followed < self._control.foreign_modes

    def _take(self) -> Job:
        return self._worker.submit('what a process before has left', self._take_over)

    def _take_over(self) -> str:
        """Put back what a process before has left, or say how; done before any other change."""
        self._left = self._control.adopt()
        left = ', '.join(self._left)
        if left and self._restores():
            self._control.restore()
            self._info(f'put back what a process before has left: {left}')
        elif left:
            self._warning(
                f'a process before has left changed: {left}; `yolov7_trt power restore` puts it '
                'back once this node has ended, or this node at its end with restore_on_exit'
            )
        return left

    def _follow(self) -> str:
        name = self._control.follow_mode()
        if not self._is_behind():
            return ''  # it was a change of our own
        self._followed = self._control.foreign_modes
        self._on_follow()
        return name
