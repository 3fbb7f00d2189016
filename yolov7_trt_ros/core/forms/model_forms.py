"""The input of the recognition of a model, and its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

from numpy.typing import NDArray

from yolov7_trt_ros.core.forms.model_names import choose_names
from yolov7_trt_ros.core.forms.model_spec import (
    ANCHORS_PER_CELL,
    LabelledColumns,
    OutputLayout,
    TensorInfo,
)
from yolov7_trt_ros.errors import ModelLayoutError

Values = Mapping[str, NDArray[Any]]

EXPORT_AGAIN = (
    "export it again: yolov7_trt export MODEL.pt -o MODEL.onnx, or YOLOv7's own "
    'export.py --weights MODEL.pt --grid'
)
LEAST_VALUES = 6
"""Of a row or an anchor: four of a box, objectness, and one class."""


@dataclasses.dataclass(frozen=True)
class Form:
    """The recognised form of outputs; `values` per row, if classes follow from them."""

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
class Reading:
    """One way to read the shape of a tensor of rows."""

    tensor: TensorInfo
    strides: tuple[int, ...]
    anchors: int
    values: int
    transposed: bool = False

    def __str__(self) -> str:
        """Return `25200 rows: 3 anchors a cell, strides 8, 16, 32`."""
        rows = self.tensor.shape[2 if self.transposed else 1]
        of = f'{self.anchors} anchor{"s" * (self.anchors > 1)} a cell, strides '
        order = ', values before rows' if self.transposed else ''
        return f'{rows} rows: {of}{", ".join(map(str, self.strides))}{order}'


@dataclasses.dataclass(frozen=True)
class Tried:
    """
    The outputs of a model, and their values of a probe run.

    Attributes
    ----------
    outputs, metadata, probe_wh, values, class_names
        As `recognise_model` takes them.

    """

    outputs: list[TensorInfo]
    metadata: Mapping[str, str]
    probe_wh: tuple[int, int]
    values: Values | None
    class_names: Sequence[str] | None

    def refuse(self, form: str, cure: str = EXPORT_AGAIN) -> ModelLayoutError:
        """Return an error that names the outputs and what to do."""
        return ModelLayoutError(f'{form} ({self.listed()}); {cure}')

    def listed(self) -> str:
        """Return the outputs for messages."""
        return '; '.join(map(str, self.outputs)) or 'none'

    def confirmed(self, num_classes: int) -> bool:
        """Whether names confirm a number of classes."""
        if self.class_names is None and 'names' not in self.metadata:
            return False
        names = choose_names(self.class_names, self.metadata, None, None).names
        return len(names) == num_classes


def is_float(tensor: TensorInfo) -> bool:
    """Whether a tensor holds floating point numbers."""
    return tensor.dtype.startswith('float')


def map_values(shape: tuple[int | None, ...]) -> int | None:
    """Return 5 + classes of a raw head with three anchors; None for other shapes."""
    if len(shape) == 5:
        return shape[4] if shape[1] == ANCHORS_PER_CELL else None
    channels = shape[1] or 0
    return None if channels % ANCHORS_PER_CELL else channels // ANCHORS_PER_CELL
