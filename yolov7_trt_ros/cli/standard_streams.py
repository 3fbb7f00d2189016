"""Standard streams that were closed, or whose encoding lacks characters."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import io
import os
from pathlib import Path
import sys

from yolov7_trt_ros.atomic_file import naming

_STDOUT = Path('standard output')
_ACCESS = (os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)
"""How the null device replaces closed streams: reading nothing and printing there are errors."""


def prepare() -> None:
    r"""
    Occupy the descriptors of closed streams, and escape what stdout cannot encode, as `\xe9`.

    A file opened later would get such a descriptor otherwise, and with it what libraries print.

    """
    for descriptor, access in enumerate(_ACCESS):
        if not _is_open(descriptor):
            opened = os.open(os.devnull, access)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
    sys.stdout = sys.stdout or os.fdopen(1, 'w', encoding='utf-8', closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, 'w', encoding='utf-8', closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == 'strict':
        sys.stdout.reconfigure(errors='backslashreplace')


@contextlib.contextmanager
def named() -> Iterator[None]:
    """Name stdout in the OSError of a write to it, as on a full disk; nothing more is written."""
    try:
        with naming(_STDOUT):
            yield
    except OSError:
        discard()
        raise


def discard() -> None:
    """Discard what is left to print: flushing at exit must not fail again."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def encodes(text: str) -> bool:
    """Whether stdout has all characters of a text."""
    try:
        text.encode(sys.stdout.encoding or 'utf-8')
    except UnicodeEncodeError:
        return False
    return True


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
