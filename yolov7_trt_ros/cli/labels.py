"""Open labels for the verbs that measure with them, and print their warnings."""

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
    Read an annotation file; warn of what was not read as written.

    Raises
    ------
    MissingDependencyError
        pycocotools is not installed.
    InputError
        The file cannot be read or is not in COCO's format.

    """
    from yolov7_trt_ros.report.accuracy.coco import CocoAnnotations

    annotations = CocoAnnotations(expand_home(path))
    _warn_each(annotations.warnings, warn)
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
    Return the images that exist, at most `limit` of them; warn if they are few.

    Raises
    ------
    InputError
        Some are missing and that is not allowed, or all are.

    """
    from yolov7_trt_ros.report.accuracy.average_precision import find_images

    images = find_images(annotations, folder, allow_missing=allow_missing)[:limit]
    warn_of_few(len(images), warn)
    return images


def warn_of_few(images: int, warn: Callable[[object], None] = output.warn) -> None:
    """Warn if an average precision comes from few images."""
    from yolov7_trt_ros.report.accuracy.average_precision import few_images_note

    if note := few_images_note(images):
        warn(note)


def labelled_categories(
    annotations: CocoAnnotations, class_names: tuple[str, ...]
) -> Categories:
    """
    Return the labelled category of each class of a model; warn of classes without one.

    Raises
    ------
    ModelLayoutError
        No class name is a category.

    """
    categories = annotations.categories_of(class_names)
    _warn_each(categories.warnings())
    return categories


def labelled_pictures(annotations: CocoAnnotations) -> LabelledPictures:
    """Return a reader for the pictures of an annotation file, oriented as labelled."""
    from yolov7_trt_ros.replay.pictures import load_picture
    from yolov7_trt_ros.report.accuracy.labelled_pictures import LabelledPictures

    return LabelledPictures(annotations, load_picture)


def warn_of_notes(pictures: LabelledPictures) -> None:
    """Warn of what was noticed while reading pictures."""
    _warn_each(pictures.notes())


def _warn_each(notes: Sequence[str], warn: Callable[[object], None] = output.warn) -> None:
    for note in notes:
        warn(note)
