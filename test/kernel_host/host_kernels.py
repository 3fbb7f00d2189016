"""
Run CUDA kernels on the CPU: the very same .cu file, compiled with g++ and cuda_on_host.h.

For tests on machines without a GPU. The top of cuda_on_host.h says what is emulated.

"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import ctypes
import hashlib
import os
from pathlib import Path
import platform
import re
import shutil
import subprocess
import threading
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = 'np.ndarray[Any, Any]'  # NumPy 1.21 cannot evaluate it

_HEADER = Path(__file__).resolve().with_name('cuda_on_host.h')
_FLAGS = (
    '-std=c++17', '-O2', '-ffp-contract=off', '-fPIC', '-shared', '-fvisibility=hidden',
    '-I', str(_HEADER.with_name('include')), '-include', str(_HEADER),
)
_one_at_a_time = threading.Lock()  # a library keeps the running block in static variables


class HostKernels:
    """
    The kernels of one source file, ready to be launched.

    Parameters
    ----------
    source : Path or str
        A .cu file, or, as str, the source text itself.
    names : sequence of str
        The kernels to make available; each is ``extern "C" __global__ void name(...)``.
    defines : mapping of str to str
        Macros, as ``-Dname=value``.
    cache : Path
        Folder that keeps what was compiled. It is made if need be.

    Raises
    ------
    RuntimeError
        Without g++, or when it refuses the source; the message holds what it said.

    """

    def __init__(
        self, source: Path | str, names: Sequence[str], defines: Mapping[str, str] | None = None,
        *, cache: Path,
    ) -> None:
        text = f'#include "{source.resolve()}"' if isinstance(source, Path) else source
        text += ''.join(f'\nCUDA_HOST_KERNEL({name})' for name in names) + '\n'
        macros = [f'-D{name}={value}' for name, value in (defines or {}).items()]
        library = ctypes.CDLL(str(_compile(text, macros, _read_parts(source), cache)))
        self._launchers = {name: _function(library, f'launch_{name}') for name in names}
        self._parameters = {
            name: _function(library, f'signature_{name}')().decode().split() for name in names
        }

    def launch(
        self, name: str, grid: Sequence[int], block: Sequence[int], *arguments: Any, seed: int = 0
    ) -> None:
        """
        Run a kernel to its end.

        Parameters
        ----------
        name : str
            The kernel.
        grid, block : sequence of int
            Blocks, and threads a block: one to three numbers, x first.
        *arguments : numpy array or numpy scalar
            Arrays (C-contiguous) are passed as pointers to their data, scalars by value, and
            scalars of structured types as structs. A uint64 may stand for a pointer.
        seed : int
            0: threads take turns in order; any other: shuffled, and warps run ahead.

        Raises
        ------
        TypeError
            When the arguments do not fit the kernel's parameters.
        RuntimeError
            When the kernel deadlocks or breaks a rule; the message says where threads wait.

        """
        wanted = self._parameters[name]
        if len(arguments) != len(wanted):
            raise TypeError(f'{name} has {len(wanted)} parameters, {len(arguments)} were given')
        values = [
            _value(f'{name}, argument {number}', *pair)
            for number, pair in enumerate(zip(arguments, wanted, strict=True))
        ]
        pointers = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
        sizes = (ctypes.c_uint * 7)(*_three(grid), *_three(block), seed)
        with _one_at_a_time:
            error = self._launchers[name](pointers, sizes)
        if error is not None:
            raise RuntimeError(f'{name}: {error.decode()}')

    @staticmethod
    def cells(arrays: Sequence[Array]) -> Array:
        """Return the addresses of arrays that live on, for a kernel that wants pointers."""
        return np.array([array.ctypes.data for array in arrays], np.uint64)


def _three(sizes: Sequence[int]) -> tuple[int, ...]:
    return (*sizes, 1, 1)[:3]


def _function(library: ctypes.CDLL, name: str) -> Any:
    function = library[name]
    function.restype = ctypes.c_char_p
    return function


def _value(where: str, argument: Any, parameter: str) -> Array:
    """Return the bytes of a parameter, given as `describe` in cuda_on_host.h writes it."""
    if isinstance(argument, np.ndarray):
        return np.array([_address(where, argument, parameter)], np.uint64)
    wanted = 'u8' if parameter[0] in 'pP' else parameter
    if not isinstance(argument, np.generic) or not _fits(argument.dtype, wanted):
        found = f'{argument!r} ({type(argument).__name__})'
        raise TypeError(f'{where}: expected {parameter}, got {found}')
    return np.array([argument])


def _fits(dtype: np.dtype[Any], wanted: str) -> bool:
    kind, size = wanted[0], int(wanted[1:])
    return (dtype.kind == kind or {dtype.kind, kind} == set('iu')) and dtype.itemsize == size


def _address(where: str, array: Array, parameter: str) -> int:
    match = re.fullmatch(r'([pP])(\d+)(\w+)', parameter)
    if match is None:
        raise TypeError(f'{where}: expected {parameter}, got an array')
    pointer, alignment, element = match.groups()
    numbers = array.dtype.kind in 'fiu' and array.dtype != np.uint8 and element[0] in 'fiu'
    if numbers and not _fits(array.dtype, element):
        raise TypeError(f'{where}: expected elements of {element}, got {array.dtype}')
    if not array.flags.c_contiguous:
        raise TypeError(f'{where}: the array is not C-contiguous')
    if pointer == 'P' and not array.flags.writeable:
        raise TypeError(f'{where}: the kernel writes there, but the array is read-only')
    if array.ctypes.data % int(alignment):
        raise TypeError(f'{where}: the array is not aligned to {alignment} bytes')
    return array.ctypes.data


def _read_parts(source: Path | str) -> list[bytes]:
    """Read the source and what it may include."""
    beside = []
    if isinstance(source, Path):
        beside = [source, *sorted([*source.parent.glob('*.cuh'), *source.parent.glob('*.h')])]
    return [part.read_bytes() for part in (_HEADER, *beside)]


def _compile(text: str, macros: Sequence[str], parts: Sequence[bytes], cache: Path) -> Path:
    """Return the compiled library, from the cache if it is there."""
    if shutil.which('g++') is None:
        raise RuntimeError(
            'g++ is needed to run CUDA kernels on the CPU, but it is not installed; '
            'on Debian or Ubuntu: sudo apt install g++'
        )
    version = subprocess.run(['g++', '--version'], capture_output=True, check=True).stdout
    what = (text, _FLAGS, macros, parts, version, platform.machine())
    library = cache / f'{hashlib.sha256(repr(what).encode()).hexdigest()[:24]}.so'
    if not library.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        unfinished = library.with_suffix(f'.{os.getpid()}')  # another process may do the same
        command = ['g++', *_FLAGS, *macros, '-x', 'c++', '-', '-o', str(unfinished)]
        run = subprocess.run(command, input=text, text=True, capture_output=True, check=False)
        if run.returncode:
            raise RuntimeError(f'g++ does not compile the kernels:\n{run.stderr}')
        os.replace(unfinished, library)
    return library
