"""The Detector protocol, its settings per frame, and the timings it returns."""

from __future__ import annotations

import abc
from collections.abc import Sequence
import dataclasses
import functools
from typing import Any, Protocol, runtime_checkable

from yolov7_trt_ros.core.defaults import (
    DEFAULT_IOU_THRESHOLD,
    DEFAULT_MAX_DETECTIONS,
    DEFAULT_SCORE_THRESHOLD,
    MAX_DETECTIONS_LIMIT,
)
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.forms.model_spec import ModelSpec
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.errors import SettingError

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
