"""Crops: the windows of a frame for a second look. Geometry only, in source pixels."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.core.image import ImageView, PixelLayout

EVEN = 2
"""Crops begin at even pixels and are as even as the image: no mosaic and chroma pair is cut."""

MOST_TARGETS = 64
"""Targets that are looked at to place crops: the heaviest. It bounds the work."""


class Crop(NamedTuple):
    """A window of a frame: left and top are within it, right and bottom are not."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.right - self.left, self.bottom - self.top


def cut(image: ImageView, crop: Crop) -> ImageView:
    """
    View a crop of an image in the same memory; nothing is copied where rows can be cut.

    The luma and chroma planes of nv12 and nv21 are not one view: those of a crop are copied.

    Parameters
    ----------
    image
        The frame.
    crop
        Within it; of even position for the encodings that share samples, and as even as it.

    """
    pixels, (width, height) = image.pixels, crop.size_wh
    columns = slice(crop.left, crop.right)
    rows = pixels[crop.top:crop.bottom, columns]
    if image.encoding.layout is PixelLayout.YUV420_SEMI_PLANAR:
        below = image.height + crop.top // EVEN
        chroma = pixels[below:below + height // EVEN, columns]
        return dataclasses.replace(
            image, pixels=np.concatenate([rows, chroma]), width=width, height=height, memory=None
        )
    return dataclasses.replace(image, pixels=rows, width=width, height=height)


@dataclasses.dataclass(frozen=True)
class CropShape:
    """
    Size and margin of crops.

    Attributes
    ----------
    side_px
        Longer side of a crop, even; one more where the frame is odd. A frame that is smaller has
        crops of its own size.
    margin_px
        Distance of a target from each border of the crop that is not a border of the frame.

    """

    side_px: int
    margin_px: int

    def size_in(self, source_wh: tuple[int, int]) -> tuple[int, int]:
        """Return the size of a crop in a frame, in pixels; odd where that is."""
        width, height = (min(self.side_px + length % EVEN, length) for length in source_wh)
        return width, height


def choose_crops(
    boxes_xyxy: NDArray[np.float32], weights: NDArray[np.float32], source_wh: tuple[int, int],
    shape: CropShape, most: int, least_weight: float = 0.0,
) -> list[Crop]:
    """
    Place crops so that the heaviest targets are seen whole, each once.

    Greedy: the window with the most weight first, then that with the most of what is left.

    Parameters
    ----------
    boxes_xyxy, weights
        Targets (n, 4) and what it is worth to see each (n,), above 0.
    source_wh
        Size of the frame.
    shape
        Of the crops.
    most
        Most crops.
    least_weight
        A crop has to be worth more.

    Returns
    -------
    The crops, the most worthwhile first. Those of one frame have one size.

    """
    heaviest = np.argsort(-weights, kind='stable')[:MOST_TARGETS]
    boxes, left_over = boxes_xyxy[heaviest], weights[heaviest].astype(np.float64)
    windows = _windows_around(boxes, source_wh, shape)
    # what is placed is rounded to even pixels
    holds = holding(windows, boxes, source_wh, shape.margin_px + EVEN)
    crops: list[Crop] = []
    while len(crops) < most and len(windows):
        worth = holds @ left_over
        best = int(np.argmax(worth))
        if not worth[best] > least_weight:
            break
        crop = _centred_on(boxes[holds[best] & (left_over > 0)], source_wh, shape)
        left_over[holding(np.array([crop]), boxes, source_wh, shape.margin_px)[0]] = 0.0
        crops.append(crop)
    return crops


def tile(source_wh: tuple[int, int], shape: CropShape) -> list[Crop]:
    """Return crops that together see the whole frame, each overlapping its neighbours."""
    width, height = shape.size_in(source_wh)
    overlap = 2 * shape.margin_px
    return [
        Crop(left, top, left + width, top + height)
        for top in _steps(source_wh[1], height, overlap)
        for left in _steps(source_wh[0], width, overlap)
    ]


def _steps(length: int, side: int, overlap: int) -> list[int]:
    """Return even beginnings of windows that cover a length."""
    rest = length - side
    if rest <= 0:
        return [0]
    count = -(-rest // max(EVEN, side - overlap - EVEN)) + 1  # places are rounded
    return spread(length, side, count)


def spread(length: int, side: int, count: int) -> list[int]:
    """Return the even beginnings of two or more windows, evenly from one end to the other."""
    rest = length - side
    places = [_even(rest * index / (count - 1)) for index in range(count - 1)]
    return [*places, _last(length, side)]


def _windows_around(
    boxes: NDArray[np.float32], source_wh: tuple[int, int], shape: CropShape
) -> NDArray[np.float64]:
    """Return windows (9 n, 4) that have a target at their left, middle or right, and so on."""
    axes, margin_px = [], shape.margin_px + EVEN
    for axis, side in enumerate(shape.size_in(source_wh)):
        low = boxes[:, axis].astype(np.float64) - margin_px
        high = boxes[:, axis + 2].astype(np.float64) + margin_px - side
        begins = np.stack([low, (low + high) / 2, high], axis=1)
        axes.append(np.clip(begins, 0, source_wh[axis] - side))
    left = np.repeat(axes[0], 3, axis=1).ravel()
    top = np.tile(axes[1], (1, 3)).ravel()
    width, height = shape.size_in(source_wh)
    return np.stack([left, top, left + width, top + height], axis=1)


def holding(
    windows: NDArray[Any], boxes: NDArray[np.float32], source_wh: tuple[int, int],
    margin_px: float,
) -> NDArray[np.bool_]:
    """
    Return which windows contain which boxes, with a margin at borders inside the frame.

    Windows (m, 4) and boxes (n, 4), both xyxy in source pixels; (m, n).

    """
    inner = inner_of(windows, source_wh, margin_px)
    low = boxes[None, :, :2] >= inner[:, None, :2]
    high = boxes[None, :, 2:] <= inner[:, None, 2:]
    return np.asarray(low.all(axis=2) & high.all(axis=2))


def inner_of(
    windows: NDArray[Any], source_wh: tuple[int, int], margin_px: float
) -> NDArray[np.float64]:
    """Return windows (m, 4) without a margin at each border that is none of the frame's."""
    inner = windows.astype(np.float64)
    for axis in (0, 1):
        inner[:, axis] = np.where(windows[:, axis] <= 0, -np.inf, inner[:, axis] + margin_px)
        inner[:, axis + 2] = np.where(
            windows[:, axis + 2] >= source_wh[axis], np.inf, inner[:, axis + 2] - margin_px
        )
    return inner


def _centred_on(
    boxes: NDArray[np.float32], source_wh: tuple[int, int], shape: CropShape
) -> Crop:
    """Return the crop with boxes in its middle, as far as the frame reaches."""
    middle = (boxes[:, :2].min(axis=0) + boxes[:, 2:].max(axis=0)) / 2
    begin, size = [], shape.size_in(source_wh)
    for axis, side in enumerate(size):
        last = _last(source_wh[axis], side)
        begin.append(min(max(_even(float(middle[axis]) - side / 2), 0), last))
    return Crop(begin[0], begin[1], begin[0] + size[0], begin[1] + size[1])


def _last(length: int, side: int) -> int:
    """Return the start of the last window: even, if both sides are odd or both even."""
    return length - side


def _even(place: float) -> int:
    return int(place // EVEN) * EVEN
