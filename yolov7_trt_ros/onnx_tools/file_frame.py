"""Check that an ONNX file is complete, from the lengths of its parts."""

from __future__ import annotations

from collections.abc import Iterator
import os
from typing import BinaryIO

_MOST_FIELDS = 100_000
_GRAPH_FIELD = 7


def missing_of_onnx(file: BinaryIO) -> str:
    """
    Return what an ONNX file lacks at its end, '' if it is whole.

    Raises
    ------
    OSError
        It cannot be read.

    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    fields = set()
    for field, end in _fields(file, size):
        if end > size:
            return f'{size} bytes of at least {end}'
        fields.add(field)
    return '' if _GRAPH_FIELD in fields else f'{size} bytes, and no graph among them'


def _fields(file: BinaryIO, size: int) -> Iterator[tuple[int, int]]:
    """Yield number and end of each part of a protocol buffer, as far as they can be followed."""
    for _ in range(_MOST_FIELDS):
        if file.tell() >= size:
            return
        key = _varint(file)
        kind = key & 7
        skipped = {1: 8, 5: 4, 2: _varint(file) if kind == 2 else 0}.get(kind, 0)
        if kind == 0:
            _varint(file)
        end = file.tell() + skipped
        yield key >> 3, end
        file.seek(min(end, size))


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            return value
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            break
    return value
