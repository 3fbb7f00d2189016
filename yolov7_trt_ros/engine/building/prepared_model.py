"""Prepare an ONNX model for TensorRT: edit it, recognise it on the CPU, strip its decoding."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any, TYPE_CHECKING

from yolov7_trt_ros.core.forms.anchors import choose_anchors
from yolov7_trt_ros.core.forms.model_spec import ModelSpec, OutputLayout, TensorInfo
from yolov7_trt_ros.core.forms.recognise import recognise_model
from yolov7_trt_ros.engine.building.build_options import BuildOptions
from yolov7_trt_ros.engine.model_files import load_class_names
from yolov7_trt_ros.engine.trt.api import TrtApi
from yolov7_trt_ros.engine.trt.build_progress import BuildProgress
from yolov7_trt_ros.errors import (
    BuildError,
    missing_package,
    MissingDependencyError,
    ModelNotFoundError,
)
from yolov7_trt_ros.onnx_tools.nms_plugin import RunnableModel
from yolov7_trt_ros.onnx_tools.tensorrt_form import read_model, TensorRtOnnx

if TYPE_CHECKING:
    from yolov7_trt_ros.engine.onnx_probe import ProbedModel

_PROBE_PX = 640
_ONNX_DTYPES = {1: 'float32', 6: 'int32', 7: 'int64', 10: 'float16'}


@dataclasses.dataclass(frozen=True, eq=False)
class PreparedModel:
    """
    A model on its way to TensorRT.

    Attributes
    ----------
    sha256
        Of the file.
    edit
        What TensorRT is to parse.
    spec
        What that is.
    session
        Of ONNX Runtime, with the outputs that `spec` names; None unless it was asked for.
    keep_fp32
        Finds the nodes to keep in float32; None for none.

    """

    sha256: str
    edit: TensorRtOnnx
    spec: ModelSpec
    session: Any
    keep_fp32: str | None


def prepare_model(
    onnx: Path, options: BuildOptions, api: TrtApi, progress: BuildProgress, *,
    with_session: bool = False,
) -> PreparedModel:
    """
    Read and recognise a model, and convert it to the types that this TensorRT needs.

    The file is read and parsed once. ONNX Runtime runs it once to recognise it, and its decoding
    alone to verify that ours gives the same result.

    Parameters
    ----------
    onnx, options, api, progress
        As `build_plan` takes them.
    with_session
        Keep a session of the model as it is before it gets its types, which needs memory.

    Raises
    ------
    BuildError
        TensorRT cannot take it.
    ModelError
        The file is not a readable YOLOv7 export.
    SettingError
        Options that do not fit the model.
    MissingDependencyError
        A package is not installed.

    """
    progress.enter('read')
    sha256, edit, source = _read(onnx, options)
    progress.enter('recognise')
    probed = _probe(onnx, options, source)
    del source  # as large as the file
    spec = _recognise(onnx, options, edit, probed, with_session=with_session)
    keep_fp32 = options.keep_fp32 or edit.kept_by_type()
    _choose_types(edit, options, api)
    session = probed.session if with_session else None
    return PreparedModel(sha256, edit, spec, session, keep_fp32)


def _read(onnx: Path, options: BuildOptions) -> tuple[str, TensorRtOnnx, RunnableModel]:
    """Return the hash of the file, the model for TensorRT, and what ONNX Runtime runs."""
    data = _read_bytes(onnx)
    model, source = read_model(onnx, data, keep_nms_plugin=options.keep_nms_plugin)
    edit = TensorRtOnnx(onnx, model=model)
    _unfold(onnx, edit, options)
    return hashlib.sha256(data).hexdigest(), edit, source


def _read_bytes(onnx: Path) -> bytes:
    try:
        return onnx.read_bytes()
    except OSError as exc:
        raise ModelNotFoundError(f'the model {onnx} cannot be read: {exc}') from exc


def _unfold(onnx: Path, edit: TensorRtOnnx, options: BuildOptions) -> None:
    """Give TensorRT weights as constants; raises BuildError where int8 has nothing to go by."""
    edit.widen_casts()
    edit.unfold_quantised_weights()
    if options.precision == 'int8' and not edit.is_quantised:
        raise BuildError(
            f'{onnx} has no QuantizeLinear/DequantizeLinear nodes, and int8 needs them: quantise '
            f'the model first with: yolov7_trt quantize {onnx} --images PICTURES -o int8.onnx; or '
            'build with --precision fp16'
        )


def _choose_types(edit: TensorRtOnnx, options: BuildOptions, api: TrtApi) -> None:
    """Write the precisions into the model if TensorRT takes them from there."""
    is_mixed = edit.kept_by_type() is not None
    if options.precision in ('fp16', 'mixed') and not api.weakly_typed and not is_mixed:
        edit.convert_to_half(options.keep_fp32)


def _recognise(
    onnx: Path, options: BuildOptions, edit: TensorRtOnnx, model: ProbedModel, *,
    with_session: bool,
) -> ModelSpec:
    """Return what the model is, found out on the CPU, its decoding cut off where that goes."""
    spec = model.spec
    if spec.layout is OutputLayout.END2END_ORT:
        raise BuildError(
            f'{onnx} ends in ONNX NonMaxSuppression, whose output has another length for each '
            'image; export it with --grid alone (NMS is ours then), or set the backend to onnx'
        )
    if not options.keep_grid:
        cut = edit.strip_decoding(spec)
        if cut is not None:  # the size may have been that of the grid alone
            return model.without_decoding(cut, edit.to_bytes, runs_on=with_session)
    if not edit.has_nms_plugin:
        return spec
    outputs = [
        TensorInfo(name, shape, _ONNX_DTYPES.get(kind, 'other'))
        for name, shape, kind in edit.output_shapes()
    ]
    return recognise_model(
        [spec.image], outputs, edit.metadata,
        probe_wh=spec.fixed_wh or (_probe_px(options),) * 2,
        values=None,  # boxes and scores before the plugin were looked at above
        class_names=spec.class_names or load_class_names(options.class_names),
    )


def _probe(onnx: Path, options: BuildOptions, source: RunnableModel) -> ProbedModel:
    try:
        from yolov7_trt_ros.engine.onnx_probe import ProbedModel
    except ImportError as exc:
        raise MissingDependencyError(missing_package(
            exc, onnxruntime='a model is recognised on ONNX Runtime, which'
        )) from exc
    return ProbedModel(
        onnx, class_names=load_class_names(options.class_names),
        anchors=choose_anchors(options.anchors), network_size=_probe_px(options),
        source=source,
    )


def _probe_px(options: BuildOptions) -> int:
    return max(options.profiles[0].optimum[2:]) if options.profiles else _PROBE_PX
