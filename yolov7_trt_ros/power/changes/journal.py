"""
The journal of a board: the state before the changes of a process that still has to undo them.

It is on the disk before the first change, so that after a SIGKILL the next start can restore the
state. As root it is in /run, which a boot empties, otherwise in the user's state folder. One
process at a time holds its lock; the kernel releases the lock when that process ends.

"""

from __future__ import annotations

from collections.abc import Mapping
import contextlib
import dataclasses
import fcntl
import json
import os
from pathlib import Path
import stat

from yolov7_trt_ros.atomic_file import create_new
from yolov7_trt_ros.errors import PowerError, PowerFormatError, PowerPermissionError
from yolov7_trt_ros.power.changes.records import LASTING, Record, record_from_json, record_to_json

FORMAT = 1
FOLDER = 'yolov7_trt_ros'
RUN_FOLDER = f'/run/{FOLDER}'
MAX_BYTES = 1 << 16
"""Limit of a read; a board with 128 cores needs about half of it."""

_BOOT_ID = 'proc/sys/kernel/random/boot_id'
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_START_FIELD = 19  # of /proc/PID/stat behind the name: when the process started, in ticks


@dataclasses.dataclass(frozen=True)
class Owner:
    """The process that owns a journal: its pid, start time and program."""

    pid: int
    start_ticks: int
    program: str

    def __str__(self) -> str:
        """Return `pid 4711, power node`."""
        return f'pid {self.pid}, {self.program}'

    @property
    def is_alive(self) -> bool:
        """Whether this very process still runs."""
        return self.pid > 0 and _start_ticks(self.pid) == self.start_ticks != 0


class Journal:
    """
    The journal's file and its lock.

    Parameters
    ----------
    root
        Root folder: `/`, or another in a test.
    is_root
        Whether changes are made as root, not through sudo.
    program
        Name of this program in messages: `power node`.
    name
        Name of the files: `power` for a board.

    """

    def __init__(
        self, root: Path, *, is_root: bool, program: str, name: str = 'power'
    ) -> None:
        self._root, self._name = root, name
        self._is_root = is_root
        place = RUN_FOLDER if is_root else f'{_state_folder()}/{FOLDER}'
        self._folder = root / place.lstrip('/')
        self._owner = Owner(os.getpid(), _start_ticks(os.getpid()), program)
        self._lock: int | None = None
        self._written: dict[str, Record] | None = None
        self._problem = ''

    @property
    def path(self) -> Path:
        """File of the records."""
        return self._folder / f'{self._name}.json'

    @property
    def problem(self) -> str:
        """Return the defect of the journal that was found, '' for none."""
        return self._problem

    @property
    def is_held(self) -> bool:
        """Whether this process has the lock."""
        return self._lock is not None

    def acquire(self) -> dict[str, Record]:
        """
        Take the lock, and return the records of an earlier process.

        A journal that is damaged, or not of this user, is moved aside; see `problem`.

        Raises
        ------
        PowerError
            Another process has the lock (the message gives its pid), or the folder is unusable.

        """
        if self._lock is not None:
            return {}
        self._refuse_if_root_owns()
        try:
            self._make_folder()
            self._lock = self._take_lock()
        except OSError as exc:
            raise _explain(exc, self._folder) from exc
        try:
            self._written = self._read()
        except (PowerError, OSError) as exc:
            self._set_aside(exc)
            self._written = {}
        return dict(self._written)

    def write(self, records: Mapping[str, Record]) -> None:
        """
        Write these records to disk; without any the journal is deleted.

        Raises
        ------
        PowerError
            It cannot be written: nothing may be changed then.

        """
        if self._lock is None:
            raise PowerError(f'{self.path} is not locked by this process')  # a defect
        if records == self._written and list(records) == list(self._written or {}):
            return
        try:
            if records:
                self._replace(self._text(records))
            else:
                self.path.unlink(missing_ok=True)
            _sync_folder(self._folder)
        except OSError as exc:
            raise _explain(exc, self._folder) from exc
        self._written = dict(records)

    def close(self) -> None:
        """Release the lock; the file stays."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _make_folder(self) -> None:
        self._folder.mkdir(mode=0o755 if self._is_root else 0o700, parents=True, exist_ok=True)
        found = os.lstat(self._folder)
        if not stat.S_ISDIR(found.st_mode) or not _is_ours(found):
            raise PowerPermissionError(
                f'{self._folder} keeps the journal of changed power settings, and has to be a '
                'folder of this user that nobody else may write; move it away'
            )

    def _take_lock(self) -> int:
        path = self._folder / f'{self._name}.lock'
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(lock, 0)
            os.pwrite(lock, f'{self._owner}\n'.encode(), 0)
        except BlockingIOError as exc:
            holder = os.read(lock, 200).decode('utf-8', 'replace').strip() or 'pid not known'
            os.close(lock)
            raise _busy(holder, self.path) from exc
        except OSError:
            os.close(lock)
            raise
        return lock

    def _refuse_if_root_owns(self) -> None:
        """Refuse a board that a process of root has changed and still has to restore."""
        path = self._root / RUN_FOLDER.lstrip('/') / self.path.name
        if self._is_root:
            return
        try:
            text, found = _read_bounded(path)
            owner, boot, records = _parse(text)
        except (PowerError, OSError):
            return  # none, or unreadable: root's next start reports it
        if found.st_uid == 0 and records and owner.is_alive:
            raise _busy(f'{owner}, as root', path)
        if found.st_uid == 0 and records and boot == self._boot_id():
            raise PowerError(
                f'a process of root ({owner}) ended without putting back {", ".join(records)}; '
                'first run: sudo yolov7_trt power restore'
            )

    def _read(self) -> dict[str, Record]:
        try:
            text, found = _read_bounded(self.path)
        except FileNotFoundError:
            return {}
        if not _is_ours(found):
            raise PowerFormatError('this user did not write it alone')
        _, boot, records = _parse(text)
        if boot != self._boot_id():  # a boot ends caps and locks
            records = {name: records[name] for name in records if name in LASTING}
        return records

    def _boot_id(self) -> str:
        try:
            return (self._root / _BOOT_ID).read_text('ascii', 'replace').strip()[:64]
        except OSError:
            return ''

    def _set_aside(self, reason: Exception) -> None:
        damaged = self.path.with_name(f'{self.path.name}.damaged')
        where = f'it is kept as {damaged}'
        try:
            os.replace(self.path, damaged)
        except OSError as exc:
            where = f'it cannot be moved away ({exc.strerror})'
        self._problem = (
            f'the journal {self.path} cannot be used: {reason}; {where}. What an earlier process '
            'has changed is not known: check the power mode, clocks and fan'
        )

    def _text(self, records: Mapping[str, Record]) -> bytes:
        return json.dumps({
            'format': FORMAT,
            'boot': self._boot_id(),
            'owner': dataclasses.asdict(self._owner),
            'records': {name: record_to_json(record) for name, record in records.items()},
        }, indent=1).encode()

    def _replace(self, data: bytes) -> None:
        fresh = self._folder / f'.{self.path.name}.new'
        fresh.unlink(missing_ok=True)
        with os.fdopen(create_new(fresh, 0o644 if self._is_root else 0o600), 'wb') as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, self.path)


def _read_bounded(path: Path) -> tuple[str, os.stat_result]:
    """Read a regular file; anything else at the path is an error."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, 'rb') as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise PowerFormatError('it is no plain file')
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise PowerFormatError(f'it is longer than {MAX_BYTES} bytes')
    return data.decode('utf-8', 'replace'), found


