"""Take over the changes that an ended process did not undo, and undo changes."""

from __future__ import annotations

from contextlib import suppress

from yolov7_trt_ros.errors import PowerError, PowerFormatError
from yolov7_trt_ros.power.changes.board_parts import BoardParts
from yolov7_trt_ros.power.changes.journal import Journal
from yolov7_trt_ros.power.changes.records import (
    FanRecord,
    LIMITS,
    LimitsRecord,
    LockRecord,
    ModeRecord,
    Record,
)


class LeftChanges:
    """
    Restores the state in the records of the journal.

    Parameters
    ----------
    parts
        The board, and the records.
    journal
        Holds the records of an earlier process.

    """

    def __init__(self, parts: BoardParts, journal: Journal) -> None:
        self._parts, self._journal = parts, journal

    def take(self) -> None:
        """
        Take the journal, and add its records that still apply to the undo list.

        Raises
        ------
        PowerError
            Another process has the journal; the message gives its pid.

        """
        left = self._journal.acquire()
        report, undo = self._parts.access.report, self._parts.undo
        if self._journal.problem:
            report(self._journal.problem)
        for name, record in left.items():
            if self._is_outdated(record):
                report(f'{name} was changed by another program since: left as it is')
                continue
            undo.adopt(name, record)
            report(f'{name}: an ended process did not put it back')
        self._adopt_all_limits()
        undo.save()

    def put_back(self, name: str, record: Record) -> None:
        """Restore the state of a record; raises PowerError if that fails."""
        if isinstance(record, ModeRecord):
            self._put_back_mode(record.was)
        elif isinstance(record, LockRecord):
            self._put_back_clock_lock(record.was_on)
        elif isinstance(record, FanRecord):
            if self._parts.fan.current() != record.was:
                self._parts.fan.set_profile(record.was)
        elif isinstance(record, LimitsRecord):
            unit = next(unit for unit in LIMITS if LIMITS[unit] == name)
            if unit not in self._parts.caps.units:
                self._adopt_limits(unit, record)
            self._parts.caps.lift(unit)
        else:
            raise PowerFormatError(f'{name} is no change of a board; put it back by hand')

    def _adopt_all_limits(self) -> None:
        for unit, name in LIMITS.items():
            limits = self._parts.undo.get(name)
            if isinstance(limits, LimitsRecord):
                try:
                    self._adopt_limits(unit, limits)
                except PowerError as exc:  # tried again when they are restored
                    self._parts.access.report(
                        f'the limits of the {unit} cannot be looked at: {exc}'
                    )

    def _adopt_limits(self, unit: str, record: LimitsRecord) -> None:
        self._parts.caps.adopt(unit, record.found)
        mode = self._parts.mode_now()
        if mode is not None and mode.mode_id != record.mode_id:
            self._parts.rebase_caps(mode)
        elif mode is None and record.mode_id is not None:
            self._parts.access.report(
                f'which power mode the board is in is not known: the limits of the {unit} that '
                f'are put back are those of the mode with id {record.mode_id}'
            )

    def _is_outdated(self, record: Record) -> bool:
        """Whether another program has changed it since the process ended."""
        if isinstance(record, ModeRecord):
            mode = self._parts.modes.stored()
            return mode is not None and mode.mode_id not in (record.was, *record.set_to)
        if isinstance(record, FanRecord):
            with suppress(PowerError):
                return self._parts.fan.current() not in (record.was, *record.set_to)
        return False

    def _put_back_mode(self, mode_id: int) -> None:
        modes = self._parts.modes
        mode, now = modes.find(str(mode_id)), self._parts.before_mode()
        is_noted = modes.stored() in (mode, None)
        if now is None or now.mode_id != mode_id or not is_noted or not self._parts.shows(mode):
            self._parts.switch_mode(mode, now)

    def _put_back_clock_lock(self, on: bool) -> None:
        state = self._parts.clock_lock.state()
        if state == 'off' and not on:
            self._parts.clock_lock.clear()
        elif state == 'broken' or on != (state != 'off'):
            self._parts.switch_clock_lock(on)
