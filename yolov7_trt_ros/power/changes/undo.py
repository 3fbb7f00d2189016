"""UndoList: the values before each change, on disk before it is made, and how to undo it."""

from __future__ import annotations

from collections.abc import Callable
import traceback

from yolov7_trt_ros.errors import PowerError
from yolov7_trt_ros.power.changes.journal import Journal
from yolov7_trt_ros.power.changes.records import Record
from yolov7_trt_ros.power.root.root_access import Report


class UndoList:
    """
    The record of each kind of change; not thread-safe.

    Parameters
    ----------
    report
        Called with a line about each change that could not be restored.
    journal
        Keeps the records; None in a dry run.

    """

    def __init__(self, report: Report, journal: Journal | None) -> None:
        self._report = report
        self._journal = journal
        self._records: dict[str, Record] = {}
        self._ours: set[str] = set()
        self._is_undoing = False

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the changes to restore, in the order of the first of each."""
        return tuple(self._records)

    def get(self, name: str) -> Record | None:
        """Return the record of a change; None without one."""
        return self._records.get(name)

    def adopt(self, name: str, record: Record) -> None:
        """Take over the record of a process that has ended."""
        self._records[name] = record

    def touch(self, name: str) -> None:
        """Note that this process now sets this value, whatever an earlier one left."""
        self._ours.add(name)

    def put(self, name: str, record: Record) -> None:
        """
        Write the record of a change to disk; to be called before the change.

        While changes are restored, a failure is only reported.

        Raises
        ------
        PowerError
            It cannot be written: nothing may be changed then.

        """
        before = dict(self._records)
        self._records[name] = record
        self.touch(name)
        try:
            self._write()
        except PowerError as exc:
            if self._is_undoing:  # the board is to be as before, also on a full disk
                self._report(str(exc))
                return
            self._records = before
            raise

    def forget(self, name: str) -> None:
        """Forget a change that is undone; an unknown name is ignored."""
        if self._records.pop(name, None) is not None:
            self.save()

    def keep(self) -> None:
        """Forget the changes of this process: they stay. Those of an earlier one are kept."""
        for name in self._ours & set(self._records):
            del self._records[name]
        self.save()

    def run(self, undo: Callable[[str, Record], object]) -> None:
        """
        Restore all changes, latest first; those that fail are kept for the next call.

        Raises
        ------
        PowerError
            Something could not be restored; everything else was.

        """
        failures = []
        for name, record in reversed(list(self._records.items())):
            self._is_undoing = True
            try:
                undo(name, record)
            except PowerError as exc:
                failures.append(exc)
                self._report(f'could not put back {name}: {exc}')
            except Exception as exc:  # a defect: the other changes are undone all the same
                failures.append(PowerError(f'{name}: a defect: {type(exc).__name__}: {exc}'))
                self._report(f'could not put back {name}: {traceback.format_exc()}')
            else:
                self.forget(name)
            finally:
                self._is_undoing = False
        if len(failures) == 1:
            raise failures[0]
        if failures:
            raise PowerError('could not put back: ' + '\n'.join(map(str, failures)))

    def _write(self) -> None:
        if self._journal is not None:
            self._journal.write(self._records)

    def save(self) -> None:
        """Write the remaining records to disk; restored changes stay restored if that fails."""
        if self._journal is None or not self._journal.is_held:
            return
        try:
            self._journal.write(self._records)
        except PowerError as exc:
            self._report(str(exc))
