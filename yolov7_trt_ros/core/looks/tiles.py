"""TileOptions: the user settings of tiles, and the positions of the tiles in an image."""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np

from yolov7_trt_ros.core.defaults import DEFAULT_TILE_OVERLAP, MOST_TILE_OVERLAP
from yolov7_trt_ros.core.looks.crops import Crop, EVEN, spread
from yolov7_trt_ros.core.plain_text import quoted
from yolov7_trt_ros.errors import InferenceError, SettingError

MOST_TILES = 63
"""With the whole image 64: the largest batch of an engine."""
MOST_COUNT, LEAST_SIDE_PX, LARGEST_SIDE_PX = 16, 64, 4096
_PATTERN = re.compile(r'\s*(\d{1,9})\s*[xX]\s*(\d{1,9})\s*')


@dataclasses.dataclass(frozen=True)
class TileOptions:
    """
    Layout of the tiles of an image.

    Attributes
    ----------
    layout
        Columns and rows; or width and height of a tile in pixels of the image, where they are
        `LEAST_SIDE_PX` or more: one more, where the image is odd and they are not, or the other
        way round. None: there are no tiles.
    overlap
        Which share of its width and height a tile has in common with the next one at least, but
        for two pixels, 0..`MOST_TILE_OVERLAP`.

    Raises
    ------
    SettingError
        A value is out of its range.

    """

    layout: tuple[int, int] | None = None
    overlap: float = DEFAULT_TILE_OVERLAP

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 <= self.overlap <= MOST_TILE_OVERLAP:  # written so that NaN fails
            raise SettingError(
                f'tile_overlap must be within 0..{MOST_TILE_OVERLAP}, got {self.overlap}'
            )

    @property
    def is_off(self) -> bool:
        """Whether images are not cut."""
        return self.layout is None

    @property
    def count(self) -> int:
        """Return how many tiles an image has, as far as that does not depend on its size: or 0."""
        if self.layout is None or self._is_size:
            return 0
        return self.layout[0] * self.layout[1]

    @property
    def text(self) -> str:
        """Return the layout as it is written, '' for none."""
        return '' if self.layout is None else '{}x{}'.format(*self.layout)

    def place(self, source_wh: tuple[int, int]) -> list[Crop]:
        """
        Return the tiles of an image, by rows; together they cover it.

        No tiles if one would cover all of it: the whole image is used in any case.

        Raises
        ------
        InferenceError
            There would be more than `MOST_TILES`.

        """
        if self.layout is None:
            return []
        (width, lefts), (height, tops) = (
            self._along(length, wanted)
            for length, wanted in zip(source_wh, self.layout, strict=True)
        )
        count = len(lefts) * len(tops)
        if count > MOST_TILES:
            raise InferenceError(
                f'an image of {source_wh[0]}x{source_wh[1]} has {count} tiles of {self.text}, at '
                f'most {MOST_TILES} are possible: set larger ones, or a number, as in 4x3'
            )
        if count == 1:
            return []
        return [Crop(left, top, left + width, top + height) for top in tops for left in lefts]

    def check_alone(self, *, second_look: bool, engines: bool = False) -> None:
        """
        Refuse what does not go together with tiles.

        Raises
        ------
        SettingError
            There are tiles, and one of these too.

        """
        if self.is_off:
            return
        if second_look:
            raise SettingError(
                'tiles and second_look exclude each other: tiles show all of an image at full '
                'size already; set one of them'
            )
        if engines:
            raise SettingError(
                'tiles and engines exclude each other: the other engines would look at whole '
                'images alone, and find less; set one of them'
            )

    @property
    def _is_size(self) -> bool:
        return self.layout is not None and self.layout[0] >= LEAST_SIDE_PX

    def _along(self, length: int, wanted: int) -> tuple[int, list[int]]:
        """Return the side of the tiles along one side of an image, and their starts."""
        if self._is_size:
            side = min(_as_even_as(length, wanted), length)
            count = 1 + math.ceil((length - side) / (side * (1 - self.overlap)))
        else:
            side = _as_even_as(length, length / (wanted - (wanted - 1) * self.overlap))
            count = wanted
        if side >= length:
            return length, [0]
        begins = spread(length, side, count)
        while max(np.diff(begins)) > side:  # by a pixel: places are even
            side, count = (side, count + 1) if self._is_size else (side + EVEN, count)
            if side >= length:
                return length, [0]
            begins = spread(length, side, count)
        return side, sorted(set(begins))


def _as_even_as(length: int, least: float) -> int:
    """Return the next side that is odd where the image is: then the last tile begins evenly."""
    side = math.ceil(least)
    return side + (length - side) % EVEN


def read_tiles(text: str) -> tuple[int, int] | None:
    """
    Read `2x2`: columns and rows, up to 16 each; or `640x480`: pixels, from 64 on. Empty: None.

    Raises
    ------
    SettingError
        It is neither, or there is only one tile, or more than `MOST_TILES`.

    """
    if not text.strip():
        return None
    match = _PATTERN.fullmatch(text)
    numbers = (0, 0) if match is None else (int(match[1]), int(match[2]))
    if all(LEAST_SIDE_PX <= number <= LARGEST_SIDE_PX for number in numbers):
        return numbers
    if not all(1 <= number <= MOST_COUNT for number in numbers):
        raise SettingError(
            f'tiles are columns x rows of 1 to {MOST_COUNT}, as in 2x2, or width x height in '
            f'pixels of {LEAST_SIDE_PX} to {LARGEST_SIDE_PX}, as in 640x480; got {quoted(text)}'
        )
    if not 1 < numbers[0] * numbers[1] <= MOST_TILES:
        raise SettingError(
            f'tiles must be 2 to {MOST_TILES}, got {quoted(text)}, which is '
            f'{numbers[0] * numbers[1]}'
        )
    return numbers
