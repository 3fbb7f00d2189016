"""Build a plan and its manifest from an ONNX file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import contextlib
import datetime
import hashlib
from pathlib import Path
import time

from yolov7_trt_ros.atomic_file import atomic_write
from yolov7_trt_ros.core.forms.model_spec import ModelSpec
from yolov7_trt_ros.engine.building.build_options import BuildOptions
from yolov7_trt_ros.engine.building.prepared_model import prepare_model, PreparedModel
from yolov7_trt_ros.engine.device.find_gpu import find_target
from yolov7_trt_ros.engine.plan.build_target import BuildTarget
from yolov7_trt_ros.engine.plan.owner import read_own_file, TIMING_CACHE
from yolov7_trt_ros.engine.plan.plan_file import PlanManifest, write_plan
from yolov7_trt_ros.engine.plan.shape_range import Shape, ShapeRange
from yolov7_trt_ros.engine.plan.weight_table import table_of
from yolov7_trt_ros.engine.trt.api import TrtApi
from yolov7_trt_ros.engine.trt.build_progress import BuildProgress, Report
from yolov7_trt_ros.engine.trt.dla_report import DlaReport
from yolov7_trt_ros.engine.trt.network import BuildSettings, TrtNetwork
from yolov7_trt_ros.errors import (
    InferenceError,
    MissingDependencyError,
    SettingError,
)
from yolov7_trt_ros.onnx_tools.tensorrt_form import TensorRtOnnx

DEFAULT_PROFILE = ShapeRange((1, 3, 320, 320), (1, 3, 640, 640), (4, 3, 1280, 1280))
"""Of models that leave batch and size open."""


def build_plan(
    onnx: Path,
    plan: Path,
    options: BuildOptions,
    *,
    api: TrtApi,
    machine: BuildTarget,
    report: Report,
    cancelled: Callable[[], bool],
    max_transitions: int | None = None,
) -> PlanManifest:
    """
    Build a plan and write it with its manifest; an older plan stays until the new one is complete.

    Parameters
    ----------
    onnx, plan
        Files: the model, and where the plan goes.
    options
        What to build.
    api, machine
        The TensorRT that builds, and the GPU that it builds for.
    report
        Called with phase and fraction from a separate thread, at least every 2 s.
    cancelled
        Checked between steps. TensorRT 8 cannot stop a running build: there it takes effect when
        TensorRT has finished.
    max_transitions
        Maximum number of transitions between DLA and GPU; None for no limit.

    Raises
    ------
    BuildError
        TensorRT cannot build it, or it was cancelled.
    ModelError
        The file is not a readable YOLOv7 export.
    SettingError
        Options that do not fit the model or this TensorRT.
    MissingDependencyError
        A package that builds need is not installed.

    """
    start = time.monotonic()
    _check_abilities(options, api, machine)
    progress = BuildProgress(report, cancelled)
    with progress.reporting():
        model = prepare_model(onnx, options, api, progress)
        edit, spec = model.edit, model.spec
        network, settings = _parse(model, options, api, progress)
        if max_transitions is not None:
            network.place_on_dla(settings).check(max_transitions)
        data = network.build(settings, progress)
        progress.enter('write', 1.0)
        manifest = PlanManifest(
            machine=machine,
            precision=options.precision,
            profiles=settings.profiles,
            onnx=str(onnx),
            onnx_sha256=model.sha256,
            plan_sha256=hashlib.sha256(data).hexdigest(),
            plan_size_bytes=len(data),
            options=options.to_record(),
            spec=spec,
            created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
            build_seconds=round(time.monotonic() - start, 3),
            weights=table_of(edit.model) if options.refittable else None,
        )
        write_plan(plan, data, manifest)
        _keep_timings(options.timing_cache, network.timing_cache)
    return manifest


def report_dla(onnx: Path, options: BuildOptions, *, api: TrtApi) -> DlaReport:
    """
    Return the layers of a model that a DLA would run, without a build. Raises as `build_plan`.

    TensorRT is queried if the machine has a DLA; otherwise documented rules are applied.

    """
    progress = BuildProgress(lambda phase, part: None, lambda: False)
    network, settings = _parse(
        prepare_model(onnx, options, api, progress), options, api, progress
    )
    return network.place_on_dla(settings)


def _parse(
    model: PreparedModel, options: BuildOptions, api: TrtApi, progress: BuildProgress
) -> tuple[TrtNetwork, BuildSettings]:
    """Return the network of a model and the settings of its build."""
    progress.enter('parse')
    network = TrtNetwork(api)
    network.parse(model.edit.to_bytes(), model.edit.node_label)
    network.keep_outputs(model.spec.outputs)
    profiles = choose_profiles(model.spec, options.profiles, bind=options.bind_profiles)
    if model.keep_fp32 is not None and api.weakly_typed:
        network.keep_float32(model.keep_fp32)
    return network, _settings(
        options, profiles, model.edit, api, obey=model.keep_fp32 is not None
    )


def find_build_target(api: TrtApi) -> BuildTarget:
    """
    Return the machine to build for: this one, or any if TensorRT can build without a GPU.

    Raises
    ------
    MissingDependencyError, InferenceError
        TensorRT needs a GPU to build, and there is none, or no PyCUDA to ask it.

    """
    try:
        return find_target(api)
    except (MissingDependencyError, InferenceError):
        if not api.builds_without_gpu:
            raise
        return BuildTarget(api.flavour, api.version, '', '', '')


def choose_profiles(
    spec: ModelSpec, wanted: tuple[ShapeRange, ...], *, bind: bool = False
) -> tuple[ShapeRange, ...]:
    """
    Return the profiles of a plan.

    Those of the default, or with `bind`, get what the model is bound to in place.

    Raises
    ------
    SettingError
        A profile contradicts the model, or its sizes are off the stride.

    """
    if bind or not wanted:
        return tuple(_bind(profile, spec) for profile in wanted or (DEFAULT_PROFILE,))
    for profile in wanted:
        if _bind(profile, spec) != profile:
            raise SettingError(
                f'profile {profile} does not fit the model, whose input is {spec.image}, with '
                f'height and width in multiples of {spec.stride}'
            )
    return wanted


def _bind(profile: ShapeRange, spec: ModelSpec) -> ShapeRange:
    """Return a profile with the model's own sizes, the free ones rounded up to its stride."""
    def bound(shape: Shape) -> Shape:
        steps = (1, 1, spec.stride, spec.stride)
        batch, channels, height, width = (
            -(-side // step) * step if fixed is None else fixed
            for side, step, fixed in zip(shape, steps, spec.image.shape, strict=True)
        )
        return batch, channels, height, width

    return ShapeRange(bound(profile.minimum), bound(profile.optimum), bound(profile.maximum))


def _check_abilities(options: BuildOptions, api: TrtApi, machine: BuildTarget) -> None:
    """Refuse options that this TensorRT does not support, instead of ignoring them."""
    if options.refittable and not machine.gpu_name:
        raise SettingError(
            f'--refittable: {api.flavour} builds such plans only if there is a GPU'
        )
    wanted: Mapping[str, tuple[bool, bool, str]] = {
        '--opt-level': (options.opt_level is not None, api.has_optimization_level, '8.6'),
        '--version-compatible': (options.version_compatible, api.has_version_compatible, '8.6'),
        '--hardware-compatible': (options.hardware_compatible, api.has_hardware_compatible, '8.6'),
        '--keep-nms-plugin': (options.keep_nms_plugin, api.has_plugins, '8.5'),
    }
    for flag, (asked, there, since) in wanted.items():
        if asked and not there:
            raise SettingError(
                f'{flag} needs TensorRT {since} or later, here is {api.flavour} {api.version}'
            )


def _settings(
    options: BuildOptions, profiles: tuple[ShapeRange, ...], edit: TensorRtOnnx, api: TrtApi,
    *, obey: bool,
) -> BuildSettings:
    timings = None
    if options.timing_cache is not None and api.has_timing_cache:
        timings = read_timings(options.timing_cache)
    return BuildSettings(
        profiles=profiles,
        fp16=options.precision in ('fp16', 'mixed'),
        int8=edit.is_quantised,
        tf32=options.precision != 'fp32',
        obey_precisions=obey,
        workspace_mib=options.workspace_mib,
        opt_level=options.opt_level,
        dla_core=options.dla_core,
        refittable=options.refittable,
        version_compatible=options.version_compatible,
        hardware_compatible=options.hardware_compatible,
        plugins=edit.has_nms_plugin and options.keep_nms_plugin,
        timing_cache=timings,
    )


def read_timings(path: Path) -> bytes:
    """
    Return a timing cache; one that is not there, or cannot be read, is empty.

    Raises
    ------
    UntrustedPlanError
        Somebody else could have written it.
    ModelFormatError
        It is no plain file.

    """
    try:
        return read_own_file(path, what=TIMING_CACHE)
    except OSError:
        return b''


def _keep_timings(path: Path | None, timings: bytes | None) -> None:
    """Keep timings; if the disk is full, a later build takes longer, but this plan is kept."""
    if path is not None and timings is not None:
        with contextlib.suppress(OSError):
            atomic_write(path, timings)
