"""Load the package's CUDA kernels into a context and find them by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pycuda.driver as cuda

from yolov7_trt_ros.engine.cache_folder import cache_folder
from yolov7_trt_ros.engine.device.kernel_compiler import compiled, read_source, SOURCES


class Kernels:
    """
    The kernels of one GPU architecture, loaded into the current context.

    Parameters
    ----------
    architecture
        `sm_87` and the like.
    cache
        Folder for compiled code; it need not exist. One that cannot be written is passed over.

    Raises
    ------
    MissingDependencyError
        Nothing is in the cache and neither NVRTC nor nvcc works.

    """

    def __init__(self, architecture: str, cache: Path | None = None) -> None:
        folder = cache_folder('kernels') if cache is None else cache
        self._modules = [
            cuda.module_from_buffer(compiled(read_source(name), architecture, folder))
            for name in SOURCES
        ]
        self._functions: dict[tuple[str, str], Any] = {}

    def function(self, name: str, argument_types: str) -> Any:
        """
        Return a kernel, prepared for `prepared_async_call`.

        `argument_types` are pycuda's letters: P address, i int32, f float32.

        """
        key = (name, argument_types)
        if key not in self._functions:
            function = self._find(name)
            function.prepare(argument_types)
            self._functions[key] = function
        return self._functions[key]

    def close(self) -> None:
        """Unload the code, with the context current: nobody else may hold a kernel then."""
        self._functions.clear()
        self._modules.clear()

    def _find(self, name: str) -> Any:
        for module in self._modules:
            try:
                return module.get_function(name)
            except cuda.LogicError:
                continue
        raise KeyError(f'no kernel is called {name}')
