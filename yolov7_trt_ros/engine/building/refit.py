"""
Put new weights into a copy of a refittable plan: seconds instead of minutes for a build.

The plan in use is never touched: it is read from its file, and this runs in a separate process or
in a command. The result is written only after its outputs were found to be those of ONNX
Runtime; TensorRT has had versions that lost a bias at a refit.

"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
import datetime
import hashlib
from pathlib import Path
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.core.forms.model_spec import ModelSpec
from yolov7_trt_ros.core.forms.recognise import probe_images
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.letterbox import fit_letterbox
from yolov7_trt_ros.core.preprocess import Preprocessor
from yolov7_trt_ros.engine.building.build_options import BuildOptions
from yolov7_trt_ros.engine.building.prepared_model import prepare_model, PreparedModel
from yolov7_trt_ros.engine.gpu.plan_facts import loaded_engine
from yolov7_trt_ros.engine.plan.build_target import BuildTarget
from yolov7_trt_ros.engine.plan.plan_file import (
    PlanManifest,
    read_manifest,
    read_plan,
    rebuild_command,
    write_plan,
)
from yolov7_trt_ros.engine.plan.plan_fit import check_fits
from yolov7_trt_ros.engine.plan.shape_range import ShapeRange
from yolov7_trt_ros.engine.plan.weight_table import (
    changed_weights,
    has_batch_normalization,
    stored_arrays,
    table_of,
    WeightTable,
)
from yolov7_trt_ros.engine.trt.api import TrtApi
from yolov7_trt_ros.engine.trt.build_progress import BuildProgress, Report
from yolov7_trt_ros.engine.trt.refitter import refit_engine
from yolov7_trt_ros.errors import BuildError, RefitError
from yolov7_trt_ros.onnx_tools.model_file import serialise
from yolov7_trt_ros.onnx_tools.runtime import run_session

LARGEST_ERROR = {'fp32': 0.01, 'fp16': 0.05, 'mixed': 0.25, 'int8': 0.25}
"""
Root mean square of what an output may differ by from ONNX Runtime's, in standard deviations of
that output, by precision; docs/bank.md has what was measured.
"""

_LEAST_DEVIATION = 1e-6
_SAME = ('layout', 'outputs', 'strides', 'num_classes', 'boxes_are_centres', 'transposed',
         'columns')


@dataclasses.dataclass(frozen=True)
class Refitted:
    """
    A plan that was written.

    Attributes
    ----------
    manifest
        Its own.
    changed, weights
        Number of stored tensors that changed, and number of all.
    error
        Largest difference of an output, as in `LARGEST_ERROR`.
    images
        Number of images compared.

    """

    manifest: PlanManifest
    changed: int
    weights: int
    error: float
    images: int


def refit_plan(
    plan: Path,
    onnx: Path,
    output: Path,
    *,
    api: TrtApi,
    machine: BuildTarget,
    report: Report,
    cancelled: Callable[[], bool],
    images: Sequence[ImageView] = (),
) -> Refitted:
    """
    Write a plan with the weights of another model, and its manifest; `plan` stays as it is.

    Parameters
    ----------
    plan, onnx, output
        Files: the refittable plan, the model with the new weights, and where the result goes.
    api, machine, report, cancelled
        As `build_plan` takes them. A refit that runs is not cancelled.
    images
        Images to compare outputs on; without any, the noise of model recognition is used.

    Raises
    ------
    RefitError
        The plan is not refittable, the model differs in more than weights, TensorRT does not take
        them, or the outputs are not those of ONNX Runtime. Nothing was written.
    PlanError, UntrustedPlanError
        The plan cannot be read, or does not fit this machine.
    ModelError, SettingError, MissingDependencyError
        As `build_plan`, of the model.
    InferenceError
        The GPU failed.

    """
    start = time.monotonic()
    progress = BuildProgress(report, cancelled)
    with progress.reporting():
        manifest, built = _refittable(plan, machine)
        plan_bytes = read_plan(plan, manifest)
        model = prepare_model(
            onnx, BuildOptions.from_manifest(manifest), api, progress, with_session=True
        )
        with _with_advice(plan, onnx, manifest):
            spec = _same_spec(manifest.spec, model.spec)
            changed = changed_weights(built, model.edit.model)
            _check_possible(api, model)
            _stop_if(cancelled)
            progress.enter('refit')
            data, shapes = _refit(plan_bytes, model, changed, api)
            progress.enter('compare')
            blobs = _blobs(shapes, spec, images)
            error = _largest_error(
                spec.outputs, _run_on_cpu(model, spec, blobs), _run_on_gpu(data, blobs, api)
            )
            _check_error(error, manifest.precision)
            _stop_if(cancelled)
        progress.enter('write', 1.0)
        refitted = dataclasses.replace(
            manifest,
            onnx=str(onnx),
            onnx_sha256=model.sha256,
            plan_sha256=hashlib.sha256(data).hexdigest(),
            plan_size_bytes=len(data),
            spec=spec,
            created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
            build_seconds=round(time.monotonic() - start, 3),
            weights=table_of(model.edit.model),
        )
        write_plan(output, data, refitted)
    return Refitted(refitted, len(changed), len(built.weights), error, len(blobs))


# ---- may it be done


def _refittable(plan: Path, machine: BuildTarget) -> tuple[PlanManifest, WeightTable]:
    """Return the manifest of a plan that can be refitted here, and the weights that it has."""
    manifest = read_manifest(plan)
    if manifest is None:
        read_plan(plan, None)  # raises if the plan is missing too
        raise RefitError(
            f'{plan} has no manifest, so its ONNX file is unknown: build it with yolov7_trt '
            'build --refittable'
        )
    check_fits(plan, manifest, machine)
    built, here = manifest.machine.tensorrt_version, machine.tensorrt_version
    if built != here:
        raise RefitError(
            f'{plan} was built with TensorRT {built} and runs with {here} too, but only {built} '
            'can refit it; build it again with: ' + rebuild_command(manifest, plan)
        )
    if manifest.weights is None:
        raise RefitError(
            f'{plan} is not refittable; build it once with: {rebuild_command(manifest, plan)} '
            '--refittable'
        )
    return manifest, manifest.weights


@contextlib.contextmanager
def _with_advice(plan: Path, onnx: Path, manifest: PlanManifest) -> Iterator[None]:
    """Add to a RefitError which refit failed, and what to do instead."""
    try:
        yield
    except RefitError as exc:
        built = dataclasses.replace(manifest, onnx=str(onnx))
        raise RefitError(
            f'{plan} cannot take the weights of {onnx}: {exc}; build a plan of it instead: '
            + rebuild_command(built, onnx.with_suffix('.plan'))
        ) from exc


def _same_spec(built: ModelSpec, new: ModelSpec) -> ModelSpec:
    """Return what the new model is, with the input that the plan has."""
    for name in _SAME:
        was, becomes = getattr(built, name), getattr(new, name)
        if was != becomes:
            raise RefitError(f'its {name} is {becomes}, and that of the plan {was}')
    return dataclasses.replace(new, image=built.image)


def _stop_if(cancelled: Callable[[], bool]) -> None:
    if cancelled():
        raise BuildError('the refit was cancelled')


def _check_possible(api: TrtApi, model: PreparedModel) -> None:
    if model.edit.has_nms_plugin:
        raise RefitError('the plan has EfficientNMS_TRT inside, which nothing here can check')
    if has_batch_normalization(model.edit.model) and not api.refits_by_parser:
        raise RefitError(
            f'{api.flavour} {api.version} makes weights of its own of its BatchNormalization '
            'nodes; export it with them folded'
        )


# ---- the engine


def _refit(
    plan_bytes: bytes, model: PreparedModel, changed: dict[str, NDArray[Any]], api: TrtApi
) -> tuple[bytes, ShapeRange]:
    """Return the refitted plan, and the shapes of its first profile."""
    onnx_model = model.edit.model
    with loaded_engine(api, plan_bytes) as engine:
        if not engine.profiles:
            raise RefitError('the plan does not take images')
        if changed:
            refit_engine(
                api, engine, serialise(onnx_model), stored_arrays(onnx_model), changed
            )
        return engine.serialize() if changed else plan_bytes, engine.profiles[0]


def _run_on_gpu(
    data: bytes, blobs: Sequence[NDArray[Any]], api: TrtApi
) -> list[dict[str, NDArray[Any]]]:
    """Load a plan as it will be loaded, and run it."""
    from yolov7_trt_ros.engine.device.cuda_device import CudaDevice
    from yolov7_trt_ros.engine.device.memory import DeviceBuffer
    from yolov7_trt_ros.engine.gpu.plan_probe import run_plan

    with loaded_engine(api, data) as engine, CudaDevice().lent_stream() as stream:
        activations = DeviceBuffer(engine.device_memory_bytes)
        try:
            return [run_plan(engine, activations, stream, blob)[1] for blob in blobs]
        finally:
            activations.free()


# ---- are its outputs right


def _run_on_cpu(
    model: PreparedModel, spec: ModelSpec, blobs: Sequence[NDArray[Any]]
) -> list[dict[str, NDArray[Any]]]:
    return [
        dict(zip(
            spec.outputs, run_session(model.session, spec.outputs, {spec.image.name: blob}),
            strict=True,
        ))
        for blob in blobs
    ]


def _blobs(
    shapes: ShapeRange, spec: ModelSpec, images: Sequence[ImageView]
) -> list[NDArray[Any]]:
    """Return the network inputs to compare on: images (or noise) at the size tuned for."""
    batch, (height, width) = shapes.minimum[0], shapes.optimum[2:]
    if not images:
        return [probe_images((batch, 3, height, width), spec.image.dtype)]
    preprocessor = Preprocessor(spec.image.dtype)
    return [
        np.repeat(
            preprocessor.prepare(image, fit_letterbox(image.size_wh, (width, height))), batch, 0
        )
        for image in images
    ]


def _largest_error(
    outputs: Sequence[str],
    wanted: Sequence[dict[str, NDArray[Any]]],
    found: Sequence[dict[str, NDArray[Any]]],
) -> float:
    """Return the largest error of an output, as for `LARGEST_ERROR`; infinite for NaN."""
    errors = []
    for name in outputs:
        right = np.concatenate([each[name].astype(np.float64).ravel() for each in wanted])
        ours = np.concatenate([each[name].astype(np.float64).ravel() for each in found])
        if right.shape != ours.shape or not np.isfinite(ours).all():
            return float('inf')
        rms = float(np.sqrt(np.mean((ours - right) ** 2)))
        errors.append(rms / max(float(right.std()), _LEAST_DEVIATION))
    return max(errors)


def _check_error(error: float, precision: str) -> None:
    most = LARGEST_ERROR[precision]
    if not error <= most:
        raise RefitError(
            f'the refitted plan does not compute what ONNX Runtime does: its outputs differ by '
            f'{error:.4f} of their standard deviation, {most:g} at most is expected of '
            f'{precision}, so TensorRT has not taken all weights'
        )
