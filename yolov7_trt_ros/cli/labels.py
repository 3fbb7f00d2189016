"""Open labels for the verbs that measure with them, and print what is to be said of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from yolov7_trt_ros.cli import output
from yolov7_trt_ros.home_folder import expand_home

if TYPE_CHECKING:
    from yolov7_trt_ros.report.accuracy.categories import Categories
    from yolov7_trt_ros.report.accuracy.coco import CocoAnnotations
    from yolov7_trt_ros.report.accuracy.labelled_pictures import LabelledPictures
    from yolov7_trt_ros.report.accuracy.labels import CocoImage


def open_annotations(
    path: Path, warn: Callable[[object], None] = output.warn
) -> CocoAnnotations:
    """
    Read an annotation file; warn of what was taken in another way than it is written.

    Raises
    ------
    MissingDependencyError
        pycocotools is not installed.
    InputError
        The file cannot be read or is not in COCO's format.

    """
    from yolov7_trt_ros.report.accuracy.coco import CocoAnnotations

    annotations = CocoAnnotations(expand_home(path))
    _tell(annotations.warnings, warn)
    return annotations


def find_labelled(
    annotations: CocoAnnotations,
    folder: Path,
    *,
    allow_missing: bool,
    limit: int | None = None,
    warn: Callable[[object], None] = output.warn,
) -> list[CocoImage]:
    """
    Return the images that are there, at most `limit` of them; warn where they are few.

    Raises
    ------
    InputError
        Some are missing and that is not allowed, or all are.

    """
    from yolov7_trt_ros.report.accuracy.average_precision import find_images

    images = find_images(annotations, folder, allow_missing=allow_missing)[:limit]
    tell_of_few(len(images), warn)
    return images


def tell_of_few(images: int, warn: Callable[[object], None] = output.warn) -> None:
    """Warn where an average precision comes from few images."""
    from yolov7_trt_ros.report.accuracy.average_precision import few_images_note

    if told := few_images_note(images):
        warn(told)


def labelled_categories(
    annotations: CocoAnnotations, class_names: tuple[str, ...]
) -> Categories:
    """
    Return which labelled category each class of a model is; warn of those that none is.

    Raises
    ------
    ModelLayoutError
        None of the names is a category.

    """
    categories = annotations.categories_of(class_names)
    _tell(categories.warnings())
    return categories


def labelled_pictures(annotations: CocoAnnotations) -> LabelledPictures:
    """Return what reads the pictures of an annotation file as they were labelled."""
    from yolov7_trt_ros.replay.pictures import load_picture
    from yolov7_trt_ros.report.accuracy.labelled_pictures import LabelledPictures

    return LabelledPictures(annotations, load_picture)


def tell_of(pictures: LabelledPictures) -> None:
    """Warn of what was noticed while pictures were read."""
    _tell(pictures.notes())


def _tell(notes: Sequence[str], warn: Callable[[object], None] = output.warn) -> None:
    for note in notes:
        warn(note)
