"""What was changed and what was before it: on the disk before the change, and the way back."""

from __future__ import annotations

from collections.abc import Callable

from yolov7_trt_ros.errors import PowerError
from yolov7_trt_ros.power.changes.journal import Journal
from yolov7_trt_ros.power.changes.records import Record
from yolov7_trt_ros.power.root.root_access import Report


class UndoList:
    """
    The record of each kind of change; for the caller's thread or lock.

    Parameters
    ----------
    report
        Is told what could not be put back, a line each.
    journal
        Keeps the records; None in a dry run, where nothing is changed.

    """

    def __init__(self, report: Report, journal: Journal | None) -> None:
        self._report = report
        self._journal = journal
        self._records: dict[str, Record] = {}
        self._ours: set[str] = set()

    @property
    def names(self) -> tuple[str, ...]:
        """Return what would be put back, in the order of the first change of each."""
        return tuple(self._records)

    def get(self, name: str) -> Record | None:
        """Return the record of a change; None where there is none."""
        return self._records.get(name)

    def adopt(self, name: str, record: Record) -> None:
        """Take over the record of a process that has ended."""
        self._records[name] = record

    def touch(self, name: str) -> None:
        """Note that this process was told what this is to be, whatever was left behind."""
        self._ours.add(name)

    def put(self, name: str, record: Record) -> None:
        """
        Have the record of a change on the disk; to be called before the change.

        Raises
        ------
        PowerError
            It cannot be written: then nothing may be changed.

        """
        before = dict(self._records)
        self._records[name] = record
        self.touch(name)
        try:
            self._write()
        except PowerError:
            self._records = before
            raise

    def forget(self, name: str) -> None:
        """Forget a change that is undone already; one that is not known is passed over."""
        if self._records.pop(name, None) is not None:
            self.save()

    def keep(self) -> None:
        """Forget what this process changed: it stays. What one before left behind is kept."""
        for name in self._ours & set(self._records):
            del self._records[name]
        self.save()

    def run(self, undo: Callable[[str, Record], object]) -> None:
        """
        Put everything back, latest first; what could not be stays for the next call.

        Raises
        ------
        PowerError
            Something could not be put back; everything else was.

        """
        failures = []
        for name, record in reversed(list(self._records.items())):
            try:
                undo(name, record)
            except PowerError as exc:
                failures.append(exc)
                self._report(f'could not put back {name}: {exc}')
            else:
                self.forget(name)
        if len(failures) == 1:
            raise failures[0]
        if failures:
            raise PowerError('could not put back: ' + '\n'.join(map(str, failures)))

    def _write(self) -> None:
        if self._journal is not None:
            self._journal.write(self._records)

    def save(self) -> None:
        """Have what is left on the disk; what was put back stays so if that fails."""
        if self._journal is None or not self._journal.is_held:
            return
        try:
            self._journal.write(self._records)
        except PowerError as exc:
            self._report(str(exc))
