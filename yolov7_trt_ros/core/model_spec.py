"""ModelSpec: what kind of YOLOv7 export a model is, recognised from its tensors and metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses
import enum
import json

import numpy as np

from yolov7_trt_ros.core.class_names import COCO80, parse_class_names
from yolov7_trt_ros.errors import ModelLayoutError

Anchors = tuple[tuple[tuple[float, float], ...], ...]
"""Width and height in network pixels: [head][anchor], heads from the smallest stride up."""

ANCHOR_SETS: dict[str, Anchors] = {
    'yolov7-tiny': (
        ((10, 13), (16, 30), (33, 23)),
        ((30, 61), (62, 45), (59, 119)),
        ((116, 90), (156, 198), (373, 326)),
    ),
    'yolov7': (
        ((12, 16), (19, 36), (40, 28)),
        ((36, 75), (76, 55), (72, 146)),
        ((142, 110), (192, 243), (459, 401)),
    ),
    'yolov7-p6': (
        ((19, 27), (44, 40), (38, 94)),
        ((96, 68), (86, 152), (180, 137)),
        ((140, 301), (303, 264), (238, 542)),
        ((436, 615), (739, 380), (925, 792)),
    ),
}
"""Published anchors: yolov7-tiny; yolov7 and yolov7x; w6, e6, d6 and e6e."""

STRIDE_SETS = ((8, 16, 32), (8, 16, 32, 64))

_ANCHORS = 3


class OutputLayout(enum.Enum):
    """The output forms of YOLOv7's exporters."""

    GRID = 'grid'
    """(B, rows, 5 + classes): cx, cy, w, h in network pixels, objectness, classes, all decoded."""

    RAW_HEADS = 'raw'
    """
    Logits, one tensor a stride: (B, 3, h, w, 5 + classes) or (B, 3 * (5 + classes), h, w).
    """

    BOXES_AND_SCORES = 'boxes_scores'
    """(B, rows, 4) boxes and (B, rows, classes) scores with objectness multiplied in."""

    END2END_TRT = 'end2end_trt'
    """EfficientNMS: counts (B, 1), boxes (B, k, 4) xyxy, scores (B, k), class ids (B, k)."""

    END2END_ORT = 'end2end_ort'
    """(n, 7): batch index, x1, y1, x2, y2, class id, score."""


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """Name, shape (None: free) and numpy dtype name of one model input or output."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    def __str__(self) -> str:
        """Return `name float32[1, 3, ?, ?]`."""
        shape = ', '.join('?' if dim is None else str(dim) for dim in self.shape)
        return f'{self.name} {self.dtype}[{shape}]'


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """
    A YOLOv7 model as the rest of the package sees it.

    Attributes
    ----------
    image
        The image input, (B, 3, H, W).
    layout
        Which output form the model has.
    outputs
        Output names in the order the layout's decoder wants them; raw heads from the smallest
        stride up.
    class_names
        One per class; empty where an end2end model does not tell.
    num_classes
        None where an end2end model does not tell.
    strides
        Network pixels per grid cell, ascending.
    anchors
        Only for raw heads, else None.
    boxes_are_centres
        For BOXES_AND_SCORES: boxes are cx, cy, w, h rather than corners.

    """

    image: TensorInfo
    layout: OutputLayout
    outputs: tuple[str, ...]
    class_names: tuple[str, ...]
    num_classes: int | None
    strides: tuple[int, ...]
    anchors: Anchors | None = None
    boxes_are_centres: bool = False

    @property
    def stride(self) -> int:
        """Largest stride: network width and height are multiples of it."""
        return self.strides[-1]

    @property
    def fixed_wh(self) -> tuple[int, int] | None:
        """Network size the model is bound to, None where width and height are free."""
        height, width = self.image.shape[2:]
        return None if height is None or width is None else (width, height)


def check_input(inputs: Sequence[TensorInfo]) -> TensorInfo:
    """
    Return the image input of a model.

    Raises
    ------
    ModelLayoutError
        Not one float input of shape (B, 3, H, W).

    """
    listed = '; '.join(map(str, inputs)) or 'none'
    if len(inputs) != 1:
        raise ModelLayoutError(
            f'a YOLOv7 export has one image input, this model has {len(inputs)}: {listed}'
        )
    image = inputs[0]
    if len(image.shape) != 4 or image.shape[1] != 3:
        raise ModelLayoutError(f'expected an image input (batch, 3, height, width), got {listed}')
    if image.dtype not in ('float32', 'float16'):
        raise ModelLayoutError(f'expected a float32 or float16 image input, got {listed}')
    return image


def recognise_model(
    inputs: Sequence[TensorInfo],
    outputs: Sequence[TensorInfo],
    metadata: Mapping[str, str],
    *,
    probe_wh: tuple[int, int],
    class_names: Sequence[str] | None = None,
    anchors: Anchors | None = None,
    boxes_name: str | None = None,
    boxes_are_centres: bool = False,
) -> ModelSpec:
    """
    Recognise a YOLOv7 export from its tensors.

    Parameters
    ----------
    inputs, outputs
        Tensors as declared, output shapes as a run with a `probe_wh` image gives them (declared
        shapes of real exports are often unknown or wrong).
    metadata
        Text the model carries: `names`, `anchors` (JSON list of heads) are used.
    probe_wh
        Network size the output shapes belong to.
    class_names, anchors
        Override what the model says; anchors are needed for raw heads without metadata.
    boxes_name, boxes_are_centres
        For models whose NMS plugin was cut off: which output holds the boxes, and how it coded
        them.

    Raises
    ------
    ModelLayoutError
        Not a YOLOv7 export, ambiguous, or the overrides do not fit.

    """
    image = check_input(inputs)
    layout, ordered, num_classes, strides = _recognise_outputs(
        list(outputs), probe_wh, boxes_name
    )
    names = _choose_names(class_names, metadata, num_classes)
    if num_classes is None and names:
        num_classes = len(names)
    return ModelSpec(
        image=image,
        layout=layout,
        outputs=tuple(tensor.name for tensor in ordered),
        class_names=names,
        num_classes=num_classes,
        strides=strides,
        anchors=_choose_anchors(anchors, metadata, strides)
        if layout is OutputLayout.RAW_HEADS
        else None,
        boxes_are_centres=boxes_are_centres,
    )


_Recognised = tuple[OutputLayout, list[TensorInfo], 'int | None', tuple[int, ...]]


def _recognise_outputs(
    outputs: list[TensorInfo], probe_wh: tuple[int, int], boxes_name: str | None
) -> _Recognised:
    listed = '; '.join(map(str, outputs)) or 'none'
    found = (
        _as_grid(outputs, probe_wh)
        or _as_raw_heads(outputs, probe_wh)
        or _as_end2end_trt(outputs)
        or _as_pair(outputs, probe_wh, boxes_name)
        or _as_end2end_ort(outputs)
    )
    if found is not None:
        return found
    hint = ''
    if len(outputs) == 1 and len(outputs[0].shape) == 3:
        rows, values = outputs[0].shape[1:]
        wanted = [_grid_rows(probe_wh, strides) for strides in STRIDE_SETS]
        hint = (
            f'. At {probe_wh[0]}x{probe_wh[1]} a YOLOv7 grid has {wanted[0]} rows '
            f'({wanted[1]} for P6 models)'
        )
        if (rows or 0) < (values or 0):
            hint += '; fewer rows than values looks like an anchor-free YOLO (v8 or later)'
    raise ModelLayoutError(
        f'the outputs are not those of a YOLOv7 export: {listed}{hint}. Accepted: grid '
        '(batch, rows, 5 + classes), three or four raw heads, boxes and scores, EfficientNMS '
        '(4 outputs), end2end ONNX Runtime (n, 7)'
    )


def _grid_rows(probe_wh: tuple[int, int], strides: tuple[int, ...]) -> int:
    return sum(_ANCHORS * (probe_wh[0] // s) * (probe_wh[1] // s) for s in strides)


def _strides_for_rows(rows: int | None, probe_wh: tuple[int, int]) -> tuple[int, ...] | None:
    for strides in STRIDE_SETS:
        if rows == _grid_rows(probe_wh, strides):
            return strides
    return None


def _is_float(tensor: TensorInfo) -> bool:
    return tensor.dtype.startswith('float')


def _as_grid(outputs: list[TensorInfo], probe_wh: tuple[int, int]) -> _Recognised | None:
    """One (B, rows, 5 + C); raw heads beside it, as a plain torch export has them, are ignored."""
    flat = [tensor for tensor in outputs if len(tensor.shape) == 3 and _is_float(tensor)]
    rest = [tensor for tensor in outputs if len(tensor.shape) != 3]
    if len(flat) != 1 or any(len(tensor.shape) not in (4, 5) for tensor in rest):
        return None
    values = flat[0].shape[2]
    strides = _strides_for_rows(flat[0].shape[1], probe_wh)
    if strides is None or values is None or values < 6:
        return None
    return OutputLayout.GRID, flat, values - 5, strides


def _as_raw_heads(outputs: list[TensorInfo], probe_wh: tuple[int, int]) -> _Recognised | None:
    if len(outputs) not in (3, 4) or not all(
        _is_float(tensor) and len(tensor.shape) in (4, 5) for tensor in outputs
    ):
        return None
    by_stride: dict[int, TensorInfo] = {}
    values = set()
    for tensor in outputs:
        height, width = tensor.shape[2:4]
        if not height or not width or probe_wh[0] % width or probe_wh[1] % height:
            return None
        stride = probe_wh[0] // width
        if stride != probe_wh[1] // height:
            return None
        by_stride[stride] = tensor
        values.add(_values_per_anchor(tensor.shape))
    strides = tuple(sorted(by_stride))
    per_anchor = values.pop()
    if strides not in STRIDE_SETS or values or per_anchor is None or per_anchor < 6:
        return None
    return OutputLayout.RAW_HEADS, [by_stride[s] for s in strides], per_anchor - 5, strides


def _values_per_anchor(shape: tuple[int | None, ...]) -> int | None:
    """5 + classes of a raw head with three anchors; None where the shape is not one's."""
    if len(shape) == 5:
        return shape[4] if shape[1] == _ANCHORS else None
    channels = shape[1] or 0
    return None if channels % _ANCHORS else channels // _ANCHORS


