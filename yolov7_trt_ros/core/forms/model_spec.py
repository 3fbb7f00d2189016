"""ModelSpec: the kind of a YOLOv7 export, as `core/forms/recognise.py` recognises it."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import enum
import math

from yolov7_trt_ros.errors import ModelLayoutError
from yolov7_trt_ros.records import with_key

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

ANCHORS_PER_CELL = 3
"""Of YOLOv7; a grid of other detectors in its form may have one."""


class OutputLayout(enum.Enum):
    """The output forms of YOLOv7's exporters."""

    GRID = 'grid'
    """
    (B, rows, 5 + classes): cx, cy, w, h in network pixels, objectness, classes, all decoded.

    If the spec has `transposed`, (B, 5 + classes, rows).
    """

    RAW_HEADS = 'raw'
    """
    Logits, one tensor a stride: (B, 3, h, w, 5 + classes) or (B, 3 * (5 + classes), h, w).
    """

    BOXES_AND_SCORES = 'boxes_scores'
    """(B, rows, 4) boxes and (B, rows, classes) scores with objectness multiplied in."""

    LABELLED = 'labelled'
    """
    A box, one score and one class a row, before NMS, as DeepStream-Yolo's exporters write them.

    One tensor (B, rows, 6 or 7) with the `columns` of the spec, or boxes (B, rows, 4), scores and
    classes (B, rows, 1).
    """

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
class LabelledColumns:
    """Columns of a row of LABELLED: box (first of four), score, class, and objectness if any."""

    box: int
    score: int
    label: int
    objectness: int | None = None


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
        One per class; empty if unknown, for end2end models.
    num_classes
        None if unknown, for end2end models.
    strides
        Network pixels per grid cell, ascending.
    anchors
        Only for raw heads, else None.
    boxes_are_centres
        For BOXES_AND_SCORES and LABELLED: boxes are cx, cy, w, h rather than corners.
    transposed
        For GRID: the values come before the rows.
    columns
        For LABELLED in one tensor, else None.
    evidence
        Sources of these values, as text.
    doubts
        Assumptions, as text.

    """

    image: TensorInfo = dataclasses.field(metadata=with_key('input'))
    layout: OutputLayout
    outputs: tuple[str, ...]
    class_names: tuple[str, ...]
    num_classes: int | None
    strides: tuple[int, ...]
    anchors: Anchors | None = None
    boxes_are_centres: bool = False
    transposed: bool = False
    columns: LabelledColumns | None = None
    evidence: tuple[str, ...] = dataclasses.field(default=(), compare=False)
    doubts: tuple[str, ...] = dataclasses.field(default=(), compare=False)

    @property
    def stride(self) -> int:
        """Largest stride: network width and height are multiples of it."""
        return self.strides[-1]

    @property
    def fixed_wh(self) -> tuple[int, int] | None:
        """Return the fixed network size of the model, None if width and height are free."""
        height, width = self.image.shape[2:]
        return None if height is None or width is None else (width, height)

    def other_wh(self, size: int) -> tuple[int, int] | None:
        """Return the fixed network size if its longer side is not `size`, else None."""
        fixed = self.fixed_wh
        return None if fixed is None or max(fixed) == size else fixed


_USUAL = (1, 3, 640, 640)
"""The sides of an input where they are free."""

_MOST = 2**30
"""Values of an input, of which a model is run once to be recognised: 4 GiB."""


def check_input(inputs: Sequence[TensorInfo]) -> TensorInfo:
    """
    Return the image input of a model.

    Raises
    ------
    ModelLayoutError
        Not one float input of shape (B, 3, H, W), or one that no memory holds.

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
    if math.prod(side or usual for side, usual in zip(image.shape, _USUAL, strict=True)) > _MOST:
        raise ModelLayoutError(f'expected an image input of at most {_MOST} values, got {listed}')
    return image
