"""
Build a plan in a separate process with the lowest priority, while this one detects.

TensorRT holds Python's lock for parts of a build and the GPU's memory for all of it; a process
that ends frees both, and one that the kernel kills ends alone.

"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
import json
import os
from pathlib import Path
import select
import signal
import subprocess
import sys
import time
from typing import Any

from yolov7_trt_ros import errors
from yolov7_trt_ros.engine.open import build_needed_plan
from yolov7_trt_ros.engine.options import DetectorOptions
from yolov7_trt_ros.errors import BuildError, Yolov7TrtError
from yolov7_trt_ros.parent_process import end_with_starter, ends_with_this_process

COMMAND = (sys.executable, '-m', 'yolov7_trt_ros.engine.build_process')
LONGEST_S = 7200.0
"""A longer build is stopped: nothing waits for it, and it occupies GPU memory."""

_LEAST_PRIORITY = 19
_POLL_S = 0.1
_TERM_S = 5.0
_READ_BYTES = 1 << 16
_PROGRESS, _BUILT, _FAILED = 'progress', 'built', 'failed'


def build_apart(
    options: DetectorOptions,
    report: Callable[[str, float | None], None],
    cancelled: Callable[[], bool],
    *,
    command: Sequence[str] = COMMAND,
    longest_s: float = LONGEST_S,
) -> Path:
    """
    Build the plan that `open_detector(options)` needs, as `build_needed_plan` does.

    Parameters
    ----------
    options, report, cancelled
        As there.
    command
        Of the process.
    longest_s
        How long it may take, all in all.

    Raises
    ------
    BuildError
        It cannot be built, was cancelled, took too long, or the process was killed.
    ModelError, SettingError, MissingDependencyError, InferenceError
        As `build_needed_plan`.

    """
    end_s, latest = time.monotonic() + longest_s, 'nothing'
    with _process(command) as process:
        assert process.stdin is not None  # a pipe
        with contextlib.suppress(BrokenPipeError):  # it has ended: its status is reported below
            process.stdin.write(json.dumps(dataclasses.asdict(options)).encode())
            process.stdin.close()
        for kind, *values in _messages(process, lambda: cancelled() or _is_over(end_s)):
            if kind == _PROGRESS:
                report(*values)
                latest = values[0]
            elif kind == _BUILT:
                return Path(values[0])
            else:
                raise _error_of(*values)
        if cancelled():
            raise BuildError('the build was cancelled')
        if process.poll() is None and _is_over(end_s):
            raise BuildError(
                f'the build had not ended after {longest_s:.0f} s, its latest phase was '
                f'{latest!r}, and was stopped; build the plan beforehand, with yolov7_trt build'
            )
        raise BuildError(_ended(process.wait()))


@contextlib.contextmanager
def _process(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that ends with this block, or with this process."""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        env=os.environ | ends_with_this_process(),
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_TERM_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in filter(None, (process.stdin, process.stdout)):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def _is_over(end_s: float) -> bool:
    return time.monotonic() >= end_s


def _messages(
    process: subprocess.Popen[bytes], is_over: Callable[[], bool]
) -> Iterator[list[Any]]:
    """Yield the messages of the process until it ends or `is_over` returns true."""
    assert process.stdout is not None  # a pipe
    descriptor, text = process.stdout.fileno(), b''
    while not is_over():
        ready, _, _ = select.select([descriptor], [], [], _POLL_S)
        if not ready:
            continue
        part = os.read(descriptor, _READ_BYTES)
        if not part:
            return
        *lines, text = (text + part).split(b'\n')
        for line in lines:
            yield json.loads(line)


def _ended(status: int) -> str:
    if status == -signal.SIGKILL:
        return 'the build process was killed (SIGKILL), as the kernel does when memory runs out'
    if status < 0:
        return f'the build process was ended by {signal.Signals(-status).name}'
    return f'the build process has ended with status {status} and no result'


def _error_of(name: str, text: str) -> Yolov7TrtError:
    kind = getattr(errors, name, BuildError)
    known = isinstance(kind, type) and issubclass(kind, Yolov7TrtError)
    return kind(text) if known else BuildError(text)


# ---- in the process


def main() -> int:
    """Build what standard input asks for; messages go to standard output, one a line."""
    os.nice(_LEAST_PRIORITY)
    messages = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)  # what TensorRT prints is no message

    def send(*message: object) -> None:
        print(json.dumps(message), file=messages, flush=True)

    end_with_starter(os.environ, lambda text: None)  # there may be no reader left
    options = DetectorOptions(**json.load(sys.stdin))
    try:
        plan = build_needed_plan(
            options, lambda phase, share: send(_PROGRESS, phase, share), lambda: False
        )
    except Yolov7TrtError as exc:
        send(_FAILED, type(exc).__name__, str(exc))
        return 1
    send(_BUILT, str(plan))
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
