"""
GpuJournal: what was before the changes of a PC's GPU, on the disk before they are made.

A file and a lock of its own beside those of the board: one process at a time changes the GPU.
After a boot there is nothing to put back, since NVML's settings do not last.

"""

from __future__ import annotations

from pathlib import Path

from yolov7_trt_ros.power.changes.journal import Journal
from yolov7_trt_ros.power.changes.records import GPU_RECORDS, GpuRecord

_NAME = 'gpu'


class GpuJournal:
    """
    The record of the one change that a GPU may have: locked clocks, or a power limit.

    Parameters
    ----------
    root
        Folder that stands for `/`.
    program
        Who writes it, for messages: root, since nobody else can change a GPU.

    """

    def __init__(self, root: Path, program: str) -> None:
        self._journal = Journal(root, is_root=True, program=program, name=_NAME)
        self._records: dict[str, GpuRecord] = {}

    @property
    def problem(self) -> str:
        """Return what was wrong with the journal that was found, or nothing."""
        return self._journal.problem

    @property
    def is_there(self) -> bool:
        """Whether somebody has changed the GPU and not put it back yet."""
        return self._journal.path.exists()

    def take(self) -> dict[str, GpuRecord]:
        """
        Take the journal, and return what a process before has left, by its name.

        Raises
        ------
        PowerError
            Another process has it; the message has its id.

        """
        if not self._journal.is_held:
            self._records = {
                name: record for name, record in self._journal.acquire().items()
                if name in GPU_RECORDS and isinstance(record, GpuRecord)
            }
        return dict(self._records)

    def put(self, name: str, record: GpuRecord) -> None:
        """
        Have on the disk what was before, unless an earlier record says it; before the change.

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
        """Forget a change that is undone; PowerError where the journal cannot be written."""
        if self._records.pop(name, None) is not None:
            self._journal.write(self._records)

    def close(self) -> None:
        """Let go of the lock; what is written stays."""
        self._journal.close()
