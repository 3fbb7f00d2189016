"""
Pictures for measurements: photographs with several objects each, or an error; never noise.

What a frame costs depends on what is found in it, so every result says how many boxes a frame had.
Without a folder of your own they are mosaics of the photographs of scikit-image.

"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Bgr = NDArray[np.uint8]
LEAST_BOXES = 5.0
_TILES = 5
_PICTURES = 4


def load_photographs(folder: Path | None, width: int, height: int) -> list[Bgr]:
    """
    Return BGR photographs (height, width, 3), contiguous.

    Raises
    ------
    SystemExit
        There are none: the folder has no picture, or scikit-image is not installed.

    """
    if folder is None:
        return [mosaic(_packaged(), width, height, first) for first in range(_PICTURES)]
    found = [cv2.imread(str(path)) for path in sorted(folder.iterdir()) if path.is_file()]
    pictures = [picture for picture in found if picture is not None]
    if not pictures:
        raise SystemExit(f'{folder} has no picture that OpenCV reads; noise is not measured')
    return [fill(picture, width, height) for picture in pictures]


def check_boxes(boxes_per_frame: float, least: float = LEAST_BOXES) -> None:
    """Raise SystemExit where fewer boxes were found than make a measurement worth something."""
    if boxes_per_frame < least:
        raise SystemExit(
            f'{boxes_per_frame:.2f} boxes a frame were found, at least {least:g} are wanted: give '
            'photographs with more objects (--pictures FOLDER), another model, or fewer '
            '(--least-boxes N, which is noted in the result)'
        )


def mosaic(photographs: Sequence[Bgr], width: int, height: int, first: int) -> Bgr:
    """Return tiles of the photographs in turn from number `first` on, every other mirrored."""
    columns = np.linspace(0, width, _TILES + 1).astype(int)
    rows = np.linspace(0, height, _TILES + 1).astype(int)
    result = np.empty((height, width, 3), np.uint8)
    number = first
    for top, bottom in zip(rows[:-1], rows[1:], strict=True):
        for left, right in zip(columns[:-1], columns[1:], strict=True):
            photograph = photographs[number % len(photographs)]
            tile = fill(photograph, int(right - left), int(bottom - top))
            result[top:bottom, left:right] = tile[:, ::-1] if number % 2 else tile
            number += 1
    return result


def fill(picture: Bgr, width: int, height: int) -> Bgr:
    """Return the upper middle of a picture, scaled to fill width and height."""
    scale = max(width / picture.shape[1], height / picture.shape[0])
    cut_w, cut_h = round(width / scale), round(height / scale)
    left = (picture.shape[1] - cut_w) // 2
    cut = picture[:cut_h, left:left + cut_w]
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.ascontiguousarray(cv2.resize(cut, (width, height), interpolation=method))


def _packaged() -> list[Bgr]:
    try:
        import skimage.data as data
    except ImportError as exc:
        raise SystemExit(
            f'no photographs ({exc}): pip install scikit-image, or give a folder of them with '
            '--pictures; noise is not measured'
        ) from exc
    return [each[..., ::-1] for each in (data.astronaut(), data.coffee(), data.chelsea())]
