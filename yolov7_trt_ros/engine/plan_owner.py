"""Read a plan only where nobody else could have put it: a TensorRT plan can run code."""

from __future__ import annotations

import os
from pathlib import Path
import stat

from yolov7_trt_ros.engine.plain_file import open_plain_file
from yolov7_trt_ros.errors import UntrustedPlanError

ROOT_UID = 0


def read_own_file(path: Path, *, uid: int | None = None) -> bytes:
    """
    Return the bytes of a file that belongs to this user or to root, and not everybody may write.

    One that a group may write is taken: who is in it is the administrator's word. Owner and bytes
    are those of the file that was opened, wherever links lead.

    Parameters
    ----------
    path
        The plan.
    uid
        Of the user who may own it besides root; None: whom this process runs as.

    Raises
    ------
    UntrustedPlanError
        It belongs to somebody else, or everybody may write it.
    ModelFormatError
        It is a pipe, a device or the like.
    OSError
        It cannot be read.

    """
    with open_plain_file(path) as file:
        check_owner(path, os.fstat(file.fileno()), os.geteuid() if uid is None else uid)
        return file.read()


def check_owner(path: Path, found: os.stat_result, uid: int) -> None:
    """Raise UntrustedPlanError unless a file is of `uid` or root and closed to everybody."""
    why = 'a plan can run code, so one that others could have written is not loaded'
    if found.st_uid not in (uid, ROOT_UID):
        raise UntrustedPlanError(
            f'the plan {path} belongs to user {found.st_uid}, expected {uid} (whom this process '
            f'runs as) or root: {why}; build it as this user, or: sudo chown {uid} {path}'
        )
    if found.st_mode & stat.S_IWOTH:
        raise UntrustedPlanError(
            f'the plan {path} may be written by everybody: {why}; if it is yours: chmod o-w {path}'
        )
