"""Exchange input and output with a tool, with limits of time and memory."""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import time

MOST_BYTES = 1 << 20
"""Output of one stream that is kept; the rest is read and dropped."""

_CHUNK_BYTES = 1 << 16
_POLL_S = 0.05
_LAST_WORDS_S = 0.2
"""How long output is awaited after the end of a tool whose children keep its pipes open."""


def exchange(
    process: subprocess.Popen[bytes], data: bytes, timeout_s: float
) -> tuple[bytes, bytes]:
    """
    Write the input of a tool and read its output until it ends; its pipes are closed then.

    Children of the tool that still run, and keep its pipes, are not waited for.

    Returns
    -------
    tuple
        The begin of its stdout and its stderr.

    Raises
    ------
    subprocess.TimeoutExpired
        It has not ended in time; its pipes are still open.

    """
    end_s = time.monotonic() + timeout_s
    with selectors.DefaultSelector() as selector:
        kept = _register(selector, process)
        while process.poll() is None:
            left_s = end_s - time.monotonic()
            if left_s <= 0.0 or not selector.get_map():  # closed by a tool that goes on
                process.wait(max(left_s, 0.0))
            else:
                data = _serve(selector, kept, data, left_s)
        left_s, end_s = _LAST_WORDS_S, time.monotonic() + _LAST_WORDS_S
        while selector.get_map() and left_s >= 0.0:  # once at least: what waits is read
            data = _serve(selector, kept, data, left_s)
            left_s = end_s - time.monotonic()
    close_pipes(process)
    return bytes(kept['stdout']), bytes(kept['stderr'])


def close_pipes(process: subprocess.Popen[bytes]) -> None:
    """Close the pipes of a tool."""
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def _register(
    selector: selectors.BaseSelector, process: subprocess.Popen[bytes]
) -> dict[str, bytearray]:
    """Watch the pipes of a tool; returns where its output is kept."""
    for name, stream in (('stdout', process.stdout), ('stderr', process.stderr)):
        if stream is not None:
            selector.register(stream, selectors.EVENT_READ, name)
    if process.stdin is not None:
        os.set_blocking(process.stdin.fileno(), False)
        selector.register(process.stdin, selectors.EVENT_WRITE)
    return {'stdout': bytearray(), 'stderr': bytearray()}


def _serve(
    selector: selectors.BaseSelector, kept: dict[str, bytearray], data: bytes, timeout_s: float
) -> bytes:
    """Read and write what is possible now; returns the input that is left."""
    for key, _ in selector.select(min(timeout_s, _POLL_S)):
        if key.data in kept:
            output = kept[key.data]
            chunk = os.read(key.fd, _CHUNK_BYTES)
            output += chunk[:MOST_BYTES - len(output)]
            is_done = not chunk
        else:
            try:
                data = data[os.write(key.fd, data):] if data else data
            except BrokenPipeError:  # a tool need not read its input
                data = b''
            is_done = not data
        if is_done:
            selector.unregister(key.fileobj)
            key.fileobj.close()  # type: ignore[union-attr]  # registered as a file
    return data
