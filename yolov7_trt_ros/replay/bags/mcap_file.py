"""
McapFile: an MCAP file, read from front to back, complete or left by a crashed recorder.

The summary at its end states the topics and which chunks can be skipped; without it the whole file
is read for that. Reads are bounded: no record or chunk may state more than the file or
`MAX_UNPACKED_BYTES` allows. The format: https://mcap.dev/spec

"""

from __future__ import annotations

import binascii
import bisect
import collections
from collections.abc import Collection, Iterator
import dataclasses
import io
from pathlib import Path
import struct
from typing import BinaryIO

from yolov7_trt_ros.errors import BagError
from yolov7_trt_ros.plain_file import open_plain_file
from yolov7_trt_ros.replay.bags.rosbags_adapter import DAMAGE, one_line, RawMessage
from yolov7_trt_ros.replay.bags.unpacking import MAX_UNPACKED_BYTES, unpack_chunk, unpack_message

MCAP_MAGIC = b'\x89MCAP0\r\n'
_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _DATA_END = 0x02, 0x03, 0x04, 0x05, 0x06, 0x0F
_CHUNK_INDEX, _STATISTICS = 0x08, 0x0B
_LAST_OPCODE = 0x0F
_PRIVATE_OPCODES = 0x80
_HEADER_BYTES = 9
_FOOTER_BYTES = 20
_MESSAGE_HEADER_BYTES = 22
_LEAST_RECORDS = 1024
_CDR = 'cdr'
_QOS_KEY = 'offered_qos_profiles'
_DAMAGE: tuple[type[BaseException], ...] = (*DAMAGE, BagError)


@dataclasses.dataclass(frozen=True)
class _Channel:
    """Source of messages of one topic and type, with the encoding of the messages."""

    topic: str
    msgtype: str
    encoding: str