def _parse(text: str) -> tuple[Owner, str, dict[str, Record]]:
    """Return owner, boot and records of a journal."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise PowerFormatError(f'expected JSON, found {text[:40]!r}') from exc
    fields = content if isinstance(content, dict) else {}
    if fields.get('format') != FORMAT:
        raise PowerFormatError(f'expected format {FORMAT}, found {fields.get("format")!r:.40}')
    boot, owner, records = fields.get('boot'), fields.get('owner'), fields.get('records')
    if not isinstance(boot, str) or not isinstance(owner, dict) or not isinstance(records, dict):
        raise PowerFormatError('expected boot, owner and records, found others')
    pid, ticks, program = (owner.get(name) for name in ('pid', 'start_ticks', 'program'))
    if type(pid) is not int or type(ticks) is not int or not isinstance(program, str):
        raise PowerFormatError(f'expected pid, start_ticks and program, found {owner!r:.80}')
    return Owner(pid, ticks, program[:40]), boot, {
        name: record_from_json(name, value) for name, value in records.items()
    }


def _state_folder() -> str:
    """Return $XDG_STATE_HOME, or its default."""
    given = os.environ.get('XDG_STATE_HOME', '')
    return given if given.startswith('/') else os.path.expanduser('~/.local/state')


def _is_ours(found: os.stat_result) -> bool:
    return found.st_uid == os.geteuid() and not found.st_mode & _OTHERS_WRITE


def _start_ticks(pid: int) -> int:
    """Return the start time of a process in ticks; 0 without one."""
    try:
        text = Path(f'/proc/{pid}/stat').read_text('utf-8', 'replace')
        return int(text.rpartition(')')[2].split()[_START_FIELD])
    except (OSError, ValueError, IndexError):
        return 0


def _sync_folder(folder: Path) -> None:
    """Write the folder itself to disk, if its file system can."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _busy(holder: str, path: Path) -> PowerError:
    return PowerError(
        f'another process changes this board ({holder}; its journal is {path}): end it, or set '
        'its parameters instead'
    )


def _explain(error: OSError, folder: Path) -> PowerError:
    return PowerError(
        f'the journal of changed power settings cannot be written in {folder} '
        f'({error.strerror or error}), so nothing is changed; without root $XDG_STATE_HOME names '
        'another place'
    )
