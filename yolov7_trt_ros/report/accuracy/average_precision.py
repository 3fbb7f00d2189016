"""Average precision of a detector on labelled images: what `eval` and `bench` share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from yolov7_trt_ros.core.class_names import visible
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.detector import Detector, DetectSettings, FrameTimings
from yolov7_trt_ros.errors import ImageError, InferenceError, InputError
from yolov7_trt_ros.report.accuracy.categories import Categories
from yolov7_trt_ros.report.accuracy.coco import coco_records, CocoAnnotations
from yolov7_trt_ros.report.accuracy.labelled_pictures import LabelledPictures
from yolov7_trt_ros.report.accuracy.labels import CocoImage

SCORE_THRESHOLD = 0.001
IOU_THRESHOLD = 0.65
MAX_DETECTIONS = 300
MAX_CANDIDATES = 30_000
ENOUGH_IMAGES = 100
"""With fewer the average precision depends much on which they are."""


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
        (present if _is_file(folder / image.file_name) else missing).append(image)
    if missing and (not allow_missing or not present):
        raise InputError(
            f'{len(missing)} of {len(annotations.images)} images of {annotations.path} are not in '
            f'{folder}, the first is {visible(missing[0].file_name)}'
            + ('; --allow-missing measures without them' if present else '')
        )
    return present


def _is_file(path: Path) -> bool:
    """Return whether there is such a file; a name that no file can have is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, not permitted; a zero byte
        return False


def few_images_note(count: int) -> str:
    """Return a sentence for people where few images are measured, '' else."""
    if count >= ENOUGH_IMAGES:
        return ''
    return (f'the average precision of {count} labelled images is rough; {ENOUGH_IMAGES} or more '
            'make it steadier')


def detect_labelled(
    images: Sequence[CocoImage],
    folder: Path,
    detector: Detector,
    settings: DetectSettings,
    categories: Categories,
    *,
    pictures: LabelledPictures,
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
    pictures
        Reads them; has notes of them afterwards.
    found, failed
        Called for each image, one or the other.
    advance
        Called after each image.

    Raises
    ------
    InputError
        Nothing is labelled in these images, or none of them can be used.

    """
    pictures.annotations.objects_in(images, categories)  # known now rather than after the work
    reasons: list[Exception] = []

    def count(reason: Exception) -> None:
        reasons.append(reason)
        failed(reason)

    records = detect_images(
        images, folder, detector, settings, categories,
        pictures=pictures, found=found, failed=count, advance=advance,
    )
    if len(reasons) == len(images):
        raise InputError(
            f'none of the {len(images)} images in {folder} could be used; the first: {reasons[0]}'
        ) from reasons[0]
    return records


def detect_images(
    images: Sequence[CocoImage],
    folder: Path,
    detector: Detector,
    settings: DetectSettings,
    categories: Categories,
    *,
    pictures: LabelledPictures,
    found: Callable[[Detections, FrameTimings], None],
    failed: Callable[[Exception], None],
    advance: Callable[[], None] = lambda: None,
) -> list[dict[str, Any]]:
    """Return COCO records as `detect_labelled`, also where nothing is labelled or usable."""
    records: list[dict[str, Any]] = []
    for image in images:
        try:
            picture = pictures.read(image, folder / image.file_name)
            detections, timings = detector.detect(picture, settings)
        except (ImageError, InferenceError) as exc:
            failed(exc)
        else:
            found(detections, timings)
            records += coco_records(image.image_id, detections, categories)
        advance()
    return records
