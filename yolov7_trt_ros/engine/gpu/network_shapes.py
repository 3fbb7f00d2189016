"""Choose the network input of an image among the shapes that a plan takes. No CUDA."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import math

from yolov7_trt_ros.core.forms.model_spec import ModelSpec
from yolov7_trt_ros.core.letterbox import fit_letterbox, fit_rectangle, Letterbox
from yolov7_trt_ros.engine.plan.shape_range import ShapeRange
from yolov7_trt_ros.errors import InferenceError, SettingError


class NetworkShapes:
    """
    Chooses network sizes and profiles.

    Parameters
    ----------
    spec
        Tells whether the input size is free, and its stride.
    profiles
        What the plan takes.
    network_size
        Longer side of the network input in pixels, if it is free.
    rectangular
        The smallest rectangle of stride multiples instead of a square.
    plan
        The plan's name, for messages.

    Raises
    ------
    SettingError
        `network_size` is off the stride, larger than every profile, or smaller: images would be
        scaled to it and padded to a size of the plan, at the cost of that.

    """

    def __init__(
        self,
        spec: ModelSpec,
        profiles: Sequence[ShapeRange],
        *,
        network_size: int,
        rectangular: bool,
        plan: str,
    ) -> None:
        self._fixed_wh, self._stride = spec.fixed_wh, spec.stride
        self._profiles = tuple(profiles)
        self._size, self._rectangular, self._plan = network_size, rectangular, plan
        if self._fixed_wh is None:
            self._check_size()

    def letterboxes(self, sizes_wh: Sequence[tuple[int, int]]) -> list[Letterbox]:
        """Return the placements of images in one network size that suits all of them."""
        if self._fixed_wh is not None:
            return [fit_letterbox(size_wh, self._fixed_wh) for size_wh in sizes_wh]
        if not self._rectangular:
            square = (self._size, self._size)
            return [fit_letterbox(size_wh, square) for size_wh in sizes_wh]
        boxes = [fit_rectangle(size_wh, self._size, self._stride) for size_wh in sizes_wh]
        wanted = self._least_fitting(
            max(box.network_wh[0] for box in boxes), max(box.network_wh[1] for box in boxes)
        )
        return [box if box.network_wh == wanted else _recentred(box, wanted) for box in boxes]

    def profile_for(self, images: int, height: int, width: int) -> int:
        """
        Return the number of the profile that takes this input and is tuned nearest to it.

        Raises
        ------
        InferenceError
            None takes it.

        """
        fitting = [
            index for index, profile in enumerate(self._profiles)
            if images <= profile.maximum[0]
            and profile.minimum[2] <= height <= profile.maximum[2]
            and profile.minimum[3] <= width <= profile.maximum[3]
        ]
        if not fitting:
            raise InferenceError(
                f'{images} image(s) of {width}x{height} network pixels are outside the profiles '
                f'of {self._plan}: {self._listed()}. Rebuild it with '
                f'--max {images}x3x{height}x{width} or larger, or set a smaller network_size'
            )
        wanted = (images, 3, height, width)
        return min(fitting, key=lambda index: _distance(self._profiles[index].optimum, wanted))

    def _least_fitting(self, width: int, height: int) -> tuple[int, int]:
        """Return the size itself, or the next larger one that a profile takes."""
        larger = [
            (max(width, profile.minimum[3]), max(height, profile.minimum[2]))
            for profile in self._profiles
            if width <= profile.maximum[3] and height <= profile.maximum[2]
        ]
        return min(larger, key=lambda wh: wh[0] * wh[1]) if larger else (width, height)

    def _check_size(self) -> None:
        fit_rectangle((1, 1), self._size, self._stride)  # refuses sizes off the stride
        largest = max(min(profile.maximum[2:]) for profile in self._profiles)
        smallest = min(
            min(max(profile.minimum[2:]), min(profile.maximum[2:])) for profile in self._profiles
        )
        if self._size < smallest:
            raise SettingError(
                f'network_size is {self._size}, but {self._plan} takes at least {smallest} '
                f'({self._listed()}); set network_size to {smallest}, or rebuild the plan with '
                f'--min 1x3x{self._size}x{self._size}'
            )
        if self._size > largest:
            raise SettingError(
                f'network_size is {self._size}, but {self._plan} takes at most {largest} '
                f'({self._listed()}); set network_size to {largest}, or rebuild the plan with '
                f'--max 1x3x{self._size}x{self._size}'
            )

    def _listed(self) -> str:
        return '; '.join(map(str, self._profiles))


def _distance(tuned: Sequence[int], wanted: Sequence[int]) -> float:
    return sum(abs(math.log(a / b)) for a, b in zip(tuned, wanted, strict=True))


def _recentred(box: Letterbox, network_wh: tuple[int, int]) -> Letterbox:
    """Return the same scale, centred in a larger network input."""
    offset_xy = (
        (network_wh[0] - box.resized_wh[0]) // 2, (network_wh[1] - box.resized_wh[1]) // 2
    )
    return dataclasses.replace(box, network_wh=network_wh, offset_xy=offset_xy)
