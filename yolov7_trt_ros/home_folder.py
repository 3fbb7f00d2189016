"""Expand `~` and `~user` in paths given by users."""

from __future__ import annotations

from pathlib import Path

from yolov7_trt_ros.errors import SettingError


def expand_home(path: str | Path) -> Path:
    """
    Return a path with `~` expanded.

    Raises
    ------
    SettingError
        There is no such user, no known home folder, or no valid path.

    """
    if '\0' in str(path):
        raise SettingError(f'{str(path)!r} has a NUL in it, which no path can have')
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise SettingError(
            f'{str(path)!r}: no home folder is known of that user; write the whole path, or set '
            'HOME'
        ) from None
