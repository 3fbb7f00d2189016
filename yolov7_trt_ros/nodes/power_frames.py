"""What a detector beside the power node does: its frames, their latencies, energy of each."""

from __future__ import annotations

import collections
import struct
import threading

from yolov7_trt_ros.core.stamps import NS_PER_S
from yolov7_trt_ros.power.energy import EnergyCounter
from yolov7_trt_ros.power.sample import BoardSample

WINDOW_S = 10.0
"""Over what time joules a frame are taken: the power of a Jetson is averaged over 0.4 s."""

_NS_PER_MS = 1e6
_LATEST_MS = 60_000.0
_MOST_KEPT = 10_000
_LITTLE_ENDIAN = 1


def stamp_of_serialized(message: bytes) -> int | None:
    """
    Return the stamp of a serialised message that begins with a header, in nanoseconds.

    Reading only that is some hundred times faster than making the message. None where it is too
    short.

    """
    if len(message) < 12:
        return None
    order = '<' if message[1] & _LITTLE_ENDIAN else '>'
    seconds, nanoseconds = struct.unpack_from(f'{order}iI', message, 4)
    return int(seconds) * NS_PER_S + int(nanoseconds)


class FrameLog:
    """Counts frames and keeps their latencies until they are taken; safe for two threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latencies_ms: collections.deque[float] = collections.deque(maxlen=_MOST_KEPT)
        self._count = 0

    @property
    def count(self) -> int:
        """Frames so far."""
        return self._count

    def add(self, stamp_ns: int | None, now_ns: int) -> None:
        """Count a frame; a stamp of 0, in the future or over a minute old gives no latency."""
        with self._lock:
            self._count += 1
            if stamp_ns:
                latency_ms = (now_ns - stamp_ns) / _NS_PER_MS
                if 0 <= latency_ms < _LATEST_MS:
                    self._latencies_ms.append(latency_ms)

    def take_latencies_ms(self) -> tuple[float, ...]:
        """Return the latencies since the last call, oldest first."""
        with self._lock:
            taken = tuple(self._latencies_ms)
            self._latencies_ms.clear()
        return taken


class EnergyPerFrame:
    """Joules a frame over the last `WINDOW_S`, of the whole board; for one thread."""

    def __init__(self) -> None:
        self._counter = EnergyCounter()
        # time of the sample (ns), joules, seconds they are known for, frames; all since the start
        self._marks: collections.deque[tuple[int, float, float, int]] = collections.deque()

    def add(self, sample: BoardSample, frames: int) -> float | None:
        """
        Take a sample and how many frames there were so far; return joules a frame.

        None where there was no frame in the window, or no power.

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
