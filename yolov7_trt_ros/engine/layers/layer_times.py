"""Measure the time of each layer of a plan with TensorRT's profiler."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
import statistics
from typing import Any

import numpy as np

from yolov7_trt_ros.engine.gpu.plan_facts import opened_engine
from yolov7_trt_ros.engine.plan.shape_range import format_shape, Shape
from yolov7_trt_ros.engine.trt.api import TrtEngine
from yolov7_trt_ros.errors import SettingError

DEFAULT_RUNS = 50
_WARM_UP = 10


@dataclasses.dataclass(frozen=True)
class LayerTimes:
    """
    Times of the layers of an engine at one shape.

    Attributes
    ----------
    shape
        Of the input, batch x 3 x height x width.
    runs
        How often it ran.
    network_ms
        Median of the network as a whole without the profiler, between CUDA events. The sum of
        the layers is larger: the profiler waits between them.
    layers
        Name and median milliseconds of each layer, in order of execution.

    """

    shape: Shape
    runs: int
    network_ms: float
    layers: tuple[tuple[str, float], ...]

    def to_record(self) -> dict[str, Any]:
        """Return it JSON-ready, the layers as `trtexec --exportProfile` names them."""
        return {
            'shape': format_shape(self.shape), 'runs': self.runs,
            'network_ms': round(self.network_ms, 4),
            'layers': [{'name': name, 'medianMs': round(ms, 5)} for name, ms in self.layers],
        }


def time_layers(plan: Path, shape: Shape, runs: int = DEFAULT_RUNS) -> LayerTimes:
    """
    Load a plan and time its layers on noise.

    Raises
    ------
    PlanError
        It is damaged, or for another machine.
    SettingError
        The plan does not take that shape.
    MissingDependencyError, InferenceError
        There is no TensorRT, PyCUDA, driver or GPU here, or the plan does not run.

    """
    with opened_engine(plan) as engine:
        return time_engine_layers(engine, shape, runs)


def time_engine_layers(engine: TrtEngine, shape: Shape, runs: int) -> LayerTimes:
    """Time the layers of a loaded engine, its CUDA context current; as `time_layers`."""
    import pycuda.driver as cuda

    from yolov7_trt_ros.engine.device.cuda_device import CudaDevice
    from yolov7_trt_ros.engine.gpu.stage_times import event_times_ms
    from yolov7_trt_ros.engine.gpu.trt_buckets import Workspace

    profile = _fitting_profile(engine, shape)
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(CudaDevice().lent_stream())
        workspace = Workspace(stream.synchronize)
        stack.callback(workspace.free)
        memory = workspace.reserve('activations', engine.device_memory_bytes)
        context = engine.create_context(profile, stream.handle)
        stack.callback(context.close)
        context.set_device_memory(memory, engine.device_memory_bytes)
        image = engine.inputs[0]
        context.set_input_shape(image.name, shape)
        noise = np.random.default_rng(0).random(shape, np.float32).astype(image.dtype)
        address = workspace.reserve('input', noise.nbytes)
        cuda.memcpy_htod(address, noise)
        context.set_address(image.name, address)
        for tensor in engine.outputs:
            count = int(np.prod(context.output_shape(tensor.name)))
            size = count * np.dtype(tensor.dtype).itemsize
            context.set_address(
                tensor.name, workspace.reserve(f'output {tensor.name}', size)
            )

        def run() -> None:
            context.enqueue(stream.handle)

        network_ms = statistics.median(event_times_ms(run, stream, runs, _WARM_UP))
        samples = []
        for _ in range(_WARM_UP + runs):
            samples.append(context.profile(stream.handle))
            stream.synchronize()
        return LayerTimes(shape, runs, float(network_ms), _medians(samples[_WARM_UP:]))


def _fitting_profile(engine: TrtEngine, shape: Shape) -> int:
    for index, profile in enumerate(engine.profiles):
        if profile.contains(shape):
            return index
    taken = ', or '.join(map(str, engine.profiles)) or 'none of images'
    raise SettingError(f'the plan takes {taken}; {format_shape(shape)} does not fit')


def _medians(samples: list[list[tuple[str, float]]]) -> tuple[tuple[str, float], ...]:
    """Return the median time of each layer over runs, which all have the same layers."""
    return tuple(
        (each[0][0], float(statistics.median(ms for _, ms in each)))
        for each in zip(*samples, strict=True)
    )
