"""Find the ModelSpec of a loaded plan, from its manifest or by running it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import dataclasses
import json
from typing import Any

from numpy.typing import NDArray

from yolov7_trt_ros.core.forms.anchors import model_anchors
from yolov7_trt_ros.core.forms.input_range import check_input_range
from yolov7_trt_ros.core.forms.model_names import choose_names
from yolov7_trt_ros.core.forms.model_spec import (
    Anchors,
    check_input,
    ModelSpec,
    OutputLayout,
    TensorInfo,
)
from yolov7_trt_ros.core.forms.recognise import recognise_model
from yolov7_trt_ros.engine.plan.plan_file import PlanManifest
from yolov7_trt_ros.engine.trt.api import TrtEngine
from yolov7_trt_ros.errors import ModelLayoutError

Probe = Callable[[float], tuple[list[TensorInfo], dict[str, NDArray[Any]]]]
"""Runs the plan on noise within 0..: outputs with their shapes, and values, by name."""


def find_spec(
    engine: TrtEngine,
    manifest: PlanManifest | None,
    probe: Probe,
    *,
    class_names: Sequence[str] | None = None,
    anchors: Anchors | None = None,
) -> ModelSpec:
    """
    Return the description of a model, `class_names` and `anchors` put in its place if given.

    A manifest was written by a build that looked at the numbers. If there is none, or an older
    one, the plan is run once and they are looked at now.

    Raises
    ------
    ModelLayoutError
        Not a YOLOv7 export, ambiguous without a manifest, or the overrides do not fit.
    InferenceError
        It was to be run, and that failed.

    """
    image = check_input(engine.inputs)
    known = manifest.spec if manifest else None
    if known is not None and known.evidence:
        _check_tensors(engine, known)
        return _overridden(known, class_names, anchors)
    if known is not None:  # a model may be bound to one size although its tensors are not
        image = dataclasses.replace(image, shape=known.image.shape)
    optimum = engine.profiles[0].optimum
    network_wh = (optimum[3], optimum[2])
    outputs, values = probe(1)
    pair = known is not None and known.layout is OutputLayout.BOXES_AND_SCORES
    try:
        spec = recognise_model(
            [image],
            outputs,
            _metadata(known),
            probe_wh=network_wh,
            values=values,
            class_names=class_names,
            anchors=anchors,
            boxes_name=known.outputs[0] if known is not None and pair else None,
        )
        spec = check_input_range(
            spec, network_wh, lambda light: values if light == 1 else probe(light)[1]
        )
    except ModelLayoutError as exc:
        if manifest is not None:
            raise
        raise ModelLayoutError(
            f'{exc}. If yolov7_trt built this plan, put the manifest that was beside it '
            '(PLAN.json) back there'
        ) from exc
    return spec


def _check_tensors(engine: TrtEngine, spec: ModelSpec) -> None:
    """Check that the plan has the tensors that its manifest names."""
    found = {tensor.name for tensor in (*engine.inputs, *engine.outputs)}
    missing = {spec.image.name, *spec.outputs} - found
    if missing:
        raise ModelLayoutError(
            f'the manifest names tensors that the plan lacks: {", ".join(sorted(missing))}; '
            'it belongs to another plan: build the plan again'
        )


def _overridden(
    spec: ModelSpec, class_names: Sequence[str] | None, anchors: Anchors | None
) -> ModelSpec:
    if class_names is not None:
        num_classes = spec.num_classes if spec.layout not in _FINISHED else None
        names = choose_names(class_names, {}, num_classes, None)
        spec = dataclasses.replace(
            spec, class_names=names.names, num_classes=names.count, doubts=()
        )
    if anchors is not None and spec.layout is OutputLayout.RAW_HEADS:
        chosen = model_anchors(anchors, {}, spec.strides)
        spec = dataclasses.replace(spec, anchors=chosen.anchors)
    return spec


_FINISHED = (OutputLayout.END2END_TRT, OutputLayout.END2END_ORT, OutputLayout.LABELLED)
"""Forms whose tensors do not give the number of classes."""


def _metadata(spec: ModelSpec | None) -> dict[str, str]:
    """Return what a manifest knows in the form in which ONNX models carry it."""
    if spec is None:
        return {}
    metadata = {'names': json.dumps(list(spec.class_names))} if spec.class_names else {}
    if spec.anchors:
        metadata['anchors'] = json.dumps(spec.anchors)
    return metadata | {'stride': str(spec.stride)}
