"""
Read image messages from their serialised form (CDR), pixels in place.

A subscription to serialised messages avoids the copies that rclpy makes of each image otherwise:
a message in C, a bytes object and an array of its pixels. The fields are those of
sensor_msgs/Image and CompressedImage.

"""

from __future__ import annotations

import dataclasses
import struct

from yolov7_trt_ros.core.stable_memory import StableMemory
from yolov7_trt_ros.core.units import NS_PER_S, stamp_to_ns
from yolov7_trt_ros.errors import ImageError

_BYTE_ORDERS = {0: '>', 1: '<'}
"""By the second byte of plain CDR; others are parameter lists and XCDR 2."""
_HEADER_BYTES = 4
_WORD_BYTES = 4
_WORDS = {
    order + kinds: struct.Struct(order + kinds)
    for order in _BYTE_ORDERS.values() for kinds in ('I', 'II', 'III', 'iII')
}


@dataclasses.dataclass(frozen=True)
class MessageHeader:
    """Fields of a std_msgs/Header."""

    sec: int
    nanosec: int
    frame_id: str

    @property
    def stamp_ns(self) -> int:
        """Return the stamp in nanoseconds."""
        return stamp_to_ns(self)


@dataclasses.dataclass(frozen=True)
class RawImage:
    """
    Fields of a sensor_msgs/Image; `data` is a view of the serialised message.

    `memory` is the block that contains it, if that stays.

    """

    header: MessageHeader
    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: memoryview
    memory: StableMemory | None = dataclasses.field(default=None, compare=False, repr=False)


@dataclasses.dataclass(frozen=True)
class PackedImage:
    """Fields of a sensor_msgs/CompressedImage; `data` is a view of the serialised message."""

    header: MessageHeader
    format: str  # noqa: A003  (as in the message)
    data: memoryview


@dataclasses.dataclass(frozen=True)
class SerializedImage:
    """A serialised image message that is read on demand."""

    serialized: bytes
    compressed: bool
    """Whether it is a sensor_msgs/CompressedImage."""

    @property
    def stamp_ns(self) -> int:
        """Return the stamp of its header; 0 for rubbish."""
        return read_stamp_ns(self.serialized)

    @property
    def size_bytes(self) -> int:
        """Return how large it is."""
        return len(self.serialized)

    def read(self) -> RawImage | PackedImage:
        """Return its fields; errors as `read_image`."""
        read = read_compressed_image if self.compressed else read_image
        return read(self.serialized)


def read_stamp_ns(message: bytes) -> int:
    """Return the stamp of a serialised message that begins with a header; 0 for rubbish."""
    order = _byte_order(message)
    if not order or len(message) < _HEADER_BYTES + 8:
        return 0
    sec, nanosec = struct.unpack_from(f'{order}iI', message, _HEADER_BYTES)
    return int(sec) * NS_PER_S + int(nanosec)


def read_image(message: bytes) -> RawImage:
    """
    Read a serialised sensor_msgs/Image.

    Raises
    ------
    ImageError
        It is cut off, or in another representation than plain CDR.

    """
    reader = _Reader(message)
    header = _read_header(reader)
    height, width, size = reader.words('III')
    encoding, (is_bigendian,) = reader.text(size), reader.octets(1)
    step, size = reader.words('II')
    return RawImage(header, height, width, encoding, is_bigendian, step, reader.octets(size))


def read_compressed_image(message: bytes) -> PackedImage:
    """Read a serialised sensor_msgs/CompressedImage; errors as `read_image`."""
    reader = _Reader(message)
    header = _read_header(reader)
    form = reader.text(*reader.words('I'))
    return PackedImage(header, form, reader.octets(*reader.words('I')))


def _byte_order(message: bytes) -> str:
    """Return struct's byte order sign of a message; '' if it is not plain CDR."""
    is_plain = len(message) >= _HEADER_BYTES and not message[0]
    return _BYTE_ORDERS.get(message[1], '') if is_plain else ''


def _read_header(reader: _Reader) -> MessageHeader:
    sec, nanosec, size = reader.words('iII')
    return MessageHeader(sec, nanosec, reader.text(size))


class _Reader:
    """Goes through a message; texts and octets have their length before them."""

    def __init__(self, message: bytes) -> None:
        self._order = _byte_order(message)
        if not self._order:
            raise ImageError(
                f'image message in an unknown representation ({message[:4].hex() or "empty"}); '
                'expected plain CDR (00000000 or 00010000)'
            )
        self._view = memoryview(message)[_HEADER_BYTES:]
        self._at = 0

    def words(self, kinds: str) -> tuple[int, ...]:
        """Read numbers of 4 bytes, which lie at multiples of that, of struct's `kinds`."""
        words = _WORDS[self._order + kinds]
        start = -(-self._at // _WORD_BYTES) * _WORD_BYTES
        return words.unpack(self._take(start, words.size))

    def text(self, size: int) -> str:
        """Read a string of a number of bytes, including its final zero."""
        return bytes(self._take(self._at, size)).rstrip(b'\0').decode('utf-8', 'replace')

    def octets(self, size: int) -> memoryview:
        """Read octets, in place."""
        return self._take(self._at, size)

    def _take(self, start: int, size: int) -> memoryview:
        if start + size > len(self._view):
            raise ImageError(
                f'truncated image message: {start + size} bytes are announced, '
                f'{len(self._view)} are there'
            )
        self._at = start + size
        return self._view[start:self._at]
