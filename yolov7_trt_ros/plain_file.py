"""Open regular files only: a pipe or a device could hang or fill the memory."""

from __future__ import annotations

import errno
import hashlib
import io
import os
from pathlib import Path
import stat
from typing import BinaryIO

from yolov7_trt_ros.errors import ModelFormatError, Yolov7TrtError

_READ_BYTES = 1 << 20
_SOCKET = 'a socket'


def open_plain_file(
    path: Path, refused: type[Yolov7TrtError] = ModelFormatError
) -> io.BufferedReader:
    """
    Open a file to read; a pipe or a device, which may never end, is refused.

    What was opened is looked at, not what had the name before.

    Parameters
    ----------
    path
        The file.
    refused
        The exception for what is no file.

    Raises
    ------
    ModelFormatError, or `refused`
        It is one of these, a socket or a folder.
    OSError
        It is not there, or cannot be read.

    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as exc:
        if exc.errno == errno.ENXIO:  # what opening a socket gives
            raise refused(f'{path} is no plain file, but {_SOCKET}') from exc
        raise
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise refused(f'{path} is no plain file, but {name_of_mode(mode)}')
    return os.fdopen(descriptor, 'rb')


def read_plain_file(
    path: Path, most_bytes: int, refused: type[Yolov7TrtError] = ModelFormatError
) -> bytes:
    """
    Return what is in a small file.

    Raises
    ------
    ModelFormatError, or `refused`
        It is no plain file, or larger than `most_bytes`.
    OSError
        It is not there, or cannot be read.

    """
    with open_plain_file(path, refused) as file:
        return read_at_most(file, path, most_bytes, refused)


def read_at_most(
    file: BinaryIO, path: Path, most_bytes: int,
    refused: type[Yolov7TrtError] = ModelFormatError,
) -> bytes:
    """Return what is in an open file; raises ModelFormatError, or `refused`, if it is larger."""
    data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise refused(f'{path} is larger than the {most_bytes} bytes that are read')
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
        (stat.S_ISDIR, 'a folder'), (stat.S_ISFIFO, 'a pipe'), (stat.S_ISSOCK, _SOCKET),
    ):
        if is_kind(mode):
            return name
    return 'a device'
