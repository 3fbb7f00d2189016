"""Average precision of a detector on labelled images, for `eval` and `bench`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from yolov7_trt_ros.core.class_names import visible
from yolov7_trt_ros.core.detector import Answer, detect_ahead, Detector, DetectSettings
from yolov7_trt_ros.core.forms.model_spec import ModelSpec, OutputLayout
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.errors import ImageError, InputError
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


def _picture(
    pictures: LabelledPictures, image: CocoImage, folder: Path
) -> ImageView | ImageError:
    try:
        return pictures.read(image, folder / image.file_name)
    except ImageError as exc:
        return exc


def _is_file(path: Path) -> bool:
    """Return whether there is such a file; a name that no file can have is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, not permitted; a zero byte
        return False


def few_images_note(count: int) -> str:
    """Return a warning if few images are measured, else ''."""
    if count >= ENOUGH_IMAGES:
        return ''
    return (f'the average precision of {count} labelled images is rough; {ENOUGH_IMAGES} or more '
            'make it steadier')


def own_nms_note(spec: ModelSpec) -> str:
    """Return a warning if a model drops detections that COCO's measure counts, else ''."""
    if spec.layout not in (OutputLayout.END2END_TRT, OutputLayout.END2END_ORT):
        return ''
    return ('the model has NMS inside, with its own thresholds for scores and IoU and its own '
            'maximum: its average precision is lower than that of the same network without, which '
            f'is measured from a score of {SCORE_THRESHOLD:g} on')


def detect_labelled(
    images: Sequence[CocoImage],
    folder: Path,
    detector: Detector,
    settings: DetectSettings,
    categories: Categories,
    *,
    pictures: LabelledPictures,
    found: Callable[[CocoImage, Answer], None] = lambda image, answer: None,
    failed: Callable[[Exception], None],
    advance: Callable[[], None] = lambda: None,
    is_part: bool = False,
) -> list[dict[str, Any]]:
    """
    Return COCO records; an image that cannot be used counts as one without detections.

    Parameters
    ----------
    images, folder
        The labelled images, and the folder of their files.
    detector, settings
        The detector, and its settings.
    categories
        Categories of the detector's classes.
    pictures
        Reads the images; has notes about them afterwards.
    found, failed
        One of them is called for each image.
    advance
        Called after each image.
    is_part
        The images are a part of a data set, which may be without labels or usable images.

    Raises
    ------
    InputError
        Nothing is labelled in these images, or none of them can be used.

    """
    if not is_part:
        pictures.annotations.objects_in(images, categories)  # fails now, not after the work
    records: list[dict[str, Any]] = []
    reasons: list[Exception] = []
    read = ((image, _picture(pictures, image, folder)) for image in images)
    for (image, picture), answer in detect_ahead(
        detector, read, lambda each: each[1] if isinstance(each[1], ImageView) else None, settings
    ):
        if isinstance(answer, Answer):
            found(image, answer)
            records += coco_records(image.image_id, answer.found, categories)
        elif (reason := answer or picture) and isinstance(reason, Exception):
            reasons.append(reason)
            failed(reason)
        advance()
    if not is_part and len(reasons) == len(images):
        raise InputError(
            f'none of the {len(images)} images in {folder} could be used; the first: {reasons[0]}'
        ) from reasons[0]
    return records
