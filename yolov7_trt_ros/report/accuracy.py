"""Average precision of a detector on labelled images: what `eval` and `bench` share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.detector import Detector, DetectSettings, FrameTimings
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.errors import ImageError, InferenceError, InputError
from yolov7_trt_ros.report.categories import Categories
from yolov7_trt_ros.report.coco import coco_records, CocoAnnotations, CocoImage

SCORE_THRESHOLD = 0.001
IOU_THRESHOLD = 0.65
MAX_DETECTIONS = 300
MAX_CANDIDATES = 30_000


def accuracy_settings() -> DetectSettings:
    """Return the settings COCO's average precision is measured with."""
    return DetectSettings(
        score_threshold=SCORE_THRESHOLD, iou_threshold=IOU_THRESHOLD, multi_label=True,
        max_detections=MAX_DETECTIONS, max_candidates=MAX_CANDIDATES,
    )


def find_images(
    annotations: CocoAnnotations, folder: Path, *, allow_missing: bool
) -> list[CocoImage]:
    """
    Return the images of an annotation file that are in a folder.

    Raises
    ------
    InputError
        Some are missing and that is not allowed, or all are.

    """
    present: list[CocoImage] = []
    missing: list[CocoImage] = []
    for image in annotations.images:
        there = (folder / image.file_name).is_file()
        (present if there else missing).append(image)
    if missing and (not allow_missing or not present):
        raise InputError(
            f'{len(missing)} of {len(annotations.images)} images of {annotations.path} are not in '
            f'{folder}, the first is {missing[0].file_name}'
            + ('; --allow-missing measures without them' if present else '')
        )
    if not present:
        raise InputError(f'{annotations.path} lists no images')
    return present


def detect_labelled(
    images: Sequence[CocoImage],
    folder: Path,
    detector: Detector,
    settings: DetectSettings,
    categories: Categories,
    *,
    load: Callable[[Path], ImageView],
    found: Callable[[Detections, FrameTimings], None],
    failed: Callable[[Exception], None],
    advance: Callable[[], None] = lambda: None,
) -> list[dict[str, Any]]:
    """
    Return COCO records; an image that cannot be used counts as one without detections.

    Parameters
    ----------
    images, folder
        What is labelled, and where the files are.
    detector, settings
        Finds, and how.
    categories
        Of its classes.
    load
        Reads a picture; may raise ImageError.
    found, failed
        Called for each image, one or the other.
    advance
        Called after each image.

    """
    records: list[dict[str, Any]] = []
    for image in images:
        try:
            picture = load(folder / image.file_name)
            detections, timings = detector.detect(picture, settings)
        except (ImageError, InferenceError) as exc:
            failed(exc)
        else:
            found(detections, timings)
            records += coco_records(image.image_id, detections, categories)
        advance()
    return records
