"""Which engine runs a model, and the plans it needs; TensorRT, CUDA and the detector stand in."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
from pathlib import Path
import sys
import types
from typing import Any

import pytest
from tensorrt_surfaces import surface

from yolov7_trt_ros.engine.building.plan_cache import (
    cached_plan,
    needed_profile,
    plan_cache_folder,
)
from yolov7_trt_ros.engine.gpu.plan_facts import load_plan_facts
from yolov7_trt_ros.engine.open import build_needed_plan, open_detector, open_or_build
from yolov7_trt_ros.engine.options import DetectorOptions
from yolov7_trt_ros.engine.plan.build_target import BuildTarget
from yolov7_trt_ros.engine.plan.plan_file import manifest_path, read_manifest
from yolov7_trt_ros.engine.trt import api as trt_api
from yolov7_trt_ros.errors import (
    BuildError,
    MissingDependencyError,
    ModelNotFoundError,
    PlanError,
    PlanMismatchError,
    PlanMissingError,
    SettingError,
)

BuildModel = Callable[..., Path]
CUDA_DEVICE = 'yolov7_trt_ros.engine.device.cuda_device'
ORIN = BuildTarget('TensorRT', '8.6.0', '12.2', 'Orin', '8.7')


class Detector:
    """Keeps what it was opened with."""

    def __init__(self, plan: Path, **opened: Any) -> None:
        self.plan, self.opened = plan, opened


class Gpu:
    """A machine with a GPU; `machine` may be changed."""

    def __init__(self) -> None:
        self.machine, self.there = ORIN, True


def quiet(phase: str, fraction: float | None) -> None:
    """Take the progress."""


def going() -> bool:
    return False


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """No PyCUDA and no TensorRT."""
    monkeypatch.setitem(sys.modules, CUDA_DEVICE, None)
    monkeypatch.setattr(trt_api, 'MODULES', ('tensorrt_missing',))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    """Stand in for TensorRT 8.6 on an Orin."""
    made = Gpu()
    device: Any = types.ModuleType(CUDA_DEVICE)
    device.has_cuda_device = lambda: made.there
    device.find_target = lambda api: made.machine
    detector: Any = types.ModuleType('trt_detector')
    detector.TrtDetector = Detector
    monkeypatch.setitem(sys.modules, CUDA_DEVICE, device)
    monkeypatch.setitem(sys.modules, 'yolov7_trt_ros.engine.gpu.trt_detector', detector)
    monkeypatch.setitem(sys.modules, 'tensorrt_stand_in', surface('8.6'))
    monkeypatch.setattr(trt_api, 'MODULES', ('tensorrt_stand_in',))
    return made


@pytest.fixture
def options(tmp_path: Path, build: BuildModel) -> DetectorOptions:
    """Open a tiny model, with a plan cache of the test's own."""
    onnx = build('brightness_grid', shape=(1, 3, 64, 64))
    return DetectorOptions(model=str(onnx), plan_cache=str(tmp_path / 'cache'))


def opened_plan(options: DetectorOptions) -> Detector:
    detector: Any = open_detector(options)
    assert isinstance(detector, Detector)
    return detector


# ---- which engine


def test_without_a_gpu_it_is_onnx_runtime(no_gpu: None, options: DetectorOptions) -> None:
    assert open_detector(options).backend.startswith('ONNX Runtime')
    with pytest.raises(BuildError, match='runs without a plan here'):
        build_needed_plan(options, quiet, going)


def test_with_a_gpu_but_without_tensorrt_too(
    gpu: Gpu, options: DetectorOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trt_api, 'MODULES', ('tensorrt_missing',))
    assert open_detector(options).backend.startswith('ONNX Runtime')
    with pytest.raises(MissingDependencyError, match='TensorRT cannot be imported'):
        open_detector(dataclasses.replace(options, backend='tensorrt'))


def test_without_a_device_too(gpu: Gpu, options: DetectorOptions) -> None:
    gpu.there = False
    assert open_detector(options).backend.startswith('ONNX Runtime')


def test_onnx_on_request(gpu: Gpu, options: DetectorOptions) -> None:
    chosen = open_detector(dataclasses.replace(options, backend='onnx'))
    assert chosen.backend.startswith('ONNX Runtime')


