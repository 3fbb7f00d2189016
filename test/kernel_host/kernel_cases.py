"""
The package's kernels on made-up inputs, whoever runs them: the host emulation or a GPU.

A launcher has `launch(name, grid, block, *arguments)` with pycuda's argument convention, where an
array is passed by address and comes back changed, and `cells(arrays)`, which returns an argument
that holds the addresses of the arrays.

"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import numpy as np

from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.forms.model_spec import ANCHOR_SETS, ModelSpec, OutputLayout, TensorInfo
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.letterbox import Letterbox
from yolov7_trt_ros.engine.gpu import device_records as records
from yolov7_trt_ros.engine.gpu.decode_plan import Decoding, OutputTensor, plan_decoding
from yolov7_trt_ros.engine.gpu.frame_layout import (
    copy_rows,
    image_rows,
    plan_source,
    SourceKey,
    stripe_targets,
)

BLOCK = 512
COLLECT_BLOCK = 128


class Launcher(Protocol):
    """Runs kernels."""

    def launch(
        self, name: str, grid: tuple[int, ...], block: tuple[int, ...], *arguments: Any
    ) -> None:
        """Run a kernel to its end."""

    def cells(self, arrays: list[np.ndarray]) -> Any:
        """Return an argument that points to the addresses of the arrays."""


# ---- letterbox ------------------------------------------------------------------------------


def run_letterbox(
    launcher: Launcher, image: ImageView, box: Letterbox, dtype: str, *, choose_rows: bool = True
) -> np.ndarray:
    """Return the network input (3, H, W) that the kernel makes, as the detector launches it."""
    pitch = None if choose_rows else image.pixels.strides[0]
    part = plan_source(SourceKey(image.size_wh, image.encoding.name, pitch), box, 0)
    if choose_rows:
        staged = np.full(part.upload.rows * part.upload.pitch, 0xAA, np.uint8)
        for target in stripe_targets(part.upload, staged, 0):
            copy_rows(image_rows(image), target)
    else:
        base = image.pixels
        size = (base.shape[0] - 1) * base.strides[0] + base.shape[1] * base.strides[1]
        staged = np.lib.stride_tricks.as_strided(base[0, 0, :1], (size,), (1,))
    network_w, network_h = box.network_wh
    out = np.full((3, network_h, network_w), np.nan, dtype)
    launcher.launch(
        f'letterbox_{image.encoding.name}_{dtype}',
        (-(-network_w // 32), -(-network_h // 8), 1), (32, 8, 1),
        launcher.cells([staged]), np.int32(part.upload.pitch), np.int32(image.width),
        np.int32(image.height), part.columns, part.rows, np.int32(box.resized_wh[0]),
        np.int32(box.resized_wh[1]), np.int32(box.offset_xy[0]), np.int32(box.offset_xy[1]), out,
        np.int32(network_w), np.int32(network_h),
    )
    return out


# ---- decoding and NMS -----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class DecodeCase:
    """Outputs of a model for a batch of images, and what to make of them."""

    spec: ModelSpec
    outputs: list[np.ndarray]
    letterboxes: list[Letterbox]
    settings: DetectSettings


@dataclasses.dataclass(frozen=True, eq=False)
class Decoded:
    """Detections and the counts of unusable values of one image."""

    detections: Detections
    bad: tuple[int, ...]


def spec_of(
    layout: OutputLayout, classes: int, *, anchors: str = 'yolov7-tiny', centres: bool = False
) -> ModelSpec:
    """Return a spec with made-up names."""
    names = tuple(f'class_{index}' for index in range(classes))
    return ModelSpec(
        image=TensorInfo('images', (None, 3, None, None), 'float32'),
        layout=layout,
        outputs=('a', 'b', 'c', 'd'),
        class_names=names,
        num_classes=classes,
        strides=(8, 16, 32),
        anchors=ANCHOR_SETS[anchors] if layout is OutputLayout.RAW_HEADS else None,
        boxes_are_centres=centres,
    )


def run_decode(launcher: Launcher, case: DecodeCase) -> list[Decoded]:
    """Return what the kernels make of a case, launched as the detector launches them."""
    images = len(case.letterboxes)
    tensors = {
        name: OutputTensor(array, array.shape, array.dtype.name)
        for name, array in zip(case.spec.outputs, case.outputs, strict=False)
    }
    spec = dataclasses.replace(case.spec, outputs=tuple(tensors))
    plan = plan_decoding(spec, tensors, case.settings.multi_label)
    state = _State(case, plan, images)
    launch, tensors = plan.launch, plan.launch.tensors
    if launch.heads is not None:
        launch.heads['data'] = launcher.cells(list(tensors))
        tensors = (launch.heads,)
    launcher.launch(
        launch.name, (-(-launch.threads // COLLECT_BLOCK), images, 1), (COLLECT_BLOCK, 1, 1),
        *tensors, state.settings, state.counters, state.keys, np.int32(plan.capacity),
        state.boxes, *map(np.int32, launch.numbers),
    )
    launcher.launch(
        'suppress', (images, 1, 1), (BLOCK, 1, 1), state.settings, state.counters, state.keys,
        np.int32(plan.capacity), state.sorted, np.int32(plan.sorted_capacity), state.boxes,
        np.int32(plan.rows), np.int32(plan.class_step), np.int32(plan.finished), state.geometry,
        state.results,
    )
    assert not state.counters.view(np.int32).any(), 'the counters must be zero for the next frame'
    return [
        _decoded(result, box) for result, box in zip(state.results, case.letterboxes, strict=True)
    ]


class _State:
    """What the detector keeps on the device, poisoned where it need not be initialised."""

    def __init__(self, case: DecodeCase, plan: Decoding, images: int) -> None:
        poison = 0xA5A5A5A5A5A5A5A5
        self.keys = np.full((images, plan.capacity), poison, np.uint64)
        self.sorted = np.full((images, plan.sorted_capacity), poison, np.uint64)
        self.boxes = np.full((images, plan.rows, 4), np.nan, np.float32)
        self.counters = np.zeros(images, records.COUNTERS)
        self.results = np.full(images * records.RESULT.itemsize, 0xA5, np.uint8).view(
            records.RESULT
        )
        self.settings = records.settings_record(case.settings, case.spec.layout).reshape(1)
        self.geometry = np.array([records.geometry_record(box) for box in case.letterboxes])


def _decoded(result: np.void, box: Letterbox) -> Decoded:
    count = int(result['count'])
    return Decoded(
        Detections(
            result['boxes'][:count].copy(), result['scores'][:count].copy(),
            result['class_ids'][:count].copy(), box.source_wh,
        ),
        tuple(int(result[f'bad_{what}']) for what in ('objectness', 'scores', 'boxes', 'classes')),
    )
