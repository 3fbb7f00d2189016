"""
The journal of a board: the state before the changes of a process that still has to undo them.

It is on the disk before the first change, so that after a SIGKILL the next start can restore the
state. As root it is in /run, which a boot empties, otherwise in the user's state folder. One
process at a time holds its lock; the kernel releases the lock when that process ends. If somebody
deletes the lock's file, the journal itself names the process that has it.

What cannot be told is not taken for harmless: a journal of root that a user cannot read, one of
another machine (in a state folder that machines share), and one whose boot is not known.

"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
import contextlib
import dataclasses
import fcntl
import json
import os
from pathlib import Path
import re
import stat

from yolov7_trt_ros.atomic_file import create_new
from yolov7_trt_ros.errors import PowerError, PowerFormatError, PowerPermissionError
from yolov7_trt_ros.power.changes.records import LASTING, Record, record_from_json, record_to_json

FORMAT = 1
FOLDER = 'yolov7_trt_ros'
RUN_FOLDER = f'/run/{FOLDER}'
MAX_BYTES = 1 << 18
"""Limit of a read; a machine with 1024 cores needs about half of it."""

_BOOT_ID = 'proc/sys/kernel/random/boot_id'
_UUID = re.compile(r'[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}', re.ASCII)
_MACHINE_FILES = ('proc/device-tree/serial-number', 'etc/machine-id')
_LONGEST_NAME = 64
_MOST_ASIDE = 20  # journals that cannot be used; then the last is replaced
_READABLE_FOLDER, _READABLE_FILE = 0o755, 0o644
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_START_FIELD = 19  # of /proc/PID/stat behind the name: when the process started, in ticks


class _OtherMachineError(PowerError):
    """The journal is of another machine, and is to be left to it."""


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
        """Whether this very process still runs; if /proc does not tell, any with its pid."""
        if self.pid <= 0:
            return False
        now_ticks = _start_ticks(self.pid)
        if now_ticks and self.start_ticks:
            return now_ticks == self.start_ticks
        return _exists(self.pid)


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

        A journal that is damaged, or not of this user, is moved aside; see `problem`. So is one
        of an unknown boot: of its records only those are returned that outlast a boot.

        Raises
        ------
        PowerError
            Another process has the lock (the message gives its pid), the folder is unusable, the
            journal is of another machine, or that of root cannot be read.

        """
        if self._lock is not None:
            return {}
        self._refuse_if_root_owns()
        try:
            self._make_folder()
            self._lock = self._take_lock()
        except OSError as exc:
            raise _explain(exc, self._folder) from exc
        found: dict[str, Record] = {}
        try:
            found = self._read()
        except _OtherMachineError:
            self.close()
            raise
        except (PowerError, OSError) as exc:
            self._problem = self._explain_damage(exc)
        self._written = {} if self._problem else dict(found)  # then the file is moved aside
        return found

    def write(self, records: Mapping[str, Record]) -> None:
        """
        Write these records to disk; without any the journal is deleted.

        Raises
        ------
        PowerError
            It cannot be written, or not so that it can be read: nothing may be changed then.

        """
        if self._lock is None:
            raise PowerError(f'{self.path} is not locked by this process')  # a defect
        if records == self._written and list(records) == list(self._written or {}):
            return
        data = self._checked_text(records)
        try:
            self._keep_lock()
            if records:
                self._replace(data)
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
        mode = _READABLE_FOLDER if self._is_root else 0o700
        self._folder.mkdir(mode=mode, parents=True, exist_ok=True)
        found = os.lstat(self._folder)
        if not stat.S_ISDIR(found.st_mode) or not _is_ours(found):
            raise PowerPermissionError(
                f'{self._folder} keeps the journal of changed power settings, and has to be a '
                'folder of this user that nobody else may write; move it away'
            )
        if self._is_root and stat.S_IMODE(found.st_mode) != _READABLE_FOLDER:
            os.chmod(self._folder, _READABLE_FOLDER)  # users look into it, whatever our umask

    @property
    def _lock_path(self) -> Path:
        return self._folder / f'{self._name}.lock'

    def _keep_lock(self) -> None:
        """Take the lock again if its file was deleted: it excludes nobody any more."""
        held = self._lock
        if held is None or _is_file_of(held, self._lock_path):
            return
        self._make_folder()
        self._lock = self._take_lock()
        os.close(held)

    def _refuse_if_owned(self) -> None:
        """Refuse a journal whose lock was deleted while its process runs on."""
        try:
            text, _ = _read_bounded(self.path)
            owner, _, records, _ = _parse(text)
        except (PowerError, OSError):
            return  # none, or a damaged one, which is reported later
        if records and owner != self._owner and owner.is_alive:
            raise _busy(str(owner), self.path)

    def _take_lock(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        lock = os.open(self._lock_path, flags, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock).st_size == 0:  # a new file: the old one may have been deleted
                self._refuse_if_owned()
            os.ftruncate(lock, 0)
            os.pwrite(lock, f'{self._owner}\n'.encode(), 0)
        except BlockingIOError as exc:
            holder = os.read(lock, 200).decode('utf-8', 'replace').strip() or 'pid not known'
            os.close(lock)
            raise _busy(holder, self.path) from exc
        except (OSError, PowerError):
            os.close(lock)
            raise
        return lock

    def _refuse_if_root_owns(self) -> None:
        """Refuse a board that a process of root has changed, or may have, and has to restore."""
        path = self._root / RUN_FOLDER.lstrip('/') / self.path.name
        if self._is_root:
            return
        try:
            text, found = _read_bounded(path)
            if found.st_uid != 0:  # nothing that root has written
                return
            owner, boot, records = _parse(text)[:3]
        except (FileNotFoundError, NotADirectoryError):
            return
        except (PowerError, OSError) as exc:
            raise PowerError(
                f'whether a process of root has changed this board is not known: its journal '
                f'{path} cannot be read ({exc}); first run: sudo yolov7_trt power restore, which '
                'moves a damaged journal aside, and lets users read it'
            ) from exc
        if records and owner.is_alive:
            raise _busy(f'{owner}, as root', path)
        if records and not _is_another_boot(boot, self._boot_id()):
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
        _, boot, records, machine = _parse(text)
        if records and not self._is_root and machine not in (None, self._machine()):
            raise self._refusal_of_another(machine or 'one without a serial number')
        boot_now = self._boot_id()
        if boot == boot_now != '':
            return records
        lasting = {name: records[name] for name in records if name in LASTING}
        if lasting != records and not _is_another_boot(boot, boot_now):
            self._problem = self._explain_unknown_boot(set(records) - set(lasting))
        return lasting  # a boot ends caps and locks

    def _boot_id(self) -> str:
        """Return the id of this boot; '' if it cannot be read."""
        text = _read_name(self._root / _BOOT_ID)
        return text if _UUID.fullmatch(text) else ''

    def _machine(self) -> str:
        """Return the serial number of this machine, or else its id; '' for neither."""
        return next(filter(None, (_read_name(self._root / name) for name in _MACHINE_FILES)), '')

    def _refusal_of_another(self, machine: str) -> PowerError:
        return _OtherMachineError(
            f'the journal {self.path} is of another machine ({machine}; this one is '
            f'{self._machine() or "without a serial number"}): put its changes back there, or let '
            '$XDG_STATE_HOME name a folder of this machine alone'
        )

    def _explain_damage(self, reason: Exception) -> str:
        return (
            f'the journal {self.path} cannot be used: {reason}; {self._set_aside()}. What an '
            'earlier process has changed is not known: check the power mode, clocks and fan'
        )

    def _explain_unknown_boot(self, names: Iterable[str]) -> str:
        return (
            f'whether this machine was booted since the journal {self.path} was written is not '
            f'known, as /{_BOOT_ID} cannot be read, or could not then; so what an earlier process '
            f'has changed is not put back: {", ".join(sorted(names))}; {self._set_aside()}. Check '
            'the clocks'
        )

    def _set_aside(self) -> str:
        """Move the journal aside, beside those before it; returns where it is."""
        numbers = ('', *range(2, _MOST_ASIDE + 1))
        places = [self.path.with_name(f'{self.path.name}.damaged{each}') for each in numbers]
        damaged = next((each for each in places if not os.path.lexists(each)), places[-1])
        try:
            os.replace(self.path, damaged)
        except OSError as exc:
            return f'it cannot be moved away ({exc.strerror})'
        return f'it is kept as {damaged}'

    def _checked_text(self, records: Mapping[str, Record]) -> bytes:
        """Return the text of a journal that can be read again."""
        data = self._text(records)
        try:
            found = _parse(_decoded(data))[2]
            if found != dict(records):
                raise PowerFormatError(f'expected {records!r:.80}, found {found!r:.80}')
        except PowerFormatError as exc:
            raise PowerError(
                f'the values before a change cannot be kept in {self.path}, so nothing is '
                f'changed: they are of an unknown form ({exc})'
            ) from exc
        return data

    def _text(self, records: Mapping[str, Record]) -> bytes:
        return json.dumps({
            'format': FORMAT,
            'boot': self._boot_id(),
            'machine': self._machine(),
            'owner': dataclasses.asdict(self._owner),
            'records': {name: record_to_json(record) for name, record in records.items()},
        }, indent=1).encode()

    def _replace(self, data: bytes) -> None:
        fresh = self._folder / f'.{self.path.name}.new'
        fresh.unlink(missing_ok=True)
        mode = _READABLE_FILE if self._is_root else 0o600
        with os.fdopen(create_new(fresh, mode), 'wb') as file:
            os.fchmod(file.fileno(), mode)  # whatever our umask
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, self.path)


