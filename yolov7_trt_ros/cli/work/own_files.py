"""OwnFiles: the files of a folder that this program wrote; no other is replaced."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
import contextlib
import json
import os
from pathlib import Path
import stat
from typing import Any

from yolov7_trt_ros.atomic_file import atomic_write

RECORD = '.yolov7_trt_files.json'
JOURNAL = '.yolov7_trt_files.jsonl'
"""What was written since the record, a line each; merged into it at the end of a run."""

_MADE_BY = 'yolov7_trt'
_NO_RECORD = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_STAMP_TOLERANCE_NS = 2_000_000_000  # FAT stores even seconds


class OwnFiles:
    """
    The record, kept in a folder, of the files written there: name, size and time of each.

    A file that was changed or replaced since is foreign, and so are all files of a folder whose
    record is missing or unreadable.

    Parameters
    ----------
    folder
        It need not exist.

    Attributes
    ----------
    begun
        Names of files and folders that a run was writing when it was killed. What is there may
        be another's by now.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._noted, self.begun = _load(folder / RECORD)
        self._noted |= _load_journal(folder / JOURNAL)

    def is_own(self, path: Path) -> bool:
        """Whether an earlier run wrote this file and it is unchanged."""
        noted = self._noted.get(self._name(path))
        if noted is None:
            return False
        try:
            found = path.lstat()
        except OSError:
            return False
        return (
            stat.S_ISREG(found.st_mode) and found.st_size == noted[0]
            and abs(found.st_mtime_ns - noted[1]) <= _STAMP_TOLERANCE_NS
        )

    def foreign(self, paths: Iterable[Path]) -> Iterator[Path]:
        """Yield the foreign ones among files, and below folders."""
        for path in paths:
            yield from (file for file in _files_below(path) if not self.is_own(file))

    def remove(self, paths: Iterable[Path]) -> None:
        """Remove our own files among and below `paths`, then empty folders."""
        for path in paths:
            for file in list(_files_below(path)):
                if self.is_own(file):
                    file.unlink()
            _remove_empty(path)

    def begin(self, paths: Iterable[Path]) -> None:
        """Record that files and folders, none of which exists, will be written until `note`."""
        self.begun = [self._name(path) for path in paths]
        self._save()

    def add(self, path: Path) -> None:
        """Record a complete file at once, so that it is known even if the process is killed."""
        found = path.lstat()
        self._noted[self._name(path)] = stamp = (found.st_size, found.st_mtime_ns)
        with os.fdopen(os.open(self._folder / JOURNAL, _APPEND, 0o666), 'a') as file:
            file.write(f'\n{json.dumps([self._name(path), *stamp])}\n')

    def note(self, paths: Iterable[Path]) -> None:
        """Record files, and those below folders, as our own in their current state."""
        for path in paths:
            for file in _files_below(path):
                found = file.lstat()
                if stat.S_ISREG(found.st_mode):
                    self._noted[self._name(file)] = (found.st_size, found.st_mtime_ns)
        self.begun = []
        self._save()

    def _save(self) -> None:
        kept = {name: each for name, each in self._noted.items() if (self._folder / name).exists()}
        record = {'made_by': _MADE_BY, 'begun': self.begun, 'files': kept}
        atomic_write(self._folder / RECORD, json.dumps(record, indent=0).encode() + b'\n')
        (self._folder / JOURNAL).unlink(missing_ok=True)

    def _name(self, path: Path) -> str:
        return os.path.relpath(path, self._folder)


def _load(path: Path) -> tuple[dict[str, tuple[int, int]], list[str]]:
    """Return size and time by name, and what was begun; nothing without a record of ours."""
    with contextlib.suppress(*_NO_RECORD):
        if path.is_file():
            record: dict[str, Any] = json.loads(path.read_text(encoding='utf-8'))
            if record.get('made_by') == _MADE_BY:
                files = {
                    name: (int(size), int(time_ns))
                    for name, (size, time_ns) in record['files'].items()
                }
                return files, [str(name) for name in record.get('begun', ())]
    return {}, []


def _load_journal(path: Path) -> dict[str, tuple[int, int]]:
    """Return size and time by name; a line that was not written to its end is left out."""
    noted: dict[str, tuple[int, int]] = {}
    with contextlib.suppress(*_NO_RECORD):
        if path.is_file() and not path.is_symlink():
            for line in path.read_text(encoding='utf-8').splitlines():
                with contextlib.suppress(*_NO_RECORD):
                    name, size, time_ns = json.loads(line)
                    noted[str(name)] = int(size), int(time_ns)
    return noted


def _files_below(path: Path) -> Iterator[Path]:
    """Yield a file, or the files below a folder; links are not followed."""
    if path.is_symlink() or path.is_file():
        yield path
    elif path.is_dir():
        for folder, folders, files in os.walk(path):
            links = [name for name in folders if (Path(folder) / name).is_symlink()]
            yield from (Path(folder) / name for name in (*links, *files))
    elif path.exists():
        yield path


def _remove_empty(path: Path) -> None:
    """Remove a folder and those below it, if empty."""
    if path.is_symlink() or not path.is_dir():
        return
    for folder, _, _ in os.walk(path, topdown=False):
        with contextlib.suppress(OSError):
            Path(folder).rmdir()
