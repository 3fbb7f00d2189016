"""Detect a power mode set by another program, and keep our own changes within it."""

from __future__ import annotations

from yolov7_trt_ros.power.changes.board_parts import BoardParts
from yolov7_trt_ros.power.changes.records import CLOCK_LOCK, LockRecord, ModeRecord, POWER_MODE


class ForeignModes:
    """
    Compares the stamp of nvpmodel's status file with that of our latest change.

    Parameters
    ----------
    parts
        The parts of the board, and their changes.

    """

    def __init__(self, parts: BoardParts) -> None:
        self._parts = parts
        self._count = 0

    @property
    def count(self) -> int:
        """Return the number of power modes set by other programs that were followed."""
        return self._count

    @property
    def is_new(self) -> bool:
        """Whether nvpmodel has set a mode since our latest change; fast."""
        return self._parts.modes.stamp() != self._parts.modes.noted_stamp

    def follow(self) -> None:
        """Fit our changes to a mode set by another program; that mode stays at the end."""
        parts = self._parts
        parts.modes.noted_stamp = parts.modes.stamp()
        self._count += 1
        mode, record = parts.mode_now(), parts.undo.get(POWER_MODE)
        if mode is None:
            parts.access.report(
                'another program has changed the power mode, and which it is now is not known: '
                'caps and locks of this program may not fit it'
            )
            return
        parts.access.report(f'another program has set the power mode {mode}')
        if isinstance(record, ModeRecord) and mode.mode_id not in record.set_to:
            parts.undo.forget(POWER_MODE)
        parts.rebase_caps(mode)
        lock = parts.undo.get(CLOCK_LOCK)
        is_ours = isinstance(lock, LockRecord) and not lock.was_on
        if is_ours and parts.clock_lock.state() == 'broken':
            parts.relock()  # over a baseline of this mode
