"""What the container of a video states of its length, and whether the file is cut off."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import os
from pathlib import Path
import struct
from typing import BinaryIO, NamedTuple

_MOST_BOXES = 65_536
_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067
_MP4_STARTS = (b'ftyp', b'moov', b'mdat', b'wide', b'free', b'skip')
_NO_TIME = -1


class Box(NamedTuple):
    """A part of a file: its name, and where its content begins and ends."""

    name: bytes
    start: int
    end: int


def is_cut_off(path: Path) -> bool | None:
    """
    Return whether a video file is shorter than its container states; None if that is unknown.

    Known for MP4, MOV, AVI, Matroska and WebM, if the recorder has finished the file.

    """
    with contextlib.suppress(OSError, struct.error), path.open('rb') as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(12)
        if head[:4] == b'RIFF':
            ends = [box.end for box in _riff_chunks(file, size)]
        elif int.from_bytes(head[:4], 'big') == _EBML:
            ends = _ebml_ends(file, size)
        elif head[4:8] in _MP4_STARTS:
            ends = [box.end for box in _boxes(file, 0, size)]
        else:
            ends = []
        return max(ends) > size if ends else None
    return None


def lists_frames(path: Path) -> bool:
    """Return whether the container lists each frame, as AVI and MP4; others state a duration."""
    with contextlib.suppress(OSError, struct.error), path.open('rb') as file:
        head = file.read(8)
        if head[:4] == b'RIFF':
            return True
        size = os.fstat(file.fileno()).st_size
        parts = next(_named(file, b'moof', 0, size), None)  # then a part lists its frames only
        return head[4:8] in _MP4_STARTS and parts is None
    return False


def edited_duration_s(path: Path) -> float | None:
    """Return how long the picture of an MP4 or MOV file plays by its edit list; None without."""
    with contextlib.suppress(OSError, struct.error, ZeroDivisionError), path.open('rb') as file:
        size = os.fstat(file.fileno()).st_size
        for movie in _named(file, b'moov', 0, size):
            scale = _time_scale(file, movie)
            for track in _named(file, b'trak', movie.start, movie.end):
                if _is_picture(file, track):
                    ticks = _edited_ticks(file, track)
                    return None if ticks is None else ticks / scale
    return None


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[Box]:
    """Yield the boxes of MP4 between two places; the last one may end beyond."""
    for _ in range(_MOST_BOXES):
        if end - start < 8:
            return
        file.seek(start)
        size, name = struct.unpack('>I4s', file.read(8))
        content = start + 8
        if size == 1:
            (size,) = struct.unpack('>Q', file.read(8))
            content += 8
        if size == 0:
            size = end - start
        if start + size < content or not name.isascii():
            return
        yield Box(name, content, start + size)
        start += size


def _named(file: BinaryIO, name: bytes, start: int, end: int) -> Iterator[Box]:
    return (box for box in _boxes(file, start, end) if box.name == name and box.end <= end)


def _riff_chunks(file: BinaryIO, size: int) -> Iterator[Box]:
    """Yield the chunks of an AVI file, of which long ones have several; none if unfinished."""
    start = 0
    for _ in range(_MOST_BOXES):
        if size - start < 12:
            return
        file.seek(start)
        name, length = struct.unpack('<4sI', file.read(8))
        if name != b'RIFF' or not length:
            return
        yield Box(name, start + 8, start + 8 + length)
        start += 8 + length + length % 2


def _ebml_ends(file: BinaryIO, size: int) -> list[int]:
    """Return where the segment of a Matroska file ends; nothing if it does not say that."""
    start = 0
    while start < size:
        file.seek(start)
        number = int.from_bytes(file.read(4), 'big')
        first = file.read(1)
        width = 9 - first[0].bit_length() if first and first[0] else 0
        if number not in (_EBML, _SEGMENT) or not width:
            return []
        content = start + 4 + width
        length = int.from_bytes(first + file.read(width - 1), 'big') & (1 << 7 * width) - 1
        if length == (1 << 7 * width) - 1:  # unknown, as of a stream
            return []
        if number == _SEGMENT:
            return [content + length]
        start = content + length
    return []


def _time_scale(file: BinaryIO, movie: Box) -> int:
    """Return the units a second of the edit lists; 0 if unknown."""
    for header in _named(file, b'mvhd', movie.start, movie.end):
        file.seek(header.start)
        wide = file.read(1) == b'\1'
        file.seek(header.start + (20 if wide else 12))
        return int(struct.unpack('>I', file.read(4))[0])
    return 0


def _is_picture(file: BinaryIO, track: Box) -> bool:
    for media in _named(file, b'mdia', track.start, track.end):
        for handler in _named(file, b'hdlr', media.start, media.end):
            file.seek(handler.start + 8)
            return file.read(4) == b'vide'
    return False


def _edited_ticks(file: BinaryIO, track: Box) -> int | None:
    """Return the sum of the parts that an edit list plays; None if there is none."""
    for edits in _named(file, b'edts', track.start, track.end):
        for table in _named(file, b'elst', edits.start, edits.end):
            file.seek(table.start)
            version, count = struct.unpack('>B3xI', file.read(8))
            form = struct.Struct('>Qq4x' if version == 1 else '>Ii4x')
            entries = [form.unpack(file.read(form.size)) for _ in range(min(count, _MOST_BOXES))]
            return sum(int(length) for length, begin in entries if begin != _NO_TIME)
    return None
