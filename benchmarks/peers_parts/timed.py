"""A peer of the comparison: finds objects in frames, and tells how long each frame took."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import time
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.detector import Detector, DetectSettings
from yolov7_trt_ros.core.image import ImageView

SETTINGS = DetectSettings()

Bgr = NDArray[np.uint8]
Run = Callable[[Bgr], Detections]


class NotRunError(Exception):
    """A peer cannot run here; the message has the reason."""


class Peer(Protocol):
    """Whatever finds objects, in this process or another."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """Versions, settings and what else belongs into its row."""

    def show(self, frames: Sequence[Bgr]) -> list[Detections]:
        """Find objects in frames of one size, which `time` is about from now on."""

    def time(self, order: Sequence[int]) -> list[int]:
        """Run frames by their numbers; return the nanoseconds of each."""

    def close(self) -> None:
        """End it; calling it twice is harmless."""


class PeerHere:
    """A peer in this process."""

    def __init__(self, run: Run, facts: Mapping[str, Any] | None = None) -> None:
        self._run, self.facts = run, facts or {}
        self._frames: Sequence[Bgr] = ()

    def show(self, frames: Sequence[Bgr]) -> list[Detections]:
        """Find objects in frames of one size, which `time` is about from now on."""
        self._frames = frames
        return [self._run(frame) for frame in frames]

    def time(self, order: Sequence[int]) -> list[int]:
        """Run frames by their numbers; return the nanoseconds of each."""
        taken_ns = []
        for index in order:
            frame = self._frames[index]
            start = time.perf_counter_ns()
            self._run(frame)
            taken_ns.append(time.perf_counter_ns() - start)
        return taken_ns

    def close(self) -> None:
        """Do nothing: what runs here ends with the process."""


def run_detector(detector: Detector) -> Run:
    """Return how a detector is run on pixels."""
    def run(bgr: Bgr) -> Detections:
        return detector.detect(ImageView.from_array(bgr), SETTINGS)[0]

    return run


def from_rows(rows: NDArray[Any], bgr: Bgr) -> Detections:
    """Return Detections of rows (n, 6): box in pixels, score, class."""
    rows = rows.reshape(-1, 6)
    return Detections(
        rows[:, :4].astype(np.float32), rows[:, 4].astype(np.float32),
        rows[:, 5].astype(np.int32), (bgr.shape[1], bgr.shape[0]),
    )
