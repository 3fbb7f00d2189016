"""Choose the decode kernel and its arguments for the outputs of a model. No CUDA."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.core.forms.model_spec import ModelSpec, OutputLayout
from yolov7_trt_ros.engine.gpu.device_records import HEAD, MAX_CLASSES

_ANCHORS = 3


class OutputTensor(NamedTuple):
    """Where an output of the network lies on the device, and what it is."""

    address: int
    shape: tuple[int, ...]
    dtype: str


@dataclasses.dataclass(frozen=True)
class CollectLaunch:
    """
    One collect kernel: `tensors`, then what all of them take, then `numbers`.

    If there are `heads`, the kernel takes one table instead of tensors: these HEAD records,
    each with the address of the tensor of its place as `data`.

    """

    name: str
    threads: int
    tensors: tuple[int, ...]
    numbers: tuple[int, ...]
    heads: NDArray[Any] | None = None

    @property
    def types(self) -> str:
        """Argument types in pycuda's letters."""
        first = 1 if self.heads is not None else len(self.tensors)
        return 'P' * first + 'PPPiP' + 'i' * len(self.numbers)


@dataclasses.dataclass(frozen=True)
class Decoding:
    """
    How the outputs of one bucket are decoded.

    `class_step`: candidate number = row * class_step + class. Capacities are per image.

    """

    launch: CollectLaunch
    rows: int
    capacity: int
    class_step: int
    finished: bool = False

    @property
    def sorted_capacity(self) -> int:
        """Room to sort all candidates: the next power of two."""
        return 1 << max(1, (self.capacity - 1).bit_length())


def plan_decoding(
    spec: ModelSpec, outputs: Mapping[str, OutputTensor], multi_label: bool
) -> Decoding:
    """Return how `outputs`, by name, are decoded."""
    tensors = [outputs[name] for name in spec.outputs]
    addresses = tuple(tensor.address for tensor in tensors)
    if spec.layout is OutputLayout.END2END_TRT:
        _, boxes, scores, _ = tensors
        rows = boxes.shape[1]
        name = f'collect_finished_{boxes.dtype}_{scores.dtype}'
        launch = CollectLaunch(name, rows, addresses, (rows, spec.num_classes or MAX_CLASSES))
        return Decoding(launch, rows, rows, MAX_CLASSES, finished=True)
    if spec.layout is OutputLayout.LABELLED:
        return _plan_labelled(spec, tensors)
    classes = spec.num_classes or 0
    if spec.layout is OutputLayout.RAW_HEADS:
        return _decoding(_plan_heads(spec, tensors, multi_label), classes, multi_label)
    rows, row_step, value_step = _row_steps(spec, tensors[0])
    numbers: tuple[int, ...] = (rows, classes, int(multi_label))
    if spec.layout is OutputLayout.GRID:
        numbers = (*numbers, row_step, value_step)
        name = f'collect_grid_{tensors[0].dtype}'
    else:
        numbers = (*numbers, int(spec.boxes_are_centres))
        name = f'collect_pair_{tensors[0].dtype}_{tensors[1].dtype}'
    return _decoding(CollectLaunch(name, rows, addresses, numbers), classes, multi_label)


def _row_steps(spec: ModelSpec, tensor: OutputTensor) -> tuple[int, int, int]:
    """Return rows, and elements from one row and from one value to the next."""
    _, first, second = tensor.shape
    return (second, 1, second) if spec.transposed else (first, second, 1)


def _plan_labelled(spec: ModelSpec, tensors: list[OutputTensor]) -> Decoding:
    """One launch: boxes, scores and labels from columns of one tensor, or from three."""
    columns = spec.columns
    if columns is None:
        rows = tensors[0].shape[1]
        places = [(0, rows * 4, 4, 1), (0, rows, 1, 1), (0, rows, 1, 1)]
        objectness = 0
    else:
        rows, row_step, value_step = _row_steps(spec, tensors[0])
        image = tensors[0].shape[1] * tensors[0].shape[2]
        places = [
            (column * value_step, image, row_step, value_step)
            for column in (columns.box, columns.score, columns.label)
        ]
        tensors = tensors * 3
        objectness = 0 if columns.objectness is None else columns.objectness - columns.score
    name = 'collect_labelled_' + '_'.join(tensor.dtype for tensor in tensors)
    numbers = (
        rows, spec.num_classes or MAX_CLASSES, int(spec.boxes_are_centres), objectness,
        *(number for place in places for number in place),
    )
    addresses = tuple(tensor.address for tensor in tensors)
    return Decoding(CollectLaunch(name, rows, addresses, numbers), rows, rows, MAX_CLASSES)


def _decoding(launch: CollectLaunch, classes: int, multi_label: bool) -> Decoding:
    rows = launch.threads
    return Decoding(launch, rows, rows * classes if multi_label else rows, classes)


def _plan_heads(
    spec: ModelSpec, tensors: list[OutputTensor], multi_label: bool
) -> CollectLaunch:
    """One launch for all heads; rows count through them."""
    assert spec.anchors is not None  # recognise_model guarantees it
    classes = spec.num_classes or 0
    values = 5 + classes
    heads = np.zeros(len(tensors), HEAD)
    rows = 0
    for head, tensor, stride, sizes in zip(
        heads, tensors, spec.strides, spec.anchors, strict=True
    ):
        height, width = tensor.shape[2:4]
        cells = height * width
        # (B, 3, h, w, values) keeps the values of a cell together, (B, 3 * values, h, w) apart
        together = len(tensor.shape) == 5
        head['is_half'] = tensor.dtype == 'float16'
        head['first_row'], head['cells'], head['width'] = rows, cells, width
        head['image_step'], head['anchor_step'] = _ANCHORS * cells * values, cells * values
        head['cell_step'], head['value_step'] = (values, 1) if together else (1, cells)
        head['stride'], head['anchors_wh'] = stride, sizes
        rows += cells * _ANCHORS
    numbers = (rows, classes, int(multi_label), len(tensors))
    addresses = tuple(tensor.address for tensor in tensors)
    return CollectLaunch('collect_heads', rows, addresses, numbers, heads)
