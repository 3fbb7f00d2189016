"""The mark in pictures and videos that this program wrote; only marked files are replaced."""

from __future__ import annotations

import os
from pathlib import Path
import zlib

MARK = b'written by yolov7_trt_ros'
_JPEG_START = b'\xff\xd8'
_JFIF = b'\xff\xe0'
_PNG_START_BYTES = 33
"""Size of the signature and the first chunk, which is the header."""

_HEAD_BYTES = 128
_COMMENT = b'\xff\xfe' + (len(MARK) + 2).to_bytes(2, 'big') + MARK
_FREE_BOX = (len(MARK) + 8).to_bytes(4, 'big') + b'free' + MARK
_TEXT = b'tEXtComment\0' + MARK
_TEXT_CHUNK = (len(_TEXT) - 4).to_bytes(4, 'big') + _TEXT + zlib.crc32(_TEXT).to_bytes(4, 'big')
_MARKED_SUFFIXES = ('.jpg', '.png', '.mp4')


def marked_jpeg(data: bytes) -> bytes:
    """Return a JPEG file with the mark as a comment, after the JFIF header if any."""
    at = len(_JPEG_START)
    if data[at:at + 2] == _JFIF:
        at += 2 + int.from_bytes(data[at + 2:at + 4], 'big')
    return data[:at] + _COMMENT + data[at:]


def marked_png(data: bytes) -> bytes:
    """Return a PNG file with the mark as a comment, after the header."""
    return data[:_PNG_START_BYTES] + _TEXT_CHUNK + data[_PNG_START_BYTES:]


def mark_mp4(path: Path) -> None:
    """Append the mark to a finished MP4 file, as a box that players skip."""
    with path.open('ab') as file:
        file.write(_FREE_BOX)


def is_own(path: Path) -> bool:
    """Whether a file has the mark, or all files in a folder."""
    if path.is_dir() and not path.is_symlink():
        return all(
            is_own(Path(folder) / name) for folder, _, names in os.walk(path) for name in names
        )
    if path.suffix not in _MARKED_SUFFIXES or not path.is_file():
        return False
    with path.open('rb') as file:
        head = file.read(_HEAD_BYTES)
        if head.startswith(_JPEG_START) and _COMMENT in head or _TEXT_CHUNK in head:
            return True
        file.seek(max(0, file.seek(0, os.SEEK_END) - len(_FREE_BOX)))
        return file.read() == _FREE_BOX
