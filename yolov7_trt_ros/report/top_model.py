"""The data that `top` has received from detectors, cameras and power, as a snapshot; no ROS."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping
import dataclasses
import statistics
from typing import NamedTuple

from yolov7_trt_ros.core.plain_text import LINE_CHARACTERS
from yolov7_trt_ros.core.units import NS_PER_S

SPARK_S = 30
RATE_WINDOW_S = 5
CLASS_WINDOW_S = 10
SILENT_S = 3.0
FORGOTTEN_S = 60.0
_MOST_EVENTS = 8192
_MOST_CLASSES = 50
"""Maximum number of classes of a frame that are counted, the most frequent: more than one line."""
POWER_NUMBERS = ('power_w', 'gpu_load', 'temperature_c', 'joules_per_frame')


@dataclasses.dataclass(frozen=True)
class NodeRow:
    """A node: its last status and the age of that."""

    name: str
    subject: str
    level: int
    message: str
    age_s: float


@dataclasses.dataclass(frozen=True)
class CameraRow:
    """An image topic, as counted by its detector; None if not reported."""

    topic: str
    level: int
    message: str
    age_s: float
    in_hz: float | None
    out_hz: float | None
    counts: Mapping[str, int]
    p50_ms: float | None
    p99_ms: float | None


@dataclasses.dataclass(frozen=True)
class DetectionsRow:
    """
    A topic of detections, as it arrives here.

    Attributes
    ----------
    rate_hz
        Over the last five seconds.
    latency_ms
        From the stamp to the arrival here, median of the last five seconds; None without stamps.
    history_ms
        Largest latency of each of the last thirty seconds, the latest last; None without frames.
    classes
        Detections a frame over the last ten seconds, most frequent class first.

    """

    topic: str
    rate_hz: float
    latency_ms: float | None
    history_ms: tuple[float | None, ...]
    classes: tuple[tuple[str, float], ...]


@dataclasses.dataclass(frozen=True)
class PowerRow:
    """A power node: its latest numbers, and the mean watts of each of the last thirty seconds."""

    node: str
    numbers: Mapping[str, float]
    history_w: tuple[float | None, ...]


@dataclasses.dataclass(frozen=True)
class TopSnapshot:
    """Everything that is shown, sorted by name."""

    nodes: tuple[NodeRow, ...] = ()
    cameras: tuple[CameraRow, ...] = ()
    detections: tuple[DetectionsRow, ...] = ()
    power: tuple[PowerRow, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to show."""
        return not (self.nodes or self.cameras or self.detections or self.power)


class _Status(NamedTuple):
    at_ns: int
    level: int
    message: str
    values: Mapping[str, str]


class _Frame(NamedTuple):
    at_ns: int
    latency_ms: float | None
    classes: Mapping[str, int]


class TopModel:
    """
    Collects received messages of about a minute and gives snapshots of them.

    All times are monotonic nanoseconds of one clock, given as arguments.

    """

    def __init__(self) -> None:
        self._statuses: dict[tuple[str, str], _Status] = {}
        self._frames: dict[str, collections.deque[_Frame]] = {}
        self._numbers: dict[str, dict[str, tuple[int, float]]] = {}
        self._watts: dict[str, collections.deque[tuple[int, float]]] = {}

    def add_status(
        self, now_ns: int, name: str, level: int, message: str, values: Mapping[str, str]
    ) -> None:
        """Take a diagnostic status; its name is `<node>: <subject>`."""
        node, _, subject = name[:LINE_CHARACTERS].partition(': ')
        self._statuses[node, subject] = _Status(
            now_ns, level, message[:LINE_CHARACTERS], values
        )

    def add_topic(self, topic: str) -> None:
        """Take a topic of detections on which nothing may have arrived yet."""
        self._frames.setdefault(topic, collections.deque(maxlen=_MOST_EVENTS))

    def add_detections(
        self, now_ns: int, topic: str, latency_ms: float | None, classes: Iterable[str]
    ) -> None:
        """Add one message of detections: its latency if known, and a class name for each."""
        self.add_topic(topic)
        frames = self._frames[topic]
        while frames and now_ns - frames[0].at_ns > SPARK_S * NS_PER_S:
            frames.popleft()
        names = collections.Counter(name[:LINE_CHARACTERS] for name in classes)
        frames.append(_Frame(now_ns, latency_ms, dict(names.most_common(_MOST_CLASSES))))

    def forget_topic(self, topic: str) -> None:
        """Drop a topic of detections."""
        self._frames.pop(topic, None)

    def add_number(self, now_ns: int, node: str, name: str, value: float) -> None:
        """Take a number of a power node; the names are `POWER_NUMBERS`."""
        self._numbers.setdefault(node, {})[name] = (now_ns, value)
        if name == 'power_w':
            watts = self._watts.setdefault(node, collections.deque(maxlen=_MOST_EVENTS))
            watts.append((now_ns, value))

    def snapshot(self, now_ns: int) -> TopSnapshot:
        """Return how things stand; what was silent for a minute is forgotten."""
        self._forget(now_ns)
        nodes, cameras = [], []
        for (node, subject), status in sorted(self._statuses.items()):
            age_s = (now_ns - status.at_ns) / NS_PER_S
            if subject.startswith('/'):
                cameras.append(_camera_row(subject, status, age_s))
            else:
                nodes.append(NodeRow(node, subject, status.level, status.message, age_s))
        return TopSnapshot(
            tuple(nodes), tuple(cameras),
            tuple(_detections_row(now_ns, *item) for item in sorted(self._frames.items())),
            tuple(self._power_row(now_ns, node) for node in sorted(self._numbers)),
        )

    def _power_row(self, now_ns: int, node: str) -> PowerRow:
        numbers = {
            name: value for name, (at_ns, value) in self._numbers[node].items()
            if now_ns - at_ns <= SILENT_S * NS_PER_S
        }
        buckets = _by_second(now_ns, self._watts.get(node, ()))
        history = tuple(statistics.fmean(values) if values else None for values in buckets)
        return PowerRow(node, numbers, history)

    def _forget(self, now_ns: int) -> None:
        oldest_ns = now_ns - int(FORGOTTEN_S * NS_PER_S)
        for key in [key for key, each in self._statuses.items() if each.at_ns < oldest_ns]:
            del self._statuses[key]
        for topic in [
            topic for topic, frames in self._frames.items()
            if frames and frames[-1].at_ns < oldest_ns
        ]:
            del self._frames[topic]
        for node in [
            node for node, numbers in self._numbers.items()
            if all(at_ns < oldest_ns for at_ns, _ in numbers.values())
        ]:
            del self._numbers[node]
            self._watts.pop(node, None)


