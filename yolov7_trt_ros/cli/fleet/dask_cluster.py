"""A Dask scheduler with workers on this machine, for the duration of a command."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import logging
import signal
import threading
from typing import Any

from yolov7_trt_ros.temporary_folder import TemporaryFolder

_LOST_WORKERS = 3
"""Number of workers that may die with a recording before it is tried alone."""


@contextlib.contextmanager
def local_cluster(workers: int) -> Iterator[Any]:
    """Start a scheduler and worker processes here; a dead worker is restarted."""
    import dask
    from distributed import LocalCluster

    silence()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(TemporaryFolder(
            'yolov7_trt_dask_', ignore_cleanup_errors=True
        ))
        stack.enter_context(dask.config.set({
            'distributed.scheduler.allowed-failures': _LOST_WORKERS,
            'distributed.scheduler.worker-saturation': 1.0,  # no task waits at a worker
            'temporary-directory': folder,  # of the scheduler; it would leave files behind
        }))
        with _ctrl_c_ignored():  # the workers inherit it: this process reports Ctrl-C
            cluster = stack.enter_context(LocalCluster(
                n_workers=workers, threads_per_worker=1, processes=True,
                dashboard_address='127.0.0.1:0', memory_limit=None,
                silence_logs=logging.CRITICAL, local_directory=folder,
            ))
        yield cluster


def silence() -> None:
    """Let Dask log nothing: what went wrong is reported as an error of ours."""
    for name in ('distributed', *logging.root.manager.loggerDict):
        if name.partition('.')[0] == 'distributed':  # each may have a level of its own
            logging.getLogger(name).setLevel(logging.CRITICAL)


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
