"""
Recognise a YOLOv7 export from its tensor shapes and from the output of a probe run.

Shapes show what an output could be, values what it is: each form is either accepted with the
meaning of its values, or refused with the name of the form it resembles.

"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.core.forms.anchors import model_anchors
from yolov7_trt_ros.core.forms.grid_values import count_rows
from yolov7_trt_ros.core.forms.map_forms import as_end2end_ort, as_end2end_trt, as_raw_heads
from yolov7_trt_ros.core.forms.model_forms import Form, Tried, Values
from yolov7_trt_ros.core.forms.model_names import choose_names
from yolov7_trt_ros.core.forms.model_spec import (
    Anchors,
    ANCHORS_PER_CELL,
    check_input,
    ModelSpec,
    OutputLayout,
    STRIDE_SETS,
    TensorInfo,
)
from yolov7_trt_ros.core.forms.row_forms import as_grid, as_pair, as_three, LABELLED_VALUES
from yolov7_trt_ros.errors import ModelLayoutError

_ACCEPTED = (
    'Accepted: grid (batch, rows, 5 + classes), raw heads, boxes and scores, DeepStream-Yolo '
    '(box, score, label), EfficientNMS (4 outputs), end2end ONNX Runtime (n, 7)'
)
_PROBE_TILE = (96, 112)
_FEW_ROWS = 1000


def probe_images(shape: Sequence[int], dtype: str, light: float = 1) -> NDArray[Any]:
    """
    Return the images (B, 3, H, W) that models are tried with: noise within 0..light.

    Noise, for on a blank image a column of classes may be as constant as one of scores.

    """
    height, width = shape[2:]
    tile = np.random.default_rng(0).random((3, *_PROBE_TILE), np.float32) * np.float32(light)
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
        Values of that run, by output, batch first. None only if they were checked before: shapes
        alone do not determine a form.
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
    tried = Tried(list(outputs), metadata, probe_wh, values, class_names)
    form = _recognise_outputs(tried, boxes_name, boxes_are_centres)
    names = choose_names(
        class_names, metadata, form.num_classes, form.values, may_lack_objectness=form.ambiguous
    )
    is_raw = form.layout is OutputLayout.RAW_HEADS
    chosen = model_anchors(anchors, metadata, form.strides) if is_raw else None
    doubts = [*form.doubts, *names.doubts, *(chosen.doubts if chosen else ())]
    evidence = (*form.evidence, names.origin, chosen.origin if chosen else '')
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
        evidence=tuple(text for text in evidence if text),
        doubts=tuple(doubts),
    )


def _recognise_outputs(
    tried: Tried, boxes_name: str | None, boxes_are_centres: bool | None
) -> Form:
    task = tried.metadata.get('task', 'detect')
    if task != 'detect':
        raise ModelLayoutError(
            f'the model says that its task is {task[:40]!r}; this package detects boxes'
        )
    found = (
        as_grid(tried)
        or as_raw_heads(tried)
        or as_end2end_trt(tried)
        or as_pair(tried, boxes_name, boxes_are_centres)
        or as_three(tried)
        or as_end2end_ort(tried)
    )
    if found is None:
        raise ModelLayoutError(
            f'the outputs are not those of a YOLOv7 export: {tried.listed()}{_hint(tried)}. '
            + _ACCEPTED
        )
    return found


def _hint(tried: Tried) -> str:
    if len(tried.outputs) != 1 or len(tried.outputs[0].shape) != 3:
        return ''
    width, height = tried.probe_wh
    wanted = [count_rows((width, height), strides, ANCHORS_PER_CELL) for strides in STRIDE_SETS]
    hint = f'. At {width}x{height} a YOLOv7 grid has {wanted[0]} rows ({wanted[1]} for P6 models)'
    rows, values = tried.outputs[0].shape[1:]
    if values == LABELLED_VALUES[0] and (rows or 0) <= _FEW_ROWS:
        return hint + '; few rows of 6 values are an export of YOLOv10 or later, without NMS'
    if (rows or 0) < (values or 0):
        return hint + '; fewer rows than values looks like an anchor-free YOLO (v8 or later)'
    return hint
