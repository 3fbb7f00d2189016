"""Temporary folders that a later run removes if the process was killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
import shutil
import socket
import stat
import tempfile
import time

MARK = '.yolov7_trt_temporary'
"""File in each folder; locked as long as the folder is in use."""

_SETTLED_S = 60.0
"""Age from which on a mark that is not locked has been left behind, and is not new."""
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class TemporaryFolder(tempfile.TemporaryDirectory[str]):
    """
    A temporary folder that is removed by `cleanup`, at the end of a `with` block or process.

    Nothing removes the folder of a killed process, so each new one first removes those: folders
    of the same prefix, user and host whose mark is not locked.

    Parameters
    ----------
    prefix
        How its name begins.
    folder
        Where it is made; None for the usual folder.
    ignore_cleanup_errors
        Whether files that cannot be removed are no error.

    Raises
    ------
    OSError
        It cannot be made.

    """

    def __init__(
        self, prefix: str, folder: Path | None = None, *, ignore_cleanup_errors: bool = False
    ) -> None:
        remove_abandoned(prefix, Path(tempfile.gettempdir()) if folder is None else folder)
        super().__init__(prefix=prefix, dir=folder, ignore_cleanup_errors=ignore_cleanup_errors)
        try:
            self._mark = Path(self.name, MARK).open('xb')  # noqa: SIM115 (until `cleanup`)
            self._mark.write(_mark_text())
            self._mark.flush()
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(self._mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            super().cleanup()
            raise

    def cleanup(self) -> None:
        """Remove the folder; calling it twice is harmless."""
        super().cleanup()
        self._mark.close()


def remove_abandoned(prefix: str, folder: Path) -> None:
    """Remove temporary folders of killed processes; what cannot be removed stays."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(prefix):
                with contextlib.suppress(OSError):
                    _remove_if_abandoned(entry)


def _remove_if_abandoned(entry: os.DirEntry[str]) -> None:
    """Remove a folder of ours whose lock can be taken; raises OSError if it is another's."""
    if not entry.is_dir(follow_symlinks=False):
        return
    with os.fdopen(os.open(os.path.join(entry.path, MARK), _OPEN), 'rb') as mark:
        found = os.fstat(mark.fileno())
        text = _mark_text()
        if (
            stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid()
            and time.time() - found.st_mtime > _SETTLED_S and mark.read(len(text) + 1) == text
        ):
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(entry.path, ignore_errors=True)


def _mark_text() -> bytes:
    """Return the text of a mark; locks of other hosts may not be seen here."""
    return f'written by yolov7_trt_ros on {socket.gethostname()}\n'.encode()
