"""Read size and completeness of JPEG and PNG files without decoding them."""

from __future__ import annotations

from collections.abc import Iterator
import re
import struct
from typing import NamedTuple
import zlib

from yolov7_trt_ros.errors import ImageError

PNG_MAGIC = b'\x89PNG\r\n\x1a\n'
JPEG_MAGIC = b'\xff\xd8'
_STAND_ALONE = {0x01, *range(0xD0, 0xD9)}
_JPEG_END = b'\xff\xd9'
_START_OF_SCAN = 0xDA
_START_OF_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_NO_FILL_BYTE = re.compile(rb'[^\xff]')
_SEQUENTIAL = (0xC0, 0xC1)
_SCAN_MARK = b'\xff\xda'
_MOST_SEGMENTS = 4096
"""More than any writer makes; it bounds the work for a file that is made to cost time."""
_MOST_SCANS = 64
"""Progressive files have about ten; each costs a pass over all pixels."""
_MOST_CHUNKS = 1 << 16
_CHECKED_CHUNKS = (b'IHDR', b'PLTE', b'IDAT', b'acTL', b'fcTL', b'fdAT')
"""Chunks with pixels; a wrong checksum of others is harmless."""
_ORIENTATION_TAG = 0x0112


class PngFacts(NamedTuple):
    """Facts from the chunks of a PNG; `orientation` as in EXIF, 1 for upright."""

    size_wh: tuple[int, int]
    is_grey_16: bool
    is_animated: bool
    orientation: int


def jpeg_size(data: memoryview) -> tuple[int, int]:
    """
    Return width and height that the frame header of a JPEG states.

    Raises
    ------
    ImageError
        There is none.

    """
    at = _find_segment(data, _START_OF_FRAME)
    frame = bytes(data[at + 3:at + 7]) if at else b''
    if len(frame) < 4:
        raise ImageError(f'truncated or damaged JPEG: no frame header within {len(data)} bytes')
    return int.from_bytes(frame[2:], 'big'), int.from_bytes(frame[:2], 'big')


def check_jpeg(data: memoryview) -> None:
    """
    Check that a JPEG has its end mark; cameras may pad after it with anything.

    OpenCV 4 silently fills the rest of a JPEG without its end with grey.

    Raises
    ------
    ImageError
        It is cut off, or has more scans than a picture needs.

    """
    at = _find_segment(data, {_START_OF_SCAN})
    scans = bytes(data[at:]) if at else b''
    if not scans.endswith(_JPEG_END) and _JPEG_END not in scans:
        raise ImageError(f'truncated JPEG: no end mark within {len(data)} bytes')
    if not _has_one_scan(data, at) and scans.count(_SCAN_MARK) > _MOST_SCANS:
        raise ImageError(f'JPEG of more than {_MOST_SCANS} scans, which would take long to decode')


def _has_one_scan(data: memoryview, scan_at: int) -> bool:
    """Tell whether the first scan has all of every component: then no other is read."""
    frame_at = _find_segment(data, _START_OF_FRAME)
    components = data[frame_at + 7:frame_at + 8]
    return data[frame_at - 1] in _SEQUENTIAL and components == data[scan_at + 2:scan_at + 3]


def read_png(data: memoryview) -> PngFacts:
    """
    Return the facts of a PNG up to its last chunk.

    For a chunk whose length is damaged OpenCV 5 clears gigabytes of memory, which takes seconds;
    OpenCV 4.11, the newest that goes with NumPy 1 (Humble), ends the process with a segmentation
    fault where the pixels of an animated one are damaged. So checksums are compared.

    Raises
    ------
    ImageError
        It is cut off or damaged.

    """
    size_wh, grey_16, animated, orientation = (0, 0), False, False, 1
    for kind, content in _png_chunks(data):
        if kind == b'IHDR' and len(content) >= 10:
            width, height, depth, colour = struct.unpack_from('>IIBB', content)
            size_wh, grey_16 = (width, height), depth == 16 and colour in (0, 4)
        elif kind == b'acTL':
            animated = True
        elif kind == b'eXIf':
            orientation = exif_orientation(bytes(content))
    return PngFacts(size_wh, grey_16, animated, orientation)


def png_size(data: memoryview) -> tuple[int, int]:
    """Return width and height in a PNG header; raises ImageError if it is cut off."""
    if len(data) < 24:
        raise ImageError(f'truncated PNG: {len(data)} bytes')
    width, height = struct.unpack_from('>II', data, 16)
    return width, height


def _png_chunks(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Walk the chunks (length, type, content, checksum) up to the last one, IEND."""
    at = len(PNG_MAGIC)
    for _ in range(_MOST_CHUNKS):
        kind = bytes(data[at + 4:at + 8])
        length = int.from_bytes(data[at:at + 4], 'big')
        end = at + 12 + length
        if kind == b'IEND' and at + 12 <= len(data):
            return
        if end > len(data):
            break
        if kind in _CHECKED_CHUNKS and zlib.crc32(data[at + 4:end - 4]) != int.from_bytes(
            data[end - 4:end], 'big'
        ):
            raise ImageError(f'damaged PNG: wrong checksum of {kind.decode()} at byte {at}')
        yield kind, data[at + 8:end - 4]
        at = end
    raise ImageError(f'truncated or damaged PNG: no end chunk within {len(data)} bytes')


def exif_orientation(exif: bytes) -> int:
    """Return the orientation in EXIF data (a TIFF header and its first directory)."""
    order = {b'II': '<', b'MM': '>'}.get(exif[:2])
    if order is None or len(exif) < 10:
        return 1
    (at,) = struct.unpack_from(f'{order}I', exif, 4)
    entries = exif[at + 2:at + 2 + 12 * 64]
    for start in range(0, len(entries) - 11, 12):
        tag, _, _, value = struct.unpack_from(f'{order}HHIH', entries, start)
        if tag == _ORIENTATION_TAG:
            return value if 1 <= value <= 8 else 1
    return 1


def _find_segment(data: memoryview, wanted: set[int]) -> int:
    """Return the start of the content of the first segment of some kinds; 0 if there is none."""
    at = len(JPEG_MAGIC)
    for _ in range(_MOST_SEGMENTS):
        found = _NO_FILL_BYTE.search(data, at)
        if found is None or found.start() == at:
            return 0
        marker, at = data[found.start()], found.end()
        if marker in wanted:
            return at
        if marker in _STAND_ALONE:
            continue
        length = int.from_bytes(data[at:at + 2], 'big')
        if length < 2 or marker in (_START_OF_SCAN, _JPEG_END[1]):
            return 0
        at += length
    return 0
