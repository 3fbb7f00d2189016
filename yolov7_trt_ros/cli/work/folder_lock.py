"""Lock a folder of results while a run writes to it."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import fcntl
import os
from pathlib import Path

from yolov7_trt_ros.errors import InputError


@contextlib.contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """
    Hold a folder, which is made if necessary, and removed again if it stays empty.

    Two runs at once would replace each other's results, because those of an earlier run may be
    replaced. The kernel frees the lock of a process that ends. File systems without locks have
    none.

    Raises
    ------
    InputError
        Another run writes to it, or it cannot be made.

    """
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as exc:
        raise InputError(f'cannot write to {folder}: {exc.strerror}') from exc
    try:
        if not take_lock(descriptor):
            raise InputError(
                f'another run writes to {folder}: wait for it, or choose another folder'
            )
        yield
    finally:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            for each in made:
                each.rmdir()


def take_lock(descriptor: int) -> bool:
    """Lock an open file or folder; False if another process has locked it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True
