"""Open a detector with the engine that fits its options and this machine."""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from yolov7_trt_ros.core.detector import Detector
from yolov7_trt_ros.core.forms.anchors import choose_anchors
from yolov7_trt_ros.engine.building.plan_cache import (
    cached_plan,
    needed_build,
    rebuild_options,
    refittable_plan,
)
from yolov7_trt_ros.engine.checkpoint_export import find_or_export
from yolov7_trt_ros.engine.device.find_gpu import find_target, has_gpu
from yolov7_trt_ros.engine.file_kind import is_plan
from yolov7_trt_ros.engine.model_files import load_class_names
from yolov7_trt_ros.engine.options import (
    BACKENDS,
    DetectorOptions,
    MAX_BATCH_LIMIT,
    MEMORIES,
    PRECISIONS,
)
from yolov7_trt_ros.engine.plan.build_target import BuildTarget
from yolov7_trt_ros.engine.plan.plan_file import (
    read_manifest,
    read_plan,
)
from yolov7_trt_ros.engine.plan.plan_fit import check_fits
from yolov7_trt_ros.errors import (
    BuildError,
    missing_package,
    MissingDependencyError,
    PlanError,
    PlanMissingError,
    SettingError,
    Yolov7TrtError,
)

if TYPE_CHECKING:
    from yolov7_trt_ros.engine.trt.api import TrtApi

_log = logging.getLogger(__name__)


def open_detector(options: DetectorOptions) -> Detector:
    """
    Load a model into the engine that fits it and this machine, warmed up.

    Raises
    ------
    PlanMissingError
        TensorRT is to run an ONNX model whose plan was not built yet: `build_needed_plan`.
    PlanMismatchError
        The plan was built for another machine; the message has the differences and the command
        that rebuilds it.
    ModelError
        The file is missing, unreadable or not a YOLOv7 export.
    SettingError
        An option is out of its range.
    MissingDependencyError
        What the backend needs is not installed.
    InferenceError
        There is no GPU for a plan, or too little memory on it.

    """
    _check(options)
    path = find_or_export(options.model, options.plan_cache)
    api = _find_tensorrt(options, path)
    return _open_onnx(path, options) if api is None else _open_plan(path, options, api)


def build_needed_plan(
    options: DetectorOptions,
    report: Callable[[str, float | None], None],
    cancelled: Callable[[], bool],
) -> Path:
    """
    Build the plan that `open_detector(options)` needs, and return its path.

    An ONNX model's goes into the plan cache, refitted from `refit_from` where that will do. One
    that was asked for by its path is built again from the ONNX file that its manifest names.

    Raises
    ------
    BuildError
        It cannot be built; the message has the reason.
    ModelError, SettingError, MissingDependencyError, InferenceError
        As `open_detector`.

    """
    from yolov7_trt_ros.engine.building.builder import build_plan

    _check(options)
    path = find_or_export(options.model, options.plan_cache)
    api = _find_tensorrt(options, path)
    if api is None:
        raise BuildError(f'{path} runs without a plan here: the backend is ONNX Runtime')
    machine = find_target(api)
    if is_plan(path):
        plan = path
        onnx, build_options = rebuild_options(path)
    else:
        plan = cached_plan(path, options, machine)
        onnx, build_options = path, needed_build(options, machine)
        if _refits(onnx, plan, options, api, machine, report, cancelled):
            return plan
    build_plan(
        onnx, plan, build_options, api=api, machine=machine, report=report, cancelled=cancelled
    )
    return plan


