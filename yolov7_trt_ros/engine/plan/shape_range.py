"""Shapes of network inputs as text, and ShapeRange: the shapes of one optimisation profile."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses

from yolov7_trt_ros.errors import SettingError

Shape = tuple[int, int, int, int]
"""Batch, 3, height, width."""


@dataclasses.dataclass(frozen=True)
class ShapeRange:
    """
    The input shapes (B, 3, H, W) of one optimisation profile: least, tuned for, largest.

    Raises
    ------
    SettingError
        Not 1 <= minimum <= optimum <= maximum in every dimension, or not three channels.

    """

    minimum: Shape
    optimum: Shape
    maximum: Shape

    def __post_init__(self) -> None:
        """Check the order and the channels."""
        shapes = (self.minimum, self.optimum, self.maximum)
        sides = list(zip(*shapes, strict=True)) if {len(s) for s in shapes} == {4} else []
        if not sides or any(not 1 <= low <= best <= high for low, best, high in sides):
            raise SettingError(
                'a profile needs 1 <= min <= opt <= max in each of batch, channels, height and '
                f'width, got {self}'
            )
        if {shape[1] for shape in shapes} != {3}:
            raise SettingError(f'images have 3 channels (batch x 3 x height x width), got {self}')

    def __str__(self) -> str:
        """Return `1x3x320x320 .. 1x3x640x640 .. 4x3x1280x1280`."""
        return ' .. '.join(map(format_shape, (self.minimum, self.optimum, self.maximum)))

    def contains(self, shape: Sequence[int]) -> bool:
        """Whether an input of this shape runs with this profile."""
        return len(shape) == 4 and all(
            low <= side <= high
            for low, side, high in zip(self.minimum, shape, self.maximum, strict=True)
        )


def format_shape(shape: Sequence[int]) -> str:
    """Return `1x3x640x640`."""
    return 'x'.join(map(str, shape))


def parse_shape(text: str) -> Shape:
    """
    Return the shape of `1x3x640x640`, or of trtexec's `images:1x3x640x640`.

    Raises
    ------
    SettingError
        Not four whole numbers.

    """
    sides = text.rpartition(':')[2].split('x')
    if len(sides) != 4 or not all(side.isdecimal() for side in sides):
        raise SettingError(
            f'a shape is batch x 3 x height x width, such as 1x3x640x640, got {text!r}'
        )
    batch, channels, height, width = map(int, sides)
    return batch, channels, height, width
