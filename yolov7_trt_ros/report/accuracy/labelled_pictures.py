"""Read labelled pictures in the orientation in which they were labelled, by the stated size."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from yolov7_trt_ros.core.class_names import visible
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.errors import ImageError
from yolov7_trt_ros.plain_file import open_plain_file
from yolov7_trt_ros.report.accuracy.coco import CocoAnnotations
from yolov7_trt_ros.report.accuracy.label_boxes import leaves
from yolov7_trt_ros.report.accuracy.labels import CocoImage

_EXIF_MARKS = (b'Exif\0', b'eXIf', b'EXIF')
"""In JPEG, PNG and WebP."""


class LoadPicture(Protocol):
    """Reads a picture; may raise ImageError."""

    def __call__(self, path: Path, *, upright: bool = True) -> ImageView:
        """Return a picture, rotated by its EXIF data or as stored."""


class LabelledPictures:
    """
    Reads the pictures of an annotation file, and collects notes about them.

    Some tools draw labels on the picture as stored, others on the picture rotated by its EXIF
    data. The size in the annotation file shows which.

    Parameters
    ----------
    annotations
        The file.
    load
        Reads a picture.

    """

    def __init__(self, annotations: CocoAnnotations, load: LoadPicture) -> None:
        self.annotations = annotations
        self._load = load
        self._stored: set[str] = set()
        self._undecided: set[str] = set()
        self._outside: set[str] = set()

    def read(self, image: CocoImage, path: Path) -> ImageView:
        """
        Return a picture as it was labelled; upright if that is unknown.

        Raises
        ------
        ImageError
            It cannot be decoded, or has another size than the annotation file states.

        """
        upright = self._load(path)
        if image.size_wh in (None, upright.size_wh):
            if _may_be_turned(path):
                self._compare(image, upright, self._load(path, upright=False))
            self._check_boxes(image, upright)
            return upright
        stored = self._load(path, upright=False)
        if image.size_wh != stored.size_wh:
            raise _other_size(image, path, upright, stored)
        self._stored.add(image.file_name)
        return stored

    def _compare(self, image: CocoImage, upright: ImageView, stored: ImageView) -> None:
        """Note a picture that has the stated size both as stored and rotated."""
        if image.size_wh in (None, stored.size_wh) and not (
            upright.size_wh == stored.size_wh and np.array_equal(upright.pixels, stored.pixels)
        ):
            self._undecided.add(image.file_name)

    def _check_boxes(self, image: CocoImage, picture: ImageView) -> None:
        """Check what could not be checked without the size."""
        if image.size_wh is None and any(
            leaves(label.box_xywh, picture.size_wh)
            for label in self.annotations.labels[image.image_id]
        ):
            self._outside.add(image.file_name)

    def notes(self) -> list[str]:
        """Return notes about the pictures that were read."""
        name = self.annotations.path.name
        notes = []
        if count := len(self._stored):
            notes.append(f'{count} pictures are used as stored, not rotated by their EXIF data, '
                         f'because {name} states that size')
        if count := len(self._undecided):
            notes.append(f'{count} pictures are rotated by their EXIF data, and the size does not '
                         f'show whether the labels of {name} are too; the first is '
                         + visible(min(self._undecided)))
        if count := len(self._outside):
            notes.append(f'labels of {count} pictures extend beyond them; the first is '
                         f'{visible(min(self._outside))}')
        return notes


def _may_be_turned(path: Path) -> bool:
    """Return whether a picture file has EXIF data."""
    try:
        with open_plain_file(path, ImageError) as file:
            data = file.read()
    except OSError as exc:
        raise ImageError(f'cannot read {path}: {exc.strerror}') from exc
    return any(mark in data for mark in _EXIF_MARKS)


def _other_size(
    image: CocoImage, path: Path, upright: ImageView, stored: ImageView
) -> ImageError:
    def text(size_wh: tuple[int, int] | None) -> str:
        return 'x'.join(map(str, size_wh or ()))

    turned = '' if upright.size_wh == stored.size_wh else (
        f' ({text(upright.size_wh)} rotated by its EXIF data)'
    )
    return ImageError(
        f'{visible(str(path))} has {text(stored.size_wh)} pixels{turned}, but '
        f'{text(image.size_wh)} where it was labelled: its labels do not fit'
    )
