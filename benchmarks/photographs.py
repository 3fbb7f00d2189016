"""
Pictures for measurements: photographs with several objects each, or an error; never noise.

The cost of a frame depends on its objects, so every result states the number of boxes per frame.
Without a folder of pictures they are mosaics of the photographs of scikit-image.

"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import dataclasses
import itertools
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.stable_memory import StableMemory

Bgr = NDArray[np.uint8]
LEAST_BOXES = 5.0
FRAMES = 4
_TILES_PACKAGED, _TILES_OF_FOLDER = 5, 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--pictures`, `--tiles` and `--least-boxes`."""
    parser.add_argument(
        '--pictures', type=Path, metavar='FOLDER',
        help="photographs (default: scikit-image's)",
    )
    parser.add_argument(
        '--tiles', type=int, metavar='N',
        help=f'frames are mosaics of N x N photographs (default: {_TILES_OF_FOLDER} with '
        f'--pictures, else {_TILES_PACKAGED})',
    )
    parser.add_argument(
        '--least-boxes', type=float, default=LEAST_BOXES, metavar='N',
        help='fewer boxes a frame are an error (default: %(default)s)',
    )


def load_frames(
    args: argparse.Namespace, width: int, height: int, count: int = FRAMES
) -> list[Bgr]:
    """Return what the arguments of `add_arguments` ask for, as `load_photographs`."""
    return load_photographs(args.pictures, width, height, tiles=args.tiles, count=count)


def load_photographs(
    folder: Path | None, width: int, height: int, *, tiles: int | None = None, count: int = FRAMES
) -> list[Bgr]:
    """
    Return `count` BGR frames (height, width, 3), each contiguous memory of its own.

    Raises
    ------
    SystemExit
        There are no photographs: the folder has none, or scikit-image is not installed.

    """
    tiles = tiles or (_TILES_PACKAGED if folder is None else _TILES_OF_FOLDER)
    found = _packaged() if folder is None else _read_folder(folder, count * tiles**2)
    return [
        mosaic(found, width, height, tiles, first if folder is None else first * tiles**2)
        for first in range(count)
    ]


def in_own_memory(picture: Bgr) -> ImageView:
    """Return a frame whose memory stays; only the strategy `locked` makes something of it."""
    memory = StableMemory(picture.ctypes.data, picture.nbytes)
    return dataclasses.replace(ImageView.from_array(picture), memory=memory)


def describe(args: argparse.Namespace) -> str:
    """Return what the frames are, for a result."""
    kind = "scikit-image's photographs" if args.pictures is None else 'photographs of a folder'
    tiles = args.tiles or (_TILES_PACKAGED if args.pictures is None else _TILES_OF_FOLDER)
    return kind if tiles == 1 else f'mosaics of {tiles} x {tiles} {kind}'


def check_boxes(boxes_per_frame: float, least: float = LEAST_BOXES) -> None:
    """Raise SystemExit if too few boxes were found for a useful measurement."""
    if boxes_per_frame < least:
        raise SystemExit(
            f'{boxes_per_frame:.2f} boxes a frame were found, at least {least:g} are wanted: give '
            'photographs with more objects (--pictures FOLDER, --tiles N), another model, or '
            'fewer (--least-boxes N, which is noted in the result)'
        )


def mosaic(photographs: Sequence[Bgr], width: int, height: int, tiles: int, first: int) -> Bgr:
    """Return tiles of the photographs in turn from number `first` on, every other mirrored."""
    columns = np.linspace(0, width, tiles + 1).astype(int).tolist()
    rows = np.linspace(0, height, tiles + 1).astype(int).tolist()
    result = np.empty((height, width, 3), np.uint8)
    places = itertools.product(itertools.pairwise(rows), itertools.pairwise(columns))
    for number, ((top, bottom), (left, right)) in enumerate(places, first):
        tile = fill(photographs[number % len(photographs)], right - left, bottom - top)
        result[top:bottom, left:right] = tile[:, ::-1] if number % 2 else tile
    return result


def fill(picture: Bgr, width: int, height: int) -> Bgr:
    """Return the upper middle of a picture, scaled to fill width and height."""
    scale = max(width / picture.shape[1], height / picture.shape[0])
    cut_w, cut_h = round(width / scale), round(height / scale)
    left = (picture.shape[1] - cut_w) // 2
    cut = picture[:cut_h, left:left + cut_w]
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.ascontiguousarray(cv2.resize(cut, (width, height), interpolation=method))


def _read_folder(folder: Path, most: int) -> list[Bgr]:
    read = (cv2.imread(str(path)) for path in sorted(folder.rglob('*')) if path.is_file())
    found = list(itertools.islice((each for each in read if each is not None), most))
    if not found:
        raise SystemExit(f'{folder} has no picture that OpenCV reads; noise is not measured')
    return found


def _packaged() -> list[Bgr]:
    try:
        import skimage.data as data
    except ImportError as exc:
        raise SystemExit(
            f'no photographs ({exc}): pip install scikit-image, or give a folder of them with '
            '--pictures; noise is not measured'
        ) from exc
    return [each[..., ::-1] for each in (data.astronaut(), data.coffee(), data.chelsea())]
