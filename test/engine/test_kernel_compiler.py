"""The kernels go through NVIDIA's own compiler, for GPUs that are not here, and are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from yolov7_trt_ros.engine.device import kernel_compiler
from yolov7_trt_ros.engine.device.kernel_compiler import compiled, read_source, SOURCES
from yolov7_trt_ros.errors import MissingDependencyError

ELF = b'\x7fELF'
# Turing, Orin, Hopper, and Thor's family
ARCHITECTURES = ('sm_75', 'sm_87', 'sm_90', 'sm_110')


@pytest.mark.parametrize('architecture', ARCHITECTURES)
def test_kernels_compile_for(architecture: str) -> None:
    pytest.importorskip('cuda.bindings.nvrtc')
    for name in SOURCES:
        code = kernel_compiler.compile_with_nvrtc(read_source(name), architecture)
        assert code.startswith(ELF)
        assert len(code) > 10_000


def test_headers_are_put_in_and_nothing_else_is_included() -> None:
    for name in SOURCES:
        source = read_source(name)
        assert '#include' not in source, 'a machine that only runs CUDA has no headers'
    assert 'struct Settings' in read_source('collect')


def test_compiled_code_is_kept_and_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def compile_once(source: str, architecture: str) -> bytes:
        calls.append(architecture)
        return ELF + source.encode()

    monkeypatch.setattr(kernel_compiler, 'compile_source', compile_once)
    folder = tmp_path / 'a' / 'b'
    first = compiled('kernel', 'sm_87', folder)
    assert compiled('kernel', 'sm_87', folder) == first
    assert calls == ['sm_87']
    compiled('kernel', 'sm_90', folder)
    compiled('another', 'sm_87', folder)
    assert len(calls) == 3
    assert [path.suffix for path in folder.iterdir()] == ['.cubin'] * 3


def test_cache_that_cannot_be_written_costs_time_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_compiler, 'compile_source', lambda source, architecture: ELF)
    blocked = tmp_path / 'file'
    blocked.write_text('in the way of a folder')
    assert compiled('kernel', 'sm_87', blocked / 'cache') == ELF


def test_error_of_a_source_has_the_compilers_words() -> None:
    pytest.importorskip('cuda.bindings.nvrtc')
    with pytest.raises(MissingDependencyError, match='nonsense'):
        kernel_compiler.compile_with_nvrtc('__global__ void k() { nonsense(); }', 'sm_87')


def test_without_any_compiler_the_error_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(source: str, architecture: str) -> bytes:
        raise MissingDependencyError('not here')

    monkeypatch.setattr(kernel_compiler, 'compile_with_nvrtc', absent)
    monkeypatch.setattr(kernel_compiler, 'compile_with_nvcc', absent)
    with pytest.raises(MissingDependencyError, match='nvidia-cuda-nvrtc.*cuda-nvcc'):
        kernel_compiler.compile_source('x', 'sm_87')


def test_missing_nvcc_is_told_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_compiler, '_find_nvcc', lambda: '/nonexistent/nvcc')
    with pytest.raises(MissingDependencyError, match='/nonexistent/nvcc'):
        kernel_compiler.compile_with_nvcc('x', 'sm_87')
