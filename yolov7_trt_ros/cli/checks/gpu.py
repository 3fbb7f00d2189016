"""Checks of an NVIDIA GPU: driver, TensorRT, CUDA packages, plan cache. All are optional."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from yolov7_trt_ros.cli.checks.host_probe import Check, HostProbe, MISSING, OK, WARN
from yolov7_trt_ros.errors import InferenceError, MissingDependencyError

if TYPE_CHECKING:
    from yolov7_trt_ros.engine.gpu_check import Gpu, GpuQuestions, PlanCache

_QUERY = ('nvidia-smi', '--query-gpu=name,driver_version', '--format=csv,noheader')
_GPU = 'NVIDIA GPU'


def check_gpu(probe: HostProbe) -> list[Check]:
    """Check what the GPU engine needs; one line if there is no GPU."""
    try:
        ask = probe.gpu_questions()
        gpu = ask.find_gpu()
    except ImportError as exc:
        return [Check(_GPU, WARN, f'not checked: {exc}', 'first install what is missing above')]
    except InferenceError as exc:
        return [Check(_GPU, WARN, f'{exc}; the CPU is used',
                      'run nvidia-smi; restart, or reinstall the driver')]
    if gpu is None:
        return [_no_gpu(probe)]
    tensorrt, pycuda = _tensorrt(ask), _pycuda(ask)
    # With both installed, `auto` selects the GPU, which needs the kernels.
    taken = tensorrt.status == pycuda.status == OK
    return [
        _device(probe, gpu), tensorrt, pycuda, _compiler(ask, gpu, required=taken),
        _cuda_bindings(ask), _plan_cache(ask.plan_cache()),
    ]


def _smi_gpus(probe: HostProbe) -> list[str]:
    """Return the GPUs of nvidia-smi, each `name, driver version`; none on a Jetson."""
    printed = probe.run(_QUERY) if probe.which('nvidia-smi') else None
    return (printed or '').splitlines()


def _no_gpu(probe: HostProbe) -> Check:
    listed = '; '.join(_smi_gpus(probe))
    if listed:
        return Check(_GPU, WARN, f'{listed}; but the CUDA driver finds none: the CPU is used',
                     'reinstall the driver; in a container: --gpus all (Jetson: --runtime nvidia)')
    return Check(_GPU, OK, 'no NVIDIA GPU: the CPU is used')


def _device(probe: HostProbe, gpu: Gpu) -> Check:
    listed = _smi_gpus(probe)
    driver = listed[0].rpartition(',')[2].strip() if listed else ''
    return Check(
        _GPU, OK,
        f'{gpu.name}, compute capability {"{}.{}".format(*gpu.compute_capability)}, driver '
        f'{driver + " " if driver else ""}for CUDA {gpu.cuda_version}',
    )


def _tensorrt(ask: GpuQuestions) -> Check:
    return _installed('TensorRT', ask.tensorrt, 'the CPU is used',
                      'pip install tensorrt; on a Jetson: sudo apt install python3-libnvinfer')


def _pycuda(ask: GpuQuestions) -> Check:
    return _installed('pycuda', ask.pycuda, 'the CPU is used',
                      'pip install pycuda (it is compiled: needs the CUDA toolkit, nvcc on PATH)')


def _cuda_bindings(ask: GpuQuestions) -> Check:
    return _installed('cuda-bindings', ask.cuda_bindings,
                      'without CUDA graphs each frame takes longer', 'pip install cuda-bindings')


def _installed(name: str, ask: Callable[[], str], without: str, fix: str) -> Check:
    try:
        return Check(name, OK, ask())
    except MissingDependencyError as exc:
        return Check(name, MISSING, f'{without}. {exc}', fix)


def _compiler(ask: GpuQuestions, gpu: Gpu, *, required: bool) -> Check:
    name = 'kernel compiler'
    try:
        compiler = ask.compiler(gpu.architecture)
    except MissingDependencyError as exc:
        major = gpu.cuda_version.partition('.')[0]
        nvrtc = 'nvidia-cuda-nvrtc' + ('' if int(major) >= 13 else f'-cu{major}')
        fix = (
            f'pip install "cuda-bindings=={major}.*" {nvrtc}, or install the CUDA toolkit; or use '
            'the CPU: backend onnx'
        )
        return Check(name, MISSING, str(exc), fix, required=required)
    return Check(name, OK, f'{compiler} compiles for {gpu.architecture}', required=required)


def _plan_cache(cache: PlanCache) -> Check:
    found = f'{cache.plans} plans, {cache.total_bytes >> 20} MiB, in {cache.folder}'
    if cache.writable:
        return Check('plan cache', OK, found)
    return Check('plan cache', WARN, f'{found}, which is not writable: no plan can be kept',
                 'make it writable, or set XDG_CACHE_HOME or the parameter plan_cache')
