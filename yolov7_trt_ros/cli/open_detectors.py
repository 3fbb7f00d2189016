"""Detectors that stay open from one recording to the next, each for one thread of this process."""

from __future__ import annotations

from collections.abc import Callable
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from yolov7_trt_ros.core.detector import Detector

_lock = threading.Lock()
_open: dict[tuple[int, str], Detector] = {}


def opened(key: str, opener: Callable[[], Detector]) -> Detector:
    """Return what `opener` has opened for a key in this thread, now or before."""
    place = threading.get_ident(), key
    with _lock:
        found = _open.get(place)
    if found is None:
        found = opener()
        with _lock:
            _open[place] = found
    return found


def close_all() -> None:
    """Close every detector of this process; none may be at work."""
    with _lock:
        detectors = list(_open.values())
        _open.clear()
    for detector in detectors:
        detector.close()
