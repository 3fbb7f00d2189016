"""Open regular files only: a pipe or a device could hang or fill the memory."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import hashlib
import os
from pathlib import Path
import stat
from typing import BinaryIO

from yolov7_trt_ros.errors import ModelFormatError

_READ_BYTES = 1 << 20


@contextlib.contextmanager
def open_plain_file(path: Path) -> Iterator[BinaryIO]:
    """
    Open a file to read; a pipe or a device, which may never end, is refused.

    Raises
    ------
    ModelFormatError
        It is one of these, a socket or a folder.
    OSError
        It is not there, or cannot be read.

    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise ModelFormatError(f'{path} is no plain file, but {name_of_mode(mode)}')
    with os.fdopen(descriptor, 'rb') as file:
        yield file


def read_plain_file(path: Path, most_bytes: int) -> bytes:
    """
    Return what is in a small file.

    Raises
    ------
    ModelFormatError
        It is no plain file, or larger than `most_bytes`.
    OSError
        It is not there, or cannot be read.

    """
    with open_plain_file(path) as file:
        return read_at_most(file, path, most_bytes)


def read_at_most(file: BinaryIO, path: Path, most_bytes: int) -> bytes:
    """Return what is in an open file; raises ModelFormatError if it is larger."""
    data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise ModelFormatError(f'{path} is larger than the {most_bytes} bytes that are read')
    return data


def sha256_of(path: Path) -> str:
    """
    Return the SHA-256 of a file, as hexadecimal digits.

    Raises
    ------
    ModelFormatError
        It is no plain file.
    OSError
        It is not there, or cannot be read.

    """
    digest = hashlib.sha256()
    with open_plain_file(path) as file:
        while part := file.read(_READ_BYTES):
            digest.update(part)
    return digest.hexdigest()


def name_of_mode(mode: int) -> str:
    """Return what something is that is no plain file, with its article."""
    for is_kind, name in (
        (stat.S_ISDIR, 'a folder'), (stat.S_ISFIFO, 'a pipe'), (stat.S_ISSOCK, 'a socket'),
    ):
        if is_kind(mode):
            return name
    return 'a device'
