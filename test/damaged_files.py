"""Files with changed bytes, and a limit to what reading them may take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import contextlib
from pathlib import Path
import resource
import time

import numpy as np

MOST_MEMORY_BYTES = 1 << 30
MOST_SECONDS = 60.0  # what is not bounded takes hours; slow machines take ten times as long


def damaged(
    data: bytes, random: np.random.Generator, pieces: Sequence[bytes] = (b'\0', b'\xff')
) -> bytes:
    """Return bytes of which some were replaced, cut out or repeated, by the pieces too."""
    changed = bytearray(data)
    for _ in range(random.integers(1, 5)):
        at = int(random.integers(0, max(1, len(changed))))
        end = at + int(random.integers(1, 30))
        match random.integers(0, 5):
            case 0:
                changed[at:at + 1] = bytes([random.integers(0, 256)])
            case 1:
                del changed[at:end]
            case 2:
                changed[at:at] = changed[at:end]
            case 3:
                changed[at:at + 1] = pieces[random.integers(0, len(pieces))]
            case _ if not random.integers(0, 8):
                del changed[at:]
    return bytes(changed)


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Let what runs inside take 1 GiB more memory, and its thread 60 s of CPU time."""
    pages = int(Path('/proc/self/statm').read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    most = pages * resource.getpagesize() + MOST_MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    start = time.thread_time()
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert time.thread_time() - start < MOST_SECONDS


@contextlib.contextmanager
def full_disk(room_bytes: int = 100) -> Iterator[None]:
    """Let no file grow beyond so many bytes, as if the disk were full then (EFBIG)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