def _camera_row(topic: str, status: _Status, age_s: float) -> CameraRow:
    values = status.values
    counts = {
        name: int(number)
        for name in ('received', 'processed', 'dropped', 'skipped', 'failed', 'lost')
        if (number := _number(values.get(name))) is not None
    }
    return CameraRow(
        topic, status.level, status.message, age_s,
        _number(values.get('rate in (Hz)')), _number(values.get('rate out (Hz)')), counts,
        _number(values.get('stamp_to_publish p50 (ms)')),
        _number(values.get('stamp_to_publish p99 (ms)')),
    )


def _number(text: str | None) -> float | None:
    """Return a diagnostic value as a number; None if it is none."""
    try:
        value = float(text or '')
    except ValueError:
        return None
    return value if abs(value) < 1e15 else None


def _detections_row(
    now_ns: int, topic: str, frames: Iterable[_Frame]
) -> DetectionsRow:
    held = list(frames)
    recent = [each for each in held if now_ns - each.at_ns <= RATE_WINDOW_S * NS_PER_S]
    latencies = [each.latency_ms for each in recent if each.latency_ms is not None]
    known = ((each.at_ns, each.latency_ms) for each in held if each.latency_ms is not None)
    return DetectionsRow(
        topic, _rate_hz(now_ns, held), statistics.median(latencies) if latencies else None,
        tuple(max(values) if values else None for values in _by_second(now_ns, known)),
        _classes([each for each in held if now_ns - each.at_ns <= CLASS_WINDOW_S * NS_PER_S]),
    )


def _rate_hz(now_ns: int, frames: list[_Frame]) -> float:
    """Return frames a second over the window, or since the first if that is shorter."""
    start_ns = now_ns - RATE_WINDOW_S * NS_PER_S
    count = sum(1 for each in frames if each.at_ns > start_ns)
    if frames and frames[0].at_ns > start_ns:  # the first frame begins the time, it is not in it
        start_ns, count = frames[0].at_ns, count - 1
    return count * NS_PER_S / (now_ns - start_ns) if now_ns > start_ns else 0.0


def _classes(frames: list[_Frame]) -> tuple[tuple[str, float], ...]:
    total: collections.Counter[str] = collections.Counter()
    for frame in frames:
        total.update(frame.classes)
    ordered = sorted(total.items(), key=lambda item: (-item[1], item[0]))
    return tuple((name, count / len(frames)) for name, count in ordered)


def _by_second(now_ns: int, events: Iterable[tuple[int, float]]) -> list[list[float]]:
    """Return the values of each of the last seconds that are shown, the latest last."""
    buckets: list[list[float]] = [[] for _ in range(SPARK_S)]
    for at_ns, value in events:
        age = (now_ns - at_ns) // NS_PER_S
        if 0 <= age < SPARK_S:
            buckets[SPARK_S - 1 - age].append(value)
    return buckets
