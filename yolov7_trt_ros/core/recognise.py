"""
Recognise a YOLOv7 export: from the shapes of its tensors, and from the numbers that a probe gives.

Shapes tell what an output could be, numbers what it is: each form is either accepted with the
meaning that its numbers have, or refused with the name of what it looks like.

"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.core.anchors import model_anchors
from yolov7_trt_ros.core.grid_values import (
    are_labels,
    are_scores,
    BoxCoding,
    count_rows,
    find_boxes,
    FoundBoxes,
    range_of,
)
from yolov7_trt_ros.core.model_names import choose_names
from yolov7_trt_ros.core.model_spec import (
    Anchors,
    ANCHORS_PER_CELL,
    check_input,
    LabelledColumns,
    ModelSpec,
    OutputLayout,
    STRIDE_SETS,
    TensorInfo,
)
from yolov7_trt_ros.errors import ModelLayoutError

Values = Mapping[str, NDArray[Any]]

EXPORT_AGAIN = (
    "export it again: yolov7_trt export MODEL.pt -o MODEL.onnx, or YOLOv7's own "
    'export.py --weights MODEL.pt --grid'
)
_ACCEPTED = (
    'Accepted: grid (batch, rows, 5 + classes), raw heads, boxes and scores, DeepStream-Yolo '
    '(box, score, label), EfficientNMS (4 outputs), end2end ONNX Runtime (n, 7)'
)
_LEAST_VALUES = 6
_LABELLED_VALUES = (6, 7)
_PROBE_TILE = (96, 112)


def probe_images(shape: Sequence[int], dtype: str) -> NDArray[Any]:
    """
    Return the images (B, 3, H, W) that models are tried with: noise, the same each time.

    Noise, for on a blank image a column of classes may be as constant as one of scores.

    """
    height, width = shape[2:]
    tile = np.random.default_rng(0).random((3, *_PROBE_TILE), np.float32)
    times = (1, -(-height // _PROBE_TILE[0]), -(-width // _PROBE_TILE[1]))
    image = np.tile(tile, times)[:, :height, :width]
    return np.ascontiguousarray(np.broadcast_to(image, tuple(shape)), dtype=dtype)


def recognise_model(
    inputs: Sequence[TensorInfo],
    outputs: Sequence[TensorInfo],
    metadata: Mapping[str, str],
    *,
    probe_wh: tuple[int, int],
    values: Values | None,
    class_names: Sequence[str] | None = None,
    anchors: Anchors | None = None,
    boxes_name: str | None = None,
    boxes_are_centres: bool | None = None,
) -> ModelSpec:
    """
    Recognise a YOLOv7 export from its tensors.

    Parameters
    ----------
    inputs, outputs
        Tensors as declared, output shapes as a run with `probe_images` gives them (declared
        shapes of real exports are often unknown or wrong).
    metadata
        Text the model carries: `names`, `anchors` (JSON list of heads) and `stride` are used.
    probe_wh
        Network size the output shapes belong to.
    values
        What that run gave, by output, batch first. None only where the numbers were looked at
        before: shapes alone do not tell a form.
    class_names, anchors
        Override what the model says; anchors are needed for raw heads without metadata.
    boxes_name, boxes_are_centres
        For models whose NMS plugin was cut off: which output holds the boxes, and how it coded
        them. None: told from the numbers.

    Raises
    ------
    ModelLayoutError
        Not a YOLOv7 export, ambiguous, or the overrides do not fit.

    """
    image = check_input(inputs)
    tried = _Tried(list(outputs), metadata, probe_wh, values, class_names)
    form = tried.recognise(boxes_name, boxes_are_centres)
    names = choose_names(
        class_names, metadata, form.num_classes, form.values, may_lack_objectness=form.ambiguous
    )
    is_raw = form.layout is OutputLayout.RAW_HEADS
    chosen = model_anchors(anchors, metadata, form.strides) if is_raw else None
    doubts = [*form.doubts, *names.doubts, *(chosen.doubts if chosen else ())]
    if anchors is not None and not is_raw:
        doubts.append(
            'the given anchors are not used: the boxes of this model are decoded inside'
        )
    return ModelSpec(
        image=image,
        layout=form.layout,
        outputs=tuple(tensor.name for tensor in form.outputs),
        class_names=names.names,
        num_classes=form.num_classes if form.num_classes is not None else names.count,
        strides=form.strides,
        anchors=chosen.anchors if chosen else None,
        boxes_are_centres=form.boxes_are_centres,
        transposed=form.transposed,
        columns=form.columns,
        evidence=(*form.evidence, names.origin, *([chosen.origin] if chosen else [])),
        doubts=tuple(doubts),
    )


@dataclasses.dataclass(frozen=True)
class _Form:
    """What outputs were recognised as; `values` are those of a row, where classes are told so."""

    layout: OutputLayout
    outputs: list[TensorInfo]
    strides: tuple[int, ...]
    num_classes: int | None = None
    values: int | None = None
    ambiguous: bool = False
    """As many values could also be 4 of a box and classes without objectness."""
    boxes_are_centres: bool = False
    transposed: bool = False
    columns: LabelledColumns | None = None
    evidence: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class _Reading:
    """One way to read the shape of a tensor of rows."""

    tensor: TensorInfo
    strides: tuple[int, ...]
    anchors: int
    values: int
    transposed: bool = False

    def __str__(self) -> str:
        rows = self.tensor.shape[2 if self.transposed else 1]
        of = f'{self.anchors} anchor{"s" * (self.anchors > 1)} a cell, strides '
        order = ', values before rows' if self.transposed else ''
        return f'{rows} rows: {of}{", ".join(map(str, self.strides))}{order}'


class _Tried:
    """The outputs of a model, and what a probe made of them."""

    def __init__(
        self,
        outputs: list[TensorInfo],
        metadata: Mapping[str, str],
        probe_wh: tuple[int, int],
        values: Values | None,
        class_names: Sequence[str] | None,
    ) -> None:
        self._outputs, self._metadata = outputs, metadata
        self._probe_wh, self._values = probe_wh, values
        self._class_names = class_names

    def recognise(self, boxes_name: str | None, boxes_are_centres: bool | None) -> _Form:
        """Return the form, or raise ModelLayoutError."""
        self._check_task()
        found = (
            self._as_grid()
            or self._as_raw_heads()
            or self._as_end2end_trt()
            or self._as_pair(boxes_name, boxes_are_centres)
            or self._as_three()
            or self._as_end2end_ort()
        )
        if found is None:
            raise ModelLayoutError(
                f'the outputs are not those of a YOLOv7 export: {self._listed()}{self._hint()}. '
                f'{_ACCEPTED}'
            )
        return found

    # ---- refusals

    def _check_task(self) -> None:
        task = self._metadata.get('task', 'detect')
        if task != 'detect':
            raise ModelLayoutError(
                f'the model says that its task is {task[:40]!r}; this package detects boxes'
            )

    def _refuse(self, form: str, cure: str = EXPORT_AGAIN) -> ModelLayoutError:
        return ModelLayoutError(f'{form} ({self._listed()}); {cure}')

    def _listed(self) -> str:
        return '; '.join(map(str, self._outputs)) or 'none'

    def _hint(self) -> str:
        if len(self._outputs) != 1 or len(self._outputs[0].shape) != 3:
            return ''
        wanted = [
            count_rows(self._probe_wh, strides, ANCHORS_PER_CELL) for strides in STRIDE_SETS
        ]
        width, height = self._probe_wh
        hint = (
            f'. At {width}x{height} a YOLOv7 grid has {wanted[0]} rows ({wanted[1]} for P6 models)'
        )
        rows, values = self._outputs[0].shape[1:]
        if values == _LABELLED_VALUES[0] and (rows or 0) <= 1000:
            return hint + '; few rows of 6 values are an export of YOLOv10 or later, without NMS'
        if (rows or 0) < (values or 0):
            return hint + '; fewer rows than values looks like an anchor-free YOLO (v8 or later)'
        return hint

    # ---- one tensor of rows

    def _as_grid(self) -> _Form | None:
        """One tensor of rows; raw heads beside it, as a plain torch export has, are ignored."""
        flat = [t for t in self._outputs if len(t.shape) == 3 and _is_float(t)]
        rest = [t for t in self._outputs if len(t.shape) != 3]
        if len(flat) != 1 or any(len(t.shape) not in (4, 5) for t in rest):
            return None
        readings = list(self._readings(flat[0]))
        if not readings:
            return None
        for tensor in rest:
            self._check_raw_map(tensor, readings[0])
        refusal: ModelLayoutError | None = None
        for reading in readings:
            try:
                return self._read_rows(reading)
            except ModelLayoutError as exc:
                refusal = refusal or exc
        assert refusal is not None  # there was a reading, and it did not return
        raise refusal

    def _readings(self, tensor: TensorInfo) -> Iterator[_Reading]:
        """Yield the ways in which a shape (B, rows, values) or (B, values, rows) can be read."""
        for transposed in (False, True):
            rows, values = tensor.shape[1:] if not transposed else tensor.shape[:0:-1]
            for anchors in (ANCHORS_PER_CELL, 1):
                for strides in STRIDE_SETS:
                    fits = rows == count_rows(self._probe_wh, strides, anchors)
                    if fits and values is not None and values >= _LEAST_VALUES:
                        yield _Reading(tensor, strides, anchors, values, transposed)

    def _check_raw_map(self, tensor: TensorInfo, reading: _Reading) -> None:
        if _map_values(tensor.shape) != reading.values:
            raise self._refuse(
                f'beside its grid the model gives {tensor}, which is no raw map of it: prototype '
                'masks of a segmentation model look like this, and this package detects boxes',
                'use a model that detects',
            )

    def _read_rows(self, reading: _Reading) -> _Form:
        if self._values is None:
            return self._grid_form(reading, ())
        rows = np.asarray(self._values[reading.tensor.name][0])
        rows = rows.T if reading.transposed else rows
        if reading.values in _LABELLED_VALUES:
            labelled = self._labelled_rows(rows, reading)
            if labelled is not None:
                return labelled
        boxes = self._find_boxes(rows[:, :4], reading)
        if boxes is None:
            raise self._refuse(
                f'the model gives {reading.values} values a row, but the first four do not follow '
                'the cells of a grid, so they are not its boxes'
            )
        if boxes.normalised or boxes.coding is not BoxCoding.CENTRES:
            raise self._refuse(
                f'the model gives boxes as {boxes}, and a YOLOv7 grid has '
                f'{BoxCoding.CENTRES.value} in network pixels'
            )
        self._check_scores(rows)
        return self._grid_form(reading, (
            f'boxes are {boxes}: {boxes.share:.0%} of the centres lie in their cells',
            'objectness and classes lie within 0..1',
        ))

    def _grid_form(self, reading: _Reading, evidence: tuple[str, ...]) -> _Form:
        if reading.transposed and reading.anchors == 1 and not self._confirmed(reading.values - 5):
            raise self._refuse(
                f'{reading.values} values before the rows of one anchor a cell are an anchor-free '
                f'YOLO (v8 or later) of {reading.values - 4} classes',
                f'if it does give objectness and {reading.values - 5} classes, say so with their '
                f'names (--class-names); else {EXPORT_AGAIN}'
            )
        return _Form(
            OutputLayout.GRID, [reading.tensor], reading.strides, reading.values - 5,
            values=reading.values, ambiguous=True, transposed=reading.transposed,
            evidence=(str(reading), *evidence),
        )

    def _confirmed(self, num_classes: int) -> bool:
        """Whether names confirm a number of classes."""
        if self._class_names is None and 'names' not in self._metadata:
            return False
        names = choose_names(self._class_names, self._metadata, None, None).names
        return len(names) == num_classes

    def _check_scores(self, rows: NDArray[Any]) -> None:
        low, high = range_of(rows[:, 4])
        if not are_scores(rows[:, 4]):
            raise self._refuse(
                f'its objectness lies within {low:.3g}..{high:.3g} instead of 0..1: logits, whose '
                'sigmoid is missing, or another value'
            )
        low, high = range_of(rows[:, 5:])
        if not are_scores(rows[:, 5:]):
            raise self._refuse(
                f'its {rows.shape[1] - 5} values after the objectness lie within '
                f'{low:.3g}..{high:.3g} instead of 0..1, so they are not classes: '
                + _OTHER_HEADS.get(rows.shape[1], 'keypoints, masks, angles or logits'),
                'use a model that detects boxes and classes',
            )

    # ---- a box, a score and a class a row

    def _labelled_rows(self, rows: NDArray[Any], reading: _Reading) -> _Form | None:
        """Return the form where one column holds whole numbers, as classes do."""
        for first in range(reading.values - 3):
            others = [c for c in range(reading.values) if not first <= c < first + 4]
            told = _tell_columns(rows, others)
            if told is None:
                continue
            boxes = self._find_boxes(rows[:, first:first + 4], reading)
            if boxes is None or boxes.coding not in _USABLE:
                continue
            if boxes.normalised:
                raise self._refuse(
                    f'the model gives a box, a score and a label a row, and boxes as {boxes}'
                )
            self._check_constant_label(rows[:, told.label], boxes)
            columns = dataclasses.replace(told, box=first)
            return self._labelled_form([reading.tensor], reading, boxes, columns)
        return None

    def _check_constant_label(self, labels: NDArray[Any], boxes: FoundBoxes) -> None:
        """Refuse what may be a grid of one class that is always 1."""
        low, high = range_of(labels)
        centres = boxes.coding is BoxCoding.CENTRES
        if low == high == 1 and centres and self._class_names is None:
            raise self._refuse(
                'its last column is 1 throughout: labels of rows, or the one class of a grid',
                'say which with --class-names: one name, or all'
            )

    def _labelled_form(
        self, tensors: list[TensorInfo], reading: _Reading, boxes: FoundBoxes,
        columns: LabelledColumns | None,
    ) -> _Form:
        where = '' if columns is None else (
            f' (box from column {columns.box}, score {columns.score}, label {columns.label}'
            + ('' if columns.objectness is None else f', objectness {columns.objectness}') + ')'
        )
        return _Form(
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

    def _as_three(self) -> _Form | None:
        """Boxes (B, rows, 4), and scores and classes (B, rows, 1), told apart by their numbers."""
        if len(self._outputs) != 3 or any(len(t.shape) != 3 for t in self._outputs):
            return None
        boxes = [t for t in self._outputs if t.shape[2] == 4 and _is_float(t)]
        single = [t for t in self._outputs if t.shape[2] == 1]
        reading = self._box_reading(boxes[0]) if len(boxes) == 1 else None
        if reading is None or len(single) != 2 or any(
            t.shape[1] != boxes[0].shape[1] for t in single
        ):
            return None
        if self._values is None:
            raise self._refuse('boxes, scores and classes cannot be told apart without a run')
        scores, labels = self._tell_apart(single)
        found = self._checked_boxes(boxes[0], reading)
        return self._labelled_form([boxes[0], scores, labels], reading, found, None)

    def _tell_apart(self, tensors: list[TensorInfo]) -> tuple[TensorInfo, TensorInfo]:
        assert self._values is not None
        arrays = [np.asarray(self._values[t.name]) for t in tensors]
        whole = [are_labels(array) for array in arrays]
        if all(whole):  # scores of exactly 0 and 1 alone
            whole = [t.name in ('classes', 'labels') for t in tensors]
        if whole.count(True) != 1:
            raise self._refuse(
                'of two outputs of one value a row, one must hold scores and the other labels, '
                'which are whole numbers; here this cannot be told'
            )
        label = whole.index(True)
        if not are_scores(arrays[1 - label]):
            raise self._refuse(
                'its scores lie within {:.3g}..{:.3g} instead of 0..1'.format(
                    *range_of(arrays[1 - label])
                )
            )
        return tensors[1 - label], tensors[label]

    # ---- boxes beside scores

    def _as_pair(
        self, boxes_name: str | None, boxes_are_centres: bool | None
    ) -> _Form | None:
        """Boxes and scores in either order: YOLOv7's --include-nms exchanges their names."""
        if len(self._outputs) != 2 or not all(
            _is_float(t) and len(t.shape) == 3 for t in self._outputs
        ):
            return None
        one, other = self._outputs
        if self._box_reading(one) is None or one.shape[1] != other.shape[1]:
            return None
        boxes = [
            t for t in self._outputs
            if t.shape[2] == 4 and (boxes_name is None or t.name == boxes_name)
        ]
        if len(boxes) == 2:
            boxes = self._tracking(boxes)
        if not boxes:
            return None
        scores = other if boxes[0] is one else one
        reading = self._box_reading(boxes[0])
        assert reading is not None  # both have its rows
        evidence: tuple[str, ...] = (str(reading),)
        centres = bool(boxes_are_centres)
        if self._values is not None:
            found = self._checked_boxes(boxes[0], reading)
            centres = found.coding is BoxCoding.CENTRES
            self._check_pair(found, np.asarray(self._values[scores.name]), boxes_are_centres)
            evidence += (
                f'boxes are {found}: {found.share:.0%} of the centres lie in their cells',
                'scores lie within 0..1',
            )
        return _Form(
            OutputLayout.BOXES_AND_SCORES, [boxes[0], scores], reading.strides, scores.shape[2],
            boxes_are_centres=centres, evidence=evidence,
        )

    def _check_pair(
        self, found: FoundBoxes, scores: NDArray[Any], told_centres: bool | None
    ) -> None:
        if told_centres is not None and told_centres is not (found.coding is BoxCoding.CENTRES):
            told = BoxCoding.CENTRES if told_centres else BoxCoding.CORNERS
            raise self._refuse(
                f'its NMS plugin takes boxes as {told.value}, but they are {found.coding.value}'
            )
        if not are_scores(scores):
            raise self._refuse(
                'its scores lie within {:.3g}..{:.3g} instead of 0..1'.format(*range_of(scores))
            )

    def _tracking(self, tensors: list[TensorInfo]) -> list[TensorInfo]:
        """Of two tensors (B, rows, 4), return the one whose numbers are boxes."""
        if self._values is not None:
            found = [t for t in tensors if self._found(t) is not None]
            if len(found) == 1:
                return found
        raise ModelLayoutError(
            'ambiguous: a model of four classes gives boxes and scores of equal shape, '
            f'and exporters disagree on their names: {self._listed()}. Export it with --grid'
        )

    def _found(self, tensor: TensorInfo) -> FoundBoxes | None:
        reading = self._box_reading(tensor)
        assert reading is not None and self._values is not None  # the caller made sure
        return self._find_boxes(np.asarray(self._values[tensor.name][0]), reading)

    def _checked_boxes(self, tensor: TensorInfo, reading: _Reading) -> FoundBoxes:
        found = self._found(tensor)
        if found is None:
            raise self._refuse(f'{tensor} does not follow the cells of a grid: no boxes')
        if found.normalised or found.coding not in _USABLE:
            raise self._refuse(f'the model gives boxes as {found}')
        return found

    def _box_reading(self, tensor: TensorInfo) -> _Reading | None:
        for anchors in (ANCHORS_PER_CELL, 1):
            for strides in STRIDE_SETS:
                if tensor.shape[1] == count_rows(self._probe_wh, strides, anchors):
                    return _Reading(tensor, strides, anchors, 4)
        return None

    def _find_boxes(self, boxes: NDArray[Any], reading: _Reading) -> FoundBoxes | None:
        return find_boxes(boxes, self._probe_wh, reading.strides, reading.anchors)

    # ---- raw heads

    def _as_raw_heads(self) -> _Form | None:
        if len(self._outputs) not in (3, 4, 8) or not all(
            _is_float(t) and len(t.shape) in (4, 5) for t in self._outputs
        ):
            return None
        strides = [self._stride_of(tensor) for tensor in self._outputs]
        values = {_map_values(tensor.shape) for tensor in self._outputs}
        if None in strides or len(values) != 1:
            return None
        heads, evidence = self._outputs, 'one raw map a stride'
        if len(heads) == 8:  # P6 models in training form: their auxiliary heads come last
            if strides[:4] != strides[4:]:
                return None
            heads, strides = heads[:4], strides[:4]
            evidence = 'two raw maps a stride, of which the first is the lead head of YOLOv7'
        by_stride = {
            stride: head for stride, head in zip(strides, heads, strict=True) if stride is not None
        }
        ordered = tuple(sorted(by_stride))
        per_anchor = values.pop()
        if ordered not in STRIDE_SETS or len(by_stride) != len(heads):
            return None
        if per_anchor is None or per_anchor < _LEAST_VALUES:
            return None
        tensors = [by_stride[stride] for stride in ordered]
        self._check_logits(tensors, per_anchor)
        self._check_channels(tensors[0], per_anchor)
        return _Form(
            OutputLayout.RAW_HEADS, tensors, ordered, per_anchor - 5, values=per_anchor,
            evidence=(f'{evidence}, {", ".join(map(str, ordered))}',),
        )

    def _stride_of(self, tensor: TensorInfo) -> int | None:
        height, width = tensor.shape[2:4]
        probe_w, probe_h = self._probe_wh
        if not height or not width or probe_w % width or probe_h % height:
            return None
        stride = probe_w // width
        return stride if stride == probe_h // height else None

    def _check_logits(self, tensors: list[TensorInfo], values: int) -> None:
        """Refuse maps whose objectness passed a sigmoid already."""
        if self._values is None:
            return
        objectness = np.concatenate([
            _objectness(np.asarray(self._values[tensor.name][0]), values).ravel()
            for tensor in tensors
        ])
        low, high = range_of(objectness)
        if low >= 0 and high <= 1 and low < high:
            raise self._refuse(
                f'the objectness of its raw maps lies within {low:.3g}..{high:.3g}: its sigmoid '
                'is inside, and raw maps are taken for logits'
            )

    def _check_channels(self, tensor: TensorInfo, values: int) -> None:
        """Refuse maps that are those of an anchor-free YOLO unless names confirm the classes."""
        channels = tensor.shape[1]
        if len(tensor.shape) == 4 and channels == _ANCHOR_FREE + 80 and not self._confirmed(
            values - 5
        ):
            raise self._refuse(
                f'{channels} channels a map are 64 and 80 classes of an anchor-free YOLO (v8 or '
                'later)',
                f'if they are 3 anchors of 5 + {values - 5}, say so with the names of the '
                f'{values - 5} classes (--class-names); else {EXPORT_AGAIN}',
            )

    # ---- NMS inside

    def _as_end2end_trt(self) -> _Form | None:
        """Four outputs, told apart by shape and dtype; names decide for one-detection models."""
        if len(self._outputs) != 4:
            return None
        boxes = [t for t in self._outputs if len(t.shape) == 3 and t.shape[2] == 4]
        flat = [t for t in self._outputs if len(t.shape) == 2]
        scores = [t for t in flat if _is_float(t)]
        integers = [t for t in flat if not _is_float(t)]
        if len(boxes) != 1 or len(scores) != 1 or len(integers) != 2:
            return None
        most = scores[0].shape[1]
        counts = [t for t in integers if t.shape[1] == 1]
        classes = [t for t in integers if t.shape[1] == most]
        if len(counts) == 2:  # room for a single detection: shapes are equal
            counts = [t for t in integers if 'num' in t.name]
            classes = [t for t in integers if 'class' in t.name]
            if len(counts) != 1 or len(classes) != 1:
                raise ModelLayoutError(
                    'ambiguous end2end outputs: with one detection at most, num_dets and '
                    'det_classes have the same shape and the names do not tell them apart: '
                    + self._listed()
                )
        if len(counts) != 1 or len(classes) != 1 or boxes[0].shape[1] != most:
            return None
        ordered = [counts[0], boxes[0], scores[0], classes[0]]
        return self._finished_form(OutputLayout.END2END_TRT, ordered)

    def _as_end2end_ort(self) -> _Form | None:
        outputs = self._outputs
        if len(outputs) != 1 or len(outputs[0].shape) != 2 or outputs[0].shape[1] != 7:
            return None
        return self._finished_form(OutputLayout.END2END_ORT, outputs)

    def _finished_form(self, layout: OutputLayout, outputs: list[TensorInfo]) -> _Form:
        strides, told = told_strides(self._metadata)
        return _Form(layout, outputs, strides, evidence=(
            'NMS inside: scores, classes and boxes are checked in every frame', told,
        ))


