"""Many recordings by one command: in turn, or on Dask, with what is done kept as it comes."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import errno
import os
from typing import Any

from yolov7_trt_ros.cli import open_detectors, output
from yolov7_trt_ros.cli.fleet.progress import fleet_progress
from yolov7_trt_ros.errors import InputError, SettingError

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
RESULT_FILE, PAGE_FILE = 'drives.json', 'drives.html'


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """One recording: its name, and what the function of a verb takes behind the arguments."""

    key: str
    given: tuple[Any, ...]


Function = Callable[..., dict[str, Any]]
"""Takes the arguments of the verb, what a task gives, and `show`; returns JSON-ready values."""

Runner = Callable[[Function, argparse.Namespace, Sequence[Task]],
                  Iterator[tuple[str, dict[str, Any]]]]


def add_fleet_arguments(parser: argparse.ArgumentParser) -> None:
    """Add where many recordings are worked on."""
    group = parser.add_argument_group('many recordings')
    group.add_argument(
        '--workers', type=int, metavar='N',
        help='work on N at once, in processes of this machine (needs dask and distributed)',
    )
    group.add_argument(
        '--dask', metavar='ADDRESS',
        help='work on the machines of a Dask scheduler, tcp://HOST:8786; each must have the same '
        'files under the same paths',
    )


def check_fleet_arguments(args: argparse.Namespace) -> None:
    """
    Check them, and share the cores of this machine among its workers.

    Raises
    ------
    SettingError
        Both are given, or no number of workers.

    """
    if args.workers is None:
        return
    if args.dask is not None:
        raise SettingError('give one of --workers, for this machine, and --dask, for others')
    if args.workers < 1:
        raise SettingError(f'--workers must be at least 1, got {args.workers}')
    if not getattr(args, 'threads', 1):
        args.threads = max(1, (os.cpu_count() or 1) // args.workers)


def is_asked_for(args: argparse.Namespace) -> bool:
    """Tell whether the arguments ask for Dask."""
    return args.workers is not None or args.dask is not None


@contextlib.contextmanager
def runner(args: argparse.Namespace) -> Iterator[Runner]:
    """
    Give what runs tasks; detectors are closed at the end, and processes ended.

    Raises
    ------
    InputError
        Nobody answers at the address, or no worker is there.
    MissingDependencyError
        Dask is not installed, here or at a worker.

    """
    if not is_asked_for(args):
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
    Run tasks; return their results in the order of the tasks, whichever ended first.

    Parameters
    ----------
    run
        Of `runner`.
    function, args, tasks
        What is done.
    keep
        Called with the name and result of each that has no `error`, as they end.
    label
        What the tasks are, for people.

    """
    found: dict[str, dict[str, Any]] = {}
    told = is_asked_for(args) or len(tasks) > 1
    with fleet_progress(len(tasks) if told else 0, label) as progress:
        for key, result in run(function, args, tasks):
            if 'error' not in result:
                keep(key, result)
            found[key] = result
            progress(result)
    return {task.key: found[task.key] for task in tasks}


def guarded(
    function: Function, args: argparse.Namespace, given: Sequence[Any], **more: Any
) -> dict[str, Any]:
    """
    Return what a task has found; what cannot be read or written is its `error`.

    Raises
    ------
    SettingError
        A value of the arguments is wrong, for any recording.

    """
    try:
        return function(args, *given, **more)
    except SettingError:  # wrong for all
        raise
    except InputError as exc:
        return {'error': str(exc), 'disk': _is_disk(exc.__cause__)}
    except OSError as exc:
        return {'error': f'{exc.filename or "a file"}: {exc.strerror}', 'disk': _is_disk(exc)}


def _is_disk(exc: BaseException | None) -> bool:
    """Tell whether another machine could do better: a full disk, or one for reading alone."""
    return isinstance(exc, OSError) and exc.errno in _DISK_ERRORS


def _in_turn(
    function: Function, args: argparse.Namespace, tasks: Sequence[Task]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run tasks one after the other in this process."""
    for task in tasks:
        yield task.key, guarded(function, args, task.given, show=output.progress_bar)


def failures(results: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return why tasks failed, by name."""
    return {name: each['error'] for name, each in results.items() if 'error' in each}