def _as_end2end_trt(outputs: list[TensorInfo]) -> _Recognised | None:
    """Four outputs, told apart by shape and dtype; names decide only for one-detection models."""
    if len(outputs) != 4:
        return None
    boxes = [tensor for tensor in outputs if len(tensor.shape) == 3 and tensor.shape[2] == 4]
    flat = [tensor for tensor in outputs if len(tensor.shape) == 2]
    scores = [tensor for tensor in flat if _is_float(tensor)]
    integers = [tensor for tensor in flat if not _is_float(tensor)]
    if len(boxes) != 1 or len(scores) != 1 or len(integers) != 2:
        return None
    most = scores[0].shape[1]
    counts = [tensor for tensor in integers if tensor.shape[1] == 1]
    classes = [tensor for tensor in integers if tensor.shape[1] == most]
    if len(counts) == 2:  # room for a single detection: shapes are equal
        counts = [tensor for tensor in integers if 'num' in tensor.name]
        classes = [tensor for tensor in integers if 'class' in tensor.name]
        if len(counts) != 1 or len(classes) != 1:
            raise ModelLayoutError(
                'ambiguous end2end outputs: with one detection at most, num_dets and det_classes '
                'have the same shape and the names do not tell them apart: '
                + '; '.join(map(str, outputs))
            )
    if len(counts) != 1 or len(classes) != 1 or boxes[0].shape[1] != most:
        return None
    ordered = [counts[0], boxes[0], scores[0], classes[0]]
    return OutputLayout.END2END_TRT, ordered, None, STRIDE_SETS[0]


