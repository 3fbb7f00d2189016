"""PrometheusFile: the diagnostics of a node as a file for node_exporter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import contextlib
import os
from pathlib import Path
import time
from typing import Any

from yolov7_trt_ros.atomic_file import temporary_file
from yolov7_trt_ros.core.plain_text import quoted
from yolov7_trt_ros.errors import InputError, ModelFormatError, SettingError
from yolov7_trt_ros.home_folder import expand_home
from yolov7_trt_ros.nodes.job_thread import Job, JobThread
from yolov7_trt_ros.nodes.parameter_spec import ParameterSpec
from yolov7_trt_ros.plain_file import open_plain_file
from yolov7_trt_ros.report.diagnostic_metrics import status_samples, update_sample
from yolov7_trt_ros.report.prometheus_text import exposition

_SLOW_S = 2.0
_CLOSE_S = 1.0
_MODE = 0o644
"""Independent of the umask, since node_exporter runs as another user."""

_MOST_HEAD_BYTES = 1024


def read_path(text: str) -> Path | None:
    """
    Return the file that a text names, None for an empty one.

    Raises
    ------
    SettingError
        node_exporter would not read a file of this name.

    """
    if not text:
        return None
    path = expand_home(text)
    if path.suffix != '.prom' or path.stem.startswith('.'):
        raise SettingError(
            'prometheus_file must be a path that ends in a name like detector.prom, for '
            f'node_exporter reads no other file; got {text!r}'
        )
    return path


PROMETHEUS_FILE = ParameterSpec(
    'prometheus_file', '',
    'File for the textfile collector of node_exporter, with the ending `.prom`. It is written '
    'again with each message of diagnostics. Empty: none. Only at start.',
    reads=read_path, start_only=True,
)
"""The parameter of both nodes."""


class PrometheusFile:
    """
    Writes the statuses of a node to a file, as a whole each time, in a thread of its own.

    A failure is logged once and kept in `problem` until it is over. The folder is not created: it
    belongs to node_exporter. At the end the file is deleted, since its numbers are outdated, and
    at the start that of a node of this name that was killed. The first line of the file names the
    node; a file with another one is not replaced.

    Parameters
    ----------
    text
        The parameter; '' for no file.
    warn
        Called with a line for the log.
    node_name
        Fully qualified name.
    clock_s
        Returns the time that the file states as that of its numbers, in seconds since 1970.

    """

    def __init__(
        self, text: str, warn: Callable[[str], object], node_name: str,
        clock_s: Callable[[], float] = time.time,
    ) -> None:
        self._path, self._warn, self._clock_s = read_path(text), warn, clock_s
        self._node_name = node_name
        self._mark = f'# Written by the node {node_name} of yolov7_trt_ros\n'.encode()
        self._worker = JobThread('prometheus_file') if self._path is not None else None
        self._job: Job | None = None
        self.problem = ''
        if self._path is not None and self._worker is not None:
            path, mark = self._path, self._mark
            self._job = self._worker.submit(PROMETHEUS_FILE.name, lambda: _forget(path, mark))

    def put(self, statuses: Sequence[Any]) -> None:
        """Submit statuses, unless the previous ones are still being written; does not wait."""
        path, worker, job = self._path, self._worker, self._job
        if path is None or worker is None:
            return
        if job is not None and not job.is_done:
            if job.age_s > _SLOW_S:
                self._report(f'{path}: still being written after {_SLOW_S:g} s')
            return
        self._report(job.error if job is not None else '')
        data = self._mark + exposition([
            update_sample(self._node_name, self._clock_s()),
            *(sample for each in statuses for sample in status_samples(
                each.name, each.level[0], {pair.key: pair.value for pair in each.values}
            )),
        ]).encode(errors='replace')
        mark = self._mark
        self._job = worker.submit(PROMETHEUS_FILE.name, lambda: _write(path, mark, data))

    def close(self) -> None:
        """Delete the file; does not wait for a disk that hangs."""
        if self._worker is not None and self._path is not None:
            path, mark, worker = self._path, self._mark, self._worker
            self._path = self._worker = None
            job = worker.submit(PROMETHEUS_FILE.name, lambda: _remove(path, mark))
            job.wait(_CLOSE_S, lambda: True)
            worker.close(_CLOSE_S)

    def _report(self, problem: str) -> None:
        if problem and problem != self.problem:
            self._warn(problem)
        self.problem = problem


def _write(path: Path, mark: bytes, data: bytes) -> str:
    try:
        _check_ours(path, mark)
        with temporary_file(path, data, synced=False) as temporary:
            temporary.chmod(_MODE)
            os.replace(temporary, path)
    except OSError as exc:
        raise InputError(f'prometheus_file {path}: cannot be written: {exc.strerror}') from exc
    return ''


def _remove(path: Path, mark: bytes) -> str:
    try:
        _check_ours(path, mark)
        path.unlink(missing_ok=True)
    except OSError as exc:
        raise InputError(f'prometheus_file {path}: cannot be taken away: {exc.strerror}') from exc
    return ''


def _forget(path: Path, mark: bytes) -> str:
    """Remove what a killed node of this name left; a problem is found again by the first write."""
    with contextlib.suppress(InputError):
        _remove(path, mark)
    return ''


def _check_ours(path: Path, mark: bytes) -> None:
    """Raise InputError if the file was not written by a node of this name."""
    try:
        with open_plain_file(path) as file:
            head = file.readline(_MOST_HEAD_BYTES)
    except FileNotFoundError:
        return
    except ModelFormatError as exc:
        raise InputError(f'prometheus_file {path}: cannot be written: {exc}') from exc
    if head and head != mark:
        begin = quoted(head.decode(errors='replace').rstrip())
        raise InputError(
            f'prometheus_file {path}: was not written by this node (it begins with {begin}), and '
            'is not replaced: give each node a file of its own, or remove this one'
        )
