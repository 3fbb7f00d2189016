"""From an ONNX file to a plan and its manifest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import contextlib
import dataclasses
import datetime
import hashlib
from pathlib import Path
import re
import time
from typing import Any

from yolov7_trt_ros.core.forms.model_spec import ModelSpec
from yolov7_trt_ros.engine.building.prepared_model import prepare_model, PreparedModel
from yolov7_trt_ros.engine.open import find_machine, PRECISIONS
from yolov7_trt_ros.engine.plan.owner import read_own_file, TIMING_CACHE
from yolov7_trt_ros.engine.plan.plan_file import (
    Machine,
    PlanManifest,
    Shape,
    ShapeRange,
    write_plan,
)
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
from yolov7_trt_ros.onnx_tools.tensorrt_form import OnnxEdit
from yolov7_trt_ros.whole_file import write_whole

DEFAULT_PROFILE = ShapeRange((1, 3, 320, 320), (1, 3, 640, 640), (4, 3, 1280, 1280))
"""Of models that leave batch and size open."""

_OPT_LEVELS = range(6)


_JSON_TYPES = {
    'bool': ('bool',), 'int | None': ('int', 'NoneType'), 'str': ('str',),
    'str | None': ('str', 'NoneType'), 'Path | None': ('str', 'NoneType'),
}
"""What a manifest may have for an option of each type."""


@dataclasses.dataclass(frozen=True)
class BuildOptions:
    """
    How a plan is built.

    Attributes
    ----------
    precision
        `fp32` (true float32, no TF32), `fp16`, `int8` (layers between the model's Q/DQ nodes in
        int8, the rest float32), or `mixed` (int8 where Q/DQ, the rest float16).
    profiles
        Input shapes the plan is to take; empty for `DEFAULT_PROFILE`, with what the model is
        bound to in place.
    bind_profiles
        Put what the model is bound to in place of what `profiles` say, instead of refusing.
    workspace_mib
        Most GPU memory a layer may use; None leaves it to TensorRT.
    opt_level
        Effort, 0..5; None for TensorRT's default, 3.
    timing_cache
        File that keeps measurements for the next build; written again after it.
    dla_core
        Deep learning accelerator to build for; what it cannot do runs on the GPU.
    refittable
        Weights can be exchanged later.
    keep_fp32
        Regular expression; nodes whose name it finds stay in float32.
    version_compatible, hardware_compatible
        Also for later TensorRT; also for other GPUs from Ampere on. Both cost speed.
    class_names, anchors
        As in DetectorOptions: `auto`, or what overrides the model.
    keep_nms_plugin
        Leave EfficientNMS_TRT in the network: its thresholds are then fixed.
    keep_grid
        Leave the decoding of a grid model in the network, as other programs expect it.

    Raises
    ------
    SettingError
        A value is out of its range.

    """

    precision: str = 'fp16'
    profiles: tuple[ShapeRange, ...] = ()
    bind_profiles: bool = False
    workspace_mib: int | None = None
    opt_level: int | None = None
    timing_cache: Path | None = None
    dla_core: int | None = None
    refittable: bool = False
    keep_fp32: str | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False
    class_names: str = 'auto'
    anchors: str = 'auto'
    keep_nms_plugin: bool = False
    keep_grid: bool = False

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.precision not in PRECISIONS:
            raise SettingError(
                f'precision must be one of {", ".join(PRECISIONS)}, got {self.precision!r}'
            )
        if self.opt_level is not None and self.opt_level not in _OPT_LEVELS:
            raise SettingError(f'opt_level must be within 0..5, got {self.opt_level}')
        if self.workspace_mib is not None and self.workspace_mib < 1:
            raise SettingError(f'workspace_mib must be at least 1, got {self.workspace_mib}')
        if self.dla_core is not None and self.dla_core < 0:
            raise SettingError(f'dla_core must be at least 0, got {self.dla_core}')
        if self.dla_core is not None and self.precision == 'fp32':
            raise SettingError('a DLA computes in fp16 or int8: choose one of those precisions')
        if self.keep_fp32 is not None:
            try:
                re.compile(self.keep_fp32)
            except (re.error, OverflowError, RecursionError) as exc:
                raise SettingError(f'keep_fp32 is not a regular expression: {exc}') from exc

    def to_record(self) -> dict[str, Any]:
        """Return what a manifest keeps besides precision and profiles; JSON-ready."""
        record = dataclasses.asdict(self)
        for name in ('precision', 'profiles', 'bind_profiles'):  # the manifest has the outcome
            del record[name]
        if self.timing_cache is not None:
            record['timing_cache'] = str(self.timing_cache)
        return record

    @classmethod
    def from_manifest(cls, manifest: PlanManifest) -> BuildOptions:
        """
        Return the options a plan was built with.

        Raises
        ------
        SettingError
            The manifest has options that this version does not know, or of another type.

        """
        record = dict(manifest.options)
        known = {field.name: str(field.type) for field in dataclasses.fields(cls)}
        if unknown := sorted(set(record) - set(known)):
            raise SettingError(f'the manifest has unknown build options: {", ".join(unknown)}')
        for name, value in record.items():
            if type(value).__name__ not in _JSON_TYPES.get(known[name], ()):
                raise SettingError(
                    f'the manifest has {value!r} as build option {name}, expected {known[name]}'
                )
        if record.get('timing_cache') is not None:
            record['timing_cache'] = Path(record['timing_cache'])
        return cls(precision=manifest.precision, profiles=manifest.profiles, **record)


def build_plan(
    onnx: Path,
    plan: Path,
    options: BuildOptions,
    *,
    api: TrtApi,
    machine: Machine,
    report: Report,
    cancelled: Callable[[], bool],
    max_transitions: int | None = None,
) -> PlanManifest:
    """
    Build a plan and write it with its manifest; an older plan stays until the new one is whole.

    Parameters
    ----------
    onnx, plan
        Files: the model, and where the plan goes.
    options
        What to build.
    api, machine
        The TensorRT that builds, and the GPU that it builds for.
    report
        Gets phase and the part done, from a thread of its own, at least every 2 s.
    cancelled
        Asked between steps. TensorRT 8 has no way to stop a build that runs: there it takes
        effect when TensorRT has finished.
    max_transitions
        Most changes between DLA and GPU; None for any number.

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
    Return what of a model a DLA would run; nothing is built. Raises as `build_plan`.

    TensorRT is asked where it has a DLA; else it only parses, and documented rules are applied.

    """
    progress = BuildProgress(lambda phase, part: None, lambda: False)
    network, settings = _parse(
        prepare_model(onnx, options, api, progress), options, api, progress
    )
    return network.place_on_dla(settings)


def _parse(
    model: PreparedModel, options: BuildOptions, api: TrtApi, progress: BuildProgress
) -> tuple[TrtNetwork, BuildSettings]:
    """Return the network of a model, and what the builder is told."""
    progress.enter('parse')
    network = api.new_network()
    network.parse(model.edit.to_bytes(), model.edit.node_label)
    network.keep_outputs(model.spec.outputs)
    profiles = choose_profiles(model.spec, options.profiles, bind=options.bind_profiles)
    if model.keep_fp32 is not None and api.weakly_typed:
        network.keep_float32(model.keep_fp32)
    return network, _settings(
        options, profiles, model.edit, api, obey=model.keep_fp32 is not None
    )


def find_build_machine(api: TrtApi) -> Machine:
    """
    Return the machine to build for: this one, or any where TensorRT can build without a GPU.

    Raises
    ------
    MissingDependencyError, InferenceError
        TensorRT needs a GPU to build, and there is none, or no PyCUDA to ask it.

    """
    try:
        return find_machine(api)
    except (MissingDependencyError, InferenceError):
        if not api.builds_without_gpu:
            raise
        return Machine(api.flavour, api.version, '', '', '')


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


def _check_abilities(options: BuildOptions, api: TrtApi, machine: Machine) -> None:
    """Refuse what this TensorRT does not have, rather than leave it out without a word."""
    if options.refittable and not machine.gpu_name:
        raise SettingError(
            f'--refittable: {api.flavour} builds such plans only where there is a GPU'
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
    options: BuildOptions, profiles: tuple[ShapeRange, ...], edit: OnnxEdit, api: TrtApi,
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
    """Keep timings; a disk that is full by now costs a later build time, not this one its plan."""
    if path is not None and timings is not None:
        with contextlib.suppress(OSError):
            write_whole(path, timings)
