"""Recognise rows of boxes: grids, labelled rows, boxes with scores beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.core.forms.grid_values import (
    are_labels,
    are_scores,
    BoxCoding,
    count_rows,
    find_boxes,
    FoundBoxes,
    range_of,
)
from yolov7_trt_ros.core.forms.model_forms import (
    EXPORT_AGAIN,
    Form,
    is_float,
    LEAST_VALUES,
    map_values,
    Reading,
    Tried,
)
from yolov7_trt_ros.core.forms.model_spec import (
    ANCHORS_PER_CELL,
    LabelledColumns,
    OutputLayout,
    STRIDE_SETS,
    TensorInfo,
)
from yolov7_trt_ros.errors import ModelLayoutError

LABELLED_VALUES = (6, 7)
"""Box, score and label a row; and objectness."""

_USABLE = (BoxCoding.CENTRES, BoxCoding.CORNERS)
_OTHER_HEADS = {
    57: 'the 17 keypoints of YOLOv7-pose',
    21: 'the 5 landmarks of YOLOv7-face',
    117: 'the 32 mask coefficients of a segmentation model',
}
"""By values a row."""


# ---- one tensor of rows


def as_grid(tried: Tried) -> Form | None:
    """One tensor of rows; raw heads beside it, as a plain torch export has, are ignored."""
    flat = [t for t in tried.outputs if len(t.shape) == 3 and is_float(t)]
    rest = [t for t in tried.outputs if len(t.shape) != 3]
    if len(flat) != 1 or any(len(t.shape) not in (4, 5) for t in rest):
        return None
    readings = list(_readings(tried, flat[0]))
    if not readings:
        return None
    for tensor in rest:
        _check_raw_map(tried, tensor, readings[0])
    refusal: ModelLayoutError | None = None
    for reading in readings:
        try:
            return _read_rows(tried, reading)
        except ModelLayoutError as exc:
            refusal = refusal or exc
    assert refusal is not None  # there was a reading, and it did not return
    raise refusal


def _readings(tried: Tried, tensor: TensorInfo) -> Iterator[Reading]:
    """Yield the ways in which a shape (B, rows, values) or (B, values, rows) can be read."""
    for transposed in (False, True):
        rows, values = tensor.shape[1:] if not transposed else tensor.shape[:0:-1]
        for anchors in (ANCHORS_PER_CELL, 1):
            for strides in STRIDE_SETS:
                fits = rows == count_rows(tried.probe_wh, strides, anchors)
                if fits and values is not None and values >= LEAST_VALUES:
                    yield Reading(tensor, strides, anchors, values, transposed)


def _check_raw_map(tried: Tried, tensor: TensorInfo, reading: Reading) -> None:
    if map_values(tensor.shape) != reading.values:
        raise tried.refuse(
            f'beside its grid the model gives {tensor}, which is no raw map of it: prototype '
            'masks of a segmentation model look like this, and this package detects boxes',
            'use a model that detects',
        )


def _read_rows(tried: Tried, reading: Reading) -> Form:
    if tried.values is None:
        return _grid_form(tried, reading, ())
    rows = np.asarray(tried.values[reading.tensor.name][0])
    rows = rows.T if reading.transposed else rows
    if reading.values in LABELLED_VALUES:
        labelled = _labelled_rows(tried, rows, reading)
        if labelled is not None:
            return labelled
    boxes = _find_boxes(tried, rows[:, :4], reading)
    if boxes is None:
        raise tried.refuse(*_no_boxes(rows, reading))
    if boxes.normalised or boxes.coding is not BoxCoding.CENTRES:
        raise tried.refuse(
            f'the model gives boxes as {boxes}, and a YOLOv7 grid has '
            f'{BoxCoding.CENTRES.value} in network pixels'
        )
    _check_scores(tried, rows)
    return _grid_form(tried, reading, (
        f'boxes are {boxes}: {boxes.share:.0%} of the centres lie in their cells',
        'objectness and classes lie within 0..1',
    ))


def _no_boxes(rows: NDArray[Any], reading: Reading) -> tuple[str, ...]:
    """Return why no boxes are found in the first four values of rows."""
    if not np.isfinite(rows[:, :4]).all():
        return ('the model gives boxes that are NaN or infinite for a picture of noise',
                'an FP16 overflow or a damaged model: try fp32, or another model file')
    return (
        f'the model gives {reading.values} values a row, but the first four do not follow the '
        'cells of a grid, so they are not its boxes',
    )


def _grid_form(tried: Tried, reading: Reading, evidence: tuple[str, ...]) -> Form:
    if reading.transposed and reading.anchors == 1 and not tried.confirmed(reading.values - 5):
        raise tried.refuse(
            f'{reading.values} values before the rows of one anchor a cell are an anchor-free '
            f'YOLO (v8 or later) of {reading.values - 4} classes',
            f'if it does give objectness and {reading.values - 5} classes, say so with their '
            f'names (--class-names); else {EXPORT_AGAIN}'
        )
    return Form(
        OutputLayout.GRID, [reading.tensor], reading.strides, reading.values - 5,
        values=reading.values, ambiguous=True, transposed=reading.transposed,
        evidence=(str(reading), *evidence),
    )


def _check_scores(tried: Tried, rows: NDArray[Any]) -> None:
    low, high = range_of(rows[:, 4])
    if not are_scores(rows[:, 4]):
        raise tried.refuse(
            f'the objectness of the model lies within {low:.3g}..{high:.3g} instead of 0..1: '
            'logits, whose sigmoid is missing, or another value'
        )
    low, high = range_of(rows[:, 5:])
    if not are_scores(rows[:, 5:]):
        raise tried.refuse(
            f'the {rows.shape[1] - 5} values after its objectness lie within '
            f'{low:.3g}..{high:.3g} instead of 0..1, so they are not classes: '
            + _OTHER_HEADS.get(rows.shape[1], 'keypoints, masks, angles or logits'),
            'use a model that detects boxes and classes',
        )


# ---- a box, a score and a class a row


def _labelled_rows(tried: Tried, rows: NDArray[Any], reading: Reading) -> Form | None:
    """Return the form if one column has whole numbers, as classes do."""
    for first in range(reading.values - 3):
        others = [c for c in range(reading.values) if not first <= c < first + 4]
        found = _tell_columns(rows, others)
        if found is None:
            continue
        boxes = _find_boxes(tried, rows[:, first:first + 4], reading)
        if boxes is None or boxes.coding not in _USABLE:
            continue
        if boxes.normalised:
            raise tried.refuse(
                f'the model gives a box, a score and a label a row, and boxes as {boxes}'
            )
        if _is_constant_class(tried, rows[:, found.label], boxes, reading):
            return None
        columns = dataclasses.replace(found, box=first)
        return _labelled_form(tried, [reading.tensor], reading, boxes, columns)
    return None


def _is_constant_class(
    tried: Tried, labels: NDArray[Any], boxes: FoundBoxes, reading: Reading
) -> bool:
    """Whether apparent labels are a grid's class that is always 1, decided by names."""
    if range_of(labels) != (1, 1) or boxes.coding is not BoxCoding.CENTRES:
        return False
    if tried.class_names is None and 'names' not in tried.metadata:
        raise tried.refuse(
            'a column is 1 throughout: labels of rows, or a class of a grid',
            f'say which with --class-names: {reading.values - 5} name(s) for a grid, or all'
        )
    return tried.confirmed(reading.values - 5)


