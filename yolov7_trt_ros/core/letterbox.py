"""Letterbox: fit a source size into a network size and map boxes back. Geometry only."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.errors import SettingError


@dataclasses.dataclass(frozen=True)
class Letterbox:
    """
    Placement of a scaled source image inside the network input.

    Attributes
    ----------
    source_wh
        Source size in pixels.
    network_wh
        Network input size in pixels.
    resized_wh
        Size of the scaled source inside the network input, in pixels.
    offset_xy
        Its top left corner, in whole pixels.

    Notes
    -----
    x_network = x_source * resized_w / source_w + offset_x, and likewise for y: box edges are
    continuous coordinates with 0 at the left edge of the first pixel, as in cv2.resize. The two
    axes have scales of their own, because the scaled size is rounded to whole pixels; with one
    common scale boxes of a 1279 x 719 image would be off by up to half a network pixel.

    """

    source_wh: tuple[int, int]
    network_wh: tuple[int, int]
    resized_wh: tuple[int, int]
    offset_xy: tuple[int, int]

    @property
    def scale_xy(self) -> tuple[float, float]:
        """Network pixels per source pixel, per axis."""
        return (
            self.resized_wh[0] / self.source_wh[0],
            self.resized_wh[1] / self.source_wh[1],
        )

    def to_source(self, boxes_xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
        """
        Map boxes (n, 4) from network pixels to source pixels, clipped to the source image.

        Returns a new float32 array (n, 4).

        """
        offset = np.array(self.offset_xy * 2, np.float64)
        scale = np.array(self.scale_xy * 2, np.float64)
        boxes = (boxes_xyxy - offset) / scale
        return np.clip(boxes, 0.0, np.array(self.source_wh * 2, np.float64)).astype(np.float32)


@dataclasses.dataclass(frozen=True, eq=False)
class AxisSamples:
    """
    Which two source samples make each scaled sample along one axis, as cv2.resize takes them.

    value = source[first] * (1 - weight) + source[second] * weight; `second` equals `first` where
    the weight is 0. Three arrays (n,): int32, int32, float32.

    """

    first: NDArray[np.int32]
    second: NDArray[np.int32]
    weight: NDArray[np.float32]

    @property
    def used(self) -> NDArray[np.int32]:
        """Source samples with any weight, ascending: int32 (m,)."""
        return np.union1d(self.first, self.second).astype(np.int32)


def sample_axis(source: int, scaled: int) -> AxisSamples:
    """Return the bilinear sampling of an axis of `source` pixels scaled to `scaled` pixels."""
    position = ((np.arange(scaled) + 0.5) * (source / scaled) - 0.5).astype(np.float32)
    first = np.floor(position).astype(np.int32)
    weight = position - first.astype(np.float32)
    outside = (first < 0) | (first >= source - 1)
    first = np.clip(first, 0, source - 1)
    weight[outside] = 0
    second = np.where(weight > 0, first + 1, first).astype(np.int32)
    return AxisSamples(first, second, weight.astype(np.float32))


def fit_letterbox(source_wh: tuple[int, int], network_wh: tuple[int, int]) -> Letterbox:
    """
    Fit a source image, aspect ratio kept and centred, into a fixed network size.

    Parameters
    ----------
    source_wh, network_wh
        Sizes in pixels, all positive.

    """
    scale = min(network_wh[0] / source_wh[0], network_wh[1] / source_wh[1])
    resized_wh = (
        min(network_wh[0], max(1, round(source_wh[0] * scale))),
        min(network_wh[1], max(1, round(source_wh[1] * scale))),
    )
    return _centred(source_wh, network_wh, resized_wh)


def fit_rectangle(source_wh: tuple[int, int], longer_side: int, stride: int) -> Letterbox:
    """
    Fit a source image into the smallest stride-multiple rectangle with the given longer side.

    A 1920 x 1080 image with longer side 640 and stride 32 becomes 640 x 360 inside 640 x 384: 40 %
    less work than 640 x 640.

    Raises
    ------
    SettingError
        `longer_side` is not a positive multiple of `stride`.

    """
    if longer_side < stride or longer_side % stride:
        nearest = max(stride, round(longer_side / stride) * stride)
        raise SettingError(
            f'the network size must be a positive multiple of the stride {stride}, '
            f'got {longer_side}; the nearest is {nearest}'
        )
    scale = longer_side / max(source_wh)
    width, height = (max(1, round(side * scale)) for side in source_wh)
    network_wh = (stride * math.ceil(width / stride), stride * math.ceil(height / stride))
    return _centred(source_wh, network_wh, (width, height))


def _centred(
    source_wh: tuple[int, int], network_wh: tuple[int, int], resized_wh: tuple[int, int]
) -> Letterbox:
    offset_xy = ((network_wh[0] - resized_wh[0]) // 2, (network_wh[1] - resized_wh[1]) // 2)
    return Letterbox(source_wh, network_wh, resized_wh, offset_xy)
