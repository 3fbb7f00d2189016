"""Run the tasks of a command, one after the other or on Dask; keep each result."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
import contextlib
from typing import Any

from yolov7_trt_ros.cli import open_detectors, output
from yolov7_trt_ros.cli.fleet.fleet_arguments import uses_dask
from yolov7_trt_ros.cli.fleet.progress import fleet_progress
from yolov7_trt_ros.cli.fleet.tasks import Function, guarded, Runner, Task


@contextlib.contextmanager
def open_runner(args: argparse.Namespace) -> Iterator[Runner]:
    """
    Yield a runner of tasks; at the end detectors are closed and processes ended.

    Raises
    ------
    InputError
        No Dask scheduler answers, or it has no workers.
    MissingDependencyError
        Dask is not installed, here or on a worker.

    """
    if not uses_dask(args):
        try:
            yield _in_turn
        finally:
            open_detectors.close_all()
        return
    from yolov7_trt_ros.cli.fleet.dask_runs import dask_runner

    with dask_runner(args.dask, args.workers) as run:
        yield run


def run_all(
    run: Runner, function: Function, args: argparse.Namespace, tasks: Sequence[Task],
    keep: Callable[[str, dict[str, Any]], None], label: str = 'recordings',
) -> dict[str, dict[str, Any]]:
    """
    Run tasks; return their results in the order of the tasks.

    Parameters
    ----------
    run
        From `open_runner`.
    function, args, tasks
        What to run, and on what.
    keep
        Called with name and result of each task without `error`, as it ends.
    label
        Name of the tasks in the progress line.

    """
    found: dict[str, dict[str, Any]] = {}
    is_shown = uses_dask(args) or len(tasks) > 1
    with fleet_progress(len(tasks) if is_shown else 0, label) as progress:
        for key, result in run(function, args, tasks):
            if 'error' not in result:
                keep(key, result)
            found[key] = result
            progress(result)
    return {task.key: found[task.key] for task in tasks}


def _in_turn(
    function: Function, args: argparse.Namespace, tasks: Sequence[Task]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run tasks one after the other in this process."""
    for task in tasks:
        yield task.key, guarded(function, args, task.given, show=output.progress_bar)
