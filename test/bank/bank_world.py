"""An EngineBank without threads: engines that do as they are told, jobs that run when told to."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses

import numpy as np

from yolov7_trt_ros.bank.update.engine_bank import EngineBank
from yolov7_trt_ros.bank.update.update_machine import ModelId, UpdateLimits
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.detector import DetectSettings, FrameTimings
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.units import NS_PER_S
from yolov7_trt_ros.errors import InferenceError
from yolov7_trt_ros.testing import fake_spec, FakeDetector, make_detections

IMAGE = ImageView.from_array(np.zeros((8, 8, 3), np.uint8))
SETTINGS = DetectSettings()
NAMES = ('person', 'car')
SEEN = make_detections((8, 8), ((1, 1, 5, 5), 0.9, 0), ((2, 2, 7, 7), 0.8, 1))
ELSEWHERE = make_detections((8, 8), ((6, 6, 8, 8), 0.9, 0))
MS = 1_000_000


class ToldEngine(FakeDetector):
    """Finds what `finds` holds, takes `took_ms`, and raises `error` where there is one."""

    def __init__(
        self, finds: Detections = SEEN, *, names: tuple[str, ...] = NAMES, max_batch: int = 2,
        took_ms: float = 10.0, error: Exception | None = None,
    ) -> None:
        super().__init__(spec=fake_spec(names), max_batch=max_batch)
        self.finds, self.took_ms, self.error = finds, took_ms, error
        self.misused = False  # run though it was closed

    def detect_batch(self, images, settings):
        self.misused |= self.closed > 0
        super().detect_batch(images, settings)
        if self.error is not None:
            raise self.error
        return [self.finds] * len(images), FrameTimings(0, int(self.took_ms * MS), 0)


class Jobs:
    """A background whose jobs wait for the test."""

    def __init__(self, jobs: list[Callable[[], None]]) -> None:
        self._jobs = jobs
        self.stopped = False

    def submit(self, job: Callable[[], None]) -> None:
        assert not self.stopped
        self._jobs.append(job)

    def stop(self) -> None:
        self.stopped = True

    def join(self, timeout_s: float) -> bool:
        return True


@dataclasses.dataclass
class World:
    """A bank whose first engine is `first`, its clock, and what waits to be done."""

    limits: UpdateLimits = dataclasses.field(default_factory=lambda: UpdateLimits(
        shadow_frames=4, shadow_share=1.0, min_detections=4
    ))
    first: ToldEngine = dataclasses.field(default_factory=ToldEngine)

    def __post_init__(self) -> None:
        self.now_ns = 0
        self.jobs: list[Callable[[], None]] = []
        self.changes = 0
        self.bank = EngineBank(
            self.first, 'first', limits=self.limits, on_change=self._changed,
            clock=lambda: self.now_ns, new_background=lambda: Jobs(self.jobs),
        )

    def _changed(self) -> None:
        self.changes += 1

    def ask(self, name: str = 'new') -> ModelId:
        model = self.bank.ask(name)
        assert model is not None
        return model

    def begin(self, engine: ToldEngine, name: str = 'new') -> ModelId:
        """Ask for a model, and open it at once."""
        model = self.ask(name)
        self.bank.opened(model, engine)
        return model

    def run_jobs(self) -> None:
        """Do what waits for the background."""
        while self.jobs:
            self.jobs.pop(0)()

    def frame(self, images: int = 1, settings: DetectSettings = SETTINGS) -> list[Detections]:
        """Detect in a frame, and compare it if it is the candidate's turn."""
        found, _ = self.bank.detect_batch([IMAGE] * images, settings)
        self.bank.compare_last()
        return found

    def frames(self, count: int) -> None:
        """Detect in some frames, each compared before the next."""
        for _ in range(count):
            self.frame()
            self.run_jobs()

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now_ns += int(seconds * NS_PER_S)
        self.bank.tick()
        self.run_jobs()

    @property
    def serving(self) -> str:
        return self.bank.serving.model.name

    @property
    def last(self) -> str:
        return self.bank.update_status().last

    @property
    def phase(self) -> str:
        return self.bank.update_status().phase.value


NAN = InferenceError('the model gave 3 score value(s) of 9 that are NaN or infinite')
