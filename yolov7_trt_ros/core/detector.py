"""The Detector protocol, its settings and timings, and how to detect in many images."""

from __future__ import annotations

import abc
import collections
from collections.abc import Callable, Iterable, Iterator, Sequence
import dataclasses
import functools
from typing import Any, Protocol, runtime_checkable, TypeVar

from yolov7_trt_ros.core.defaults import (
    DEFAULT_IOU_THRESHOLD,
    DEFAULT_MAX_DETECTIONS,
    DEFAULT_SCORE_THRESHOLD,
    MAX_DETECTIONS_LIMIT,
)
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.forms.model_spec import ModelSpec
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.errors import InferenceError, SettingError

T = TypeVar('T')

_MAX_CLASS_ID = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class DetectSettings:
    """
    What may change from frame to frame without reloading the model.

    Attributes
    ----------
    score_threshold
        Least score (objectness x class) to keep, 0..1.
    iou_threshold
        Overlap above which the weaker of two boxes is dropped, 0..1.
    max_detections
        Most detections per image, 1..1000.
    class_ids
        Classes to keep; None keeps all.
    class_thresholds
        Classes with a least score of their own, in place of `score_threshold`.
    class_agnostic
        Let boxes of different classes suppress each other.
    multi_label
        One candidate per (box, class) instead of the best class per box: what COCO evaluation
        uses. No effect on models that end in NMS.
    max_candidates
        Most candidates that enter NMS, best scores first.

    Raises
    ------
    SettingError
        A value is out of its range.

    """

    score_threshold: float = DEFAULT_SCORE_THRESHOLD
    iou_threshold: float = DEFAULT_IOU_THRESHOLD
    max_detections: int = DEFAULT_MAX_DETECTIONS
    class_ids: frozenset[int] | None = None
    class_agnostic: bool = False
    multi_label: bool = False
    max_candidates: int = 4096
    class_thresholds: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, value in (
            ('score_threshold', self.score_threshold), ('iou_threshold', self.iou_threshold),
            *((f'class_thresholds of class {index}', s) for index, s in self.class_thresholds),
        ):
            if not 0.0 <= value <= 1.0:
                raise SettingError(f'{name} must be within 0..1, got {value}')
        if not 1 <= self.max_detections <= MAX_DETECTIONS_LIMIT:
            raise SettingError(
                f'max_detections must be within 1..{MAX_DETECTIONS_LIMIT}, '
                f'got {self.max_detections}'
            )
        named = [*(self.class_ids or ()), *(index for index, _ in self.class_thresholds)]
        wrong = [index for index in named if not 0 <= index <= _MAX_CLASS_ID]
        if wrong:
            raise SettingError(f'class_ids must be within 0..{_MAX_CLASS_ID}, got {wrong[0]}')
        if self.max_candidates < 1:
            raise SettingError(f'max_candidates must be at least 1, got {self.max_candidates}')

    @functools.cached_property
    def least_score(self) -> float:
        """Return the least of all thresholds: every detection is above it."""
        return min(self.score_threshold, *(score for _, score in self.class_thresholds), 1.0)


@dataclasses.dataclass(frozen=True)
class FrameTimings:
    """Nanoseconds spent on one frame: letterbox and normalise, network, decode and NMS."""

    preprocess_ns: int
    infer_ns: int
    postprocess_ns: int

    @property
    def total_ns(self) -> int:
        """Sum of all stages."""
        return self.preprocess_ns + self.infer_ns + self.postprocess_ns


class Detector(Protocol):
    """
    Finds objects in images. The node, replay and evaluation know only this.

    A detector is used by one thread at a time, `status()` excepted; `close()` twice is harmless.

    """

    @property
    def spec(self) -> ModelSpec:
        """Return what the model is: layout, classes, strides, sizes."""

    @property
    def backend(self) -> str:
        """Return what runs it, for people: `ONNX Runtime 1.20 (CPU)`."""

    def detect(
        self, image: ImageView, settings: DetectSettings
    ) -> tuple[Detections, FrameTimings]:
        """
        Find objects in one image.

        Raises
        ------
        InferenceError
            The engine failed on this frame or gave NaN; the detector stays usable, except after
            a DeviceLostError: close it and open a new one.

        """

    @property
    def max_batch(self) -> int:
        """Most images that `detect_batch` takes at once."""

    def detect_batch(
        self, images: Sequence[ImageView], settings: DetectSettings
    ) -> tuple[list[Detections], FrameTimings]:
        """
        Find objects in several images, of any sizes, in one run of the network.

        Raises
        ------
        SettingError
            No image, or more than `max_batch`.
        InferenceError
            As for `detect`; none of the images has a result then.

        """

    def status(self) -> dict[str, str]:
        """Return the state of the engine, for diagnostics; from any thread, never raising."""

    def close(self) -> None:
        """Free the resources of the detector; never raises, even after a lost device."""


