"""FrameJournal: results per frame of a recording, saved line by line during the work."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from yolov7_trt_ros.cli.work.kept_record import read_kept, sealed, unsealed
from yolov7_trt_ros.errors import InputError


class FrameJournal:
    """
    Records by key in a growing file; an incomplete or damaged line is ignored.

    Parameters
    ----------
    path
        The file; None keeps nothing.

    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: TextIO | None = None
        self._known = {} if path is None else _read(path)

    def __enter__(self) -> FrameJournal:
        """Open the file; an incomplete last line is ended."""
        if self._path is not None:
            if self._path.exists() and not self._path.is_file():
                raise InputError(f'cannot write {self._path}: it is no file')
            try:
                self._file = self._path.open('a', buffering=1, encoding='utf-8')
                self._file.write('\n' * bool(self._file.tell()))
            except OSError as exc:
                raise InputError(f'cannot write {self._path}: {exc.strerror}') from exc
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file; a full disk is reported by the next write."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the record of a frame, None if there is none."""
        return self._known.get(key)

    def add(self, key: str, record: dict[str, Any]) -> None:
        """
        Keep a record.

        Raises
        ------
        InputError
            The disk is full.

        """
        if self._file is None:
            return
        try:
            self._file.write(sealed([key, record]) + '\n')
        except OSError as exc:
            raise InputError(f'cannot write {self._path}: {exc.strerror}') from exc


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """Return the records of the complete, undamaged lines."""
    known: dict[str, dict[str, Any]] = {}
    for line in (read_kept(path) or b'').splitlines():
        if (found := unsealed(line)) is not None:
            key, record = found
            known[key] = record
    return known
