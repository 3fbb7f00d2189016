"""Noticing that somebody else has set a power mode, and keeping our own changes within it."""

from __future__ import annotations

from yolov7_trt_ros.power.changes.board_parts import BoardParts
from yolov7_trt_ros.power.changes.records import CLOCK_LOCK, LockRecord, ModeRecord, POWER_MODE


class ForeignModes:
    """
    Compares the stamp of nvpmodel's status file with the one of the latest change here.

    Parameters
    ----------
    parts
        The board, and what was changed on it.

    """

    def __init__(self, parts: BoardParts) -> None:
        self._parts = parts
        self._count = 0

    @property
    def count(self) -> int:
        """How often somebody else has set a power mode, as far as it was followed."""
        return self._count

    @property
    def is_new(self) -> bool:
        """Whether nvpmodel has set a mode since the latest change here; takes no time."""
        return self._parts.modes.stamp() != self._parts.noted_stamp

    def follow(self) -> None:
        """Keep to the mode that somebody else has set, and leave it so at the end."""
        parts = self._parts
        parts.noted_stamp = parts.modes.stamp()
        self._count += 1
        mode, record = parts.modes.stored(), parts.undo.get(POWER_MODE)
        if mode is None:
            return
        parts.access.report(f'somebody else has set the power mode {mode}')
        if isinstance(record, ModeRecord) and mode.mode_id not in record.set_to:
            parts.undo.forget(POWER_MODE)
        parts.rebase_caps(mode)
        lock = parts.undo.get(CLOCK_LOCK)
        is_ours = isinstance(lock, LockRecord) and not lock.was_on
        if is_ours and parts.clock_lock.state() == 'broken':
            parts.lock_anew()  # over a baseline of this mode
