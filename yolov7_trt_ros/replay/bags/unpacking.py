"""Unpack zstd and lz4 with limits, so that a small file cannot fill memory or disk."""

from __future__ import annotations

from pathlib import Path
import shutil
from typing import Any, BinaryIO

from yolov7_trt_ros.errors import BagError
from yolov7_trt_ros.plain_file import open_plain_file
from yolov7_trt_ros.replay.bags.rosbags_adapter import DAMAGE, LZ4FrameDecompressor, one_line, zstd

ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
MAX_UNPACKED_BYTES = 1 << 28
"""Limit of a chunk or a message: 268 MB, more than an image of 8192 x 8192 pixels."""

_PIECE_BYTES = 1 << 22
_LEAST_ALLOWED_BYTES = 1 << 26
_MOST_RATIO = 1000
"""Limit of unpacked to packed size; bags of camera images are far below it."""


def unpack_chunk(compression: str, packed: bytes, size: int) -> bytes:
    """
    Unpack a chunk of an MCAP file.

    Parameters
    ----------
    compression
        '', `lz4` or `zstd`.
    packed
        Its bytes in the file.
    size
        Its stated unpacked size in bytes.

    Raises
    ------
    BagError
        The stated size is too large, or wrong.

    """
    if size > MAX_UNPACKED_BYTES:
        raise BagError(f'a chunk of {size} bytes, expected at most {MAX_UNPACKED_BYTES}')
    if compression not in ('', 'lz4', 'zstd'):
        raise BagError(f'unknown compression {compression[:40]!r} of a chunk')
    data = packed
    if compression:
        decompressor = zstd.ZstdDecompressor() if compression == 'zstd' else LZ4FrameDecompressor()
        data = _unpack(decompressor, packed, size)
    if len(data) != size:
        raise BagError(f'a chunk that states {size} bytes unpacks to {len(data)}')
    return data


def unpack_message(data: bytes) -> bytes:
    """
    Return a message, unpacked if it is compressed with zstd by itself.

    Serialised messages never start with the four magic bytes of zstd.

    Raises
    ------
    BagError
        It is damaged, or unpacks to more than `MAX_UNPACKED_BYTES`.

    """
    if not data.startswith(ZSTD_MAGIC):
        return data
    try:
        return _unpack(zstd.ZstdDecompressor(), data, MAX_UNPACKED_BYTES)
    except DAMAGE as exc:
        raise BagError(f'a message compressed with zstd is damaged: {one_line(exc)}') from exc


def unpack_file(path: Path, folder: Path) -> Path:
    """
    Unpack a file that was compressed as a whole with zstd.

    Parameters
    ----------
    path
        The file, such as `drive_0.db3.zstd`.
    folder
        Folder to write to.

    Raises
    ------
    BagError
        It is damaged, too large for the disk, or its compression ratio is suspicious.

    """
    target = folder / (path.stem if path.suffix == '.zstd' else path.name)
    allowed = max(path.stat().st_size * _MOST_RATIO, _LEAST_ALLOWED_BYTES)
    free = shutil.disk_usage(folder).free // 2
    try:
        with (
            open_plain_file(path, BagError) as packed, zstd.open(packed) as source,
            target.open('wb') as file,
        ):
            written = _copy(source, file, min(allowed, free))
    except DAMAGE as exc:
        raise BagError(f'cannot unpack {path}: {one_line(exc)}') from exc
    if written > min(allowed, free):
        reason = (f'half of the free space in {folder} ({free} bytes)' if free < allowed
                  else f'{_MOST_RATIO} times its size')
        raise BagError(f'{path} unpacks to more than {reason}; unpack it with: zstd -d')
    return target


def _copy(source: Any, target: BinaryIO, most_bytes: int) -> int:
    """Copy until the end or beyond the limit; return the number of bytes."""
    written = 0
    while written <= most_bytes and (piece := source.read(_PIECE_BYTES)):
        target.write(piece)
        written += len(piece)
    return written


def _unpack(decompressor: Any, packed: bytes, most_bytes: int) -> bytes:
    """Unpack one frame piece by piece; raises BagError for more than allowed, or `DAMAGE`."""
    pieces, total, rest = [], 0, packed
    while not decompressor.eof:
        piece = decompressor.decompress(rest, max_length=_PIECE_BYTES)
        rest = b''
        if not piece and decompressor.needs_input:
            raise BagError('compressed data is truncated')
        pieces.append(piece)
        total += len(piece)
        if total > most_bytes:
            raise BagError(f'compressed data unpacks to more than {most_bytes} bytes')
    return b''.join(pieces)
