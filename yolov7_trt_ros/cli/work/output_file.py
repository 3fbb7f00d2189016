"""Whether files or folders were written since, told from the disk, not from a count."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from yolov7_trt_ros.cli import interruption
from yolov7_trt_ros.home_folder import expand_home


class OutputFile:
    """
    A file, or a folder of files, that will be written from now on.

    A signal may come between the writing of a file and the next statement, so that only the disk
    knows what is there.

    Parameters
    ----------
    path
        It may exist, as an earlier output.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._before = _stamps(path)

    def is_written(self) -> bool:
        """Whether it is there and was not there before, or was another."""
        now = _stamps(self.path)
        return bool(now) and now != self._before

    def describe(self) -> str:
        """Return a sentence on whether it was written, without a full stop."""
        return f'{self.path} was {"" if self.is_written() else "not "}written'


class OutputFiles:
    """
    Files of results that will be written from now on.

    Parameters
    ----------
    files
        As they were given; None, '' and `-` are no files.

    """

    def __init__(self, *files: str | Path | None) -> None:
        given = [each for each in files if each and str(each) != '-']
        self._files = [OutputFile(expand_home(each)) for each in given]

    def describe(self) -> str:
        """Return a sentence on those that were written, without a full stop."""
        written = [str(each.path) for each in self._files if each.is_written()]
        if not written:
            return interruption.NOTHING_WRITTEN
        return f'{" and ".join(written)} {"was" if len(written) == 1 else "were"} written'


def _stamps(path: Path) -> set[tuple[str, int, int, int]]:
    """Return name, inode, time and size of a file, or of all files below a folder."""
    files = [path]
    if path.is_dir():
        files = [Path(folder) / name for folder, _, names in os.walk(path) for name in names]
    stamps = set()
    for file in files:
        with contextlib.suppress(OSError):
            found = file.stat()
            stamps.add((str(file), found.st_ino, found.st_mtime_ns, found.st_size))
    return stamps
