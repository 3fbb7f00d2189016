"""Detectors that stay open from one recording to the next, each for one thread of this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import threading
from typing import NamedTuple, TYPE_CHECKING

from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.home_folder import expand_home

if TYPE_CHECKING:
    from yolov7_trt_ros.core.detector import Detector

FileState = tuple[int, int, int]
"""Size in bytes, modification time in nanoseconds, inode."""


class _Opened(NamedTuple):
    files: list[FileState | None]
    detector: Detector


_lock = threading.Lock()
_open: dict[tuple[int, str], _Opened] = {}


def opened(key: str, files: Sequence[str], opener: Callable[[], Detector]) -> Detector:
    """
    Return the detector of a key that this thread has open; open it if there is none.

    Parameters
    ----------
    key
        What the detector was opened with.
    files
        Paths it was read from: when one of the files is replaced, the detector is opened again.
        Names that are no files are ignored.
    opener
        Opens it.

    """
    place = threading.get_ident(), key
    states = [_file_state(each) for each in files]
    with _lock:
        found = _open.pop(place, None)
    if found is None or found.files != states:
        if found is not None:
            found.detector.close()
        found = _Opened(states, opener())
    with _lock:
        _open[place] = found
    return found.detector


def close_all() -> None:
    """Close every detector of this process; none may be at work."""
    with _lock:
        detectors = [each.detector for each in _open.values()]
        _open.clear()
    for detector in detectors:
        detector.close()


def _file_state(name: str) -> FileState | None:
    """Return the state of a file, None where there is none."""
    try:
        found = expand_home(name).stat()
    except (OSError, ValueError, SettingError):
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino
