"""LookOptions: the user settings of a second look."""

from __future__ import annotations

import dataclasses

from yolov7_trt_ros.errors import SettingError

OFF, AUTO, ON = 'off', 'auto', 'on'
MODES = (OFF, AUTO, ON)
LOOK_ONCE = 'with several engines only the first looks twice; the others look once'
MOST_CROPS = 16
MOST_WORTH = 16.0
LEAST_SIDE_PX, LARGEST_SIDE_PX = 64, 2048


@dataclasses.dataclass(frozen=True)
class LookOptions:
    """
    Options of a second look.

    Attributes
    ----------
    mode
        `off`, `on`, or `auto` to measure both and use the faster.
    model
        Of the second look, '' for the same.
    first_size
        Longer side of the network input of the first look, in pixels.
    crop_px
        Side of a crop in pixels of the image. Even.
    crop_size
        Longer side of the network input of the second look, in pixels: `crop_px` does not scale.
    classes
        Names or numbers of classes for a second look; none: all.
    min_score, max_score
        Between them the first look is in doubt, 0..1; from the latter on it is sure.
    object_px
        Longer side of the largest object to look at again, in pixels of the image.
    min_worth
        What a crop must be worth: the sum of score x (1 - score) of its doubtful objects, and of
        the scores of objects that would be lost. 0.2 is one object with a score of 0.28.
    max_crops
        Most crops of an image.
    budget_ms
        Most time for the crops of all images of a frame, by what crops have taken so far; 0: no
        limit.
    full_frames
        Crops see all of the image once in so many frames of a stream; 0: never.

    Raises
    ------
    SettingError
        A value is out of its range, or values do not go together.

    """

    mode: str = OFF
    model: str = ''
    first_size: int = 416
    crop_px: int = 128
    crop_size: int = 192
    classes: tuple[str, ...] = ()
    min_score: float = 0.02
    max_score: float = 0.9
    object_px: int = 80
    min_worth: float = 0.2
    max_crops: int = 3
    budget_ms: float = 0.0
    full_frames: int = 30

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.mode not in MODES:
            raise SettingError(
                f'second_look must be one of {", ".join(MODES)}, got {self.mode!r}'
            )
        for name, low, high in (
            ('first_size', 32, 4096), ('crop_px', LEAST_SIDE_PX, LARGEST_SIDE_PX),
            ('crop_size', 32, 4096),
            ('min_score', 0.0, 1.0), ('max_score', 0.0, 1.0), ('object_px', 1, LARGEST_SIDE_PX),
            ('min_worth', 0.0, MOST_WORTH), ('max_crops', 1, MOST_CROPS),
            ('budget_ms', 0.0, 60_000.0),
            ('full_frames', 0, 1_000_000),
        ):
            value = getattr(self, name)
            if not low <= value <= high:  # written so that NaN fails
                raise SettingError(f'second_look_{name} must be within {low}..{high}, got {value}')
        self._check_together()

    def _check_together(self) -> None:
        if self.crop_px % 2:
            raise SettingError(f'second_look_crop_px must be even, got {self.crop_px}')
        if self.min_score > self.max_score:
            raise SettingError(
                f'second_look_min_score {self.min_score} is above second_look_max_score '
                f'{self.max_score}'
            )
        if self.object_px + 2 * self.margin_px > self.crop_px:
            raise SettingError(
                f'an object of second_look_object_px {self.object_px} does not fit into a crop of '
                f'second_look_crop_px {self.crop_px} with {self.margin_px} pixels on each side: '
                f'at most {self.crop_px - 2 * self.margin_px}'
            )

    @property
    def is_off(self) -> bool:
        """Whether frames are looked at once."""
        return self.mode == OFF

    @property
    def least_score(self) -> float:
        """Return from which score on there is doubt of what was a target before."""
        return self.min_score / 2

    @property
    def margin_px(self) -> int:
        """Return how far from the inner borders of a crop an object is seen."""
        return self.crop_px // 16 + 2
