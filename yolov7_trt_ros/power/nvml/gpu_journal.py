"""
GpuJournal: the values before the changes of a PC's GPU, on disk before they are made.

Its file and lock are separate from those of the board: one process at a time changes the GPU.
NVML's settings end with a boot, so nothing is to be restored after it.

"""

from __future__ import annotations

from pathlib import Path

from yolov7_trt_ros.power.changes.journal import Journal
from yolov7_trt_ros.power.changes.records import GPU_RECORDS, GpuRecord

_NAME = 'gpu'


class GpuJournal:
    """
    The record of the one change of a GPU: locked clocks, or a power limit.

    Parameters
    ----------
    root
        Root folder: `/`, or another in a test.
    program
        Name of this program in messages.

    """

    def __init__(self, root: Path, program: str) -> None:
        self._journal = Journal(root, is_root=True, program=program, name=_NAME)
        self._records: dict[str, GpuRecord] = {}

    @property
    def problem(self) -> str:
        """Return the defect of the journal that was found, '' for none."""
        return self._journal.problem

    @property
    def is_there(self) -> bool:
        """Whether a process has changed the GPU and not restored it yet."""
        return self._journal.path.exists()

    def take(self) -> dict[str, GpuRecord]:
        """
        Take the journal, and return the change of an earlier process, by its name.

        Raises
        ------
        PowerError
            Another process has it; the message gives its pid.

        """
        if not self._journal.is_held:
            self._records = {
                name: record for name, record in self._journal.acquire().items()
                if name in GPU_RECORDS and isinstance(record, GpuRecord)
            }
        return dict(self._records)

    def put(self, name: str, record: GpuRecord) -> None:
        """
        Write the state before a change to disk, unless an earlier record has it.

        Raises
        ------
        PowerError
            Another process has the journal, or it cannot be written: nothing may be changed.

        """
        self.take()
        records = {name: record, **self._records}
        self._journal.write(records)
        self._records = records

    def forget(self, name: str) -> None:
        """Forget a change that is undone; raises PowerError if the journal cannot be written."""
        if self._records.pop(name, None) is not None:
            self._journal.write(self._records)

    def close(self) -> None:
        """Release the lock; the file stays."""
        self._journal.close()
