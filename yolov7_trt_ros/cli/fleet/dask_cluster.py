"""A Dask scheduler with workers on this machine, for the duration of a command."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import logging
import signal
import tempfile
import threading
from typing import Any

_LOST_WORKERS = 3
"""Number of workers that may die with a recording before it is tried alone."""


@contextlib.contextmanager
def local_cluster(workers: int) -> Iterator[Any]:
    """Start a scheduler and worker processes here; a dead worker is restarted."""
    import dask
    from distributed import LocalCluster

    logging.getLogger('distributed').setLevel(logging.CRITICAL)
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set({
            'distributed.scheduler.allowed-failures': _LOST_WORKERS,
            'distributed.scheduler.worker-saturation': 1.0,  # no task waits at a worker
        }))
        folder = stack.enter_context(tempfile.TemporaryDirectory(
            prefix='yolov7_trt_dask_', ignore_cleanup_errors=True
        ))
        with _ctrl_c_ignored():  # the workers inherit it: this process reports Ctrl-C
            cluster = stack.enter_context(LocalCluster(
                n_workers=workers, threads_per_worker=1, processes=True,
                dashboard_address='127.0.0.1:0', memory_limit=None,
                silence_logs=logging.CRITICAL, local_directory=folder,
            ))
        yield cluster


@contextlib.contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    """Ignore Ctrl-C, if this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
