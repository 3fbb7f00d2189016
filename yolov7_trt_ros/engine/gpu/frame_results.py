"""Read the results of a frame from page-locked memory as Detections. No CUDA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.engine.gpu.device_records import RESULT
from yolov7_trt_ros.errors import InferenceError

_HEADER = ('count', 'candidates', 'bad_objectness', 'bad_scores', 'bad_boxes', 'bad_classes')
_BAD_VALUES = (
    'objectness value(s) that are NaN or infinite',
    'score(s) that are NaN, infinite or above 1',
    'box(es) that are NaN, infinite or no corners in network pixels',
    'class(es) that it does not have',
)


class ResultViews(NamedTuple):
    """The fields of one RESULT record: `header` has those of `_HEADER`."""

    header: NDArray[np.int32]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int32]


def view_results(memory: NDArray[np.uint8], images: int) -> tuple[ResultViews, ...]:
    """View bytes as the RESULT records of `images` images, without copying."""
    records = memory[: images * RESULT.itemsize].view(RESULT)
    return tuple(
        ResultViews(
            records[index:index + 1].view(np.int32)[: len(_HEADER)],
            records['boxes'][index],
            records['scores'][index],
            records['class_ids'][index],
        )
        for index in range(images)
    )


def read_detections(views: ResultViews, source_wh: tuple[int, int]) -> Detections:
    """
    Copy the detections of one image out.

    Raises
    ------
    InferenceError
        The model gave values that are NaN, infinite, or not what they stand for.

    """
    count, _, *bad = views.header.tolist()
    if any(bad):
        raise InferenceError(_complaint(bad))
    return Detections(
        views.boxes[:count].copy(),
        views.scores[:count].copy(),
        views.class_ids[:count].copy(),
        source_wh,
    )


def _complaint(bad: Sequence[int]) -> str:
    found = [f'{n} {what}' for n, what in zip(bad, _BAD_VALUES, strict=True) if n]
    return (
        f'the model gave {", ".join(found)}; an FP16 overflow or a damaged model: build the plan '
        'with --precision fp32, or with --keep-fp32; or a model that is not what it was taken '
        'for: export it with --grid, without NMS'
    )
