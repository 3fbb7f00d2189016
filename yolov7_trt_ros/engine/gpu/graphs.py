"""
CUDA graphs: captured once per key, then replayed; disabled if capture fails.

A graph holds addresses: whoever frees memory that a graph uses drops the graph first.
cuda-bindings captures on the handle of a pycuda stream (pycuda itself has no graphs).

"""

from __future__ import annotations

import collections
from collections.abc import Callable, Hashable
from typing import Any

import pycuda.driver as cuda

from yolov7_trt_ros.errors import InferenceError

try:
    from cuda.bindings import driver
except ImportError as exc:
    driver = None
    _WHY_NOT = f'cuda-bindings cannot be imported ({exc}): pip install cuda-bindings'
else:
    _WHY_NOT = ''


class GraphCache:
    """
    The graphs of one stream, least recently used dropped first. Not for several threads at once.

    Parameters
    ----------
    stream
        A pycuda stream, not the default one.
    enabled
        False launches everything plainly.
    most
        Graphs kept.

    Attributes
    ----------
    hits, misses, fallbacks
        Launches that replayed a graph; that had none yet; that had to do without.
    reason
        Why the last fallback happened, for people.

    """

    def __init__(self, stream: cuda.Stream, *, enabled: bool = True, most: int = 32) -> None:
        self._stream = stream
        self._most = most
        self._graphs: collections.OrderedDict[Hashable, Any] = collections.OrderedDict()
        self._handle = driver.CUstream(stream.handle) if driver is not None else None
        self.enabled = enabled and driver is not None
        self.hits = self.misses = self.fallbacks = 0
        self.reason = _WHY_NOT if enabled else 'switched off'

    def __len__(self) -> int:
        """Return the number of graphs kept."""
        return len(self._graphs)

    def launch(self, key: Hashable, enqueue: Callable[[], None]) -> None:
        """
        Do what `enqueue` puts into the stream: by a graph if there is one.

        The first launch of a key is plain (TensorRT wants one before capture) and captures after
        it, so that the second is a replay.

        Raises
        ------
        InferenceError
            The replay failed.

        """
        graph = self._graphs.get(key)
        if graph is not None:
            self._graphs.move_to_end(key)
            (status,) = driver.cuGraphLaunch(graph, self._handle)
            if status:
                raise InferenceError(f'a CUDA graph could not be launched: {status.name}')
            self.hits += 1
            return
        enqueue()
        if not self.enabled or key in self._graphs:
            self.fallbacks += 1
            return
        self.misses += 1
        self._keep(key, self._capture(enqueue))

    def drop(self, unwanted: Callable[[Any], bool] = lambda key: True) -> None:
        """Free the graphs whose key is `unwanted`; the stream must be idle."""
        for key in [key for key in self._graphs if unwanted(key)]:
            _destroy(self._graphs.pop(key))

    def _keep(self, key: Hashable, graph: Any) -> None:
        self._graphs[key] = graph  # None: do not try again
        if len(self._graphs) > self._most:
            self._stream.synchronize()
            _destroy(self._graphs.popitem(last=False)[1])

    def _capture(self, enqueue: Callable[[], None]) -> Any:
        """Return an executable graph, None if this work cannot be captured."""
        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._stream.synchronize()
        (status,) = driver.cuStreamBeginCapture(self._handle, mode)
        if status:
            return self._give_up(f'capture: {status.name}')
        problem = ''
        try:
            enqueue()
        except (InferenceError, cuda.Error) as exc:
            problem = str(exc)
        status, graph = driver.cuStreamEndCapture(self._handle)
        if problem or status:
            if not status:
                driver.cuGraphDestroy(graph)
            return self._give_up(problem or f'capture: {status.name}')
        status, executable = driver.cuGraphInstantiate(graph, 0)
        driver.cuGraphDestroy(graph)
        if status:
            return self._give_up(f'instantiate: {status.name}')
        # uploaded now, so that the first replay is not slower than the others
        driver.cuGraphUpload(executable, self._handle)
        return executable

    def _give_up(self, reason: str) -> None:
        self.reason = reason


def _destroy(graph: Any) -> None:
    if graph is not None:
        driver.cuGraphExecDestroy(graph)
