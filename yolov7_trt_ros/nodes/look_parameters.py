"""Parameters of the second look: part of the detector's table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yolov7_trt_ros.core.look_options import (
    LARGEST_SIDE_PX,
    LEAST_SIDE_PX,
    LookOptions,
    MODES,
    MOST_CROPS,
)
from yolov7_trt_ros.core.topics import split_names
from yolov7_trt_ros.nodes.parameter_spec import ParameterSpec

_PREFIX = 'second_look'
_LOOK = LookOptions()

LOOK_PARAMETERS = (
    ParameterSpec(
        _PREFIX, _LOOK.mode,
        'Look at whole images with a small network input, and at crops of what is in doubt again: '
        'off, on, or auto to measure both ways at configure and take the quicker.', choices=MODES,
    ),
    ParameterSpec(
        f'{_PREFIX}_model', _LOOK.model,
        'Model for the crops, as `model`; empty: the same. It also does alone where auto switches '
        'the second look off.',
    ),
    ParameterSpec(
        f'{_PREFIX}_first_size', _LOOK.first_size,
        'Longer side of the network input for whole images, in place of `network_size`, in '
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
        'Classes to look at again, by name or index: a list, or one text with commas; empty: all.',
    ),
    ParameterSpec(
        f'{_PREFIX}_min_score', _LOOK.min_score,
        'Least score that makes an object doubtful, also below `score_threshold`.', 0.0, 1.0,
    ),
    ParameterSpec(
        f'{_PREFIX}_max_score', _LOOK.max_score,
        'From this score on the first look is sure.', 0.0, 1.0,
    ),
    ParameterSpec(
        f'{_PREFIX}_object_px', _LOOK.object_px,
        'Longer side of the largest object to look at again, in pixels of the image.', 1,
        LARGEST_SIDE_PX,
    ),
    ParameterSpec(
        f'{_PREFIX}_max_crops', _LOOK.max_crops, 'Most crops of an image.', 1, MOST_CROPS,
    ),
    ParameterSpec(
        f'{_PREFIX}_budget_ms', _LOOK.budget_ms,
        'Most time for the crops of a frame, by what crops have taken so far, in milliseconds; '
        '0: no limit.', 0.0, 60_000.0,
    ),
    ParameterSpec(
        f'{_PREFIX}_full_frames', _LOOK.full_frames,
        'In so many images of a topic crops see all of it, whatever the first look shows; 0: '
        'never.', 0, 1_000_000,
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
