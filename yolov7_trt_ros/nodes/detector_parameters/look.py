"""Parameters of the second look: part of the detector's table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yolov7_trt_ros.core.looks.look_options import (
    LARGEST_SIDE_PX,
    LEAST_SIDE_PX,
    LookOptions,
    MODES,
    MOST_CROPS,
    MOST_WORTH,
)
from yolov7_trt_ros.core.topics import split_names
from yolov7_trt_ros.nodes.parameter_spec import ParameterSpec

_PREFIX = 'second_look'
_LOOK = LookOptions()

LOOK_PARAMETERS = (
    ParameterSpec(
        _PREFIX, _LOOK.mode,
        'Detect in whole images with a small network input, and again in crops of doubtful '
        'objects: off, on, or auto to measure both methods at configure and use the faster one.',
        choices=MODES,
    ),
    ParameterSpec(
        f'{_PREFIX}_model', _LOOK.model,
        'Model for the crops, as `model`. Empty: the same. It also runs alone if auto switches '
        'the second look off.',
    ),
    ParameterSpec(
        f'{_PREFIX}_first_size', _LOOK.first_size,
        'Longer side of the network input for whole images, instead of `network_size`, in '
        'pixels.', 32, 4096,
    ),
    ParameterSpec(
        f'{_PREFIX}_crop_px', _LOOK.crop_px,
        'Side of a crop, in pixels of the image; even.', LEAST_SIDE_PX, LARGEST_SIDE_PX,
    ),
    ParameterSpec(
        f'{_PREFIX}_crop_size', _LOOK.crop_size,
        'Longer side of the network input for a crop, in pixels: how far it is scaled up.', 32,
        4096,
    ),
    ParameterSpec(
        f'{_PREFIX}_classes', '',
        'Classes for the second look, by name or index: a list, or one string with commas. '
        'Empty: all.',
    ),
    ParameterSpec(
        f'{_PREFIX}_min_score', _LOOK.min_score,
        'Minimum score of a doubtful object, also below `score_threshold`.', 0.0, 1.0,
    ),
    ParameterSpec(
        f'{_PREFIX}_max_score', _LOOK.max_score,
        'From this score on the first look is sure.', 0.0, 1.0,
    ),
    ParameterSpec(
        f'{_PREFIX}_object_px', _LOOK.object_px,
        'Longer side of the largest object for the second look, in pixels of the image.', 1,
        LARGEST_SIDE_PX,
    ),
    ParameterSpec(
        f'{_PREFIX}_min_worth', _LOOK.min_worth,
        'What a crop must be worth: the sum of score x (1 - score) of its doubtful objects. Lower '
        'values give more crops.', 0.0, MOST_WORTH,
    ),
    ParameterSpec(
        f'{_PREFIX}_max_crops', _LOOK.max_crops, 'Maximum number of crops per image.', 1,
        MOST_CROPS,
    ),
    ParameterSpec(
        f'{_PREFIX}_budget_ms', _LOOK.budget_ms,
        'Maximum time for the crops of a frame, estimated from earlier crops, in milliseconds. '
        '0: no limit.', 0.0, 60_000.0,
    ),
    ParameterSpec(
        f'{_PREFIX}_full_frames', _LOOK.full_frames,
        'Number of images of a topic in which crops cover the whole image once, independent of '
        'the first look. 0: never.', 0, 1_000_000,
    ),
)
"""How images are looked at twice."""


def look_options(values: Mapping[str, Any]) -> LookOptions:
    """
    Return how images are looked at.

    Raises
    ------
    SettingError
        Values do not go together; of a second look that is off they need not.

    """
    if values[_PREFIX] == _LOOK.mode:
        return _LOOK
    names = [spec.name.removeprefix(f'{_PREFIX}_') for spec in LOOK_PARAMETERS[1:]]
    found = {name: values[f'{_PREFIX}_{name}'] for name in names}
    found['classes'] = tuple(split_names(found['classes']))
    return LookOptions(mode=values[_PREFIX], **found)
