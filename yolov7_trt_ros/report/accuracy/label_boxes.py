"""Check the boxes of labels: refuse invalid ones, report those of another format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import math
from typing import Any

from yolov7_trt_ros.errors import InputError
from yolov7_trt_ros.report.accuracy.label_file import shown

Box = tuple[float, float, float, float]

_OUTSIDE_PX = 2.0
_OUTSIDE_SHARE = 0.01
_MOST_OUTSIDE = 0.25
"""Boxes that are two corners stay inside, read wrongly, in the upper left quarter of a picture."""
_FORM = 'COCO has [x, y, width, height] in pixels of the picture'


def parse_box(entry: Mapping[str, Any]) -> Box:
    """
    Return x, y, width and height of an annotation; the sizes may be 0.

    Raises
    ------
    InputError
        They are missing or not finite, or a size is negative.

    """
    if 'bbox' not in entry:
        only = ', only a segmentation' if 'segmentation' in entry else ''
        raise InputError(f'it has no bbox{only}; {_FORM}')
    value = entry['bbox']
    numbers = _numbers(value) if isinstance(value, list) and len(value) == 4 else None
    if numbers is None:
        raise InputError(f'bbox must be four finite numbers, got {shown(value)}; {_FORM}')
    x, y, width, height = numbers
    if width < 0 or height < 0:
        raise InputError(f'bbox {shown(value)} has a negative size; {_FORM}')
    return x, y, width, height


def _numbers(values: Sequence[object]) -> list[float] | None:
    found = []
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        try:
            found.append(float(value))
        except OverflowError:
            return None
    return found if all(map(math.isfinite, found)) else None


def leaves(box: Box, size_wh: tuple[int, int]) -> bool:
    """Return whether a box extends beyond its picture by more than rounding."""
    x, y, width, height = box
    slack_x, slack_y = (max(_OUTSIDE_PX, _OUTSIDE_SHARE * side) for side in size_wh)
    return not (
        -slack_x <= x and x + width <= size_wh[0] + slack_x
        and -slack_y <= y and y + height <= size_wh[1] + slack_y
    )


def check_form(boxes: Sequence[tuple[Box, tuple[int, int] | None]]) -> list[str]:
    """
    Return what is odd about the boxes of a file.

    Parameters
    ----------
    boxes
        Each with the size of its picture, None where the file does not state it.

    Raises
    ------
    InputError
        They are of another form: shares of the picture, two corners, or of other pictures.

    """
    if boxes and all(max(box) <= 1 for box, _ in boxes):
        raise InputError(f'all of its boxes lie within 0..1, as shares of the picture; {_FORM}')
    notes = []
    if small := sum(box[2] < 1 and box[3] < 1 for box, _ in boxes):
        notes.append(f'{small} of {len(boxes)} labels are smaller than a pixel; {_FORM}')
    sized = [(box, size) for box, size in boxes if size is not None]
    outside = [box for box, size in sized if leaves(box, size)]
    if len(outside) > _MOST_OUTSIDE * len(sized):
        _refuse_other_forms(sized, len(outside))
    if outside:
        notes.append(
            f'{len(outside)} of {len(sized)} labels extend beyond their pictures; {_FORM}'
        )
    return notes


def _refuse_other_forms(sized: Sequence[tuple[Box, tuple[int, int]]], outside: int) -> None:
    """Raise InputError if all boxes fit in another format, or most do not fit."""
    fitting = [
        form for form, read in _OTHER_FORMS.items()
        if all(_fits(read(box), size) for box, size in sized)
    ]
    if not fitting and 2 * outside <= len(sized):
        return
    raise InputError(
        f'{outside} of {len(sized)} boxes extend beyond their pictures'
        + (f', and none does when read as {fitting[0]}' if fitting else '')
        + f'; {_FORM}'
    )


def _fits(box: Box, size_wh: tuple[int, int]) -> bool:
    return box[2] > 0 and box[3] > 0 and not leaves(box, size_wh)


_OTHER_FORMS: dict[str, Callable[[Box], Box]] = {
    'two corners [x1, y1, x2, y2]': lambda box: (
        box[0], box[1], box[2] - box[0], box[3] - box[1]
    ),
    'centre and size': lambda box: (
        box[0] - box[2] / 2, box[1] - box[3] / 2, box[2], box[3]
    ),
    '[y, x, height, width]': lambda box: (box[1], box[0], box[3], box[2]),
    'two corners [y1, x1, y2, x2]': lambda box: (
        box[1], box[0], box[3] - box[1], box[2] - box[0]
    ),
}
