"""
SqliteFile: a rosbag2 file of SQLite with its write-ahead log; neither is changed.

A recorder that was killed leaves most of its messages in `FILE-wal`. SQLite itself would merge
them, which changes foreign files and needs write access. Here the files are opened read-only, and
the index of the log is kept in memory: that needs an exclusive lock, which does nothing in the
file system `unix-none`.

"""

from __future__ import annotations

from collections.abc import Collection, Iterator
import contextlib
import functools
import os
from pathlib import Path
from typing import Any
import urllib.parse

from yolov7_trt_ros.errors import BagError
from yolov7_trt_ros.plain_file import open_plain_file
from yolov7_trt_ros.replay.bags.rosbags_adapter import apsw, DAMAGE, one_line, RawMessage
from yolov7_trt_ros.replay.bags.unpacking import MAX_UNPACKED_BYTES, unpack_message

SQLITE_MAGIC = b'SQLite format 3\0'
_NAME = 'yolov7_trt_read_only'
_LEAST_LIMIT_BYTES = 1 << 16
_WAL_HEADER_BYTES = 32
_WRITING = (
    apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_DELETEONCLOSE
)


class SqliteFile:
    """
    The messages of one .db3 file, in the order they were recorded.

    Attributes
    ----------
    topics, definitions, qos, counts, warning
        As in `McapFile`.

    Raises
    ------
    BagError
        It is damaged, not a bag, or was left half-written without a write-ahead log.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.warning = ''
        _check_journal(path)
        try:
            with _open(path) as database:
                _check_tables(database)
                rows = list(database.execute(
                    'SELECT id, name, type, serialization_format FROM topics ORDER BY id'
                ))
                self._ids = {int(number): str(name) for number, name, _, _ in rows}
                self._types = {str(name): str(kind) for _, name, kind, _ in rows}
                self.topics = {
                    str(name): str(kind) if form == 'cdr' else f'{kind} ({form or "unknown"})'
                    for _, name, kind, form in rows
                }
                counted = dict(database.execute(
                    'SELECT topic_id, count(*) FROM messages GROUP BY topic_id'
                ))
                self.counts = dict.fromkeys(self.topics, 0)
                for number, name in self._ids.items():
                    self.counts[name] += counted.get(number, 0)
                self.qos = _read_pairs(database, 'topics', 'name', 'offered_qos_profiles')
                self.definitions = _read_pairs(
                    database, 'message_definitions', 'topic_type', 'encoded_message_definition',
                    "WHERE encoding = 'ros2msg'",
                )
        except DAMAGE as exc:
            raise BagError(f'cannot read {path}: {one_line(exc)}') from exc
        if _log_bytes(path):
            self.warning = (
                f'{path} was not closed by its recorder; what is in {path.name}-wal is read too'
            )

    def messages(self, topics: Collection[str]) -> Iterator[RawMessage | BagError]:
        """Yield messages in recorded order, a BagError if the rest cannot be read."""
        wanted = [number for number, name in self._ids.items() if name in topics]
        places = ','.join('?' * len(wanted))
        try:
            with _open(self.path) as database:
                for number, time_ns, data in database.execute(
                    'SELECT topic_id, timestamp, data FROM messages '
                    f'WHERE topic_id IN ({places}) ORDER BY id', wanted,
                ):
                    name = self._ids[number]
                    # a damaged row may contain NULL, a number or a text
                    yield _message(
                        self.path, name, self._types[name],
                        max(0, time_ns) if isinstance(time_ns, int) else 0,
                        data if isinstance(data, bytes) else b'',
                    )
        except DAMAGE as exc:
            yield BagError(f'{self.path} is damaged: {one_line(exc)}')


def _message(
    path: Path, topic: str, msgtype: str, time_ns: int, data: bytes
) -> RawMessage | BagError:
    try:
        return RawMessage(topic, msgtype, time_ns, unpack_message(data))
    except BagError as exc:
        return BagError(f'{path}: {topic}: {exc}')


def _log_bytes(path: Path) -> int:
    """Return the size of the write-ahead log, 0 for one without content."""
    try:
        size = path.with_name(f'{path.name}-wal').stat().st_size
    except OSError:
        return 0
    return size if size > _WAL_HEADER_BYTES else 0


def _check_journal(path: Path) -> None:
    """Refuse a file that is half-written by its rollback journal."""
    journal = path.with_name(f'{path.name}-journal')
    try:
        with open_plain_file(journal, BagError) as file:
            unfinished = any(file.read(_WAL_HEADER_BYTES))
    except (OSError, BagError):  # none, or one that SQLite did not write
        return
    if unfinished:
        raise BagError(
            f'{path} was being written when its recorder ended, as {journal.name} shows: let '
            f'SQLite repair a copy of both, with: sqlite3 {path.name} .tables'
        )


def _check_tables(database: Any) -> None:
    """Refuse a database whose messages are not two plain tables."""
    found = database.execute(
        "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND rootpage > 0 "
        "AND name IN ('messages', 'topics')"
    ).fetchone()
    if found[0] != 2:
        raise ValueError('it has no tables of messages and topics, so it is not a bag of rosbag2')


def _read_pairs(
    database: Any, table: str, key: str, value: str, condition: str = ''
) -> dict[str, str]:
    """Return two columns of a table, nothing if this release of rosbag2 lacks them."""
    columns = {row[1] for row in database.execute(f'PRAGMA table_info({table})')}
    if not {key, value} <= columns:
        return {}
    rows = database.execute(f'SELECT {key}, {value} FROM {table} {condition}')
    return {str(name): str(text) for name, text in rows}


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Any]:
    """Yield a connection that reads the file and its log."""
    _register_files()
    log_bytes = _log_bytes(path)
    address = f'file:{urllib.parse.quote(os.path.abspath(path))}'
    if not log_bytes:  # else SQLite would make one
        address += '?immutable=1'
    connection = apsw.Connection(
        address, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI, vfs=_NAME
    )
    try:
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
        size = path.stat().st_size + log_bytes
        connection.limit(
            apsw.SQLITE_LIMIT_LENGTH, min(max(size, _LEAST_LIMIT_BYTES), MAX_UNPACKED_BYTES)
        )
        connection.execute('PRAGMA locking_mode = EXCLUSIVE')
        yield connection
    finally:
        connection.close(True)  # also in the middle of a query


class _ReadOnlyFiles(apsw.VFS):
    """A file system for SQLite that opens files read-only, and locks nothing."""

    def __init__(self) -> None:
        super().__init__(_NAME, 'unix-none')

    def xOpen(self, name: Any, flags: list[int]) -> Any:  # noqa: N802  (SQLite's name)
        """Open a file; one without a name is a temporary file of SQLite."""
        if name is not None:
            flags[0] = flags[0] & ~_WRITING | apsw.SQLITE_OPEN_READONLY
        return super().xOpen(name, flags)


@functools.cache
def _register_files() -> _ReadOnlyFiles:
    """Register the file system with SQLite, once; it exists as long as the returned object."""
    return _ReadOnlyFiles()