def _labelled_form(
    tried: Tried, tensors: list[TensorInfo], reading: Reading, boxes: FoundBoxes,
    columns: LabelledColumns | None,
) -> Form:
    where = '' if columns is None else (
        f' (box from column {columns.box}, score {columns.score}, label {columns.label}'
        + ('' if columns.objectness is None else f', objectness {columns.objectness}') + ')'
    )
    return Form(
        OutputLayout.LABELLED, tensors, reading.strides,
        boxes_are_centres=boxes.coding is BoxCoding.CENTRES,
        transposed=reading.transposed, columns=columns,
        evidence=(
            str(reading),
            f'a box, a score and a label a row, as DeepStream-Yolo writes them{where}',
            f'boxes are {boxes}: {boxes.share:.0%} of the centres lie in their cells',
            'labels are whole numbers, scores lie within 0..1',
        ),
    )


def as_three(tried: Tried) -> Form | None:
    """Boxes (B, rows, 4), and scores and classes (B, rows, 1), distinguished by their values."""
    if len(tried.outputs) != 3 or any(len(t.shape) != 3 for t in tried.outputs):
        return None
    boxes = [t for t in tried.outputs if t.shape[2] == 4 and is_float(t)]
    single = [t for t in tried.outputs if t.shape[2] == 1]
    reading = _box_reading(tried, boxes[0]) if len(boxes) == 1 else None
    if reading is None or len(single) != 2 or any(
        t.shape[1] != boxes[0].shape[1] for t in single
    ):
        return None
    if tried.values is None:
        raise tried.refuse('boxes, scores and classes cannot be told apart without a run')
    scores, labels = _tell_apart(tried, single)
    found = _checked_boxes(tried, boxes[0], reading)
    return _labelled_form(tried, [boxes[0], scores, labels], reading, found, None)


def _tell_apart(tried: Tried, tensors: list[TensorInfo]) -> tuple[TensorInfo, TensorInfo]:
    assert tried.values is not None
    arrays = [np.asarray(tried.values[t.name]) for t in tensors]
    whole = [are_labels(array) for array in arrays]
    if all(whole):  # scores of exactly 0 and 1 alone
        whole = [t.name in ('classes', 'labels') for t in tensors]
    if whole.count(True) != 1:
        raise tried.refuse(
            'of two outputs of one value a row, one must hold scores and the other labels, '
            'which are whole numbers; here this cannot be told'
        )
    label = whole.index(True)
    if not are_scores(arrays[1 - label]):
        raise tried.refuse(
            'the scores lie within {:.3g}..{:.3g} instead of 0..1'.format(
                *range_of(arrays[1 - label])
            )
        )
    return tensors[1 - label], tensors[label]


