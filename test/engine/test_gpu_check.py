"""What doctor asks of the GPU engine, on stand-ins of the driver and in real folders."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import pytest

from yolov7_trt_ros.engine import gpu_check
from yolov7_trt_ros.engine.device import kernel_compiler
from yolov7_trt_ros.errors import InferenceError, MissingDependencyError


class Driver:
    """Stands for libcuda: one Orin, driver for CUDA 12.6; `status` is what each call returns."""

    def __init__(self, **status: int) -> None:
        self.status = status

    def __call__(self, name: str) -> Driver:
        assert name == 'libcuda.so.1'
        return self

    def cuInit(self, flags: int) -> int:  # noqa: N802 - the library's name
        assert flags == 0
        return self.status.get('cuInit', 0)

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        version._obj.value = 12060
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: int) -> int:  # noqa: N802
        assert (size, device) == (ctypes.sizeof(name), 0)
        name.value = b'Orin'
        return self.status.get('cuDeviceGetName', 0)

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: int) -> int:  # noqa: N802
        value._obj.value = {75: 8, 76: 7}[attribute]
        return device


def test_a_gpu_is_described_by_its_driver() -> None:
    gpu = gpu_check.find_gpu(Driver())
    assert gpu == gpu_check.Gpu('Orin', (8, 7), '12.6')
    assert gpu.architecture == 'sm_87'


def test_no_driver_and_no_device_are_no_gpu() -> None:
    def absent(name: str) -> Any:
        raise OSError(f'{name}: cannot open shared object file')

    assert gpu_check.find_gpu(absent) is None
    assert gpu_check.find_gpu(Driver(cuInit=100)) is None


@pytest.mark.parametrize('function', ['cuInit', 'cuDeviceGetName'])
def test_a_driver_that_fails_is_told_with_its_error(function: str) -> None:
    with pytest.raises(InferenceError, match=f'{function}.*CUDA error 999'):
        gpu_check.find_gpu(Driver(**{function: 999}))


def test_the_plan_cache_is_looked_at_but_not_made(tmp_path: Path) -> None:
    folder = tmp_path / 'not/there/yet'
    assert gpu_check.plan_cache(str(folder)) == gpu_check.PlanCache(folder, True, 0, 0)
    assert not (tmp_path / 'not').exists()
    folder.mkdir(parents=True)
    (folder / 'a.plan').write_bytes(b'1234')
    (folder / 'a.plan.json').write_text('{}')
    assert gpu_check.plan_cache(str(folder)) == gpu_check.PlanCache(folder, True, 1, 4)
    file = folder / 'a.plan'
    assert not gpu_check.plan_cache(str(file / 'below')).writable


def test_the_compiler_that_works_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(source: str, architecture: str) -> bytes:
        raise MissingDependencyError('not there')

    def works(source: str, architecture: str) -> bytes:
        assert '__global__' in source and architecture == 'sm_87'
        return b'cubin'

    monkeypatch.setattr(kernel_compiler, 'compile_with_nvrtc', fails)
    monkeypatch.setattr(kernel_compiler, 'compile_with_nvcc', works)
    assert gpu_check.working_compiler('sm_87') == 'nvcc'
    monkeypatch.setattr(kernel_compiler, 'compile_with_nvrtc', works)
    assert gpu_check.working_compiler('sm_87') == 'NVRTC'
    monkeypatch.setattr(kernel_compiler, 'compile_with_nvrtc', fails)
    monkeypatch.setattr(kernel_compiler, 'compile_with_nvcc', fails)
    with pytest.raises(MissingDependencyError, match='install cuda-bindings'):
        gpu_check.working_compiler('sm_87')


def test_a_package_that_cannot_be_imported_is_named() -> None:
    with pytest.raises(MissingDependencyError, match='definitely_not_there.driver cannot be'):
        gpu_check._imported('definitely_not_there.driver', 'definitely-not-there')