def _as_pair(
    outputs: list[TensorInfo], probe_wh: tuple[int, int], boxes_name: str | None
) -> _Recognised | None:
    """Boxes and scores in either order: YOLOv7's --include-nms names them the wrong way round."""
    if len(outputs) != 2 or not all(
        _is_float(tensor) and len(tensor.shape) == 3 for tensor in outputs
    ):
        return None
    strides = _strides_for_rows(outputs[0].shape[1], probe_wh)
    if strides is None or outputs[1].shape[1] != outputs[0].shape[1]:
        return None
    boxes = [tensor for tensor in outputs if tensor.shape[2] == 4]
    if boxes_name is not None:
        boxes = [tensor for tensor in boxes if tensor.name == boxes_name]
    if len(boxes) == 2:
        raise ModelLayoutError(
            'ambiguous outputs: a model of four classes gives boxes and scores of equal shape, '
            'and exporters disagree on their names: '
            + '; '.join(map(str, outputs))
            + '. Export it with --grid instead'
        )
    if not boxes:
        return None
    scores = outputs[1] if boxes[0] is outputs[0] else outputs[0]
    return OutputLayout.BOXES_AND_SCORES, [boxes[0], scores], scores.shape[2], strides


def _as_end2end_ort(outputs: list[TensorInfo]) -> _Recognised | None:
    if len(outputs) != 1 or len(outputs[0].shape) != 2 or outputs[0].shape[1] != 7:
        return None
    return OutputLayout.END2END_ORT, outputs, None, STRIDE_SETS[0]


