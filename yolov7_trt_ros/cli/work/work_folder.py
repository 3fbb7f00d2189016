"""WorkFolder: the folder of a long run, which the same command continues if interrupted."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
import re
import shutil
import socket
import stat
from types import TracebackType
from typing import Any

from yolov7_trt_ros.atomic_file import atomic_write
from yolov7_trt_ros.cli.work.folder_lock import take_lock
from yolov7_trt_ros.cli.work.frame_writers import writing
from yolov7_trt_ros.cli.work.kept_record import read_kept, sealed, unsealed
from yolov7_trt_ros.core.plain_text import quoted
from yolov7_trt_ros.errors import InputError

STATE = '.yolov7_trt_work'
_MARK, _LOCK = 'work.json', 'lock'
_MADE_BY = 'yolov7_trt'
_UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
_LEFT_BEHIND = re.compile(r'\..+\.[0-9a-f]{16}\.tmp')
"""What `atomic_write` leaves if the process is killed."""

_LEFT_BAG = re.compile(r'\..*\.partial-[a-z0-9_]{8}')
"""The same of a bag."""


class WorkFolder:
    """
    Mark, lock and finished parts of a folder, kept in its `.yolov7_trt_work`.

    Parameters
    ----------
    folder
        Created if missing.
    verb, settings
        The command that fills it, JSON-ready; another one is refused.

    Raises
    ------
    InputError
        On entering: the folder is foreign and not empty, was started with other settings, is in
        use by another run, or cannot be written.

    """

    def __init__(self, folder: Path, verb: str, settings: dict[str, Any]) -> None:
        self.path = folder
        self._state = folder / STATE
        self._settings = json.loads(json.dumps({'verb': verb} | settings))
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> WorkFolder:
        """Check, lock and mark the folder."""
        with writing(self.path), contextlib.ExitStack() as stack:
            self.path.mkdir(parents=True, exist_ok=True)
            self._check_owner()
            self._state.mkdir(exist_ok=True)
            stack.enter_context(self._lock())
            self._check_settings()
            self.clean()
            self._exit = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Unlock the folder."""
        self._exit.close()

    def state_file(self, key: str, suffix: str = '') -> Path:
        """Return a file beside the mark, for a key of any length and characters."""
        digest = hashlib.sha256(key.encode(errors='surrogatepass'))
        return self._state / f'{digest.hexdigest()[:24]}{suffix}'

    def done(self, key: str) -> dict[str, Any] | None:
        """Return the record of a part; None if there is none, or it cannot be read."""
        record = unsealed(read_kept(self.state_file(key, '.json')) or b'')
        return record if isinstance(record, dict) else None

    def keep(self, key: str, record: dict[str, Any]) -> None:
        """
        Keep the record of a part.

        Raises
        ------
        InputError
            It cannot be written, or the disk is full.

        """
        self.write(self.state_file(key, '.json'), sealed(record).encode())

    def write(self, path: Path, data: bytes) -> None:
        """Write a file atomically; raises InputError if it fails, such as on a full disk."""
        with writing(path):
            atomic_write(path, data)

    def clean(self) -> None:
        """Remove the incomplete files of killed processes of ours."""
        for folder, folders, names in os.walk(self.path):
            for name in filter(_LEFT_BEHIND.fullmatch, names):
                Path(folder, name).unlink(missing_ok=True)
            for name in filter(_LEFT_BAG.fullmatch, folders):
                shutil.rmtree(Path(folder, name), ignore_errors=True)

    def _check_owner(self) -> None:
        """Refuse a folder that is not empty and lacks our mark."""
        names = _names_in(self.path)
        begun = _names_in(self._state) if STATE in names else set()
        if names and _MARK not in begun and (names != {STATE} or begun - {_LOCK}):
            raise InputError(
                f'{self.path} is not empty and was not made by this command: choose another folder'
            )

    def _is_bare(self) -> bool:
        """Whether nothing was made here, as by a command whose arguments were wrong."""
        return _names_in(self.path) == {STATE} and _names_in(self._state) <= {_MARK, _LOCK}

    def _lock(self) -> Any:
        file = (self._state / _LOCK).open('a+', encoding='utf-8')
        if not take_lock(file.fileno()):
            file.seek(0)
            owner = file.read(200).strip() or 'unknown'
            file.close()
            raise InputError(
                f'{self.path} is in use by another run ({owner}): wait for it, or choose another '
                'folder'
            )
        file.truncate(0)
        file.write(f'process {os.getpid()} on {socket.gethostname()}')
        file.flush()
        return file

    def _check_settings(self) -> None:
        mark = self._state / _MARK
        if not mark.exists() or self._is_bare():
            atomic_write(mark, json.dumps(
                {'made_by': _MADE_BY, 'settings': self._settings}, indent=1).encode())
            return
        try:
            found = dict(json.loads(read_kept(mark) or b'')['settings'].items())
        except _UNREADABLE as exc:
            raise InputError(f'{mark} cannot be read: choose another folder') from exc
        for name in sorted(set(found) | set(self._settings)):
            before, now = found.get(name), self._settings.get(name)
            if before != now:
                raise InputError(
                    f'{self.path} was started with {name} {_shown(before)}, not {_shown(now)}: '
                    'choose another folder, or the earlier settings'
                )


def _names_in(folder: Path) -> set[str]:
    return {each.name for each in folder.iterdir()}


def source_facts(path: Path, outside: Path) -> str:
    """Return a hash of names, sizes and times of a file, or of a folder without `outside`."""
    digest = hashlib.sha256()
    folder = outside.resolve()
    for file in [path] if path.is_file() else sorted(path.rglob('*')):
        if folder not in file.resolve().parents and (found := _stat_of(file)) is not None:
            digest.update(os.fsencode(file.relative_to(path)))
            digest.update(f'\0{found.st_size}\0{found.st_mtime_ns}\0'.encode())
    return digest.hexdigest()


def _stat_of(path: Path) -> os.stat_result | None:
    """Return the status of a regular file; None for others, or if it is gone."""
    with contextlib.suppress(OSError):
        found = path.stat()
        return found if stat.S_ISREG(found.st_mode) else None
    return None


def _shown(value: Any) -> str:
    return quoted(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
