"""What GPU tests share: a device, plans built once, the kernels behind the twins' launcher."""

from __future__ import annotations

from collections.abc import Callable
import os
from pathlib import Path
import sys
from typing import Any

import pytest

from yolov7_trt_ros.engine.building.build_options import BuildOptions
from yolov7_trt_ros.engine.building.builder import build_plan
from yolov7_trt_ros.engine.device.cuda_device import CudaDevice, find_target
from yolov7_trt_ros.engine.plan.plan_file import read_manifest
from yolov7_trt_ros.engine.plan.plan_fit import check_fits
from yolov7_trt_ros.engine.plan.shape_range import ShapeRange
from yolov7_trt_ros.engine.trt.api import TrtApi
from yolov7_trt_ros.errors import PlanError

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / 'test' / 'kernel_host'), str(REPOSITORY / 'test')]

from gpu_launcher import GpuLauncher  # noqa: E402, I100  (its folder has just been added)

NANO = REPOSITORY / 'yolov7_trt_ros' / 'models' / 'yolov7-nano_fp16w.onnx'
PROFILE = ShapeRange((1, 3, 32, 32), (1, 3, 640, 640), (4, 3, 640, 640))


@pytest.fixture(scope='session')
def device() -> CudaDevice:
    return CudaDevice()


@pytest.fixture(scope='session')
def launcher(device: CudaDevice) -> GpuLauncher:
    return GpuLauncher(device)


@pytest.fixture(scope='session')
def api() -> TrtApi:
    return TrtApi.load()


@pytest.fixture(scope='session')
def plan(api: TrtApi, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that builds a plan at the lowest effort, once: (onnx, options) -> path."""
    kept = os.environ.get('YOLOV7_GPU_PLANS')
    folder = Path(kept) if kept else tmp_path_factory.mktemp('plans')
    machine = find_target(api)

    def build(onnx: Path = NANO, name: str = '', **options: Any) -> Path:
        options = {'precision': 'fp16', 'profiles': (PROFILE,), 'opt_level': 0} | options
        path = folder / f'{name or onnx.stem}_{options["precision"]}.plan'
        try:
            manifest = read_manifest(path)
            if manifest is not None and path.is_file():
                check_fits(path, manifest, machine)
                return path
        except PlanError:
            pass
        chosen = BuildOptions(timing_cache=folder / 'timings.cache', **options)
        build_plan(
            onnx, path, chosen, api=api, machine=machine,
            report=lambda phase, fraction: print(f'{path.name}: {phase} {fraction}'),
            cancelled=lambda: False,
        )
        return path

    return build
