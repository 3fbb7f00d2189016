"""ExportOptions: what an exported ONNX model is like. Light imports."""

from __future__ import annotations

import dataclasses
import math

from yolov7_trt_ros.core.defaults import (
    DEFAULT_IOU_THRESHOLD,
    DEFAULT_MAX_DETECTIONS,
    DEFAULT_SCORE_THRESHOLD,
    MAX_DETECTIONS_LIMIT,
)
from yolov7_trt_ros.errors import SettingError

Shape = tuple[int, int, int, int]
"""Batch, 3, height, width."""

FORMS = ('grid', 'raw', 'end2end')
NMS_KINDS = ('trt', 'onnx')
DYNAMIC = ('batch', 'hw')
DEFAULT_SHAPE: Shape = (1, 3, 640, 640)
DEFAULT_OPSET = 17
LEAST_OPSET, MOST_OPSET = 11, 20
_MOST_VALUES = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class NmsSettings:
    """
    What is frozen into a model that ends in NMS.

    Raises
    ------
    SettingError
        A value is out of its range.

    """

    score_threshold: float = DEFAULT_SCORE_THRESHOLD
    iou_threshold: float = DEFAULT_IOU_THRESHOLD
    max_detections: int = DEFAULT_MAX_DETECTIONS

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ('score_threshold', 'iou_threshold'):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise SettingError(f'{name} must be within 0..1, got {getattr(self, name)}')
        if not 1 <= self.max_detections <= MAX_DETECTIONS_LIMIT:
            raise SettingError(
                f'max_detections must be within 1..{MAX_DETECTIONS_LIMIT}, '
                f'got {self.max_detections}'
            )


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """
    What an exported model is like.

    Attributes
    ----------
    form
        `grid` (decoded rows), `raw` (maps of logits) or `end2end` (NMS inside).
    nms
        Of `end2end`: `trt` (the plugin EfficientNMS_TRT) or `onnx` (the standard operator).
    dynamic
        What is free: `batch`, `hw`, both or nothing.
    shape
        (B, 3, H, W): the sizes that are not free.
    opset
        11..20.
    nms_settings
        Thresholds that NMS inside the model keeps for good.
    half_weights
        Round the weights of convolutions to float16 and store them so: half the file. What
        computes stays float32.

    Raises
    ------
    SettingError
        A value is unknown or out of its range.

    """

    form: str = 'grid'
    nms: str = 'trt'
    dynamic: frozenset[str] = frozenset(DYNAMIC)
    shape: Shape = DEFAULT_SHAPE
    opset: int = DEFAULT_OPSET
    nms_settings: NmsSettings = NmsSettings()
    half_weights: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        for name, value, known in (('form', self.form, FORMS), ('nms', self.nms, NMS_KINDS)):
            if value not in known:
                raise SettingError(f'{name} must be one of {", ".join(known)}, got {value!r}')
        unknown = self.dynamic - set(DYNAMIC)
        if unknown:
            raise SettingError(
                f'dynamic takes {" and ".join(DYNAMIC)}, got {", ".join(sorted(unknown))}'
            )
        if not LEAST_OPSET <= self.opset <= MOST_OPSET:
            raise SettingError(
                f'opset must be within {LEAST_OPSET}..{MOST_OPSET}, got {self.opset}'
            )
        if len(self.shape) != 4 or self.shape[1] != 3 or min(self.shape) < 1:
            raise SettingError(
                'the shape must be batch x 3 x height x width, got '
                + 'x'.join(map(str, self.shape))
            )
        if math.prod(self.shape) > _MOST_VALUES:
            raise SettingError(
                f'the shape {"x".join(map(str, self.shape))} has more than {_MOST_VALUES} values, '
                'which no tensor of TensorRT can have'
            )