def _refits(
    onnx: Path, plan: Path, options: DetectorOptions, api: TrtApi, machine: BuildTarget,
    report: Callable[[str, float | None], None], cancelled: Callable[[], bool],
) -> bool:
    """Write a plan by refitting that of `options.refit_from`; False if it is to be built."""
    from yolov7_trt_ros.engine.building.refit import refit_plan

    base = refittable_plan(options, machine)
    if base is None:
        return False
    try:
        refit_plan(
            base, onnx, plan, api=api, machine=machine, report=report, cancelled=cancelled
        )
    except Yolov7TrtError as exc:
        if type(exc) is BuildError:  # cancelled, or no room: a build would end so too
            raise
        _log.warning('a plan of %s is built, for there was no refit: %s', onnx, exc)
        return False
    return True


def open_or_build(
    options: DetectorOptions,
    report: Callable[[str, float | None], None],
    cancelled: Callable[[], bool] = lambda: False,
) -> Detector:
    """
    Open a detector, after building the plan that an ONNX model needs if it is not there.

    A plan given by its path is never replaced here: the error has the command.

    """
    try:
        return open_detector(options)
    except PlanError:
        if is_plan(Path(options.model)):
            raise
        build_needed_plan(options, report, cancelled)
    return open_detector(options)


# ---- which engine


def _check(options: DetectorOptions) -> None:
    for name, value, known in (
        ('backend', options.backend, BACKENDS),
        ('precision', options.precision, PRECISIONS),
        ('memory', options.memory, MEMORIES),
    ):
        if value not in known:
            raise SettingError(f'{name} must be one of {", ".join(known)}, got {value!r}')
    if not 1 <= options.max_batch <= MAX_BATCH_LIMIT:
        raise SettingError(
            f'max_batch must be within 1..{MAX_BATCH_LIMIT}, got {options.max_batch}'
        )


def _find_tensorrt(options: DetectorOptions, path: Path) -> TrtApi | None:
    """Return TensorRT if it is to run the model, None for ONNX Runtime."""
    if is_plan(path):
        if options.backend == 'onnx':
            raise SettingError(
                f'{path} is a TensorRT plan and the backend is onnx: give the ONNX file, or set '
                'the backend to auto'
            )
    elif options.backend == 'onnx' or (options.backend == 'auto' and not has_gpu()):
        return None
    from yolov7_trt_ros.engine.trt.api import TrtApi

    if options.backend == 'auto' and not is_plan(path):
        with contextlib.suppress(MissingDependencyError):
            return TrtApi.load()
        return None
    return TrtApi.load()


def _open_onnx(path: Path, options: DetectorOptions) -> Detector:
    class_names = load_class_names(options.class_names)
    anchors = choose_anchors(options.anchors)
    try:
        from yolov7_trt_ros.engine.onnx_detector import OnnxDetector
    except ImportError as exc:
        raise MissingDependencyError(
            missing_package(exc, onnxruntime='no inference engine: ONNX Runtime')
        ) from exc
    return OnnxDetector(
        path,
        class_names=class_names,
        anchors=anchors,
        network_size=options.network_size,
        rectangular=options.rectangular,
        threads=options.threads,
    )


def _open_plan(path: Path, options: DetectorOptions, api: TrtApi) -> Detector:
    class_names = load_class_names(options.class_names)
    anchors = choose_anchors(options.anchors)
    machine = find_target(api)
    plan = path if is_plan(path) else cached_plan(path, options, machine)
    manifest = read_manifest(plan)
    if not is_plan(path) and (manifest is None or not plan.is_file()):
        raise PlanMissingError(
            f'no {options.precision} plan of {path} was built yet for {machine}; it would be '
            f'{plan}'
        )
    if manifest is not None:
        check_fits(plan, manifest, machine)
        api.dla_core = manifest.options.get('dla_core')
    from yolov7_trt_ros.engine.gpu.trt_detector import TrtDetector

    detector: Detector = TrtDetector(
        plan,
        api=api,
        manifest=manifest,
        plan_bytes=read_plan(plan, manifest),
        class_names=class_names,
        anchors=anchors,
        network_size=options.network_size,
        rectangular=options.rectangular,
        memory=options.memory,
        cuda_graph=options.cuda_graph,
    )
    return detector
