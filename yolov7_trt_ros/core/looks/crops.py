"""Crops: the windows of a frame for a second look. Geometry only, in source pixels."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import math
from typing import NamedTuple

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
    crops: list[Crop] = []
    if most <= 0 or not len(boxes):
        return crops
    holds = _holds_around(boxes, source_wh, shape)
    while len(crops) < most:
        worth = holds @ left_over
        best = int(np.argmax(worth))
        if not worth[best] > least_weight:
            break
        crop = _centred_on(boxes[holds[best] * left_over > 0], source_wh, shape)
        left_over[holding([crop], boxes, source_wh, shape.margin_px)[0]] = 0.0
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


def _holds_around(
    boxes: NDArray[np.float32], source_wh: tuple[int, int], shape: CropShape
) -> NDArray[np.float64]:
    """
    Return 1 where a window contains a target and 0 elsewhere, (9 n, n), ready to be multiplied.

    The windows have a target at their left, middle or right, each at the top, middle or bottom.

    """
    margin_px = shape.margin_px + EVEN  # what is placed is rounded
    low, high = boxes.T.astype(np.float64).reshape(2, 2, -1)  # each of both axes and n targets
    lengths, sides = (np.array(wh)[:, None, None] for wh in (source_wh, shape.size_in(source_wh)))
    first, last = low - margin_px, high + margin_px - sides[..., 0]
    begins = np.stack([first, (first + last) / 2, last], axis=2).clip(0, lengths - sides)
    ends = begins + sides
    least = np.where(begins <= 0, -np.inf, begins + margin_px)
    most = np.where(ends >= lengths, np.inf, ends - margin_px)
    across, down = (
        (low[:, None, None] >= least[..., None]) & (high[:, None, None] <= most[..., None])
    )
    holds = across[:, :, None] & down[:, None]  # (n, 3, 3, n)
    return np.asarray(holds.reshape(-1, len(boxes)), np.float64)


def holding(
    crops: Sequence[Crop], boxes: NDArray[np.float32], source_wh: tuple[int, int],
    margin_px: int,
) -> NDArray[np.bool_]:
    """
    Return which crops (m) contain which boxes (n, 4), with a margin at borders inside the frame.

    Boxes are xyxy in source pixels; (m, n).

    """
    left, top, right, bottom = inner_of(crops, source_wh, margin_px).T[..., None]
    return np.asarray(
        (boxes[:, 0] >= left) & (boxes[:, 1] >= top)
        & (boxes[:, 2] <= right) & (boxes[:, 3] <= bottom)
    )


def inner_of(
    crops: Sequence[Crop], source_wh: tuple[int, int], margin_px: int
) -> NDArray[np.float32]:
    """Return crops (m, 4) without a margin at each border that is none of the frame's."""
    width, height = source_wh
    return np.array([
        (left + margin_px if left > 0 else -math.inf, top + margin_px if top > 0 else -math.inf,
         right - margin_px if right < width else math.inf,
         bottom - margin_px if bottom < height else math.inf)
        for left, top, right, bottom in crops
    ], np.float32).reshape(-1, 4)


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
