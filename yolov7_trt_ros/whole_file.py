"""Write a file so that readers see the old content or the new, never a part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import os
from pathlib import Path
import secrets

_KEPT_OF_NAME = 40  # characters: a name has 255 bytes at most


def write_whole(path: Path, data: bytes) -> None:
    """
    Write a file so that it is there whole or as it was before; its folder is made.

    Raises
    ------
    OSError
        The folder cannot be written, or the disk is full; it has the name of the file.

    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with prepared_file(path, data) as replace:
        replace()


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have an OSError name the file that is written: of a full disk it does not by itself."""
    try:
        yield
    except OSError as exc:
        exc.filename = exc.filename or str(path)
        raise


@contextlib.contextmanager
def prepared_file(path: Path, data: bytes) -> Iterator[Callable[[], None]]:
    """Give the function that puts `data` at `path`; the data is on the disk by then."""
    with written_aside(path, data) as temporary:
        yield lambda: os.replace(temporary, path)


@contextlib.contextmanager
def written_aside(path: Path, data: bytes, *, synced: bool = True) -> Iterator[Path]:
    """
    Give a file beside `path` that has `data` and goes when it was not moved.

    With `synced` the data is on the disk by then; without, it may be lost with the machine.

    """
    temporary = hidden_beside(path)
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


def hidden_beside(path: Path, suffix: str = '.tmp') -> Path:
    """Return a name in the folder of `path` that nobody can guess."""
    return path.with_name(f'.{path.name[:_KEPT_OF_NAME]}.{secrets.token_hex(8)}{suffix}')


def create_new(path: Path, mode: int = 0o666) -> int:
    """Create a file that is not there, nor a link of that name; return its descriptor."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(path, flags, mode)
