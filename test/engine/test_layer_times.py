"""Times of layers: all of it on the emulated device, TensorRT's profiler in every version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tensorrt_surfaces import surface, VERSIONS
from test_built_layers import PLAN
from test_trt_detector_emulated import gpu, PROFILES  # noqa: F401  (a fixture)

from yolov7_trt_ros.engine.layers.layer_times import time_engine_layers, time_layers
from yolov7_trt_ros.engine.trt.api import TrtApi
from yolov7_trt_ros.errors import (
    InferenceError,
    MissingDependencyError,
    PlanError,
    SettingError,
)
from yolov7_trt_ros.report.fusion.timed_layers import match_times


@pytest.mark.parametrize('version', VERSIONS)
def test_each_run_tells_its_layers_once(version: str) -> None:
    module = surface(version)
    context = TrtApi(module).deserialize(PLAN).create_context(0, 5)
    ((_, told),) = module.record['contexts']
    context.enqueue(7)
    assert 'profiler' not in told  # what only runs is not slowed down
    for _ in range(2):
        assert context.profile(7) == [('backbone.0', 0.5), ('head.0', 0.25)]
    with pytest.raises(InferenceError, match='cannot run the network'):
        context.profile(13)
    context.close()


@pytest.mark.parametrize('shape', [(1, 3, 64, 64), (2, 3, 96, 32), (3, 3, 64, 64)])
def test_medians_over_the_runs_that_count(gpu: Any, shape: Any) -> None:  # noqa: F811
    state = gpu.cuda.state
    before = state.used, state.contexts
    with gpu.modules['device.cuda_device'].CudaDevice():
        engine = gpu_engine(gpu)
        times = time_engine_layers(engine, shape, 5)
    assert (state.used, state.contexts) == before
    assert times.layers == (('first', 13.0), ('second', 6.5))  # of 11 .. 15: ten warm up
    assert (times.shape, times.runs) == (shape, 5)
    assert times.network_ms >= 0
    matched = match_times(times.to_record(), [])
    assert matched.total_ms == 19.5
    assert matched.conditions['shape'] == 'x'.join(map(str, shape))


def gpu_engine(gpu: Any) -> Any:  # noqa: F811
    import emulated_cuda

    return emulated_cuda.EmulatedApi(gpu.cuda.state, PROFILES).deserialize(gpu.grid.read_bytes())


def test_a_shape_that_no_profile_takes(gpu: Any) -> None:  # noqa: F811
    with pytest.raises(SettingError, match=r'takes 1x3x32x32 .* 5x3x64x64 does not fit'):
        time_engine_layers(gpu_engine(gpu), (5, 3, 64, 64), 5)


def test_a_network_that_does_not_run_leaves_nothing_behind(gpu: Any) -> None:  # noqa: F811
    state = gpu.cuda.state
    before = state.used, state.contexts
    engine = gpu_engine(gpu)
    engine.api.fail_next = 1
    with gpu.modules['device.cuda_device'].CudaDevice(), pytest.raises(InferenceError):
        time_engine_layers(engine, (1, 3, 64, 64), 5)
    assert (state.used, state.contexts) == before


def test_a_plan_where_there_is_no_gpu(tmp_path: Path) -> None:
    plan = tmp_path / 'm.plan'
    plan.write_bytes(PLAN)
    with pytest.raises((MissingDependencyError, InferenceError, PlanError)):
        time_layers(plan, (1, 3, 640, 640))