_USABLE = (BoxCoding.CENTRES, BoxCoding.CORNERS)
_ANCHOR_FREE = 64
"""Channels of box distances (4 sides x 16 bins) in a map of YOLOv8 and later."""

_OTHER_HEADS = {
    57: 'the 17 keypoints of YOLOv7-pose',
    21: 'the 5 landmarks of YOLOv7-face',
    117: 'the 32 mask coefficients of a segmentation model',
}
"""By values a row."""


def _is_float(tensor: TensorInfo) -> bool:
    return tensor.dtype.startswith('float')


def _map_values(shape: tuple[int | None, ...]) -> int | None:
    """5 + classes of a raw head with three anchors; None where the shape is not one's."""
    if len(shape) == 5:
        return shape[4] if shape[1] == ANCHORS_PER_CELL else None
    channels = shape[1] or 0
    return None if channels % ANCHORS_PER_CELL else channels // ANCHORS_PER_CELL


def _objectness(head: NDArray[Any], values: int) -> NDArray[Any]:
    """Return the objectness of a head (3, h, w, values) or (3 * values, h, w)."""
    return head[..., 4] if head.ndim == 4 else head[4::values]


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


def told_strides(metadata: Mapping[str, str]) -> tuple[tuple[int, ...], str]:
    """Return the strides whose largest the metadata tells, and what they were told by."""
    text = metadata.get('stride', '')
    numbers = [int(word) for word in text.replace(',', ' ').strip('[]() ').split()[:8]
               if word.isdecimal() and len(word) < 5]
    for strides in STRIDE_SETS:
        if numbers and max(numbers) == strides[-1]:
            return strides, f'stride {strides[-1]} from the metadata'
    return STRIDE_SETS[0], f'stride {STRIDE_SETS[0][-1]} assumed: the model does not tell it'
