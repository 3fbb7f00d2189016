"""Check and copy an ONNX export: its form, and the sizes that it actually runs at."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
import onnx

from yolov7_trt_ros.atomic_file import atomic_write
from yolov7_trt_ros.core.forms.grid_values import count_rows
from yolov7_trt_ros.core.forms.model_spec import (
    Anchors,
    ANCHORS_PER_CELL,
    check_input,
    ModelSpec,
    OutputLayout,
    TensorInfo,
)
from yolov7_trt_ros.core.forms.recognise import probe_images, recognise_model
from yolov7_trt_ros.errors import (
    ExportError,
    InferenceError,
    ModelFormatError,
    ModelLayoutError,
)
from yolov7_trt_ros.onnx_tools.edit import drop_unused, widen_casts
from yolov7_trt_ros.onnx_tools.float_source import opset_of
from yolov7_trt_ros.onnx_tools.graph import Graph
from yolov7_trt_ros.onnx_tools.model_file import load_model, metadata_of_model, serialise
from yolov7_trt_ros.onnx_tools.nms_plugin import find_plugin, PLUGIN
from yolov7_trt_ros.onnx_tools.runtime import (
    open_session,
    probed_outputs,
    run_session,
    session_inputs,
)

_FORMS = {
    OutputLayout.GRID: 'grid', OutputLayout.RAW_HEADS: 'raw', OutputLayout.LABELLED: 'labelled',
}
_PLACES = {'batch': (0,), 'hw': (2, 3)}
_ROW_FORMS = (OutputLayout.GRID, OutputLayout.LABELLED)


@dataclasses.dataclass(frozen=True)
class OnnxCopy:
    """
    What was found in an ONNX export that was copied.

    Attributes
    ----------
    spec
        Its ModelSpec; the input has the sizes that are actually free.
    form
        `grid`, `raw`, `labelled` (DeepStream-Yolo's) or `end2end`.
    opset
        Version of its operators.
    baked_hw
        The one network size that it runs at although it declares height and width free.

    """

    spec: ModelSpec
    form: str
    opset: int
    baked_hw: tuple[int, int] | None


def copy_onnx(
    source: Path,
    target: Path,
    *,
    form: str | None = None,
    dynamic: frozenset[str] | None = None,
    shape: Sequence[int] = (1, 3, 640, 640),
    must_fit: bool = False,
    anchors: Anchors | None = None,
) -> OnnxCopy:
    """
    Copy an ONNX export with its actual sizes, and weights as float32.

    Parameters
    ----------
    source, target
        Files: the export, and where the copy goes.
    form, dynamic
        What the export must be, and what must be free in it; None takes it as it is.
    shape
        (B, 3, H, W): what is fixed of the sizes that the model leaves free.
    must_fit
        Refuse a model that has other sizes than those of `shape`.
    anchors
        Anchors of a model with raw maps that has none; the copy has them.

    Raises
    ------
    ModelFormatError
        Not a readable ONNX file.
    ModelLayoutError
        Not a YOLOv7 export.
    ExportError
        It has another form, or does not run with what `dynamic` wants free; nothing is written.

    """
    model = _load(source)
    if widen_casts(model):
        drop_unused(model.graph)
    session = open_session(serialise(model), source)
    declared = check_input(session_inputs(session))
    if must_fit:
        _check_fixed(source, declared, shape, dynamic or frozenset())
    image_hw = (declared.shape[2] or shape[2], declared.shape[3] or shape[3])
    values = _probe(session, declared, (declared.shape[0] or 1, 3, *image_hw))
    outputs = probed_outputs(session, values)
    metadata = metadata_of_model(model)
    spec = recognise_model(
        [declared], outputs, metadata, probe_wh=image_hw[::-1], anchors=anchors,
        values={tensor.name: value for tensor, value in zip(outputs, values, strict=True)},
    )
    if anchors is not None:
        onnx.helper.set_model_props(model, metadata | {'anchors': json.dumps(anchors)})
    found = _FORMS.get(spec.layout, 'end2end')
    if form not in (None, found):
        raise ExportError(
            f'{source} has the form {found}, and an ONNX file keeps its form; for {form} export '
            'the checkpoint that it was made from'
        )
    free = _truly_free(session, spec, image_hw)
    if dynamic is not None and dynamic - free:
        raise ExportError(
            f'{source} does not run with a free {" and ".join(sorted(dynamic - free))}'
            + (f': its grid is made for {image_hw[0]}x{image_hw[1]}' if 'hw' not in free else '')
            + '; export the checkpoint that it was made from'
        )
    kept = free if dynamic is None else dynamic
    baked = 'hw' not in free and None in declared.shape[2:]
    spec = _bound(model, spec, kept, (declared.shape[0] or shape[0], 3, *image_hw))
    copied = serialise(model)
    _check_same(session, open_session(copied, f'the copy of {source}'), spec, image_hw)
    atomic_write(target, copied)
    return OnnxCopy(spec, found, opset_of(model), image_hw if baked else None)


def _check_fixed(
    source: Path, declared: TensorInfo, fixed: Sequence[int], dynamic: frozenset[str]
) -> None:
    """Refuse sizes that a model cannot get, because it has others or because there are none."""
    free = {at for name, places in _PLACES.items() if name in dynamic for at in places}
    sizes = [each for at, each in enumerate(zip(declared.shape, fixed, strict=True))
             if at not in free]
    if any(wanted < 1 or found not in (None, wanted) for found, wanted in sizes):
        raise ExportError(
            f'{source} has the input {declared}, which cannot become '
            f'{"x".join(map(str, fixed))}; export the checkpoint that it was made from'
        )


def _load(path: Path) -> Any:
    model = load_model(path)
    try:
        onnx.checker.check_model(model)
    except (ValueError, TypeError, RuntimeError, onnx.checker.ValidationError) as exc:
        reason = ' '.join(str(exc).split())[:300]
        raise ModelFormatError(f'{path} is not a readable ONNX file: {reason}') from exc
    if find_plugin(model) is not None:
        raise ModelLayoutError(
            f'{path} ends in {PLUGIN}, which only TensorRT runs, so it cannot be checked here; '
            'use it as it is, or export the checkpoint that it was made from'
        )
    return model


def _probe(session: Any, image: TensorInfo, shape: tuple[int, ...]) -> list[NDArray[Any]]:
    """Return the outputs that one run gives."""
    values = _run(session, image, shape)
    if values is None:
        raise ModelLayoutError(
            f'the model does not run with an input of {"x".join(map(str, shape))}; if it was '
            'exported for another size, give that one with --static'
        )
    return values


def _run(
    session: Any, image: TensorInfo, shape: tuple[int, ...]
) -> list[NDArray[Any]] | None:
    """Run with noise; None if the model does not take the shape."""
    try:
        return run_session(session, None, {image.name: probe_images(shape, image.dtype)})
    except InferenceError:
        return None


def _truly_free(session: Any, spec: ModelSpec, image_hw: tuple[int, int]) -> frozenset[str]:
    """Return which of the declared free sizes the model runs with."""
    batch, _, height, width = spec.image.shape
    free = set()
    if batch is None and _runs(session, spec, (2, 3, *image_hw)):
        free.add('batch')
    other = (image_hw[0] + spec.stride, image_hw[1] + 2 * spec.stride)
    if height is None and width is None and _runs(session, spec, (batch or 1, 3, *other)):
        free.add('hw')
    return frozenset(free)


def _runs(session: Any, spec: ModelSpec, shape: tuple[int, int, int, int]) -> bool:
    """Whether the model runs at a shape and gives the outputs of it."""
    values = _run(session, spec.image, shape)
    if values is None:
        return False
    if spec.layout in _ROW_FORMS:
        names = [output.name for output in session.get_outputs()]
        found = values[names.index(spec.outputs[0])].shape
        wanted = [count_rows((shape[3], shape[2]), spec.strides, n) for n in (1, ANCHORS_PER_CELL)]
        return found[0] == shape[0] and found[2 if spec.transposed else 1] in wanted
    return spec.layout is OutputLayout.END2END_ORT or len(values[0]) == shape[0]


def _check_same(
    session: Any, copied: Any, spec: ModelSpec, image_hw: tuple[int, int]
) -> None:
    """Check that the copy computes what the original does, on one noisy input."""
    shape = (spec.image.shape[0] or 1, 3, *image_hw)
    images = np.random.default_rng(7).random(shape).astype(spec.image.dtype)
    pairs = zip(*(each.run(None, {spec.image.name: images}) for each in (session, copied)),
                strict=True)
    if not all(np.allclose(before, after, 1e-4, 1e-4) for before, after in pairs):
        raise ExportError('the copy does not compute what the original does; nothing was written')


def _bound(
    model: Any, spec: ModelSpec, free: frozenset[str], shape: tuple[int, int, int, int]
) -> ModelSpec:
    """Fix the sizes of a model's input that are not free, in place; return its spec then."""
    image = Graph(model).image
    kinds = ('batch', '', 'hw', 'hw')
    for dim, kind, size in zip(image.type.tensor_type.shape.dim, kinds, shape, strict=True):
        if kind not in free:
            dim.dim_value = size
    true = tuple(
        None if kind in free else size for kind, size in zip(kinds, shape, strict=True)
    )
    return dataclasses.replace(spec, image=dataclasses.replace(spec.image, shape=true))
