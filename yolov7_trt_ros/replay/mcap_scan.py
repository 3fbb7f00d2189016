"""
Read an MCAP file from front to back, without its index: what a crashed recorder leaves behind.

Such a file has no footer and no summary, and its last record may be cut off; rosbags refuses it.
The format: https://mcap.dev/spec

"""

from __future__ import annotations

import binascii
from collections.abc import Iterator
import io
from pathlib import Path
import struct
from typing import BinaryIO

from yolov7_trt_ros.errors import BagError
from yolov7_trt_ros.replay.rosbags_door import DAMAGE, DECOMPRESSORS, RawMessage

MAGIC = b'\x89MCAP0\r\n'
_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _DATA_END = 0x02, 0x03, 0x04, 0x05, 0x06, 0x0F
_LAST_OPCODE = 0x0F
_PRIVATE_OPCODES = 0x80
_HEADER_BYTES = 9
_MAX_CHUNK_BYTES = 1 << 32


class McapScan:
    """
    One pass over the records of an MCAP file.

    Attributes
    ----------
    topics
        Message type per topic, of all channels seen so far.

    Raises
    ------
    BagError
        Not an MCAP file.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.topics: dict[str, str] = {}
        self._schemas: dict[int, str] = {}
        self._channels: dict[int, tuple[str, str]] = {}
        with _open(path) as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise BagError(f'{path} is not an MCAP file: it does not start as one')

    def __iter__(self) -> Iterator[RawMessage | BagError]:
        """Yield messages in the order of recording, a BagError in place of each damaged part."""
        with _open(self.path) as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(len(MAGIC))
            yield from self._records(file, size, may_be_cut_off=True)

    def _records(
        self, file: BinaryIO, size: int, *, may_be_cut_off: bool
    ) -> Iterator[RawMessage | BagError]:
        """Walk the records of the file, or of an unpacked chunk."""
        while header := file.read(_HEADER_BYTES):
            at = file.tell()
            opcode, length = struct.unpack('<BQ', header.ljust(_HEADER_BYTES, b'\0'))
            if opcode in (_FOOTER, _DATA_END):
                return
            if not (0 < opcode <= _LAST_OPCODE or opcode >= _PRIVATE_OPCODES):
                yield BagError(f'{self.path} is damaged at byte {at}: what follows is lost')
                return
            complete = len(header) == _HEADER_BYTES and at + length <= size
            if not (complete or may_be_cut_off):
                raise ValueError('a record is longer than its chunk')
            if opcode in (_SCHEMA, _CHANNEL, _MESSAGE, _CHUNK):
                try:
                    yield from self._record(opcode, file.read(min(length, size - at)), complete)
                except DAMAGE as exc:
                    if complete:
                        yield BagError(f'{self.path} is damaged at byte {at}: {exc}')
            if not complete:
                return
            file.seek(at + length)

    def _record(
        self, opcode: int, body: bytes, complete: bool
    ) -> Iterator[RawMessage | BagError]:
        if opcode == _CHUNK:
            yield from self._chunk(body, complete)
        elif not complete:
            return
        elif opcode == _SCHEMA:
            self._schemas[struct.unpack_from('<H', body)[0]] = _text(body, 2)[0]
        elif opcode == _CHANNEL:
            number, schema = struct.unpack_from('<HH', body)
            topic = _text(body, 4)[0]
            self._channels[number] = topic, self._schemas.get(schema, '')
            self.topics[topic] = self._schemas.get(schema, '')
        else:
            number, _, log_time_ns = struct.unpack_from('<HIQ', body)
            if number in self._channels:
                yield RawMessage(*self._channels[number], log_time_ns, body[22:])

    def _chunk(self, body: bytes, complete: bool) -> Iterator[RawMessage | BagError]:
        """Unpack a chunk; of a cut off one, the whole records if it is not compressed."""
        size, crc = struct.unpack_from('<QI', body, 16)
        compression, at = _text(body, 28)
        packed = body[at + 8:]
        if size > _MAX_CHUNK_BYTES:
            raise BagError(f'a chunk of {size} bytes is not plausible')
        if not complete and compression:
            return
        records = DECOMPRESSORS[compression](packed, size)
        if complete and crc and binascii.crc32(records) != crc:
            raise ValueError('chunk checksum mismatch')
        unpacked = io.BytesIO(records)
        yield from self._records(unpacked, len(records), may_be_cut_off=not complete)


def _text(body: bytes, at: int) -> tuple[str, int]:
    """Read a text with its length before it; return it and where it ends."""
    (length,) = struct.unpack_from('<I', body, at)
    end = at + 4 + length
    if end > len(body):
        raise ValueError('a text is longer than its record')
    return body[at + 4:end].decode(), end


def _open(path: Path) -> BinaryIO:
    try:
        return path.open('rb')
    except OSError as exc:
        raise BagError(f'cannot read {path}: {exc.strerror}') from exc
