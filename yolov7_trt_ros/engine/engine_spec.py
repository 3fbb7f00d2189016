"""What kind of YOLOv7 export a loaded plan is: from its manifest, or from its tensors alone."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import json

from yolov7_trt_ros.core.model_spec import (
    Anchors,
    check_input,
    ModelSpec,
    recognise_model,
    TensorInfo,
)
from yolov7_trt_ros.engine.plan import PlanManifest
from yolov7_trt_ros.engine.trt_api import TrtEngine
from yolov7_trt_ros.errors import ModelLayoutError


def find_spec(
    engine: TrtEngine,
    manifest: PlanManifest | None,
    *,
    stream_handle: int,
    class_names: Sequence[str] | None = None,
    anchors: Anchors | None = None,
) -> ModelSpec:
    """
    Return the description of a model, `class_names` and `anchors` put in its place if given.

    Raises
    ------
    ModelLayoutError
        Not a YOLOv7 export, ambiguous without a manifest, or the overrides do not fit.

    """
    image = check_input(engine.inputs)
    optimum = engine.profiles[0].optimum
    outputs = _output_shapes(engine, image.name, stream_handle)
    known = manifest.spec if manifest else None
    if known is not None:  # a model may be bound to one size although its tensors are not
        image = dataclasses.replace(image, shape=known.image.shape)
    pair = known is not None and len(known.outputs) == 2
    try:
        return recognise_model(
            [image],
            outputs,
            _metadata(known),
            probe_wh=(optimum[3], optimum[2]),
            class_names=class_names,
            anchors=anchors,
            boxes_name=known.outputs[0] if known is not None and pair else None,
            boxes_are_centres=known.boxes_are_centres if known is not None else False,
        )
    except ModelLayoutError as exc:
        if manifest is not None:
            raise
        raise ModelLayoutError(
            f'{exc}. If yolov7_trt built this plan, put the manifest that was beside it '
            '(PLAN.json) back there'
        ) from exc


def _output_shapes(engine: TrtEngine, input_name: str, stream_handle: int) -> list[TensorInfo]:
    """Return the outputs with their shapes for the first profile's optimum."""
    context = engine.create_context(0, stream_handle)
    try:
        context.set_input_shape(input_name, engine.profiles[0].optimum)
        outputs = [
            dataclasses.replace(tensor, shape=context.output_shape(tensor.name))
            for tensor in engine.outputs
        ]
    finally:
        context.close()
    if any(side is not None and side < 0 for tensor in outputs for side in tensor.shape):
        raise ModelLayoutError(
            'the plan has outputs whose size depends on the image (NMS of ONNX inside); export '
            'the model with --grid, without NMS'
        )
    return outputs


def _metadata(spec: ModelSpec | None) -> dict[str, str]:
    """Return what a manifest knows in the form in which ONNX models carry it."""
    if spec is None:
        return {}
    metadata = {'names': json.dumps(list(spec.class_names))} if spec.class_names else {}
    if spec.anchors:
        metadata['anchors'] = json.dumps(spec.anchors)
    return metadata
