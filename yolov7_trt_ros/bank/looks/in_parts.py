"""Detect in more images than an engine takes at once."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses

from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.detector import Detector, DetectSettings, FrameTimings
from yolov7_trt_ros.core.image import ImageView


def detect_in_parts(
    detector: Detector, images: Sequence[ImageView], settings: DetectSettings
) -> tuple[list[Detections], FrameTimings]:
    """Detect, in as many batches as the engine needs; the times of all are added."""
    most = detector.max_batch
    if len(images) <= most:
        return detector.detect_batch(images, settings)
    found: list[Detections] = []
    timings = FrameTimings(0, 0, 0)
    for begin in range(0, len(images), most):
        part, took = detector.detect_batch(images[begin:begin + most], settings)
        found += part
        timings = FrameTimings(*(
            getattr(timings, field.name) + getattr(took, field.name)
            for field in dataclasses.fields(FrameTimings)
        ))
    return found, timings
