"""Read a plan and its companion files only if no other user could have written them."""

from __future__ import annotations

import os
from pathlib import Path
import stat

from yolov7_trt_ros.errors import UntrustedPlanError
from yolov7_trt_ros.plain_file import open_plain_file, read_at_most

ROOT_UID = 0
PLAN = 'plan'
MANIFEST = 'manifest'
TIMING_CACHE = 'timing cache'
KERNEL = 'compiled kernel'
MEMORY_CHOICE = 'memory choice'
_WHY = {
    PLAN: 'a plan can run code',
    MANIFEST: 'a manifest decides what is built and loaded',
    TIMING_CACHE: "TensorRT's own code reads it",
    KERNEL: 'a kernel is code',
    MEMORY_CHOICE: 'it decides how images reach the GPU',
}


def read_own_file(
    path: Path, *, what: str = PLAN, most_bytes: int | None = None, uid: int | None = None
) -> bytes:
    """
    Return the bytes of a file that belongs to this user or to root, and not everybody may write.

    One that a group may write is taken: who is in it is the administrator's word. Owner and bytes
    are those of the file that was opened, wherever links lead.

    Parameters
    ----------
    path
        The file.
    what
        `PLAN`, `MANIFEST`, `TIMING_CACHE`, `KERNEL` or `MEMORY_CHOICE`, for messages.
    most_bytes
        A larger file is refused; None: any size.
    uid
        Of the user who may own it besides root; None: whom this process runs as.

    Raises
    ------
    UntrustedPlanError
        It belongs to another user, or every user may write it.
    ModelFormatError
        It is a pipe, a device or the like, or too large.
    OSError
        It cannot be read.

    """
    with open_plain_file(path) as file:
        owner = os.geteuid() if uid is None else uid
        check_owner(path, os.fstat(file.fileno()), owner, what)
        return file.read() if most_bytes is None else read_at_most(file, path, most_bytes)


def check_owner(path: Path, found: os.stat_result, uid: int, what: str = PLAN) -> None:
    """Raise UntrustedPlanError unless a file is of `uid` or root and closed to everybody."""
    why = f'{_WHY[what]}, so one that others could have written is not loaded'
    if found.st_uid not in (uid, ROOT_UID):
        raise UntrustedPlanError(
            f'the {what} {path} belongs to user {found.st_uid}, expected {uid} (whom this process '
            f'runs as) or root: {why}; make it as this user, or: sudo chown {uid} {path}'
        )
    if found.st_mode & stat.S_IWOTH:
        raise UntrustedPlanError(
            f'the {what} {path} may be written by everybody: {why}; if it is yours: chmod o-w '
            f'{path}'
        )
