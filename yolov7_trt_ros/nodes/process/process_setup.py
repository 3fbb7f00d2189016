"""Memory allocator and transport settings for large images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
import contextlib
import ctypes
import os
from pathlib import Path
import re

from ament_index_python.packages import get_package_share_directory, PackageNotFoundError

from yolov7_trt_ros.nodes.process.shared_memory import memory_problem, PROFILE_VARIABLES

_MIB = 1 << 20
# Number in malloc.h of glibc, and the MiB to ask for, the most first: older ones, such as 2.31 of
# JetPack 5, refuse an mmap threshold above 32 MiB.
_MALLOC = {
    'mmap threshold': (-3, (256, 128, 64, 32, 16)),
    'trim threshold': (-1, (1024, 512, 256)),
    'top pad': (-2, (64, 32, 16)),
}
_GIVES_BACK = {'trim threshold': 128 << 10, 'top pad': 0}
"""Bytes; the first is glibc's own default."""
_accepted: dict[str, int] = {}  # MiB, 0 where everything was refused; of this process
PROFILE_NAME = 'fastdds_large_images.xml'
_FIRST_RMW_ON_FASTDDS_3 = 9  # rmw_fastrtps_cpp 9.x is Kilted's, 8.x Jazzy's
_FIRST_RMW_WITH_RANGE = 7  # Iron's; 6.x is Humble's


def tune_malloc(mallopt: Callable[[int, int], int] | None = None) -> dict[str, int]:
    """
    Make glibc keep image-sized buffers instead of returning them to the kernel each time.

    Page faults of new 6 MB buffers are most of the cost of a 1080p message in rclpy. Call it
    before large allocations. The process keeps its peak heap.

    Parameters
    ----------
    mallopt
        Replaces that of the C library.

    Returns
    -------
    The largest accepted values in MiB; 0 for refused ones. Empty if the C library has no mallopt
    (musl).

    """
    mallopt = mallopt or getattr(ctypes.CDLL(None), 'mallopt', None)
    _accepted.clear()
    if mallopt is not None:
        for name, (option, sizes_mib) in _MALLOC.items():
            accepted = (size for size in sizes_mib if mallopt(option, size * _MIB) == 1)
            _accepted[name] = next(accepted, 0)
    return dict(_accepted)


@contextlib.contextmanager
def returning_freed_memory(mallopt: Callable[[int, int], int] | None = None) -> Iterator[None]:
    """
    Make the C library (glibc) return memory to the kernel that is freed within the block.

    Each model is opened in its own thread, in a heap of that thread. With the settings of
    `tune_malloc` the free end of such a heap stays resident, even after malloc_trim; measured in
    docs/bank.md. Memory that two threads free at the same time may stay in part.

    Parameters
    ----------
    mallopt
        Replaces that of the C library.

    """
    library = ctypes.CDLL(None)
    mallopt = mallopt or getattr(library, 'mallopt', None)
    trim = getattr(library, 'malloc_trim', None)
    if mallopt is None or trim is None:  # musl
        yield
        return
    for name, size_bytes in _GIVES_BACK.items():
        mallopt(_MALLOC[name][0], size_bytes)
    try:
        yield
        trim(0)
    finally:
        for name in _GIVES_BACK:
            if _accepted.get(name):
                mallopt(_MALLOC[name][0], _accepted[name] * _MIB)


def malloc_text() -> str:
    """Return the settings of `tune_malloc` in this process: `mmap threshold 256 MiB, ...`."""
    return ', '.join(
        f'{name} {size_mib} MiB' if size_mib else f'{name} refused'
        for name, size_mib in _accepted.items()
    ) or 'defaults of the C library'


def find_profile() -> Path | None:
    """Return the Fast DDS profile of this package, None if it is not installed."""
    candidates = [Path(__file__).resolve().parents[3] / 'config' / PROFILE_NAME]
    try:
        share = Path(get_package_share_directory('yolov7_trt_ros'))
        candidates.insert(0, share / 'config' / PROFILE_NAME)
    except (PackageNotFoundError, LookupError, OSError):
        pass  # a source tree, or AMENT_PREFIX_PATH is not set
    return next((path for path in candidates if path.is_file()), None)


def profile_variable() -> str:
    """Return the profile variable that the installed rmw_fastrtps reads without warning."""
    major = _rmw_fastrtps_major()
    old = major is not None and major < _FIRST_RMW_ON_FASTDDS_3
    return PROFILE_VARIABLES[1 if old else 0]


def has_discovery_range() -> bool:
    """Whether this ROS 2 reads ROS_AUTOMATIC_DISCOVERY_RANGE: from Iron on, so Humble does not."""
    major = _rmw_fastrtps_major()
    return major is None or major >= _FIRST_RMW_WITH_RANGE


def _rmw_fastrtps_major() -> int | None:
    """Return the major version of rmw_fastrtps_cpp, None if it is not found."""
    try:
        share = Path(get_package_share_directory('rmw_fastrtps_cpp'))
        text = (share / 'package.xml').read_text(encoding='utf-8')
    except (PackageNotFoundError, LookupError, OSError):
        return None
    major = re.search(r'<version>(\d+)', text)
    return int(major[1]) if major is not None else None


def large_image_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """
    Return the variables to add so that Fast DDS can publish images over 512 KiB.

    That is the size of its default shared-memory segment; larger best-effort images are lost.
    Empty if `environment` already names a profile (which is kept) or ours is not installed. Set
    them before rclpy.init.

    """
    profile = find_profile()
    if profile is None or any(environment.get(name) for name in PROFILE_VARIABLES):
        return {}
    return {profile_variable(): str(profile)}


def transport_advice() -> str:
    """Return what to do about images lost between two processes."""
    profile = find_profile() or f'config/{PROFILE_NAME} of yolov7_trt_ros'
    advice = (
        'Fast DDS drops images over 512 KiB by default; start the camera with '
        f'{profile_variable()}={profile}'
    )
    return '. '.join(filter(None, (memory_problem(os.environ), advice)))