def test_tensorrt_without_pycuda(gpu: Gpu, options: DetectorOptions,
                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, CUDA_DEVICE, None)
    with pytest.raises(MissingDependencyError, match='pip install pycuda'):
        open_detector(dataclasses.replace(options, backend='tensorrt'))


def test_a_plan_is_never_for_onnx_runtime(
    no_gpu: None, tmp_path: Path, options: DetectorOptions
) -> None:
    plan = tmp_path / 'v7.engine'
    plan.write_bytes(b'plan')
    with pytest.raises(SettingError, match='is a TensorRT plan and the backend is onnx'):
        open_detector(DetectorOptions(model=str(plan), backend='onnx'))
    with pytest.raises(MissingDependencyError, match='TensorRT cannot be imported'):
        open_detector(DetectorOptions(model=str(plan)))


@pytest.mark.parametrize(('changes', 'message'), [
    ({'precision': 'fp8'}, 'precision must be one of fp32, fp16, int8, mixed'),
    ({'memory': 'fast'}, 'memory must be one of auto, staged, locked, mapped, direct'),
    ({'max_batch': 0}, 'max_batch must be within 1..64'),
    ({'network_size': 600, 'backend': 'tensorrt'}, 'multiple of 32, got 600'),
])
def test_useless_options(
    gpu: Gpu, options: DetectorOptions, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        open_detector(dataclasses.replace(options, **changes))


# ---- plans of ONNX models


def test_a_plan_is_built_once_and_then_there(gpu: Gpu, options: DetectorOptions) -> None:
    with pytest.raises(PlanMissingError, match=r'no fp16 plan .* was built yet for TensorRT 8.6'):
        open_detector(options)
    phases: list[str] = []
    plan = build_needed_plan(options, lambda phase, fraction: phases.append(phase), going)
    assert phases[-1] == 'write'
    assert plan.parent == Path(options.plan_cache)
    detector = opened_plan(options)
    assert detector.plan == plan
    assert detector.opened['plan_bytes'] == plan.read_bytes()
    assert detector.opened['manifest'] == read_manifest(plan)
    assert (detector.opened['memory'], detector.opened['cuda_graph']) == ('auto', True)
    assert detector.opened['manifest'].machine == ORIN
    assert str(detector.opened['manifest'].profiles[0]).endswith('.. 1x3x64x64')
    assert len(list(plan.parent.glob('timings_TensorRT_8.6.0_Orin.cache'))) == 1


def test_open_or_build(gpu: Gpu, options: DetectorOptions) -> None:
    assert isinstance(open_or_build(options, quiet), Detector)
    plan = opened_plan(options).plan
    plan.write_bytes(b'damaged')
    with pytest.raises(PlanError, match='truncated'):
        open_detector(options)
    assert isinstance(open_or_build(options, quiet), Detector)


@pytest.mark.parametrize('changes', [
    {'precision': 'fp32'}, {'max_batch': 2}, {'network_size': 320}, {'rectangular': False},
    {'anchors': 'yolov7'},
])
def test_another_request_is_another_plan(
    gpu: Gpu, options: DetectorOptions, changes: dict[str, Any]
) -> None:
    onnx = Path(options.model)
    other = dataclasses.replace(options, **changes)
    assert cached_plan(onnx, other, ORIN) != cached_plan(onnx, options, ORIN)


@pytest.mark.parametrize('changes', [
    {'tensorrt_version': '10.3.0'}, {'gpu_name': 'Xavier'}, {'compute_capability': '7.2'},
    {'flavour': 'TensorRT-RTX'},
])
def test_another_machine_is_another_plan(
    options: DetectorOptions, changes: dict[str, Any]
) -> None:
    onnx = Path(options.model)
    here = cached_plan(onnx, options, ORIN)
    assert cached_plan(onnx, options, dataclasses.replace(ORIN, **changes)) != here
    assert cached_plan(onnx, options, dataclasses.replace(ORIN, cuda_version='12.6')) == here
    onnx.write_bytes(onnx.read_bytes() + b'\0')
    assert cached_plan(onnx, options, ORIN) != here


def test_profiles_of_a_detector() -> None:
    options = DetectorOptions(network_size=640, max_batch=4)
    assert str(needed_profile(options)) == '1x3x32x32 .. 4x3x640x640 .. 4x3x640x640'
    square = dataclasses.replace(options, rectangular=False, max_batch=1)
    assert str(needed_profile(square)) == '1x3x640x640 .. 1x3x640x640 .. 1x3x640x640'


def test_where_plans_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
    assert plan_cache_folder('') == tmp_path / '.cache/yolov7_trt_ros/plans'
    assert plan_cache_folder('~/plans') == tmp_path / 'plans'
    monkeypatch.setenv('XDG_CACHE_HOME', '/cache')
    assert plan_cache_folder('') == Path('/cache/yolov7_trt_ros/plans')


# ---- plans by their path


@pytest.fixture
def plan(gpu: Gpu, options: DetectorOptions, tmp_path: Path) -> Path:
    """Build a plan of the tiny model, beside its manifest."""
    built = build_needed_plan(options, quiet, going)
    path = tmp_path / 'own.plan'
    built.rename(path)
    manifest_path(built).rename(manifest_path(path))
    return path


def test_a_plan_by_its_path(plan: Path) -> None:
    assert opened_plan(DetectorOptions(model=str(plan))).plan == plan


def test_a_plan_without_manifest(plan: Path) -> None:
    manifest_path(plan).unlink()
    assert opened_plan(DetectorOptions(model=str(plan))).opened['manifest'] is None
    with pytest.raises(BuildError, match='has no manifest, so its ONNX file is unknown'):
        build_needed_plan(DetectorOptions(model=str(plan)), quiet, going)


def test_a_plan_of_another_machine(gpu: Gpu, plan: Path) -> None:
    gpu.machine = dataclasses.replace(ORIN, gpu_name='NVIDIA H200', compute_capability='9.0')
    named = DetectorOptions(model=str(plan))
    with pytest.raises(PlanMismatchError) as caught:
        open_detector(named)
    assert 'for Orin (compute capability 8.7), here is NVIDIA H200 (9.0)' in str(caught.value)
    assert 'Build it again with: yolov7_trt build ' in str(caught.value)
    before = plan.read_bytes(), manifest_path(plan).read_bytes()
    with pytest.raises(PlanMismatchError):  # a plan that a person made is not replaced unasked
        open_or_build(named, quiet)
    assert (plan.read_bytes(), manifest_path(plan).read_bytes()) == before
    assert build_needed_plan(named, quiet, going) == plan
    assert opened_plan(named).opened['manifest'].machine == gpu.machine


def test_a_plan_whose_model_has_gone(plan: Path, options: DetectorOptions) -> None:
    named = DetectorOptions(model=str(plan))
    onnx = Path(options.model)
    onnx.write_bytes(onnx.read_bytes() + b'\0')
    with pytest.raises(BuildError, match=r'no longer the model .* yolov7_trt build'):
        build_needed_plan(named, quiet, going)
    onnx.unlink()
    with pytest.raises(BuildError, match=r'cannot be read.*yolov7_trt build'):
        build_needed_plan(named, quiet, going)


def test_what_tensorrt_tells_of_a_plan(
    plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []

    class Device:

        def __enter__(self) -> None:
            used.append('current')

        def __exit__(self, *error: object) -> None:
            used.append('no longer')

    monkeypatch.setattr(sys.modules[CUDA_DEVICE], 'CudaDevice', Device, raising=False)
    facts = load_plan_facts(plan)
    assert str(facts.inputs[0]) == 'images float32[?, 3, ?, ?]'
    assert [layer['Name'] for layer in facts.layers] == ['backbone.0', 'head.0']
    assert (len(facts.profiles), facts.device_memory_bytes) == (2, 4096)
    manifest_path(plan).unlink()
    plan.write_bytes(b'of another TensorRT')
    with pytest.raises(PlanError, match='Magic tag'):
        load_plan_facts(plan)
    assert used == ['current', 'no longer'] * 2
    monkeypatch.setitem(sys.modules, CUDA_DEVICE, None)
    with pytest.raises(MissingDependencyError, match='PyCUDA'):
        load_plan_facts(plan)


def test_a_missing_plan() -> None:
    with pytest.raises(ModelNotFoundError, match=r'missing\.plan'):
        open_detector(DetectorOptions(model='missing.plan'))
