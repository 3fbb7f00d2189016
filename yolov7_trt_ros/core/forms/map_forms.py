"""Recognise raw maps of a head, and outputs of models with NMS inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.core.forms.grid_values import range_of
from yolov7_trt_ros.core.forms.model_forms import (
    EXPORT_AGAIN,
    Form,
    is_float,
    LEAST_VALUES,
    map_values,
    Tried,
)
from yolov7_trt_ros.core.forms.model_spec import OutputLayout, STRIDE_SETS, TensorInfo
from yolov7_trt_ros.errors import ModelLayoutError

_ANCHOR_FREE = 64
"""Channels of box distances (4 sides x 16 bins) in a map of YOLOv8 and later."""


# ---- raw heads


def cells_of(head: NDArray[Any], anchors: int) -> NDArray[Any]:
    """View a head (A, h, w, 5 + C) or (A * (5 + C), h, w) of A anchors in the first form."""
    if head.ndim == 4:
        return head
    cells: NDArray[Any] = head.reshape(anchors, -1, *head.shape[1:]).transpose(0, 2, 3, 1)
    return cells


def as_raw_heads(tried: Tried) -> Form | None:
    """One raw map a stride, or two of a P6 model in training form: lead, then auxiliary heads."""
    if len(tried.outputs) not in (3, 4, 8) or not all(
        is_float(t) and len(t.shape) in (4, 5) for t in tried.outputs
    ):
        return None
    strides = [_stride_of(tried, tensor) for tensor in tried.outputs]
    values = {map_values(tensor.shape) for tensor in tried.outputs}
    if None in strides or len(values) != 1:
        return None
    heads, evidence = tried.outputs, 'one raw map a stride'
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
    if per_anchor is None or per_anchor < LEAST_VALUES:
        return None
    tensors = [by_stride[stride] for stride in ordered]
    _check_logits(tried, tensors, per_anchor)
    _check_channels(tried, tensors[0], per_anchor)
    return Form(
        OutputLayout.RAW_HEADS, tensors, ordered, per_anchor - 5, values=per_anchor,
        evidence=(f'{evidence}, {", ".join(map(str, ordered))}',),
    )


def _stride_of(tried: Tried, tensor: TensorInfo) -> int | None:
    height, width = tensor.shape[2:4]
    probe_w, probe_h = tried.probe_wh
    if not height or not width or probe_w % width or probe_h % height:
        return None
    stride = probe_w // width
    return stride if stride == probe_h // height else None


def _check_logits(tried: Tried, tensors: list[TensorInfo], values: int) -> None:
    """Refuse maps whose objectness passed a sigmoid already."""
    if tried.values is None:
        return
    objectness = np.concatenate([
        _objectness(np.asarray(tried.values[tensor.name][0]), values).ravel()
        for tensor in tensors
    ])
    low, high = range_of(objectness)
    if low >= 0 and high <= 1 and low < high:
        raise tried.refuse(
            f'the objectness of the raw maps lies within {low:.3g}..{high:.3g}: the sigmoid '
            'is inside, and raw maps are taken for logits'
        )


def _check_channels(tried: Tried, tensor: TensorInfo, values: int) -> None:
    """Refuse maps that are those of an anchor-free YOLO unless names confirm the classes."""
    channels = tensor.shape[1]
    if len(tensor.shape) == 4 and channels == _ANCHOR_FREE + 80 and not tried.confirmed(
        values - 5
    ):
        raise tried.refuse(
            f'{channels} channels a map are 64 and 80 classes of an anchor-free YOLO (v8 or '
            'later)',
            f'if they are 3 anchors of 5 + {values - 5}, say so with the names of the '
            f'{values - 5} classes (--class-names); else {EXPORT_AGAIN}',
        )


def _objectness(head: NDArray[Any], values: int) -> NDArray[Any]:
    """Return the objectness of a head (3, h, w, values) or (3 * values, h, w)."""
    return head[..., 4] if head.ndim == 4 else head[4::values]


# ---- NMS inside


def as_end2end_trt(tried: Tried) -> Form | None:
    """Four outputs, distinguished by shape and dtype; for one-detection models by name."""
    if len(tried.outputs) != 4:
        return None
    boxes = [t for t in tried.outputs if len(t.shape) == 3 and t.shape[2] == 4]
    flat = [t for t in tried.outputs if len(t.shape) == 2]
    scores = [t for t in flat if is_float(t)]
    integers = [t for t in flat if not is_float(t)]
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
                + tried.listed()
            )
    if len(counts) != 1 or len(classes) != 1 or boxes[0].shape[1] != most:
        return None
    ordered = [counts[0], boxes[0], scores[0], classes[0]]
    return _finished_form(tried, OutputLayout.END2END_TRT, ordered)


def as_end2end_ort(tried: Tried) -> Form | None:
    """Rows of 7 values, as many as NMS leaves: image, x1, y1, x2, y2, class, score."""
    outputs = tried.outputs
    if len(outputs) != 1 or len(outputs[0].shape) != 2 or outputs[0].shape[1] != 7:
        return None
    return _finished_form(tried, OutputLayout.END2END_ORT, outputs)


def _finished_form(tried: Tried, layout: OutputLayout, outputs: list[TensorInfo]) -> Form:
    strides, source = told_strides(tried.metadata)
    return Form(layout, outputs, strides, evidence=(
        'NMS inside: scores, classes and boxes are checked in every frame', source,
    ))


def told_strides(metadata: Mapping[str, str]) -> tuple[tuple[int, ...], str]:
    """Return the strides whose largest is in the metadata, and their source."""
    text = metadata.get('stride', '')
    numbers = [int(word) for word in text.replace(',', ' ').strip('[]() ').split()[:8]
               if word.isdecimal() and len(word) < 5]
    for strides in STRIDE_SETS:
        if numbers and max(numbers) == strides[-1]:
            return strides, f'stride {strides[-1]} from the metadata'
    return STRIDE_SETS[0], f'stride {STRIDE_SETS[0][-1]} assumed: the model does not tell it'
