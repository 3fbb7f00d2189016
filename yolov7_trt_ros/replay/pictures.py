"""Picture files and folders of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import re

import cv2
import numpy as np

from yolov7_trt_ros.core.image import check_size, ImageView
from yolov7_trt_ros.core.preprocess import decode_compressed
from yolov7_trt_ros.errors import ImageError
from yolov7_trt_ros.replay.frames import BadFrame, Frame

PICTURE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')
_SIZE_CHECKED_BEFORE = (b'\xff\xd8', b'\x89PNG')


class PictureSource:
    """
    One picture, or the pictures of a folder in natural order (2 before 10); not its subfolders.

    Iterating twice reads twice. Nothing is kept open.

    Raises
    ------
    ImageError
        The folder holds no pictures.

    """

    kind = 'pictures'
    fps: float | None = None
    warnings: tuple[str, ...] = ()

    def __init__(self, path: Path, *, every: int = 1) -> None:
        self.path = path
        self._files = (find_pictures(path) if path.is_dir() else [path])[::every]
        if not self._files:
            raise ImageError(f'{path} holds no pictures ({", ".join(PICTURE_SUFFIXES)})')
        self.count: int | None = len(self._files)

    def __iter__(self) -> Iterator[Frame | BadFrame]:
        """Yield one item per file."""
        for index, file in enumerate(self._files):
            try:
                image = load_picture(file)
            except ImageError as exc:
                yield BadFrame(exc, file.name, index, file)
            else:
                yield Frame(image, 0, '', file.name, index, file)


def find_pictures(folder: Path) -> list[Path]:
    """Return the picture files of a folder in natural order; hidden files are passed over."""
    return sorted(
        (
            file
            for file in folder.iterdir()
            if file.suffix.lower() in PICTURE_SUFFIXES
            and not file.name.startswith('.')
            and file.is_file()
        ),
        key=natural_key,
    )


def natural_key(path: Path) -> list[tuple[int, str]]:
    """Sort key that puts `2.jpg` before `10.jpg`."""
    return [
        (int(part), '') if part.isdecimal() else (-1, part)
        for part in re.split(r'(\d+)', path.name.lower())
    ] + [(0, path.name)]


def load_picture(path: Path, *, upright: bool = True) -> ImageView:
    """
    Read a picture to bgr8, turned upright as its EXIF data says, or as it is stored.

    Raises
    ------
    ImageError
        The file cannot be read or decoded; the message names it.

    """
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise ImageError(f'cannot read {path}: {exc.strerror}') from exc
    try:
        if data.startswith(_SIZE_CHECKED_BEFORE):
            return decode_compressed(data, apply_orientation=upright)
        return _decode_any(data, upright=upright)
    except ImageError as exc:
        raise ImageError(f'{path}: {exc}') from exc


def _decode_any(data: bytes, *, upright: bool) -> ImageView:
    """Decode what OpenCV knows beyond JPEG and PNG."""
    if not data:
        raise ImageError('the file is empty')
    flags = cv2.IMREAD_COLOR if upright else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as exc:
        raise ImageError(f'cannot be decoded: {exc.err}') from exc
    if pixels is None:
        raise ImageError(f'not a picture, or damaged: {len(data)} bytes, starts with '
                         f'{data[:8].hex(" ")}')
    check_size(pixels.shape[1], pixels.shape[0])
    return ImageView.from_array(np.asarray(pixels, np.uint8))
