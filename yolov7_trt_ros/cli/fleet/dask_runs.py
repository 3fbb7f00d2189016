"""Run tasks on the workers of a Dask scheduler; tasks of lost workers are retried."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
from functools import partial
from pathlib import Path
import queue
import time
from typing import Any
import uuid

from yolov7_trt_ros import __version__
from yolov7_trt_ros.cli.fleet.dask_cluster import local_cluster, silence
from yolov7_trt_ros.cli.fleet.tasks import Function, guarded, Runner, Task
from yolov7_trt_ros.errors import InputError, MissingDependencyError, Yolov7TrtError
from yolov7_trt_ros.home_folder import expand_home

PATIENCE_S = 10
"""Timeout for a scheduler to answer, and for its first worker."""

STALL_S, GONE_S = 60.0, 600.0
"""Time without a result before it is checked why; time that may pass without workers."""

FETCH_S = 60.0
"""Timeout of a result; after it, it may have been lost with its worker."""

_TIMEOUTS = (TimeoutError, asyncio.TimeoutError)
"""Two classes until Python 3.10."""


@contextlib.contextmanager
def dask_runner(address: str | None, workers: int | None) -> Iterator[Runner]:
    """
    Connect to a scheduler, or start one with some workers on this machine.

    Raises
    ------
    InputError
        No scheduler answers, it has no workers, or one has another version of this package.
    MissingDependencyError
        Dask is not installed, here or on a worker.

    """
    _import_dask()
    from distributed import Client

    silence()
    with contextlib.ExitStack() as stack:
        target: Any = address
        revive: Callable[[], object] = _nothing
        if address is None:
            count = workers or 1
            target = stack.enter_context(local_cluster(count))
            target.wait_for_workers(count)
            revive = partial(target.scale, count)
        else:
            _check_address(address)
        try:
            client = stack.enter_context(Client(target, timeout=PATIENCE_S, set_as_default=False))
        except (OSError, ValueError, TypeError) as exc:
            raise InputError(
                f'no Dask scheduler answers at {address} within {PATIENCE_S} s ({exc}): start one '
                'with `dask scheduler` and workers with `dask worker`, or work on this machine '
                'with --workers N'
            ) from exc
        _check_workers(client, address)
        stack.callback(_close_detectors, client)
        yield DaskRunner(client, revive)


def _check_address(address: str) -> None:
    """Refuse what is no address: a client that was given one reports it again as it ends."""
    from distributed.comm.addressing import parse_address, parse_host_port
    from distributed.comm.registry import get_backend

    try:
        scheme, location = parse_address(address)
        get_backend(scheme)
        parse_host_port(location)
    except (ValueError, RuntimeError) as exc:
        raise InputError(
            f'{address!r} is no address of a Dask scheduler ({exc}); expected tcp://HOST:8786'
        ) from exc


def _nothing() -> None:
    """Do nothing, for workers that are not ours."""


def _import_dask() -> None:
    try:
        import distributed  # noqa: F401
    except ImportError as exc:
        raise MissingDependencyError(
            f'many recordings at once need Dask ({exc}): pip install distributed, or leave '
            'out --workers and --dask'
        ) from exc


def _check_workers(client: Any, address: str | None) -> None:
    """Refuse a scheduler without workers, and workers without this package."""
    try:
        client.wait_for_workers(1, timeout=PATIENCE_S)
    except _TIMEOUTS as exc:
        raise InputError(
            f'the Dask scheduler at {address} has no workers: start some with '
            f'`dask worker {address}`'
        ) from exc
    try:
        versions: dict[str, str] = client.run(_version)
    except ImportError as exc:
        raise MissingDependencyError(
            f'a Dask worker lacks a package ({exc}): install yolov7_trt_ros where workers run'
        ) from exc
    for worker, version in sorted(versions.items()):
        if version != __version__:
            raise InputError(
                f'the Dask worker {worker} has version {version} of yolov7_trt_ros, and this '
                f'machine {__version__}: install the same'
            )


def _version() -> str:
    return __version__


def _close_detectors(client: Any) -> None:
    """Close the detectors that the workers keep open, except on lost ones."""
    from yolov7_trt_ros.cli import open_detectors

    with contextlib.suppress(OSError, *_TIMEOUTS):
        client.run(open_detectors.close_all, on_error='ignore')


def on_worker(function: Function, args: argparse.Namespace, given: Sequence[Any]) -> Any:
    """Run a task on a worker; return its result and the worker's address."""
    from distributed import get_worker

    return guarded(function, args, given), get_worker().address


