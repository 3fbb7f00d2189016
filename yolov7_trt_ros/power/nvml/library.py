"""
Load NVML, NVIDIA's management library (nvidia-ml-py), and open a PC's GPU with it.

The library is imported when it is used and passed as an argument, so it is optional here and tests
can pass a fake. Its errors have a number in `value`, and are converted into ours. Jetsons up to
JetPack 6 have no such library; on Orin with JetPack 7.2 it answers most queries with 'not
supported', on Thor it knows the load of the GPU.

"""

from __future__ import annotations

from collections.abc import Callable
import contextlib
from functools import partial
import importlib
from types import ModuleType
from typing import Any, TypeVar

from yolov7_trt_ros.errors import (
    MissingDependencyError,
    PowerCommandError,
    PowerError,
    PowerPermissionError,
)
from yolov7_trt_ros.power.guard import CallGuard

OPEN_TIMEOUT_S = 20.0
"""Without a persistence daemon the driver wakes the GPU up first."""
READ_TIMEOUT_S = 2.0

# Numbers of NVML's errors (nvml.h).
_NOT_SUPPORTED = 3
_NO_PERMISSION = 4
_FUNCTION_NOT_FOUND = 13
_NO_DATA = 21
_ABSENT = (_NOT_SUPPORTED, _FUNCTION_NOT_FOUND, _NO_DATA)

T = TypeVar('T')


def load_nvml() -> ModuleType:
    """
    Return the module pynvml.

    Raises
    ------
    MissingDependencyError
        It is not installed.

    """
    try:
        return importlib.import_module('pynvml')
    except ImportError as exc:
        raise MissingDependencyError(
            'the power of an NVIDIA GPU in a PC is read with pynvml, which is not installed; '
            'install it with: pip install nvidia-ml-py'
        ) from exc


class NvmlDevice:
    """
    One GPU, through the library; all calls have a time limit.

    Parameters
    ----------
    library
        The module pynvml, or one with the same functions.
    index
        Number of the GPU, as nvidia-smi counts.
    timeout_s
        Time limit of a complete reading.

    Raises
    ------
    PowerError
        No driver, no such GPU, or the driver hangs.

    """

    def __init__(
        self, library: ModuleType, index: int = 0, *, timeout_s: float = READ_TIMEOUT_S
    ) -> None:
        self._library = library
        self._guard = CallGuard(timeout_s)
        opening = CallGuard(OPEN_TIMEOUT_S)
        try:
            self._handle = opening.call('NVML (opening)', partial(self._open, index))
        finally:
            opening.close()
        self._is_open = True

    def _open(self, index: int) -> object:
        self._call_library('nvmlInit')
        try:
            return self._call_library('nvmlDeviceGetHandleByIndex', index)
        except PowerError:
            self._call_library('nvmlShutdown')
            raise

    def guarded(self, name: str, function: Callable[[], T]) -> T:
        """Run a function that queries this GPU, with the time limit."""
        return self._guard.call(f'NVML ({name})', function)

    def demand(self, function: str, *arguments: object) -> Any:
        """
        Call a function of the library for this GPU; only within `guarded`.

        Raises
        ------
        PowerCommandError
            This GPU, driver or version of pynvml does not support it.
        PowerPermissionError
            Root is needed.
        PowerError
            Any other error: the GPU is lost, the driver not loaded.

        """
        return self._call_library(function, self._handle, *arguments)

    def ask(self, function: str, *arguments: object) -> Any:
        """Call a function as `demand` does; None if it is not supported."""
        with contextlib.suppress(AbsentError):
            return self.demand(function, *arguments)
        return None

    def constant(self, name: str) -> Any:
        """Return a constant of the library."""
        return getattr(self._library, name)

    def close(self) -> None:
        """Release the library; may be called twice."""
        if not self._is_open:
            return
        self._is_open = False
        with contextlib.suppress(PowerError):  # the driver may be unloaded
            self.guarded('closing', partial(self._call_library, 'nvmlShutdown'))
        self._guard.close()

    def _call_library(self, name: str, *arguments: object) -> Any:
        function = getattr(self._library, name, None)
        if function is None:
            raise AbsentError(f'{name} is not in this version of pynvml; update nvidia-ml-py')
        try:
            return function(*arguments)
        except self._library.NVMLError as exc:
            raise _explain(exc, name) from exc


class AbsentError(PowerCommandError):
    """A function that this GPU, driver or version of pynvml does not support."""


def _explain(error: Any, function: str) -> PowerError:
    """Return our error for an error of NVML."""
    if error.value in _ABSENT:
        return AbsentError(f'{function}: {error} ({error.value}); not with this GPU or driver')
    if error.value == _NO_PERMISSION:
        return PowerPermissionError(f'{function}: {error} ({error.value}); only root may do this')
    no_gpu = 'there is no GPU of this number; nvidia-smi -L lists them'
    is_opening = function == 'nvmlDeviceGetHandleByIndex'
    hints = {
        6: no_gpu,
        2: no_gpu if is_opening else 'this GPU does not take that value; nvidia-smi -q has limits',
        9: 'the NVIDIA driver is not loaded',
        12: 'the NVIDIA driver is not installed here, or not passed into this container',
        15: 'the GPU is lost; only a restart of the driver or the machine brings it back',
        18: 'the driver was updated while running; restart the machine',
    }
    hint = hints.get(error.value, 'nvidia-smi shows whether the driver works')
    return PowerError(f'{function}: {error} ({error.value}); {hint}')
