"""Open a detector with one look or two; `auto` measures both and keeps the faster."""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import dataclasses
import statistics
import time

import numpy as np

from yolov7_trt_ros.bank.class_map import missing_classes
from yolov7_trt_ros.bank.looks.crop_budget import CropBudget
from yolov7_trt_ros.bank.looks.in_parts import detect_in_parts
from yolov7_trt_ros.bank.looks.look_settings import crop_classes
from yolov7_trt_ros.bank.looks.second_look import look_twice
from yolov7_trt_ros.core.detector import Detector, DetectSettings
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.looks.crops import Crop, cut
from yolov7_trt_ros.core.looks.look_options import LookOptions, ON
from yolov7_trt_ros.core.units import NS_PER_MS, NS_PER_S
from yolov7_trt_ros.errors import SettingError

TRIED_WH = (1280, 720)
"""Size of the image that is looked at: what cameras of robots send."""
_WARM_UP, _ROUNDS = 2, 7
_LONGEST_NS = 5 * NS_PER_S
"""No round is begun after that."""
PAYS_BELOW = 0.9
"""Two looks pay if they take less than this share of one: the rest is noise."""

Open = Callable[[], Detector]


@dataclasses.dataclass(frozen=True)
class LookTimes:
    """
    Times of one look and of two, in nanoseconds.

    Attributes
    ----------
    once
        A whole frame by the single engine.
    first, crop
        A whole frame by the first engine, and a crop by the second.

    """

    once: int
    first: int
    crop: int

    def crops_in(self, options: LookOptions) -> int:
        """Return how many crops a frame may have, by number and time."""
        in_time = CropBudget(options.budget_ms, self.crop).most()
        return options.max_crops if in_time is None else min(options.max_crops, in_time)

    def twice(self, crops: int) -> int:
        """Return what two looks take."""
        return self.first + crops * self.crop

    def pays(self, crops: int) -> bool:
        """Whether two looks are faster with this number of crops; False without crops."""
        return crops > 0 and self.twice(crops) < PAYS_BELOW * self.once

    def describe(self, crops: int) -> str:
        """Return the times of one look and of two, as text."""
        once = f'one look takes {self.once / NS_PER_MS:.1f} ms'
        if not crops:
            return f'{once}, and a crop {self.crop / NS_PER_MS:.1f} ms, over second_look_budget_ms'
        return f'{once}, two with {crops} crops {self.twice(crops) / NS_PER_MS:.1f} ms'


def open_looks(
    options: LookOptions, *, once: Open, first: Open, second: Open,
    say: Callable[[str], None] = lambda _: None, warn: Callable[[str], None] = lambda _: None,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> Detector:
    """
    Return a detector with one look or two, by the options.

    Parameters
    ----------
    options
        Mode and crops.
    once, first, second
        Open the engine for whole frames alone, the one for whole frames before crops, and the one
        for crops. An engine that is not needed is not opened, or closed again.
    say
        Called with the choice of `auto` and its reason.
    warn
        As for `SecondLook`.
    clock
        Monotonic nanoseconds.

    Raises
    ------
    SettingError
        The models and options do not go together, as `crop_classes` checks; or with `auto` the
        precise model lacks classes of the first, which would be lost if it looked alone.
    Yolov7TrtError
        As raised while opening; nothing stays open then.

    """
    if options.is_off:
        return once()
    with contextlib.ExitStack() as opened:
        pair = (
            _opened(first, opened, 'the first look'), _opened(second, opened, 'the second look')
        )
        crop_classes(pair[0].spec, pair[1].spec, options)  # refused whatever auto would choose
        if options.mode == ON:
            twice: Detector = look_twice(*pair, options, clock=clock, warn=warn)
            opened.pop_all()
            return twice
        alone = _opened(once, opened, 'one look')
        lost = missing_classes(pair[0].spec, alone.spec)
        if lost:
            raise SettingError(
                'second_look auto may leave second_look_model alone, but that lacks the classes '
                f'{lost} of model: set second_look to on, or take another second_look_model'
            )
        times = measure_looks(alone, *pair, options, clock)
        crops = times.crops_in(options)
        reason = times.describe(crops)
        if not times.pays(crops):
            used = f'; {options.model} looks alone' if options.model else ''
            say(f'the second look is off, for it does not pay: {reason}{used}')
            kept: Detector = alone
            unused: tuple[Detector, ...] = pair
        else:
            say(f'the second look is on: {reason}')
            kept, unused = look_twice(
                *pair, options, crop_ns=times.crop, reason=reason, clock=clock, warn=warn
            ), (alone,)
        for each in unused:
            each.close()
        opened.pop_all()
        return kept


def measure_looks(
    once: Detector, first: Detector, second: Detector, options: LookOptions,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> LookTimes:
    """Measure both ways in turns on a grey image, each median of some rounds."""
    width, height = TRIED_WH
    image = ImageView.from_array(np.full((height, width, 3), 128, np.uint8))
    side = min(options.crop_px, *TRIED_WH)
    crops = [cut(image, Crop(0, 0, side, side))] * options.max_crops
    settings = DetectSettings()
    ways = (
        lambda: once.detect(image, settings), lambda: first.detect(image, settings),
        lambda: detect_in_parts(second, crops, settings),
    )
    taken: list[tuple[int, ...]] = []
    began = clock()
    while len(taken) < _WARM_UP + 1 or (
        len(taken) < _WARM_UP + _ROUNDS and clock() - began < _LONGEST_NS
    ):
        taken.append(tuple(_time(way, clock) for way in ways))
    one, whole, all_crops = (
        round(statistics.median(each)) for each in zip(*taken[_WARM_UP:], strict=True)
    )
    return LookTimes(one, whole, round(all_crops / len(crops)))


def _time(way: Callable[[], object], clock: Callable[[], int]) -> int:
    began = clock()
    way()
    return clock() - began


def _opened(open_one: Open, stack: contextlib.ExitStack, what: str) -> Detector:
    try:
        detector = open_one()
    except SettingError as exc:
        raise type(exc)(f'{what}: {exc}') from exc
    stack.callback(detector.close)
    return detector
