"""Read the layers of a plan, or of a plan built for this purpose."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
from pathlib import Path
from typing import Any

from yolov7_trt_ros.engine.building.build_options import BuildOptions
from yolov7_trt_ros.engine.building.builder import build_plan, find_build_target
from yolov7_trt_ros.engine.gpu.plan_facts import load_layer_information
from yolov7_trt_ros.engine.layers.layer_log import recorded_layers
from yolov7_trt_ros.engine.plan.build_target import BuildTarget
from yolov7_trt_ros.engine.plan.plan_file import PlanManifest, read_manifest
from yolov7_trt_ros.engine.plan.shape_range import Shape, ShapeRange
from yolov7_trt_ros.engine.trt.api import TrtApi
from yolov7_trt_ros.engine.trt.build_progress import Report
from yolov7_trt_ros.errors import (
    BuildError,
    InferenceError,
    MissingDependencyError,
    PlanError,
)
from yolov7_trt_ros.temporary_folder import TemporaryFolder

INSPECTOR = 'the engine inspector'
BUILDER_LOG = "the builder's log"


@dataclasses.dataclass(frozen=True)
class BuiltLayers:
    """
    The layers of an engine as TensorRT reports them.

    Attributes
    ----------
    layers, bindings
        As the engine inspector and `trtexec --exportLayerInfo` write them: each layer a dict, or
        only its name where the plan was built without details.
    source
        Where this comes from: `told_by`, and as far as known `tensorrt`, `gpu`, `precision`,
        `onnx` (a file name), `onnx_sha256`.

    """

    layers: tuple[dict[str, Any] | str, ...]
    bindings: tuple[Any, ...]
    source: dict[str, str]

    def to_record(self) -> dict[str, Any]:
        """Return what is kept of it, JSON-ready, in the form that `trtexec` writes and more."""
        return {
            'Layers': list(self.layers), 'Bindings': list(self.bindings), 'Source': self.source,
        }


def inspect_plan(plan: Path) -> BuiltLayers:
    """
    Load a plan and ask TensorRT for its layers.

    Raises
    ------
    PlanError
        It is damaged, or for another machine, or holds no layer information.
    MissingDependencyError, InferenceError
        There is no TensorRT, PyCUDA, driver or GPU here.

    """
    information = load_layer_information(plan)
    layers = tuple(information.get('Layers', ()))
    if not layers:
        raise PlanError(
            f'the plan {plan} holds no layer information; build it with yolov7_trt build, or with '
            'trtexec --profilingVerbosity=detailed'
        )
    manifest = read_manifest(plan)
    source = {'told_by': INSPECTOR, 'plan': plan.name}
    if manifest is not None:
        source |= _source(manifest)
    return BuiltLayers(layers, tuple(information.get('Bindings', ())), source)


def build_layers(
    onnx: Path,
    *,
    precision: str,
    shape: Shape,
    report: Report,
    cancelled: Callable[[], bool],
    api: TrtApi | None = None,
) -> BuiltLayers:
    """
    Build a plan of one shape and return its layers; the plan itself is not kept.

    Where it cannot be loaded (TensorRT-RTX builds without a GPU), the layers are those that the
    builder tells of.

    Parameters
    ----------
    onnx, precision
        The model file, and `fp32`, `fp16`, `int8` or `mixed`.
    shape
        Of the input, batch x 3 x height x width; what the model fixes takes precedence.
    report, cancelled
        As `build_plan` takes them.
    api
        The TensorRT to build with; None loads the installed one.

    Raises
    ------
    BuildError
        TensorRT cannot build it, or reports no layers.
    ModelError, SettingError, MissingDependencyError, InferenceError
        As `build_plan` raises them.

    """
    api = TrtApi.load() if api is None else api
    machine = find_build_target(api)
    options = BuildOptions(
        precision, (ShapeRange(shape, shape, shape),), bind_profiles=True
    )
    with TemporaryFolder('yolov7_trt_layers_') as folder:
        plan = Path(folder) / f'{onnx.stem}.plan'
        with recorded_layers(api.messages) as log:
            manifest = build_plan(
                onnx, plan, options, api=api, machine=machine, report=report, cancelled=cancelled,
            )
        try:
            return dataclasses.replace(inspect_plan(plan), source=_inspected(manifest))
        except (MissingDependencyError, InferenceError, PlanError) as exc:
            if not log.layers:
                raise BuildError(
                    f'{api.flavour} {api.version} built {onnx}, but the plan cannot be loaded '
                    f'here, and the builder reported no layers: {exc}; run this on a '
                    'machine with a GPU, with --save-layers, and read that file here'
                ) from exc
    return BuiltLayers(tuple(log.layers), (), {'told_by': BUILDER_LOG} | _source(manifest))


def _inspected(manifest: PlanManifest) -> dict[str, str]:
    return {'told_by': INSPECTOR} | _source(manifest)


def _source(manifest: PlanManifest) -> dict[str, str]:
    machine: BuildTarget = manifest.machine
    return {
        'tensorrt': f'{machine.flavour} {machine.tensorrt_version}',
        'gpu': machine.gpu_name or 'none',
        'precision': manifest.precision,
        'onnx': Path(manifest.onnx).name,
        'onnx_sha256': manifest.onnx_sha256,
    }
