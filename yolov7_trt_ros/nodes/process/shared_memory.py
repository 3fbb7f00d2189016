"""Check the free space in /dev/shm; nothing heavy may be imported here."""

from __future__ import annotations

from collections.abc import Mapping
import contextlib
import os
from pathlib import Path
import re
import sys

FOLDER = Path('/dev/shm')
PROFILE_VARIABLES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')
"""Variables that Fast DDS 3 (Kilted) and Fast DDS 2 (Jazzy and before) read."""

_SEGMENT = re.compile(r'<segment_size>\s*([0-9]{1,18})(?![0-9])')
_MOST_PROFILE_CHARACTERS = 1 << 20
_DEFAULT_SEGMENT_BYTES = 512 << 10
_OVERHEAD = 1.05
"""Of a file of Fast DDS over the segment in it: 140,509,728 bytes for 128 MiB."""

_TRACING_FILES = 'lttng-ust-wait-*'
_TRACING_BYTES = 2 * 4096
_WHAT_TO_DO = (
    'remove files left by ended processes (fastdds shm clean, or ls -l /dev/shm); in a '
    'container: --ipc=host, or --shm-size=1g'
)


def end_without_room(folder: Path = FOLDER) -> None:
    """
    End the process with an error message if importing rclpy would end it without one.

    LTTng, which ROS 2 is built with, writes two small files there without asking for the room;
    the kernel answers with SIGBUS. If they exist already, a full folder does no harm, nor does one
    that is not writable.

    """
    room = room_bytes(folder)
    has_room = room is None or room[0] >= _TRACING_BYTES
    if has_room or not os.access(folder, os.W_OK) or any(folder.glob(_TRACING_FILES)):
        return
    print(f'cannot start: {folder} is full, and ROS 2 needs room in it; {_WHAT_TO_DO}',
          file=sys.stderr, flush=True)
    os._exit(1)


def room_bytes(folder: Path = FOLDER) -> tuple[int, int] | None:
    """Return the free space for this user and the size of the folder, None if it is missing."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    free = found.f_bavail * found.f_frsize if os.access(folder, os.W_OK) else 0
    return free, found.f_blocks * found.f_frsize


def memory_problem(environment: Mapping[str, str], folder: Path = FOLDER) -> str:
    """
    Return a warning if Fast DDS has no room for its segment, '' if it has.

    It then sends images of this host by UDP, or through a segment that is too small for them.

    Parameters
    ----------
    environment
        Environment of the process: middleware and profile.
    folder
        Replaces /dev/shm.

    """
    room = room_bytes(folder)
    needed = _segment_bytes(environment) * _OVERHEAD
    uses_it = 'fastrtps' in (environment.get('RMW_IMPLEMENTATION') or 'fastrtps')
    if not uses_it or (room is not None and room[0] >= needed):
        return ''
    has = 'does not exist' if room is None else (
        f'has {room[0] / 2**20:.1f} of {room[1] / 2**20:.1f} MiB free'
    )
    return (
        f'{folder} {has}, and Fast DDS takes {needed / 2**20:.1f} MiB of it for each process: '
        f'images on this host are slower or get lost. {_WHAT_TO_DO[0].upper()}'
        f'{_WHAT_TO_DO[1:]}'
    )


def _segment_bytes(environment: Mapping[str, str]) -> int:
    """Return the largest segment size of the profiles."""
    sizes = [_DEFAULT_SEGMENT_BYTES]
    for name in filter(None, map(environment.get, PROFILE_VARIABLES)):
        with contextlib.suppress(OSError):  # Fast DDS reports it itself
            if Path(name).is_file():
                with open(name, encoding='utf-8', errors='replace') as file:
                    text = file.read(_MOST_PROFILE_CHARACTERS)
                sizes += map(int, _SEGMENT.findall(text))
    return max(sizes)