def _choose_names(
    given: Sequence[str] | None, metadata: Mapping[str, str], num_classes: int | None
) -> tuple[str, ...]:
    names: tuple[str, ...]
    if given is not None:
        names, origin = tuple(given), 'the given class names'
    elif 'names' in metadata:
        names, origin = parse_class_names(metadata['names']), "the model's metadata"
    elif num_classes == len(COCO80):
        return COCO80
    else:
        return tuple(f'class_{index}' for index in range(num_classes or 0))
    if num_classes is not None and len(names) != num_classes:
        raise ModelLayoutError(
            f'the model has {num_classes} classes, but {origin} count {len(names)}'
        )
    return names


def _choose_anchors(
    given: Anchors | None, metadata: Mapping[str, str], strides: tuple[int, ...]
) -> Anchors:
    chosen = given
    if chosen is None and 'anchors' in metadata:
        chosen = _parse_anchors(metadata['anchors'])
    if chosen is None:
        fitting = [name for name, heads in ANCHOR_SETS.items() if len(heads) == len(strides)]
        if len(fitting) > 1:
            raise ModelLayoutError(
                'ambiguous: a model with raw heads does not say its anchors, and yolov7-tiny and '
                f'yolov7 differ; set anchors to one of {", ".join(fitting)}, or export with --grid'
            )
        chosen = ANCHOR_SETS[fitting[0]]
    if len(chosen) != len(strides):
        raise ModelLayoutError(
            f'the model has {len(strides)} heads, but the anchors are for {len(chosen)}'
        )
    if any(len(head) != _ANCHORS for head in chosen):
        counts = ', '.join(str(len(head)) for head in chosen)
        raise ModelLayoutError(f'expected {_ANCHORS} anchors per head, got {counts}')
    return chosen


def _parse_anchors(text: str) -> Anchors:
    """Read [[[w, h], ...], ...] or the flat [[w, h, w, h, ...], ...] of YOLO configurations."""
    try:
        heads = [np.array(head, float).reshape(-1, 2) for head in json.loads(text)]
    except (ValueError, TypeError, OverflowError, RecursionError) as exc:
        raise ModelLayoutError(
            f'anchors in the model metadata are unreadable: {text[:60]!r}'
        ) from exc
    if not all(np.all(np.isfinite(head) & (head > 0)) for head in heads):
        raise ModelLayoutError(
            f'anchors in the model metadata must be positive sizes: {text[:60]!r}'
        )
    return tuple(tuple((float(width), float(height)) for width, height in head) for head in heads)
