"""NVIDIA GPU: driver, CUDA, TensorRT. None of it is needed for the detector on the CPU."""

from __future__ import annotations

from yolov7_trt_ros.cli.checks.machine import MISSING, OK, WARN, Check, Machine

_QUERY = ('nvidia-smi', '--query-gpu=name,driver_version,memory.total', '--format=csv,noheader')
_CUDA_DRIVER = 'libcuda.so.1'


def check_gpu(machine: Machine) -> list[Check]:
    """Check what the GPU engine would need."""
    return [_driver(machine), _tensorrt(machine), _pycuda(machine), _nvcc(machine)]


def _driver(machine: Machine) -> Check:
    gpus = machine.run(_QUERY) if machine.which('nvidia-smi') else None
    listed = '; '.join((gpus or '').splitlines())
    if machine.can_load(_CUDA_DRIVER):
        return Check('CUDA driver', OK, listed or f'{_CUDA_DRIVER} loads')
    if listed:
        return Check('CUDA driver', WARN, f'{listed}; but {_CUDA_DRIVER} does not load',
                     'reinstall the driver; in a container: --gpus all (Jetson: --runtime nvidia)')
    return Check('CUDA driver', MISSING, f'{_CUDA_DRIVER} does not load; the CPU is used',
                 'on a machine with an NVIDIA GPU: install its driver')


def _tensorrt(machine: Machine) -> Check:
    if machine.find_module('tensorrt') is None:
        return Check('TensorRT', MISSING, 'no Python module tensorrt',
                     'on a GPU: pip install tensorrt; on a Jetson: '
                     'sudo apt install python3-libnvinfer')
    distributions = ('tensorrt', 'tensorrt-cu12', 'tensorrt-cu13')
    versions = (machine.find_version(name) for name in distributions)
    return Check('TensorRT', OK, next((text for text in versions if text), 'unknown version'))


def _pycuda(machine: Machine) -> Check:
    if machine.find_module('pycuda') is None:
        return Check('pycuda', MISSING, 'not installed', 'on a GPU: pip install pycuda')
    return Check('pycuda', OK, machine.find_version('pycuda') or 'unknown version')


def _nvcc(machine: Machine) -> Check:
    beside = machine.root / 'usr/local/cuda/bin/nvcc'
    path = machine.which('nvcc')
    if path is None and beside.exists():
        return Check('nvcc', WARN, f'{beside} is not on PATH',
                     'export PATH=/usr/local/cuda/bin:$PATH')
    if path is None:
        return Check('nvcc', MISSING, 'not on PATH', 'on a GPU: install the CUDA toolkit')
    lines = (machine.run((path, '--version')) or '').splitlines()
    release = next((line.strip() for line in lines if 'release' in line), path)
    return Check('nvcc', OK, release)
