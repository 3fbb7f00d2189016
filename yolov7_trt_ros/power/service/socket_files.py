"""
The socket of the power service: create, replace or take it from systemd; identify the peer.

Next to the socket is a file with the suffix `.lock`. It is locked while the service runs, and
holds the identity of its socket, so that only a socket of this service is ever replaced.

"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import contextlib
import dataclasses
import fcntl
import grp
import os
from pathlib import Path
import socket
import stat
import struct

from yolov7_trt_ros.errors import PowerError, PowerFormatError, PowerPermissionError
from yolov7_trt_ros.power.defaults import DEFAULT_SOCKET
from yolov7_trt_ros.power.sysfs import whole_number

SOCKET_VARIABLE = 'YOLOV7_TRT_POWER_SOCKET'
"""Names another socket to clients; empty: none."""

_SYSTEMD_SOCKET = 3  # the first descriptor that systemd passes
_BACKLOG = 32
_MODE_OF_GROUP, _MODE_OF_ROOT = 0o660, 0o600
_SO_PEERGROUPS = 59  # not in Python's socket; Linux 4.13 and newer, on most processors
_CREDENTIALS = struct.Struct('3i')
_HIGHEST_ID = 2**32 - 2  # the next one means none
_MOST_GROUPS = 1024
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


@dataclasses.dataclass(frozen=True)
class Peer:
    """The peer of a connection as the kernel reports it, and the name that it gives."""

    pid: int
    uid: int
    gids: tuple[int, ...]
    program: str = ''

    def __str__(self) -> str:
        """Return `pid 4711, uid 1000 (power node)`."""
        name = f' ({self.program})' if self.program else ''
        return f'pid {self.pid}, uid {self.uid}{name}'

    def may_use(self, group: int | None) -> bool:
        """Whether it is root, the user of the service, or in the group of the socket."""
        return self.uid in (0, os.geteuid()) or (group is not None and group in self.gids)


@dataclasses.dataclass(frozen=True)
class Listener:
    """A listening socket, its path, and the group that may use it; None: root only."""

    socket: socket.socket
    path: str
    group: int | None


def find_socket(environment: Mapping[str, str]) -> Path | None:
    """
    Return the socket of a power service on this machine; None without one.

    A path that the environment names is returned even if nothing is there, so that whoever
    connects reports it.

    """
    named = environment.get(SOCKET_VARIABLE)
    if named is not None:
        return Path(named) if named else None
    try:
        return DEFAULT_SOCKET if DEFAULT_SOCKET.is_socket() else None
    except OSError:
        return None


def group_id(name: str) -> int:
    """
    Return the id of a group, given by name or number.

    Raises
    ------
    PowerError
        There is no such group.

    """
    number = whole_number(name)
    if number is not None and number <= _HIGHEST_ID:
        return number
    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, ValueError) as exc:
        raise PowerError(
            f'there is no group {name!r} here; sudo groupadd {name} makes one'
        ) from exc


def read_peer(connection: socket.socket) -> Peer:
    """
    Return the peer of a connection.

    Raises
    ------
    OSError
        The connection is broken.

    """
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(raw)
    return Peer(pid, uid, (gid, *_read_groups(connection, pid)))


@contextlib.contextmanager
def open_listener(
    path: Path, group: int | None, environment: Mapping[str, str]
) -> Iterator[Listener]:
    """
    Listen at a path, or take the socket of systemd; at the end our own socket is removed.

    Parameters
    ----------
    path
        Path of the socket; no other user may have write access to its folder.
    group
        Group that may use it in addition to root; a socket of systemd has its own.
    environment
        Variables, by which systemd announces its socket.

    Raises
    ------
    PowerError
        Another service listens there, or the path exists and is not of this service.
    PowerPermissionError
        The folder is not safe, or this user may not write to it.

    """
    if environment.get('LISTEN_PID') == str(os.getpid()):
        with _take_from_systemd(environment) as listener:
            yield listener
        return
    try:
        lock = _lock(path)
    except OSError as exc:
        raise PowerPermissionError(f'cannot listen at {path}: {exc.strerror}') from exc
    try:
        with _listen(path, group, lock) as listener:
            yield listener
    finally:
        os.close(lock)


def _read_groups(connection: socket.socket, pid: int) -> tuple[int, ...]:
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4 * _MOST_GROUPS)
        return struct.unpack(f'{len(raw) // 4}I', raw)
    except OSError:
        return _read_groups_of_process(pid)


def _read_groups_of_process(pid: int) -> tuple[int, ...]:
    """Return the groups of a process, for kernels that do not report those of a peer."""
    try:
        text = Path(f'/proc/{pid}/status').read_text('utf-8', 'replace')
    except OSError:
        return ()
    lines = [line for line in text.splitlines() if line.startswith('Groups:')]
    return tuple(int(word) for line in lines for word in line.split()[1:] if word.isdecimal())


@contextlib.contextmanager
def _take_from_systemd(environment: Mapping[str, str]) -> Iterator[Listener]:
    if environment.get('LISTEN_FDS') != '1':
        raise PowerFormatError('expected one socket from systemd: one ListenStream= in the unit')
    with socket.socket(fileno=_SYSTEMD_SOCKET) as taken:
        name = taken.getsockname()
        is_right = taken.family == socket.AF_UNIX and taken.type == socket.SOCK_STREAM
        if not is_right or not isinstance(name, str) or not name.startswith('/'):
            raise PowerFormatError(
                f'expected a ListenStream= with the path of a socket, found {name!r}'
            )
        found = os.stat(name)
        yield Listener(taken, name, found.st_gid if found.st_mode & stat.S_IWGRP else None)


def _lock(path: Path) -> int:
    """Take the lock next to the socket."""
    _check_folder(path.parent)
    lock_path = _neighbour_path(path, '.lock')
    lock = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        found = os.fstat(lock)
        if found.st_uid != os.geteuid() or not stat.S_ISREG(found.st_mode):
            raise PowerPermissionError(f'{lock_path} is not a file of this user: move it away')
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        os.close(lock)
        raise PowerError(f'another power service listens at {path}: end that one first') from exc
    except BaseException:
        os.close(lock)
        raise
    return lock


def _check_folder(folder: Path) -> None:
    found = os.stat(folder)
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & _OTHERS_WRITE:
        raise PowerPermissionError(
            f'{folder} may be written by others, who could put a socket of theirs in the place of '
            'this one: choose a folder such as /run'
        )


@contextlib.contextmanager
def _listen(path: Path, group: int | None, lock: int) -> Iterator[Listener]:
    fresh = _neighbour_path(path, '.new')
    _remove_stale(path, lock)
    _remove_socket(fresh)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        try:
            with _umask(0o177):
                listening.bind(str(fresh))
            if group is not None:
                os.chown(fresh, -1, group)
            os.chmod(fresh, _MODE_OF_ROOT if group is None else _MODE_OF_GROUP)
            listening.listen(_BACKLOG)
            _note_socket(fresh, lock)
            os.link(fresh, path)  # unlike a rename this replaces nothing
        except OSError as exc:
            raise PowerPermissionError(
                f'cannot listen at {path}: {exc.strerror or exc}'
            ) from exc
        finally:
            _remove_socket(fresh)
        try:
            yield Listener(listening, str(path), group)
        finally:
            if _identity(path) == _noted(lock):
                path.unlink(missing_ok=True)


def _remove_stale(path: Path, lock: int) -> None:
    """Remove the socket of a killed service, and nothing else."""
    found = _identity(path)
    if not found:
        return
    if found != _noted(lock):
        raise PowerError(
            f'{path} is there and was not made by this power service: move it away, or choose '
            'another --socket'
        )
    path.unlink()


def _remove_socket(path: Path) -> None:
    """Remove our socket, which is created only under the lock."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            path.unlink()


def _identity(path: Path) -> str:
    """Return the identity of a file; '' without one."""
    try:
        found = os.lstat(path)
    except OSError:
        return ''
    kind = 'socket' if stat.S_ISSOCK(found.st_mode) else 'other'
    return f'{kind} {found.st_dev} {found.st_ino} {found.st_mtime_ns}'


def _note_socket(path: Path, lock: int) -> None:
    os.ftruncate(lock, 0)
    os.pwrite(lock, _identity(path).encode(), 0)


def _noted(lock: int) -> str:
    return os.pread(lock, 200, 0).decode('ascii', 'replace')


def _neighbour_path(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)