def _is_file_of(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one at the path."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except OSError:
        return False


def _read_bounded(path: Path) -> tuple[str, os.stat_result]:
    """Read a regular file; anything else at the path is an error."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, 'rb') as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise PowerFormatError('it is no plain file')
        data = file.read(MAX_BYTES + 1)
    return _decoded(data), found


def _decoded(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise PowerFormatError(f'it is longer than {MAX_BYTES} bytes')
    return data.decode('utf-8', 'replace')


def _parse(text: str) -> tuple[Owner, str, dict[str, Record], str | None]:
    """Return owner, boot, records and machine of a journal; older ones have no machine."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise PowerFormatError(f'expected JSON, found {text[:40]!r}') from exc
    fields = content if isinstance(content, dict) else {}
    if fields.get('format') != FORMAT:
        raise PowerFormatError(f'expected format {FORMAT}, found {fields.get("format")!r:.40}')
    boot, owner, records = fields.get('boot'), fields.get('owner'), fields.get('records')
    machine = fields.get('machine')
    if not isinstance(boot, str) or not isinstance(owner, dict) or not isinstance(records, dict):
        raise PowerFormatError('expected boot, owner and records, found others')
    if not (machine is None or isinstance(machine, str)):
        raise PowerFormatError(f'expected the name of a machine, found {machine!r:.40}')
    pid, ticks, program = (owner.get(name) for name in ('pid', 'start_ticks', 'program'))
    if type(pid) is not int or type(ticks) is not int or not isinstance(program, str):
        raise PowerFormatError(f'expected pid, start_ticks and program, found {owner!r:.80}')
    return Owner(pid, ticks, program[:40]), boot, {
        name: record_from_json(name, value) for name, value in records.items()
    }, machine


def _is_another_boot(boot: str, now: str) -> bool:
    """Whether two boots are known, and differ."""
    return '' != boot != now != ''


def _read_name(path: Path) -> str:
    """Return the one short line of a file; '' if it cannot be read."""
    try:
        return path.read_text('ascii', 'replace').strip(' \n\0')[:_LONGEST_NAME]
    except OSError:
        return ''


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


def _exists(pid: int) -> bool:
    """Whether there is a process with this number, also of another user."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


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
