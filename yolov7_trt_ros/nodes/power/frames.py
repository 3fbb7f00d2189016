"""The frames of the detectors next to the power node: count, latency, energy per frame."""

from __future__ import annotations

import collections
import statistics
import threading

from yolov7_trt_ros.core.units import NS_PER_MS, NS_PER_S
from yolov7_trt_ros.power.governor.inputs import FrameWindow
from yolov7_trt_ros.power.telemetry.energy import EnergyCounter
from yolov7_trt_ros.power.telemetry.sample import BoardSample

WINDOW_S = 10.0
"""Window for joules per frame; the power of a Jetson is averaged over 0.4 s."""

_LATEST_MS = 60_000.0
_MOST_KEPT = 10_000


class Cadence:
    """
    Finds the period of a source by its stamps, and from it the number of missing frames.

    An irregular source (several cameras, a trigger) has no period, and no missing frames. A known
    period becomes longer only after `STAMPS_KEPT` frames without the shorter one.

    """

    STAMPS_KEPT = 60
    _ENOUGH = 20
    _SLACK = 0.25
    _MOST_MISSING = 10

    def __init__(self) -> None:
        self._last_ns: int | None = None
        self._steps_ns: collections.deque[int] = collections.deque(maxlen=self.STAMPS_KEPT)
        self._period_ns: float | None = None

    def add(self, stamp_ns: int) -> int:
        """Take the stamp of a frame; returns the number of missing frames before it."""
        last_ns, self._last_ns = self._last_ns, stamp_ns
        if last_ns is None:
            return 0
        step_ns = stamp_ns - last_ns
        missing = self._missing(step_ns)
        self._steps_ns.append(step_ns)
        self._period_ns = self._find_period()
        return missing

    def _missing(self, step_ns: int) -> int:
        if self._period_ns is None:
            return 0
        missing = round(step_ns / self._period_ns) - 1
        return missing if 0 < missing <= self._MOST_MISSING else 0  # more: a pause

    def _find_period(self) -> float | None:
        steps_ns = sorted(self._steps_ns)
        if len(steps_ns) < self._ENOUGH or steps_ns[0] <= 0:
            return None
        known_ns = self._period_ns
        if known_ns is not None and steps_ns[0] <= known_ns * (1.0 + self._SLACK):
            return known_ns if steps_ns[0] > known_ns * (1.0 - self._SLACK) else None
        middle_ns = statistics.median(steps_ns)
        even = sum(abs(step_ns / middle_ns - 1.0) <= self._SLACK for step_ns in steps_ns)
        is_steady = steps_ns[0] > middle_ns * (1.0 - self._SLACK) and 2 * even > len(steps_ns)
        return middle_ns if is_steady else None


class FrameLog:
    """Counts frames and keeps their latencies until they are taken; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latencies_ms: collections.deque[tuple[str, float]] = collections.deque(
            maxlen=_MOST_KEPT)
        self._cadences: dict[str, Cadence] = collections.defaultdict(Cadence)
        self._dropped = self._unknown = 0
        self._count = self._unknown_count = 0

    @property
    def count(self) -> int:
        """Return the number of frames so far."""
        return self._count

    @property
    def unknown_count(self) -> int:
        """Return the number of frames so far whose stamps give no latency."""
        return self._unknown_count

    def add(self, stamp_ns: int, now_ns: int, topic: str = '') -> None:
        """Count a frame; a stamp of 0, in the future or over a minute old gives no latency."""
        latency_ms = (now_ns - stamp_ns) / NS_PER_MS
        with self._lock:
            self._count += 1
            if stamp_ns and 0 <= latency_ms < _LATEST_MS:
                self._latencies_ms.append((topic, latency_ms))
                self._dropped += self._cadences[topic].add(stamp_ns)
            else:
                self._unknown += 1
                self._unknown_count += 1

    def take(self) -> FrameWindow:
        """
        Return the frames since the previous call.

        Without their period: it would limit the latency, which here includes the transport of the
        image to the detector. Frames that pile up count as missing.
        """
        with self._lock:
            window = FrameWindow(
                tuple(latency_ms for _, latency_ms in self._latencies_ms), self._dropped,
                unknown=self._unknown, sources=tuple(topic for topic, _ in self._latencies_ms),
            )
            self._latencies_ms.clear()
            self._dropped = self._unknown = 0
        return window


class EnergyPerFrame:
    """Joules per frame over the last `WINDOW_S`, of the whole board; not thread-safe."""

    def __init__(self) -> None:
        self._counter = EnergyCounter()
        # time of the sample (ns), joules, seconds with known energy, frames; since the start
        self._marks: collections.deque[tuple[int, float, float, int]] = collections.deque()

    def add(self, sample: BoardSample, frames: int) -> float | None:
        """
        Take a sample and the number of frames so far; return joules per frame.

        None without a frame in the window, or without power.

        """
        self._counter.add(sample)
        mark = (sample.time_ns, self._counter.joules, self._counter.seconds, frames)
        self._marks.append(mark)
        while sample.time_ns - self._marks[0][0] > WINDOW_S * NS_PER_S:
            self._marks.popleft()
        first_ns, first_j, first_s, first_frames = self._marks[0]
        seconds, counted = mark[2] - first_s, frames - first_frames
        if seconds <= 0 or counted <= 0:
            return None
        mean_w = (mark[1] - first_j) / seconds
        return mean_w * (sample.time_ns - first_ns) / NS_PER_S / counted
