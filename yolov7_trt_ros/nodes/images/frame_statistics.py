"""Counters and latencies of one image topic, written by two threads."""

from __future__ import annotations

import collections
from collections.abc import Iterable
import dataclasses
import threading

from yolov7_trt_ros.core.latency import percentiles_ms
from yolov7_trt_ros.core.units import NS_PER_S

_WINDOW = 512
STAGES = ('transport', 'wait', 'preprocess', 'infer', 'postprocess', 'publish', 'stamp_to_publish')
"""transport: stamp to arrival here; wait: arrival to worker; the others as named."""


@dataclasses.dataclass(frozen=True)
class Counts:
    """
    What happened to the frames of one topic since configure.

    received = processed + failed + dropped + skipped + (frames still waiting or in work).

    Attributes
    ----------
    received
        Messages that have arrived here.
    processed
        Frames whose detections were published.
    dropped
        Replaced by a newer frame before the worker took them; waiting when the node was
        deactivated; or waiting or in work when their topic was removed. Of images that are taken
        below rclpy: missing by their numbers, and not reported as lost.
    skipped
        Passed over because of max_rate_hz.
    failed
        Refused (bad image) or failed in the engine.
    lost
        Reported lost by the middleware before they reached us; not part of received.
    renewed
        Not frames: how often the subscription was recreated because nothing arrived.

    """

    received: int = 0
    processed: int = 0
    dropped: int = 0
    skipped: int = 0
    failed: int = 0
    lost: int = 0
    renewed: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Return the sum, counter by counter."""
        return Counts(**{name: value + vars(other)[name] for name, value in vars(self).items()})

    @property
    def in_work(self) -> int:
        """Return the number of frames that wait or are in work."""
        return self.received - self.processed - self.failed - self.dropped - self.skipped


class TopicStatistics:
    """
    Thread-safe counters and a window of stage latencies of one topic.

    Attributes
    ----------
    silent_ns
        How long nothing has been received, as of the last call of `rates_hz`.

    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: collections.Counter[str] = collections.Counter()
        self._stages: dict[str, collections.deque[int]] = {
            stage: collections.deque(maxlen=_WINDOW) for stage in STAGES
        }
        self._batches: collections.deque[int] = collections.deque(maxlen=_WINDOW)
        self._last_counts = Counts()
        self._last_ns: int | None = None
        self._rates_hz = 0.0, 0.0
        self.silent_ns = 0

    def count(self, name: str, by: int = 1) -> None:
        """Add to one of the `Counts` fields."""
        with self._lock:
            self._counts[name] += by

    def count_all(self, **counts: int) -> None:
        """Add to several of the `Counts` fields in one step."""
        with self._lock:
            self._counts.update(counts)

    def add_processed(
        self, stages_ns: Iterable[tuple[str, int | None]], batch: int = 1
    ) -> None:
        """
        Count a processed frame with its (stage, nanoseconds); None is left out.

        `batch` is how many frames ran together, this one included.

        """
        with self._lock:
            self._counts['processed'] += 1
            self._batches.append(batch)
            for stage, value in stages_ns:
                if value is not None:
                    self._stages[stage].append(value)

    def counts(self) -> Counts:
        """Return the present counters."""
        with self._lock:
            return Counts(**self._counts)

    def percentiles_ms(self) -> dict[str, tuple[float, float]]:
        """Return p50 and p99 in milliseconds of each stage that has samples."""
        with self._lock:
            samples = {stage: list(values) for stage, values in self._stages.items() if values}
        percentiles = {stage: percentiles_ms(values) for stage, values in samples.items()}
        return {stage: (each.p50, each.p99) for stage, each in percentiles.items()}

    def mean_batch(self) -> float:
        """Return the mean number of frames per batch, 0 before the first."""
        with self._lock:
            return sum(self._batches) / len(self._batches) if self._batches else 0.0

    def rates_hz(self, now_ns: int) -> tuple[float, float]:
        """
        Return (received, processed) per second since the previous call; only one caller.

        Parameters
        ----------
        now_ns
            Until when the counters are complete, in monotonic nanoseconds; if that is not later
            than in the last call, the rates are those of that call.

        """
        counts, last, last_ns = self.counts(), self._last_counts, self._last_ns
        if last_ns is not None and now_ns > last_ns:
            seconds = (now_ns - last_ns) / NS_PER_S
            self._rates_hz = (
                (counts.received - last.received) / seconds,
                (counts.processed - last.processed) / seconds,
            )
            moved = counts.received > last.received
            self.silent_ns = 0 if moved else self.silent_ns + now_ns - last_ns
        elif last_ns is not None:
            return self._rates_hz
        self._last_counts, self._last_ns = counts, now_ns
        return self._rates_hz


class RemovedTopics:
    """
    The sum of the counters of removed topics.

    A frame may still be in work when its topic is removed, so the counters of the topic are
    kept until that is settled.

    """

    def __init__(self) -> None:
        self._settled = Counts()
        self._unsettled: list[TopicStatistics] = []

    def add(self, statistics: TopicStatistics) -> None:
        """Take over the counters of a removed topic."""
        self._unsettled.append(statistics)
        self.counts()

    def counts(self) -> Counts:
        """Return the present sum."""
        total, unsettled = self._settled, []
        for statistics in self._unsettled:
            counts = statistics.counts()
            total += counts
            if counts.in_work > 0:
                unsettled.append(statistics)
            else:
                self._settled += counts
        self._unsettled = unsettled
        return total


_LONG_AGO_NS = -2**62
"""Before all times of the monotonic clock, which may have begun a second ago."""

_LONGEST_NS = 2.0**62  # a rate may be as low as 5e-324 Hz


class RateLimit:
    """
    Limits the frames per second, evenly spaced.

    Keeps a schedule instead of a minimum gap, so that 10 Hz out of a jittery 30 Hz camera is
    every third frame and not every fourth now and then.

    Attributes
    ----------
    due_ns
        When the next frame is within the rate.

    """

    def __init__(self) -> None:
        self.due_ns = _LONG_AGO_NS
        self._period_ns = 0  # of the present schedule

    def admits(self, now_ns: int, max_rate_hz: float) -> bool:
        """Return whether a frame that arrives now is within the rate; 0: no limit."""
        if max_rate_hz <= 0:
            return True
        self._follow(max_rate_hz)
        if now_ns < self.due_ns:
            return False
        self.due_ns = max(self.due_ns + self._period_ns, now_ns)
        return True

    def admitted_until(self, now_ns: int, max_rate_hz: float, frames: int) -> int:
        """Return how many of the last `frames` frames before `now_ns` are within the rate."""
        if max_rate_hz <= 0:
            return frames
        self._follow(max_rate_hz)
        return min(frames, max(0, now_ns - self.due_ns) // self._period_ns)

    def _follow(self, max_rate_hz: float) -> None:
        """Move the next frame to where it is due at this rate, if the rate has changed."""
        period_ns = _period_ns(max_rate_hz)
        if self._period_ns and period_ns != self._period_ns:
            self.due_ns += period_ns - self._period_ns
        self._period_ns = period_ns


def _period_ns(rate_hz: float) -> int:
    return int(min(NS_PER_S / rate_hz, _LONGEST_NS))
