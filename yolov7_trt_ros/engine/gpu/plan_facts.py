"""Facts about a plan that TensorRT reports once the plan is loaded."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import dataclasses
from pathlib import Path
from typing import Any

from yolov7_trt_ros.core.forms.model_spec import TensorInfo
from yolov7_trt_ros.engine.plan.plan_file import read_manifest, read_plan
from yolov7_trt_ros.engine.plan.shape_range import ShapeRange
from yolov7_trt_ros.engine.trt.api import TrtApi, TrtEngine
from yolov7_trt_ros.errors import MissingDependencyError


@dataclasses.dataclass(frozen=True)
class PlanFacts:
    """Tensors, profiles, memory of one context, and the inspector's words on each layer."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    profiles: tuple[ShapeRange, ...]
    device_memory_bytes: int
    layers: list[dict[str, Any]]


def load_plan_facts(plan: Path) -> PlanFacts:
    """
    Load a plan and ask TensorRT what is in it.

    Raises
    ------
    PlanError
        It is damaged, or for another machine.
    MissingDependencyError, InferenceError
        There is no TensorRT, PyCUDA, driver or GPU here.

    """
    with opened_engine(plan) as engine:
        return PlanFacts(
            engine.inputs, engine.outputs, engine.profiles, engine.device_memory_bytes,
            engine.layers(),
        )


def load_layer_information(plan: Path) -> dict[str, Any]:
    """
    Load a plan and return the report of the engine inspector: `Layers` and `Bindings`.

    Raises
    ------
    PlanError, MissingDependencyError, InferenceError
        As `load_plan_facts` raises them.

    """
    with opened_engine(plan) as engine:
        return engine.layer_information()


@contextlib.contextmanager
def opened_engine(plan: Path) -> Iterator[TrtEngine]:
    """
    Load a plan for a moment, with its CUDA context current.

    Raises
    ------
    PlanError, MissingDependencyError, InferenceError
        As `load_plan_facts` raises them.

    """
    api = TrtApi.load()
    with loaded_engine(api, read_plan(plan, read_manifest(plan))) as engine:
        yield engine


@contextlib.contextmanager
def loaded_engine(api: TrtApi, data: bytes) -> Iterator[TrtEngine]:
    """
    Load what is in a plan for a moment, with its CUDA context current.

    Raises
    ------
    PlanError, MissingDependencyError, InferenceError
        As `load_plan_facts` raises them.

    """
    try:
        from yolov7_trt_ros.engine.device.cuda_device import CudaDevice
    except ImportError as exc:
        raise MissingDependencyError(
            f'a plan can only be loaded with PyCUDA and an NVIDIA driver: {exc}'
        ) from exc
    with CudaDevice():
        engine = api.deserialize(data)
        try:
            yield engine
        finally:
            engine.close()
