"""
Read, write and find files of the kernel below a root folder, with a time limit.

Paths are those on the board ('/sys/class/thermal/...'). The root folder in front of them is '/' on
a board, and another one for an emulated board or a test. Every failure is a PowerError that names
the file and the reason.

"""

from __future__ import annotations

from collections.abc import Iterable
import errno
from functools import partial
import glob
import os
from pathlib import Path
import re

from yolov7_trt_ros.errors import PowerError, PowerFormatError, PowerPermissionError
from yolov7_trt_ros.power.guard import CALL_TIMEOUT_S, CallGuard

MAX_TEXT_BYTES = 1 << 20
"""Limit of one read; /proc/stat of a large server has about 100 kB."""

_DENIED = (errno.EACCES, errno.EPERM)
_INTEGER = re.compile(r'-?\d{1,20}|0x[0-9a-fA-F]{1,16}', re.ASCII)
_WHOLE = re.compile(r'\d{1,20}', re.ASCII)  # the kernel's longest number has 64 bits


class SysfsTree:
    """
    The kernel's files below a root folder.

    Thread-safe. A file whose driver does not answer costs its reader the time limit once, and no
    time after that; see `power.guard`.

    Parameters
    ----------
    root
        Folder that holds `sys` and `proc`.
    timeout_s
        Time limit of one file.

    """

    def __init__(self, root: Path = Path('/'), timeout_s: float = CALL_TIMEOUT_S) -> None:
        self._root = root
        self._guard = CallGuard(timeout_s)

    @property
    def root(self) -> Path:
        """Folder that holds `sys` and `proc`."""
        return self._root

    @property
    def hanging(self) -> tuple[str, ...]:
        """Paths whose last read or write has not returned yet."""
        return self._guard.hanging

    def real_path(self, path: str) -> Path:
        """Return the path on this machine of a path on the board."""
        return self._root / path.lstrip('/')

    def exists(self, path: str) -> bool:
        """Whether a file or folder exists that this user may see."""
        return os.path.exists(self.real_path(path))

    def find(self, *patterns: str) -> tuple[str, ...]:
        """
        Return the paths on the board that match shell patterns.

        In the order of the patterns, and of the numbers in the names for one pattern: hwmon2
        before hwmon10.
        """
        found: dict[str, None] = {}
        for pattern in patterns:
            names = glob.glob(pattern.lstrip('/'), root_dir=self._root)
            found.update(dict.fromkeys(f'/{name}' for name in sorted(names, key=_in_numbers)))
        return tuple(found)

    def read_text(self, path: str) -> str:
        """
        Read a file, without white space and NUL characters around its text.

        Raises
        ------
        PowerPermissionError
            This user may not read it.
        PowerError
            There is no such file, its driver refuses, or it hangs.

        """
        return self._guard.call(path, partial(_read, self.real_path(path), path))

    def read_or_empty(self, path: str) -> str:
        """Read a file as `read_text` does; '' if it is absent or does not answer."""
        try:
            return self.read_text(path)
        except PowerError:
            return ''

    def read_int(self, path: str) -> int:
        """
        Read a file that holds a whole number.

        Raises
        ------
        PowerFormatError
            It holds something else.
        PowerError
            As for `read_text`.

        """
        text = self.read_text(path)
        if _INTEGER.fullmatch(text) is None:
            raise PowerFormatError(f'{path} should hold a whole number and holds {text[:40]!r}')
        return int(text, 0) if text.startswith('0x') else int(text)

    def read_all(self, paths: Iterable[str]) -> dict[str, str | PowerError]:
        """
        Read many files at once; a file that fails returns its error.

        It changes threads once for all of them; `read_text` does for each.
        """
        calls = {path: partial(_read, self.real_path(path), path) for path in paths}
        return self._guard.call_all(calls)

    def write_text(self, path: str, text: str) -> None:
        """
        Write to a file that exists. The kernel may round or ignore a value: read it back.

        Raises
        ------
        PowerPermissionError
            This user may not write it, or /sys is mounted read-only, as it is in containers.
        PowerError
            There is no such file, the kernel refuses the value, or it hangs (and may still take
            effect later).

        """
        self._guard.call(path, partial(_write, self.real_path(path), path, text))

    def close(self) -> None:
        """End the idle reading thread; a later read starts a new one."""
        self._guard.close()


def whole_number(text: str) -> int | None:
    """
    Return a number of the kernel's that is not negative; None if the text is something else.

    >>> whole_number('612000000'), whole_number('-1'), whole_number('9' * 5000)
    (612000000, None, None)

    """
    return int(text) if _WHOLE.fullmatch(text) else None


def _in_numbers(name: str) -> tuple[tuple[int, int, str], ...]:
    parts = re.findall(r'[0-9]{1,20}|[^0-9]+', name)
    return tuple(
        (1, 0, part) if (number := whole_number(part)) is None else (0, number, '')
        for part in parts
    )


def _read(real_path: Path, path: str) -> str:
    try:
        with open(real_path, 'rb') as file:
            return file.read(MAX_TEXT_BYTES).decode('utf-8', 'replace').strip(' \t\r\n\0')
    except OSError as exc:
        raise explain_os_error(exc, path, 'read') from exc


def _write(real_path: Path, path: str, text: str) -> None:
    try:
        descriptor = os.open(real_path, os.O_WRONLY | os.O_TRUNC)  # never makes a new file
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
    except OSError as exc:
        raise explain_os_error(exc, path, f'write {text!r} to') from exc


def explain_os_error(error: OSError, path: str, doing: str) -> PowerError:
    """
    Return our error for an error of the kernel.

    Parameters
    ----------
    error
        As caught.
    path
        Path of the file on the board.
    doing
        'read', or "write '3' to".

    """
    reason = error.strerror or str(error)
    if error.errno in _DENIED:
        return PowerPermissionError(
            f'cannot {doing} {path} ({reason}): only root may, or who the owner lets; '
            '`yolov7_trt power permissions` prints what to grant'
        )
    if error.errno == errno.EROFS:
        return PowerPermissionError(
            f'cannot {doing} {path} ({reason}): /sys is mounted read-only, as in a container; '
            'do this on the host'
        )
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return PowerError(f'cannot {doing} {path}: this board or release has no such file')
    if error.errno in (errno.EINVAL, errno.ERANGE):
        return PowerError(f'cannot {doing} {path} ({reason}): the kernel refuses this value')
    return PowerError(f'cannot {doing} {path} ({reason}): its driver does not answer as it should')
