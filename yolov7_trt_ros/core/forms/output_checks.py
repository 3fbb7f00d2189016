"""Check the output values of a model for one image; impossible values are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.core.forms.grid_values import FloatArray, ROUNDING
from yolov7_trt_ros.errors import InferenceError

HIGHEST_SCORE = np.float32(1 + ROUNDING)
"""What is above it is no score, whatever rounds. Kernels have the same number."""

_UNIT_BOX = (np.float32(-0.01), np.float32(1.01))
"""A box within it, in network pixels, is one of 0..1: no object is smaller than a pixel."""

_OTHER_EXPORT = 'export the model with --grid, without NMS'


def check_scores(passing: NDArray[np.float32]) -> None:
    """Refuse scores above 1: they are logits, or another column."""
    bad = np.count_nonzero(passing > HIGHEST_SCORE)
    if bad:
        raise InferenceError(
            f'the model gave {bad} score(s) above 1 (up to {passing.max():.4g}), so they are no '
            f'scores: logits, or columns in another order; {_OTHER_EXPORT}'
        )


def checked_class_ids(classes: NDArray[Any], limit: int) -> NDArray[np.int32]:
    """Return classes as ids, after checking them."""
    valid = (classes >= 0) & (classes < limit)
    if classes.dtype.kind == 'f':
        valid &= classes == np.round(classes)
    if not valid.all():
        first = classes[np.flatnonzero(~valid)[0]]
        raise InferenceError(
            f'the model gave {np.count_nonzero(~valid)} class(es) that are no whole numbers '
            f'within 0..{limit - 1} (the first is {first:.4g}): its columns are in another order, '
            f'or its class names are too few; {_OTHER_EXPORT}'
        )
    return classes.astype(np.int32)


def check_image_numbers(numbers: FloatArray) -> None:
    """Refuse a first column that is not the number of the one image."""
    bad = np.count_nonzero(numbers != 0)
    if bad:
        raise InferenceError(
            f'the model gave {bad} row(s) whose first value is not 0, the number of the image: '
            f'its columns are in another order; {_OTHER_EXPORT}'
        )


def check_finished_boxes(boxes: NDArray[np.float32]) -> None:
    """Refuse swapped corners, which widths and heights look like, and boxes of 0..1."""
    turned = (boxes[:, 2:] < boxes[:, :2] - 1).any(axis=1)
    units = ((boxes > _UNIT_BOX[0]) & (boxes < _UNIT_BOX[1])).all(axis=1)
    units &= (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    bad = np.count_nonzero(turned | units)
    if bad:
        what = 'end before they begin' if turned.any() else 'are within 0..1'
        raise InferenceError(
            f'the model gave {bad} box(es) that {what}, instead of x1, y1, x2, y2 in network '
            f'pixels; {_OTHER_EXPORT}'
        )


def check_finite(values: FloatArray, what: str) -> None:
    """Refuse NaN and infinity; `what` names the values."""
    bad = values.size - np.count_nonzero(np.isfinite(values))
    if bad:
        raise InferenceError(
            f'the model gave {bad} {what} value(s) of {values.size} that are NaN or infinite; an '
            'FP16 overflow or a damaged model: try fp32, or another model file'
        )
