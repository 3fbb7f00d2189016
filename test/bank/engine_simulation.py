"""
Cameras, latest-wins slots and engines that hold each other up, in simulated time.

What the worker does with an EngineSchedule: a frame that waits is begun by the engine that the
schedule chooses, else it may be replaced by a newer one of its topic. An engine that works while
others do goes on at a share of its speed, so that what it takes comes out as published: a GPU that
needs 45 ms alone and 59 ms while the DLAs work (NVIDIA/TensorRT#2745).

"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import dataclasses
import random

from yolov7_trt_ros.bank.team.engine_schedule import EngineSchedule, Phase

MS = 1_000_000
SIZE = 'one image'


@dataclasses.dataclass
class Engine:
    """Takes `alone_ms`, and `beside_ms` while another one works too; up to `spread` of it more."""

    alone_ms: float
    beside_ms: float
    spread: float = 0.05
    fails: Callable[[int], bool] = lambda _: False
    cold: float = 1.0
    """How many times as long the first frame takes."""
    left: float = 0.0
    """Work to be done, 1 for a frame of average length; 0 while it is idle."""
    frame: Frame | None = None
    begun: int = 0

    def rate(self, busy: int) -> float:
        return 1 / (self.alone_ms if busy < 2 else self.beside_ms)


@dataclasses.dataclass
class Frame:
    topic: int
    number: int
    arrived_ms: float
    probe: bool = False
    blamed: int | None = None


@dataclasses.dataclass
class Camera:
    """Sends every `period_ms`, with jitter, from `phase_ms` on; `until_ms` ends it."""

    period_ms: float
    phase_ms: float = 0.0
    jitter_ms: float = 2.0
    from_ms: float = 0.0
    until_ms: float = float('inf')


class Simulation:
    """Runs cameras and engines; without a schedule the first engine serves alone."""

    def __init__(
        self, engines: Sequence[Engine], cameras: Sequence[Camera], *, schedule: bool,
        seed: int = 1,
    ) -> None:
        self.engines, self.cameras = list(engines), cameras
        self.schedule = EngineSchedule(len(engines)) if schedule else None
        self.random = random.Random(seed)
        self.now_ms = 0.0
        self.latencies_ms: list[float] = []
        self.answered: list[tuple[int, int]] = []
        self.received = self.dropped = self.failed = 0
        self.phases: list[tuple[float, Phase]] = []
        self._waiting: dict[int, Frame] = {}
        self._retries: list[tuple[int, Frame]] = []
        self._published = [-1] * len(cameras)

    def run(self, seconds: float) -> Simulation:
        arrivals = sorted(
            (camera.phase_ms + number * camera.period_ms
             + self.random.uniform(0, camera.jitter_ms), topic, number)
            for topic, camera in enumerate(self.cameras)
            for number in range(int(seconds * 1000 / camera.period_ms))
            if camera.from_ms <= number * camera.period_ms < camera.until_ms
        )
        for at_ms, topic, number in arrivals:
            self._pass(at_ms)
            self.received += 1
            self.dropped += topic in self._waiting
            frame = Frame(topic, number, at_ms)
            if topic in self._waiting:  # it keeps its place in the line
                self._waiting[topic] = frame
            else:
                self._waiting = {**self._waiting, topic: frame}
            self._begin_some()
        self._pass(self.now_ms + 10_000)
        self.dropped += len(self._waiting)
        return self

    def p99_ms(self) -> float:
        ordered = sorted(self.latencies_ms)
        return ordered[int(0.99 * len(ordered))]

    # ---- time passes

    def _pass(self, until_ms: float) -> None:
        while True:
            busy = [each for each in self.engines if each.frame is not None]
            next_ms = min(
                (self.now_ms + each.left / each.rate(len(busy)) for each in busy), default=None
            )
            step_ms = (until_ms if next_ms is None else min(until_ms, next_ms)) - self.now_ms
            for each in busy:
                each.left -= step_ms * each.rate(len(busy))
            self.now_ms += step_ms
            if next_ms is None or next_ms > until_ms:
                return
            for number, each in enumerate(self.engines):
                if each.frame is not None and each.left <= 1e-9:
                    self._end(number, each)
            self._begin_some()

    def _end(self, number: int, engine: Engine) -> None:
        frame, engine.frame = engine.frame, None
        assert frame is not None
        failed = engine.fails(engine.begun)
        if self.schedule is not None:
            self.schedule.end(number, self.now_ns, probe=frame.probe, good=not failed)
            if failed and frame.probe:
                self.schedule.fail(number, 'told to', self.now_ns)
            elif failed and frame.blamed is None:
                frame.blamed = number
                elsewhere = 0 if number else 1
                self.schedule.fail(number, 'told to', self.now_ns)
                self._retries.append((elsewhere, frame))
                return
        if not frame.probe:
            self._answer(frame, failed)

    def _answer(self, frame: Frame, failed: bool) -> None:
        if failed:
            self.failed += 1
            return
        if frame.number < self._published[frame.topic]:
            self.dropped += 1
            if self.schedule is not None:
                late_ms = self.now_ms - frame.arrived_ms
                self.schedule.overtaken([int(late_ms * MS)], self.now_ns)
            return
        self._published[frame.topic] = frame.number
        self.answered.append((frame.topic, frame.number))
        latency_ms = self.now_ms - frame.arrived_ms
        self.latencies_ms.append(latency_ms)
        if self.schedule is None:
            return
        self.schedule.answered([int(latency_ms * MS)], self.now_ns)
        if not self.phases or self.phases[-1][1] is not self.schedule.phase:
            self.phases.append((self.now_ms, self.schedule.phase))
        trial = self.schedule.probe(self.now_ns)
        if trial is not None:
            self._start(trial, Frame(frame.topic, frame.number, self.now_ms, probe=True))

    @property
    def now_ns(self) -> int:
        return int(self.now_ms * MS)

    def _begin_some(self) -> None:
        for retry in list(self._retries):
            if self.engines[retry[0]].frame is None:
                self._retries.remove(retry)
                self._start(*retry)
        while self._waiting:
            number = self._choose()
            if number is None or self.engines[number].frame is not None:
                return
            topic = next(iter(self._waiting))
            self._start(number, self._waiting.pop(topic))

    def _choose(self) -> int | None:
        if self.schedule is not None:
            return self.schedule.choose(self.now_ns)
        return 0 if self.engines[0].frame is None else None

    def _start(self, number: int, frame: Frame) -> None:
        engine = self.engines[number]
        engine.frame, engine.begun = frame, engine.begun + 1
        engine.left = 1 + self.random.uniform(0, engine.spread)
        engine.left *= engine.cold if engine.begun == 1 else 1
        if self.schedule is not None:
            self.schedule.begin(number, SIZE, self.now_ns, probe=frame.probe)