class BatchDetector(abc.ABC):
    """The `detect` of a Detector whose `detect_batch` does the work."""

    @abc.abstractmethod
    def detect_batch(
        self, images: Sequence[ImageView], settings: DetectSettings
    ) -> tuple[list[Detections], FrameTimings]:
        """Find objects in several images; see `Detector`."""

    def detect(
        self, image: ImageView, settings: DetectSettings
    ) -> tuple[Detections, FrameTimings]:
        """Find objects in one image; see `detect_batch`."""
        found, timings = self.detect_batch([image], settings)
        return found[0], timings


@runtime_checkable
class PipelinedDetector(Protocol):
    """What a Detector has as well that can work on one frame while the next is begun."""

    def submit(self, images: Sequence[ImageView], settings: DetectSettings) -> Any:
        """
        Start on a frame of one or more images; the images live until it is collected.

        Returns
        -------
        A ticket for `collect`. Raises as `detect_batch`.

        """

    def collect(self, ticket: Any) -> tuple[list[Detections], FrameTimings]:
        """Wait for a frame, the oldest first, and return what was found in each image."""


@runtime_checkable
class AheadDetector(Detector, PipelinedDetector, Protocol):
    """A Detector whose engines work on several frames at once."""

    @property
    def frames_ahead(self) -> int:
        """Return how many frames may be begun before the oldest is collected."""

    def has_answered(self, ticket: Any) -> bool:
        """Whether `collect` would return at once."""

    def engine_of(self, ticket: Any) -> str:
        """Return the name of the engine that answered a collected frame, '' if none did."""


@dataclasses.dataclass(frozen=True, eq=False)
class Answer:
    """
    What a detector found in an image.

    Attributes
    ----------
    found, timings
        Its detections, and how long they took.
    engine
        Name of the engine that found them, '' if the detector has only one.

    """

    found: Detections
    timings: FrameTimings
    engine: str = ''


def detect_ahead(
    detector: Detector, items: Iterable[T], image_of: Callable[[T], ImageView | None],
    settings: DetectSettings,
) -> Iterator[tuple[T, Answer | InferenceError | None]]:
    """
    Detect in the image of each item.

    An AheadDetector gets images ahead of those that it has answered, `frames_ahead` at most.

    Yields
    ------
    each item, in the order of `items`, and what came of it
        Answer, or the error of the detector; None if the item has no image.

    """
    if not isinstance(detector, AheadDetector):
        for item in items:
            image = image_of(item)
            yield item, None if image is None else _detect(detector, image, settings)
        return
    begun: collections.deque[tuple[T, Any]] = collections.deque()
    for item in items:
        image = image_of(item)
        begun.append((item, None if image is None else detector.submit([image], settings)))
        del image  # the ticket holds it until it is collected
        while begun and (
            len(begun) > detector.frames_ahead or begun[0][1] is None
            or detector.has_answered(begun[0][1])
        ):
            yield _next(detector, begun)
    while begun:
        yield _next(detector, begun)


def _detect(
    detector: Detector, image: ImageView, settings: DetectSettings
) -> Answer | InferenceError:
    try:
        return Answer(*detector.detect(image, settings))
    except InferenceError as exc:
        return exc


def _next(
    detector: AheadDetector, begun: collections.deque[tuple[T, Any]]
) -> tuple[T, Answer | InferenceError | None]:
    item, ticket = begun.popleft()
    if ticket is None:
        return item, None
    try:
        found, timings = detector.collect(ticket)
    except InferenceError as exc:
        return item, exc
    return item, Answer(found[0], timings, detector.engine_of(ticket))
