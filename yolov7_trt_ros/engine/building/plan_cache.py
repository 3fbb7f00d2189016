"""The cache of plans built from ONNX models: paths, and the options to build or rebuild one."""

from __future__ import annotations

import hashlib
from pathlib import Path

from yolov7_trt_ros.engine.building.build_options import BuildOptions
from yolov7_trt_ros.engine.cache_folder import cache_folder
from yolov7_trt_ros.engine.file_kind import PLAN_SUFFIXES
from yolov7_trt_ros.engine.model_files import find_model
from yolov7_trt_ros.engine.options import DetectorOptions
from yolov7_trt_ros.engine.plan.build_target import BuildTarget
from yolov7_trt_ros.engine.plan.plan_file import read_manifest, rebuild_command
from yolov7_trt_ros.engine.plan.shape_range import ShapeRange
from yolov7_trt_ros.errors import BuildError, ModelError, ModelFormatError, SettingError
from yolov7_trt_ros.home_folder import expand_home
from yolov7_trt_ros.plain_file import sha256_of

_STRIDE = 32
_GENERATION = 3
"""Another one where a request builds another plan: 2 without decoding, 3 recognised by value."""


def plan_cache_folder(setting: str) -> Path:
    """Return the folder of the plan cache for `DetectorOptions.plan_cache`."""
    if setting:
        return expand_home(setting)
    return cache_folder('plans')


def cached_plan(onnx: Path, options: DetectorOptions, machine: BuildTarget) -> Path:
    """
    Return where the plan of an ONNX model lies: another for each content, machine and request.

    The name starts with that of the model, for people; the rest is a hash.

    """
    digest = hashlib.sha256(onnx.read_bytes())
    profile = needed_profile(options)
    for part in (machine.flavour, machine.tensorrt_version, machine.gpu_name,
                 machine.compute_capability, options.precision, options.anchors, str(profile),
                 str(_GENERATION)):
        digest.update(f'\0{part}'.encode())
    return plan_cache_folder(options.plan_cache) / (
        f'{onnx.stem}_{options.precision}_{digest.hexdigest()[:16]}.plan'
    )


def needed_profile(options: DetectorOptions) -> ShapeRange:
    """Return the shapes a detector with these options runs: any rectangle, or one square."""
    size = options.network_size
    if size < _STRIDE or size % _STRIDE:
        raise SettingError(f'the network size must be a multiple of {_STRIDE}, got {size}')
    least = _STRIDE if options.rectangular else size
    largest = (options.max_batch, 3, size, size)
    return ShapeRange((1, 3, least, least), largest, largest)


def needed_build(options: DetectorOptions, machine: BuildTarget) -> BuildOptions:
    """Return how the plan of `cached_plan` is built; its timing cache is beside it."""
    key = f'{machine.flavour}_{machine.tensorrt_version}_{machine.gpu_name}'.replace(' ', '-')
    return BuildOptions(
        precision=options.precision,
        profiles=(needed_profile(options),),
        bind_profiles=True,
        timing_cache=plan_cache_folder(options.plan_cache) / f'timings_{key}.cache',
        class_names=options.class_names,
        anchors=options.anchors,
    )


def refittable_plan(options: DetectorOptions, machine: BuildTarget) -> Path | None:
    """
    Return the plan of `options.refit_from`, where it may stand in for a build of these options.

    None if there is none, it is not refittable, or its precision is another. Its profiles are
    those that the model it belongs to runs with now.

    """
    if not options.refit_from:
        return None
    try:
        plan = expand_home(options.refit_from)
        if plan.suffix.lower() not in PLAN_SUFFIXES:
            plan = cached_plan(find_model(options.refit_from), options, machine)
        manifest = read_manifest(plan)
    except (ModelError, OSError, SettingError):  # SettingError: no such user
        return None
    if manifest is None or manifest.weights is None or manifest.precision != options.precision:
        return None
    return plan


def rebuild_options(plan: Path) -> tuple[Path, BuildOptions]:
    """
    Return the ONNX file a plan was built from, and how to build it again.

    Raises
    ------
    BuildError
        The plan has no manifest, or the ONNX file is gone or another by now.

    """
    manifest = read_manifest(plan)
    if manifest is None:
        raise BuildError(
            f'{plan} has no manifest, so its ONNX file is unknown; build it with '
            'yolov7_trt build'
        )
    command = rebuild_command(manifest, plan)
    try:
        onnx = expand_home(manifest.onnx)
        found = sha256_of(onnx)
    except (OSError, SettingError, ModelFormatError) as exc:  # SettingError: no such user
        raise BuildError(
            f'{plan} cannot be built again, its ONNX file cannot be read: {exc}; if you have the '
            f'file: {command}'
        ) from exc
    if found != manifest.onnx_sha256:
        raise BuildError(
            f'{plan} cannot be rebuilt automatically: {onnx} is no longer the model it was built '
            f'from (another SHA-256); if the new one is wanted: {command}'
        )
    return onnx, BuildOptions.from_manifest(manifest)
