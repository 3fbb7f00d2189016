"""Write files atomically: readers see the old content or the new, never a part of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import os
from pathlib import Path
import secrets

_KEPT_NAME_LENGTH = 40  # characters: a name has 255 bytes at most


def atomic_write(path: Path, data: bytes) -> None:
    """
    Replace a file as a whole or leave it as it was; its folder is created.

    Raises
    ------
    OSError
        The folder cannot be written, or the disk is full; it names the file.

    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with staged_file(path, data) as replace:
        replace()


@contextlib.contextmanager
def naming(path: Path, *, instead: bool = False) -> Iterator[None]:
    """Add the file name to an OSError without one, as of a full disk, or put it `instead`."""
    try:
        yield
    except OSError as exc:
        if instead:
            raise OSError(exc.errno, exc.strerror, str(path)) from exc
        exc.filename = exc.filename or str(path)
        raise


@contextlib.contextmanager
def staged_file(path: Path, data: bytes) -> Iterator[Callable[[], None]]:
    """Write `data` to a temporary file and yield the function that moves it to `path`."""
    def replace() -> None:
        with naming(path, instead=True):
            os.replace(temporary, path)

    with temporary_file(path, data) as temporary:
        yield replace


@contextlib.contextmanager
def temporary_file(path: Path, data: bytes, *, synced: bool = True) -> Iterator[Path]:
    """
    Write `data` to a file beside `path`, yield it, and remove it unless it was moved.

    With `synced` the data is flushed to the disk first; without, a power loss may lose it.

    """
    temporary = hidden_name(path)
    with naming(path, instead=True):
        descriptor = create_new(temporary)
    try:
        with naming(path), os.fdopen(descriptor, 'wb') as file:
            file.write(data)
            file.flush()
            if synced:
                os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def hidden_name(path: Path, suffix: str = '.tmp') -> Path:
    """Return an unpredictable name in the folder of `path`."""
    return path.with_name(f'.{path.name[:_KEPT_NAME_LENGTH]}.{secrets.token_hex(8)}{suffix}')


def create_new(path: Path, mode: int = 0o666) -> int:
    """Create a file where there is neither file nor link; return its descriptor."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(path, flags, mode)
