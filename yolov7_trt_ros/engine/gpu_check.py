"""What the GPU engine finds on this machine, for `doctor`: one question at a time."""

from __future__ import annotations

from collections.abc import Callable
import ctypes
import dataclasses
import importlib
import importlib.metadata
import os
from pathlib import Path
from typing import Any

from yolov7_trt_ros.engine.building.plan_cache import plan_cache_folder
from yolov7_trt_ros.engine.device import kernel_compiler
from yolov7_trt_ros.engine.trt.api import TrtApi
from yolov7_trt_ros.errors import InferenceError, MissingDependencyError

CUDA_DRIVER = 'libcuda.so.1'
_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
_NAME_BYTES = 256
_QUICKEST_SOURCE = 'suppress'


@dataclasses.dataclass(frozen=True)
class Gpu:
    """
    The CUDA device that the engine takes.

    Attributes
    ----------
    name
        Such as `Orin`.
    compute_capability
        (8, 7).
    cuda_version
        Latest CUDA that the driver supports: `12.6`.

    """

    name: str
    compute_capability: tuple[int, int]
    cuda_version: str

    @property
    def architecture(self) -> str:
        """Return what the compilers call it: `sm_87`."""
        return 'sm_{}{}'.format(*self.compute_capability)


@dataclasses.dataclass(frozen=True)
class PlanCache:
    """The folder of cached plans: whether it is writable, and the number of plans in it."""

    folder: Path
    writable: bool
    plans: int
    total_bytes: int


def find_gpu(load: Callable[[str], Any] = ctypes.CDLL) -> Gpu | None:
    """
    Ask the driver itself for its first device; None if there is no driver or no device.

    Parameters
    ----------
    load
        Loads a shared library; raises OSError if there is none.

    Raises
    ------
    InferenceError
        There is a driver, but it does not work.

    """
    try:
        driver = load(CUDA_DRIVER)
    except OSError:
        return None
    status = driver.cuInit(0)
    if status == _NO_DEVICE:
        return None
    if status:
        raise InferenceError(f'{CUDA_DRIVER} loads, but cuInit fails with CUDA error {status}')
    version, name = ctypes.c_int(), ctypes.create_string_buffer(_NAME_BYTES)
    _call(driver, 'cuDriverGetVersion', ctypes.byref(version))
    _call(driver, 'cuDeviceGetName', name, _NAME_BYTES, 0)
    return Gpu(
        name=name.value.decode(errors='replace'),
        compute_capability=(
            _attribute(driver, _CAPABILITY_MAJOR), _attribute(driver, _CAPABILITY_MINOR)
        ),
        cuda_version=f'{version.value // 1000}.{version.value % 1000 // 10}',
    )


def _attribute(driver: Any, attribute: int) -> int:
    value = ctypes.c_int()
    _call(driver, 'cuDeviceGetAttribute', ctypes.byref(value), attribute, 0)
    return value.value


def _call(driver: Any, function: str, *arguments: Any) -> None:
    status = getattr(driver, function)(*arguments)
    if status:
        raise InferenceError(f'{function} of {CUDA_DRIVER} fails with CUDA error {status}')


def tensorrt_version() -> str:
    """Import TensorRT; returns `TensorRT 10.3.0`, or raises MissingDependencyError."""
    api = TrtApi.load()
    return f'{api.flavour} {api.version}'


def pycuda_version() -> str:
    """Import PyCUDA and its driver part; its version, or MissingDependencyError."""
    return _imported('pycuda.driver', 'pycuda')


def cuda_bindings_version() -> str:
    """Import cuda-bindings, which makes CUDA graphs; its version, or MissingDependencyError."""
    return _imported('cuda.bindings.driver', 'cuda-bindings')


def _imported(module: str, distribution: str) -> str:
    try:
        importlib.import_module(module)
    except (ImportError, OSError, RuntimeError) as exc:  # also: a library it loads is missing
        raise MissingDependencyError(f'{module} cannot be imported: {exc}') from exc
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return 'unknown version'


def working_compiler(architecture: str) -> str:
    """
    Compile one of the engine's kernels, within seconds; returns `NVRTC` or `nvcc`.

    Raises
    ------
    MissingDependencyError
        Neither works; the message has both reasons, and what to install.

    """
    source = kernel_compiler.read_source(_QUICKEST_SOURCE)
    try:
        kernel_compiler.compile_with_nvrtc(source, architecture)
    except MissingDependencyError:
        kernel_compiler.compile_source(source, architecture)
        return 'nvcc'
    return 'NVRTC'


def plan_cache(setting: str = '') -> PlanCache:
    """Look at the folder of cached plans without making it; `setting`: of DetectorOptions."""
    folder = plan_cache_folder(setting)
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    sizes = [path.stat().st_size for path in folder.glob('*.plan')]
    writable = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    return PlanCache(folder, writable, len(sizes), sum(sizes))


@dataclasses.dataclass(frozen=True)
class GpuQuestions:
    """The functions above, as arguments: what `doctor` asks, and a test answers."""

    find_gpu: Callable[[], Gpu | None] = find_gpu
    tensorrt: Callable[[], str] = tensorrt_version
    pycuda: Callable[[], str] = pycuda_version
    cuda_bindings: Callable[[], str] = cuda_bindings_version
    compiler: Callable[[str], str] = working_compiler
    plan_cache: Callable[[], PlanCache] = plan_cache