def _tell_columns(rows: NDArray[Any], columns: Sequence[int]) -> LabelledColumns | None:
    """Return which of the columns beside a box is the label and which the scores."""
    labels = [c for c in columns if are_labels(rows[:, c])]
    if len(labels) > 1:  # scores of exactly 0 and 1 alone: a label may be larger
        labels = [c for c in labels if range_of(rows[:, c])[1] > 1]
    if len(labels) != 1:
        return None
    scores = [c for c in columns if c != labels[0]]
    if not all(are_scores(rows[:, c]) for c in scores):
        return None
    return LabelledColumns(0, scores[0], labels[0], scores[1] if len(scores) > 1 else None)


# ---- boxes beside scores


def as_pair(
    tried: Tried, boxes_name: str | None, boxes_are_centres: bool | None
) -> Form | None:
    """Boxes and scores in either order: YOLOv7's --include-nms exchanges their names."""
    if len(tried.outputs) != 2 or not all(
        is_float(t) and len(t.shape) == 3 for t in tried.outputs
    ):
        return None
    one, other = tried.outputs
    if _box_reading(tried, one) is None or one.shape[1] != other.shape[1]:
        return None
    boxes = [
        t for t in tried.outputs
        if t.shape[2] == 4 and (boxes_name is None or t.name == boxes_name)
    ]
    if len(boxes) == 2:
        boxes = _tracking(tried, boxes)
    if not boxes:
        return None
    scores = other if boxes[0] is one else one
    reading = _box_reading(tried, boxes[0])
    assert reading is not None  # both have its rows
    evidence: tuple[str, ...] = (str(reading),)
    centres = bool(boxes_are_centres)
    if tried.values is not None:
        found = _checked_boxes(tried, boxes[0], reading)
        centres = found.coding is BoxCoding.CENTRES
        _check_pair(tried, found, np.asarray(tried.values[scores.name]), boxes_are_centres)
        evidence += (
            f'boxes are {found}: {found.share:.0%} of the centres lie in their cells',
            'scores lie within 0..1',
        )
    return Form(
        OutputLayout.BOXES_AND_SCORES, [boxes[0], scores], reading.strides, scores.shape[2],
        boxes_are_centres=centres, evidence=evidence,
    )


def _check_pair(
    tried: Tried, found: FoundBoxes, scores: NDArray[Any], told_centres: bool | None
) -> None:
    if told_centres is not None and told_centres is not (found.coding is BoxCoding.CENTRES):
        expected = BoxCoding.CENTRES if told_centres else BoxCoding.CORNERS
        raise tried.refuse(
            f'the NMS plugin takes boxes as {expected.value}, but they are {found.coding.value}'
        )
    if not are_scores(scores):
        raise tried.refuse(
            'the scores lie within {:.3g}..{:.3g} instead of 0..1'.format(*range_of(scores))
        )


def _tracking(tried: Tried, tensors: list[TensorInfo]) -> list[TensorInfo]:
    """Of two tensors (B, rows, 4), return the one whose numbers are boxes."""
    if tried.values is not None:
        found = [t for t in tensors if _found(tried, t) is not None]
        if len(found) == 1:
            return found
    raise ModelLayoutError(
        'ambiguous: a model of four classes gives boxes and scores of equal shape, '
        f'and exporters disagree on their names: {tried.listed()}. Export it with --grid'
    )


def _found(tried: Tried, tensor: TensorInfo) -> FoundBoxes | None:
    reading = _box_reading(tried, tensor)
    assert reading is not None and tried.values is not None  # the caller made sure
    return _find_boxes(tried, np.asarray(tried.values[tensor.name][0]), reading)


def _checked_boxes(tried: Tried, tensor: TensorInfo, reading: Reading) -> FoundBoxes:
    found = _found(tried, tensor)
    if found is None:
        raise tried.refuse(f'{tensor} does not follow the cells of a grid: no boxes')
    if found.normalised or found.coding not in _USABLE:
        raise tried.refuse(f'the model gives boxes as {found}')
    return found


def _box_reading(tried: Tried, tensor: TensorInfo) -> Reading | None:
    for anchors in (ANCHORS_PER_CELL, 1):
        for strides in STRIDE_SETS:
            if tensor.shape[1] == count_rows(tried.probe_wh, strides, anchors):
                return Reading(tensor, strides, anchors, 4)
    return None


def _find_boxes(tried: Tried, boxes: NDArray[Any], reading: Reading) -> FoundBoxes | None:
    return find_boxes(boxes, tried.probe_wh, reading.strides, reading.anchors)
