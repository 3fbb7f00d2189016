"""A peer in another Python, as a child process that is asked for blocks of frames in turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import contextlib
import json
import os
from pathlib import Path
import selectors
import subprocess
import sys
import tempfile
import time
from typing import Any, TypeVar

import numpy as np
from peers_parts.messages import Found, Ready, Show, Taken, Time, to_line
from peers_parts.timed import Bgr, from_rows, NotRunError

from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.records import from_record

BENCHMARKS = Path(__file__).resolve().parents[1]
OPEN_LIMIT_S, ANSWER_LIMIT_S, END_LIMIT_S = 540.0, 300.0, 30.0
MOST_BYTES = 16 << 20
_LAST_BYTES = 4096

T = TypeVar('T')


class PeerElsewhere:
    """
    A peer that a child process runs.

    Parameters
    ----------
    command
        The child. It answers each line of its input with a line, as in messages.py, and begins
        with Ready.
    environment
        Of the child.
    open_limit_s, answer_limit_s
        How long its first answer, and each other, may take.

    Raises
    ------
    NotRunError
        It cannot be started, has ended, is silent, or does not answer what was asked; the message
        has the last line that it wrote to stderr. The same of all methods.

    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        open_limit_s: float = OPEN_LIMIT_S,
        answer_limit_s: float = ANSWER_LIMIT_S,
    ) -> None:
        self._name = Path(command[0]).name
        self._limit_s = answer_limit_s
        self._read = bytearray()
        self._shape = (0, 0)
        self._count = 0
        self._ends = contextlib.ExitStack()
        with contextlib.ExitStack() as opening:
            folder = opening.enter_context(tempfile.TemporaryDirectory(prefix='peers_'))
            self._folder = Path(folder)
            self._errors = self._folder / 'stderr'
            try:
                with self._errors.open('wb') as errors:
                    self._process = subprocess.Popen(
                        command, env=environment, cwd=BENCHMARKS, stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE, stderr=errors, bufsize=0,
                    )
            except OSError as exc:
                raise NotRunError(f'{command[0]} cannot be started: {exc}') from exc
            opening.callback(self._end)
            self.facts: Mapping[str, Any] = self._answer(Ready, open_limit_s).facts
            self._ends = opening.pop_all()

    def show(self, frames: Sequence[Bgr]) -> list[Detections]:
        """Find objects in frames of one size, which `time` is about from now on."""
        path = self._folder / 'frames.npy'
        np.save(path, np.stack(frames))
        try:
            found = self._ask(Show(str(path)), Found).found
        finally:
            path.unlink()
        if len(found) != len(frames):
            raise self._nonsense(f'{len(found)} frames for {len(frames)}')
        return [
            from_rows(np.array(rows, np.float64), frame)
            for rows, frame in zip(found, frames, strict=True)
        ]

    def time(self, order: Sequence[int]) -> list[int]:
        """Run frames by their numbers; return the nanoseconds of each."""
        asked = time.perf_counter_ns()
        taken_ns = self._ask(Time(tuple(order)), Taken).taken_ns
        passed = time.perf_counter_ns() - asked
        if len(taken_ns) != len(order) or sum(taken_ns) > passed:
            raise self._nonsense(
                f'{len(taken_ns)} frames of {sum(taken_ns)} ns for {len(order)} of {passed}'
            )
        return list(taken_ns)

    def close(self) -> None:
        """End the child; calling it twice is harmless."""
        self._ends.close()

    def _ask(self, question: Any, kind: type[T]) -> T:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended: told where the answer is missing
            self._process.stdin.write(to_line(question))
        return self._answer(kind, self._limit_s)

    def _answer(self, kind: type[T], limit_s: float) -> T:
        line = self._line(time.monotonic() + limit_s, limit_s)
        try:
            return from_record(kind, json.loads(line), 'the answer')
        except (ValueError, RecursionError) as exc:
            raise self._nonsense(str(exc)) from exc

    def _line(self, end_s: float, limit_s: float) -> bytes:
        """Return the next line of the child."""
        output = self._process.stdout
        assert output is not None
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            while b'\n' not in self._read:
                if len(self._read) > MOST_BYTES:
                    raise self._nonsense(f'more than {MOST_BYTES} bytes without an end of line')
                if not selector.select(max(0, end_s - time.monotonic())):
                    raise NotRunError(f'{self._name} has not answered within {limit_s:g} s')
                chunk = os.read(output.fileno(), 1 << 16)
                if not chunk:
                    raise NotRunError(f'{self._name} {self._how_it_ended()}')
                self._read += chunk
        line, _, rest = bytes(self._read).partition(b'\n')
        self._read = bytearray(rest)
        return line

    def _nonsense(self, what: str) -> NotRunError:
        return NotRunError(f'{self._name} does not answer what was asked: {what}')

    def _how_it_ended(self) -> str:
        try:
            status = self._process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            return 'has closed its output'
        with self._errors.open('rb') as file:
            file.seek(max(0, self._errors.stat().st_size - _LAST_BYTES))
            lines = file.read().decode(errors='replace').strip().splitlines()
        return f'ended with status {status}: {lines[-1] if lines else "without a word"}'

    def _end(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        try:
            self._process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def environment_of(python: str) -> dict[str, str]:
    """
    Return the environment for another interpreter, in which this package can be imported.

    What tells an interpreter where its packages and libraries are is that of this one: it is left
    out where the other is not this.

    """
    environment = dict(os.environ)
    if not _is_this(python):
        environment.pop('PYTHONHOME', None)
        libraries = environment.pop('LD_LIBRARY_PATH', '').split(os.pathsep)
        foreign = [each for each in libraries if each and not _is_of_this(Path(each))]
        if foreign:
            environment['LD_LIBRARY_PATH'] = os.pathsep.join(foreign)
    environment['PYTHONPATH'] = os.pathsep.join([str(BENCHMARKS.parent), str(BENCHMARKS)])
    return environment


def _is_this(python: str) -> bool:
    return Path(python) == Path(sys.executable)


def _is_of_this(folder: Path) -> bool:
    """Whether a folder of libraries came with this interpreter, which may be the system's."""
    return any(
        folder.resolve().is_relative_to((Path(prefix) / 'lib').resolve())
        for prefix in {sys.prefix, sys.base_prefix}
    )
