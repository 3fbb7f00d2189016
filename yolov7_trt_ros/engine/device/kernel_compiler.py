"""
Compile the package's CUDA kernels once per GPU architecture. No GPU is needed.

The compiler is NVRTC (through cuda-bindings) or nvcc, whichever is installed. Compiled code is
kept in the user's cache folder under a hash of source, options and architecture.

"""

from __future__ import annotations

import hashlib
from importlib import resources
import os
from pathlib import Path
import re
import subprocess
from typing import Any

from yolov7_trt_ros.atomic_file import atomic_write
from yolov7_trt_ros.engine.plan.owner import KERNEL, read_own_file
from yolov7_trt_ros.errors import MissingDependencyError, ModelFormatError, UntrustedPlanError
from yolov7_trt_ros.temporary_folder import TemporaryFolder

SOURCES = ('letterbox', 'collect', 'suppress')
# Without contraction to fused multiply-adds, scores and IoU equal those of the CPU path exactly.
OPTIONS = ('--fmad=false', '--std=c++14')
_INCLUDE = re.compile(r'^#include "(\w+\.cuh)"$', re.MULTILINE)


def read_source(name: str) -> str:
    """Return the source of `kernels/<name>.cu` with the package's own headers put in."""
    folder = resources.files('yolov7_trt_ros') / 'engine' / 'device' / 'kernels'

    def header(match: re.Match[str]) -> str:
        return (folder / match.group(1)).read_text(encoding='utf-8')

    return _INCLUDE.sub(header, (folder / f'{name}.cu').read_text(encoding='utf-8'))


def compiled(source: str, architecture: str, folder: Path) -> bytes:
    """
    Return the cubin of a source, from the cache `folder` or compiled now and kept there.

    A cached kernel that another user could have written is compiled again.

    """
    digest = hashlib.sha256('\n'.join([source, *OPTIONS]).encode()).hexdigest()[:32]
    path = folder / f'{digest}-{architecture}.cubin'
    try:
        return read_own_file(path, what=KERNEL)
    except (OSError, UntrustedPlanError, ModelFormatError):
        code = compile_source(source, architecture)
        _keep(path, code)
        return code


def _keep(path: Path, code: bytes) -> None:
    """Write the file whole or not at all; a cache that cannot be written costs time only."""
    try:
        atomic_write(path, code)
    except OSError:
        return


def compile_source(source: str, architecture: str) -> bytes:
    """
    Compile CUDA C++ to a cubin.

    Raises
    ------
    MissingDependencyError
        Neither compiler works; the message has the reasons of both.

    """
    failures = []
    for compiler, call in (('NVRTC', compile_with_nvrtc), ('nvcc', compile_with_nvcc)):
        try:
            return call(source, architecture)
        except MissingDependencyError as exc:
            failures.append(f'{compiler}: {exc}')
    raise MissingDependencyError(
        'the GPU kernels cannot be compiled; install cuda-bindings and NVRTC (pip install '
        'cuda-bindings nvidia-cuda-nvrtc, or nvidia-cuda-nvrtc-cu12 for CUDA 12) or the '
        f'CUDA compiler nvcc (on a Jetson: apt install cuda-nvcc-12-6). {"; ".join(failures)}'
    )


def compile_with_nvcc(source: str, architecture: str) -> bytes:
    """Compile with nvcc, from $CUDA_HOME or the PATH; MissingDependencyError when that fails."""
    with TemporaryFolder('yolov7_trt_nvcc_') as folder:
        code = Path(folder, 'kernels.cu')
        code.write_text(source, encoding='utf-8')
        cubin = code.with_suffix('.cubin')
        target = ['-cubin', f'-arch={architecture}', '-o', str(cubin), str(code)]
        try:
            subprocess.run(
                [_find_nvcc(), *OPTIONS, *target], check=True, capture_output=True, text=True
            )
            return cubin.read_bytes()
        except subprocess.CalledProcessError as exc:
            raise MissingDependencyError(_reason(exc.stderr)) from exc
        except OSError as exc:
            raise MissingDependencyError(str(exc)) from exc


def _find_nvcc() -> str:
    for home in (os.environ.get('CUDA_HOME'), '/usr/local/cuda'):
        nvcc = Path(home or '/nonexistent') / 'bin' / 'nvcc'
        if nvcc.is_file():
            return str(nvcc)
    return 'nvcc'


def compile_with_nvrtc(source: str, architecture: str) -> bytes:
    """Compile with NVRTC; MissingDependencyError when that fails."""
    try:
        from cuda.bindings import nvrtc
    except ImportError as exc:
        raise MissingDependencyError(str(exc)) from exc
    try:
        status, program = nvrtc.nvrtcCreateProgram(source.encode(), b'kernels.cu', 0, [], [])
    except RuntimeError as exc:  # the library itself is not there
        raise MissingDependencyError(str(exc).splitlines()[0]) from exc
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise MissingDependencyError(str(status))
    try:
        options = [f'--gpu-architecture={architecture}'.encode(), *(o.encode() for o in OPTIONS)]
        (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise MissingDependencyError(f'{status.name}: {_nvrtc_log(nvrtc, program)}')
        _, size = nvrtc.nvrtcGetCUBINSize(program)
        code = bytearray(size)
        # cuda-bindings fills a bytes object in place
        image = bytes(code)
        nvrtc.nvrtcGetCUBIN(program, image)
        return image
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _nvrtc_log(nvrtc: Any, program: Any) -> str:
    _, size = nvrtc.nvrtcGetProgramLogSize(program)
    log = b' ' * size
    nvrtc.nvrtcGetProgramLog(program, log)
    return _reason(log.decode(errors='replace').strip('\0 \n'))


def _reason(text: str) -> str:
    """Return the first lines that speak of errors, or else the last lines."""
    lines = text.strip().splitlines()
    errors = [line.strip() for line in lines if 'error' in line]
    return ' '.join(errors[:3] or lines[-3:])[:400]