class DaskRunner:
    """
    Runs tasks on workers.

    At the end, tasks that failed for a full disk are retried once on other workers, and tasks
    whose worker died are retried alone, because one of them may have been the cause.

    Parameters
    ----------
    client
        Client of the scheduler.
    revive
        Starts lost workers again; Dask does not restart one that dies during its start.

    """

    def __init__(self, client: Any, revive: Callable[[], object] = _nothing) -> None:
        self._client, self._revive = client, revive
        self._without_workers_s = 0.0
        self._full: set[str] = set()
        self._count = len(self._workers())

    def __call__(
        self, function: Function, args: argparse.Namespace, tasks: Sequence[Task]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield tasks as they end, with their results."""
        sent = _sent(args)
        suspects, aside = [], {}
        for task, result in self._completed(function, sent, tasks, FETCH_S):
            if result is None:
                suspects.append(task)
            elif result.get('disk'):
                aside[task] = result
            else:
                yield task.key, result
        for task in suspects:
            (_, result), = self._completed(function, sent, [task], None)
            yield task.key, result or {'error': 'workers died with it, also when it ran alone'}
        if aside and self._others_come():
            for task, result in self._completed(function, sent, list(aside), FETCH_S):
                aside[task] = result or aside[task]
        yield from ((task.key, result) for task, result in aside.items())

    def _completed(
        self, function: Function, args: argparse.Namespace, tasks: Sequence[Task],
        fetch_s: float | None,
    ) -> Iterator[tuple[Task, dict[str, Any] | None]]:
        """Yield tasks as they end, with their results; None if workers died meanwhile."""
        ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        waiting: dict[Any, Task] = {}

        def submit(task: Task, others: list[str] | None) -> None:
            future = self._client.submit(
                on_worker, function, args, task.given, workers=others, pure=False,
                key=f'yolov7_trt-{uuid.uuid4().hex}-{task.key}',
            )
            waiting[future] = task
            future.add_done_callback(ended.put)

        others = self._others() or None
        for task in tasks:
            submit(task, others)
        while waiting:
            try:
                future = ended.get(timeout=STALL_S)
            except queue.Empty:
                others = self._others() or None
                for future in self._lost(waiting):
                    submit(waiting.pop(future), others)
                continue
            if future not in waiting:  # it arrived after all
                continue
            task = waiting.pop(future)
            result, worker = _result(future, fetch_s)
            if result is not None and result.get('disk'):
                self._full.add(worker)
            yield task, result

    def _lost(self, waiting: Mapping[Any, Task]) -> list[Any]:
        """
        Return tasks that wait while all workers are idle: Dask can lose them with a worker.

        Raises
        ------
        InputError
            There have been no workers for too long.

        """
        self._revive()
        at_work = {str(key) for keys in self._client.processing().values() for key in keys}
        if not self._workers():
            self._without_workers_s += STALL_S
            if self._without_workers_s >= GONE_S:
                raise InputError(
                    f'there has been no Dask worker for {self._without_workers_s:.0f} s: start '
                    'some; the same command continues'
                )
            return []
        self._without_workers_s = 0.0
        return [] if at_work else list(waiting)

    def _others_come(self) -> bool:
        """Wait for a worker without a full disk, as long as one may come back."""
        end = time.monotonic() + STALL_S
        while not (set(self._workers()) - self._full):
            if len(self._workers()) >= self._count or time.monotonic() > end:
                return False
            with contextlib.suppress(*_TIMEOUTS):
                self._client.wait_for_workers(self._count, timeout=STALL_S)
        return True

    def _others(self) -> list[str]:
        """Return the workers without a full disk; none if no disk is full."""
        return sorted(set(self._workers()) - self._full) if self._full else []

    def _workers(self) -> list[str]:
        return list(self._client.scheduler_info(n_workers=-1)['workers'])


def _sent(args: argparse.Namespace) -> argparse.Namespace:
    """Return the arguments for a worker, which may have another working folder."""
    values = {name: value for name, value in vars(args).items() if name != 'run'}
    for name, value in values.items():
        if isinstance(value, Path):
            values[name] = expand_home(value).absolute()
        elif name.endswith('model') and isinstance(value, str) and value:
            path = expand_home(value)
            values[name] = str(path.absolute()) if path.is_file() else value
    return argparse.Namespace(**values)


def _result(future: Any, fetch_s: float | None) -> tuple[dict[str, Any] | None, str]:
    """
    Return the result of a task and its worker; None if workers died with it.

    Raises
    ------
    Yolov7TrtError
        The model cannot be used, for any recording.
    InputError
        The scheduler is gone.

    """
    from distributed import CancelledError, KilledWorker

    try:
        error = future.exception(timeout=fetch_s)  # its state may have changed meanwhile
        if error is None:
            found: tuple[dict[str, Any], str] = future.result(timeout=fetch_s)
            return found
    except (KilledWorker, *_TIMEOUTS):  # the result was lost before it was fetched
        return None, ''
    except CancelledError as exc:
        raise InputError('the Dask scheduler is gone: the same command continues') from exc
    if isinstance(error, Yolov7TrtError):
        raise error
    if isinstance(error, KilledWorker):
        return None, ''
    return {'error': f'a defect: {type(error).__name__}: {error}'}, ''