class McapFile:
    """
    The messages of one MCAP file.

    Attributes
    ----------
    topics
        Message type per topic, followed by the encoding if it is not that of ROS 2.
    definitions
        Text of the message types, if the file has it in ROS format.
    qos
        Recorded QoS profiles by topic, as text.
    counts
        Messages per topic, as stated in the file or counted.
    warning
        Problem of the file, '' for a complete one.

    Raises
    ------
    BagError
        It cannot be read, or nothing can be recovered from it.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.topics: dict[str, str] = {}
        self.definitions: dict[str, str] = {}
        self.qos: dict[str, str] = {}
        self.counts: dict[str, int] = collections.Counter()
        self.warning = ''
        self._schemas: dict[int, tuple[str, str, str]] = {}
        self._channels: dict[int, _Channel] = {}
        self._chunk_channels: dict[int, frozenset[int]] = {}
        with _open(path) as file:
            size = file.seek(0, io.SEEK_END)
            summary_at = _find_summary(file, size)
            if summary_at and self._read_summary(file, summary_at, size):
                return
        self._count_all(is_closed=summary_at is not None)

    def messages(self, topics: Collection[str]) -> Iterator[RawMessage | BagError]:
        """Yield messages in recorded order, a BagError instead of each damaged part."""
        with _open(self.path) as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(len(MCAP_MAGIC))
            yield from self._records(file, size, topics, may_be_cut_off=True)

    # ---- contents

    def _read_summary(self, file: BinaryIO, at: int, size: int) -> bool:
        """Read schemas, channels and counts of the summary; False if it lacks them."""
        counts: dict[int, int] | None = None
        try:
            for opcode, body in _summary_records(file, at, size):
                if opcode == _STATISTICS:
                    counts = _channel_counts(body)
                elif opcode == _CHUNK_INDEX:
                    offset, channels = _chunk_index(body)
                    self._chunk_channels[offset] = channels
                else:
                    self._define(opcode, body)
        except _DAMAGE:
            return self._forget()
        if counts is None or any(number not in self._channels for number in counts):
            return self._forget()
        for number, count in counts.items():
            self.counts[self._channels[number].topic] += count
        return True

    def _forget(self) -> bool:
        """Drop the contents of an unreliable summary."""
        for each in (self.topics, self.definitions, self.qos, self._schemas, self._channels,
                     self._chunk_channels):
            each.clear()
        return False

    def _count_all(self, *, is_closed: bool) -> None:
        """Read the whole file to find its contents."""
        damaged = 0
        for item in self.messages(_Everything()):
            if isinstance(item, BagError):
                damaged += 1
            else:
                self.counts[item.topic] += 1
        if not self.topics:
            raise BagError(f'{self.path} is damaged: no message can be recovered from it')
        if damaged or not is_closed:
            self.warning = (
                f'{self.path} was not closed by its recorder or is truncated; '
                f'recovered {sum(self.counts.values())} messages from it'
            )

    def _define(self, opcode: int, body: bytes) -> None:
        """Store a schema or a channel; ignore other records."""
        if opcode == _SCHEMA:
            (number,) = struct.unpack_from('<H', body)
            name, at = _text(body, 2)
            encoding, at = _text(body, at)
            self._schemas[number] = name, encoding, _text(body, at)[0]
        elif opcode == _CHANNEL:
            number, schema = struct.unpack_from('<HH', body)
            topic, at = _text(body, 4)
            encoding, at = _text(body, at)
            name, form, definition = self._schemas.get(schema, ('', '', ''))
            self._channels[number] = _Channel(topic, name, encoding)
            self.topics[topic] = name if encoding == _CDR else f'{name} ({encoding or "unknown"})'
            if form == 'ros2msg':
                self.definitions[name] = definition
            self.qos[topic] = _map_value(body, at, _QOS_KEY)

    # ---- messages

    def _records(
        self, file: BinaryIO, size: int, topics: Collection[str],
        *, may_be_cut_off: bool = False, most_in_chunk: int = 0,
    ) -> Iterator[RawMessage | BagError]:
        """Read the records of the file, or a limited number of an unpacked chunk."""
        in_chunk, records = most_in_chunk > 0, 0
        while header := file.read(_HEADER_BYTES):
            records += 1
            if in_chunk and records > most_in_chunk:
                raise BagError('a chunk has more records than bytes in the file')
            at = file.tell()
            opcode, length = struct.unpack('<BQ', header.ljust(_HEADER_BYTES, b'\0'))
            if opcode in (_FOOTER, _DATA_END):
                return
            complete = len(header) == _HEADER_BYTES and at + length <= size
            if not (0 < opcode <= _LAST_OPCODE or opcode >= _PRIVATE_OPCODES):
                yield BagError(f'{self.path} is damaged at byte {at}')
                complete = False
            elif not (complete or may_be_cut_off):
                raise BagError('a record is longer than its chunk')
            elif self._is_wanted(opcode, file, topics, in_chunk=in_chunk):
                try:
                    body = _read_body(file, min(length, size - at))
                    yield from self._record(opcode, body, topics, complete=complete)
                except _DAMAGE as exc:
                    if complete:
                        yield BagError(f'{self.path} is damaged at byte {at}: {one_line(exc)}')
            following = at + length if complete else self._next_chunk(at, in_chunk=in_chunk)
            if not following:
                return
            file.seek(following)

    def _is_wanted(
        self, opcode: int, file: BinaryIO, topics: Collection[str], *, in_chunk: bool
    ) -> bool:
        """Whether the record at the file position is needed for some topics."""
        at = file.tell()
        if opcode == _MESSAGE:
            number = int.from_bytes(file.read(2), 'little')
            file.seek(at)
            return number in self._channels and self._channels[number].topic in topics
        if opcode == _CHUNK:
            if in_chunk:
                raise BagError('a chunk within a chunk')
            held = self._chunk_channels.get(at - _HEADER_BYTES)
            return not held or any(
                number not in self._channels or self._channels[number].topic in topics
                for number in held
            )
        return opcode in (_SCHEMA, _CHANNEL)

    def _next_chunk(self, at: int, *, in_chunk: bool) -> int:
        """Return the start of the next chunk in the summary, 0 for none."""
        starts = [] if in_chunk else sorted(self._chunk_channels)
        index = bisect.bisect_right(starts, at)
        return starts[index] if index < len(starts) else 0

    def _record(
        self, opcode: int, body: bytes, topics: Collection[str], *, complete: bool
    ) -> Iterator[RawMessage | BagError]:
        if opcode == _CHUNK:
            yield from self._chunk(body, topics, complete=complete)
        elif complete and opcode == _MESSAGE:
            number, _, log_time_ns = struct.unpack_from('<HIQ', body)
            channel = self._channels[number]
            data = unpack_message(body[_MESSAGE_HEADER_BYTES:])
            yield RawMessage(channel.topic, channel.msgtype, log_time_ns, data)
        elif complete:
            self._define(opcode, body)

    def _chunk(
        self, body: bytes, topics: Collection[str], *, complete: bool
    ) -> Iterator[RawMessage | BagError]:
        """Unpack a chunk; of a truncated one, the complete records if it is not compressed."""
        size, crc = struct.unpack_from('<QI', body, 16)
        compression, at = _text(body, 28)
        if not complete:
            if not compression:
                rest = body[at + 8:]
                yield from self._records(
                    io.BytesIO(rest), len(rest), topics,
                    may_be_cut_off=True, most_in_chunk=len(body),
                )
            return
        records = unpack_chunk(compression, body[at + 8:], size)
        if crc and binascii.crc32(records) != crc:
            raise BagError('chunk checksum mismatch')
        yield from self._records(
            io.BytesIO(records), len(records), topics,
            most_in_chunk=max(len(body), _LEAST_RECORDS),
        )


class _Everything(Collection[str]):
    """All topics."""

    def __contains__(self, topic: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _find_summary(file: BinaryIO, size: int) -> int | None:
    """Return the start of the summary, 0 if the file has none, None without a footer."""
    footer_at = size - len(MCAP_MAGIC) - _FOOTER_BYTES - _HEADER_BYTES
    if footer_at < len(MCAP_MAGIC):
        return None
    file.seek(footer_at)
    footer = file.read()
    if footer[:_HEADER_BYTES] != struct.pack('<BQ', _FOOTER, _FOOTER_BYTES) or (
        not footer.endswith(MCAP_MAGIC)
    ):
        return None
    (start,) = struct.unpack_from('<Q', footer, _HEADER_BYTES)
    return int(start) if len(MCAP_MAGIC) <= start < footer_at else 0


def _summary_records(file: BinaryIO, at: int, size: int) -> Iterator[tuple[int, bytes]]:
    """Yield opcode and content of the records of the summary."""
    file.seek(at)
    while True:
        opcode, length = struct.unpack('<BQ', file.read(_HEADER_BYTES))
        if opcode == _FOOTER:
            return
        if file.tell() + length > size:
            raise BagError('a record is longer than its file')
        yield opcode, _read_body(file, length)


def _read_body(file: BinaryIO, length: int) -> bytes:
    if length > 2 * MAX_UNPACKED_BYTES:
        raise BagError(f'a record of {length} bytes is not plausible')
    return file.read(length)


def _channel_counts(body: bytes) -> dict[int, int]:
    """Return the number of messages per channel in the statistics."""
    (length,) = struct.unpack_from('<I', body, 42)
    pairs = body[46:46 + length]
    return dict(struct.iter_unpack('<HQ', pairs[: len(pairs) // 10 * 10]))


def _chunk_index(body: bytes) -> tuple[int, frozenset[int]]:
    """Return the start of a chunk, and the channels of its messages."""
    (start,) = struct.unpack_from('<Q', body, 16)
    (length,) = struct.unpack_from('<I', body, 32)
    pairs = body[36:36 + length]
    return start, frozenset(number for number, _ in struct.iter_unpack('<HQ', pairs))


def _map_value(body: bytes, at: int, wanted: str) -> str:
    """Return a value of a map of texts, '' if it is not in it."""
    (length,) = struct.unpack_from('<I', body, at)
    end = min(at + 4 + length, len(body))
    at += 4
    while at < end:
        key, at = _text(body, at)
        value, at = _text(body, at)
        if key == wanted:
            return value
    return ''


def _text(body: bytes, at: int) -> tuple[str, int]:
    """Read a length-prefixed text; return it and its end."""
    (length,) = struct.unpack_from('<I', body, at)
    end = at + 4 + length
    if end > len(body):
        raise BagError('a text is longer than its record')
    return body[at + 4:end].decode(), end


def _open(path: Path) -> BinaryIO:
    try:
        return open_plain_file(path, BagError)
    except OSError as exc:
        raise BagError(f'cannot read {path}: {exc.strerror}') from exc
