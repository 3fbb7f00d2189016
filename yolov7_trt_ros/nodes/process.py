"""What the process itself needs for large images: memory allocator and transport settings."""

from __future__ import annotations

from collections.abc import Mapping
import ctypes
from pathlib import Path
import re

from ament_index_python.packages import get_package_share_directory, PackageNotFoundError

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h of glibc
_MIB = 1 << 20
PROFILE_VARIABLES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')
"""What Fast DDS 3 (Kilted) and Fast DDS 2 (Jazzy and before) read."""
PROFILE_NAME = 'fastdds_large_images.xml'
_FIRST_RMW_ON_FASTDDS_3 = 9  # rmw_fastrtps_cpp 9.x is Kilted's, 8.x Jazzy's


def tune_malloc() -> bool:
    """
    Make glibc keep image-sized buffers instead of returning them to the kernel each time.

    Page faults of fresh 6 MB buffers are most of what a 1080p message costs in rclpy. To be called
    before large allocations. The process keeps its peak heap.

    Returns
    -------
    False where the C library has no mallopt (musl).

    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is None:
        return False
    return all(
        mallopt(option, value) == 1
        for option, value in (
            (_M_MMAP_THRESHOLD, 256 * _MIB),
            (_M_TRIM_THRESHOLD, 1024 * _MIB),
            (_M_TOP_PAD, 64 * _MIB),
        )
    )


def find_profile() -> Path | None:
    """Return the Fast DDS profile that ships with this package, None where it is not installed."""
    candidates = [Path(__file__).resolve().parents[2] / 'config' / PROFILE_NAME]
    try:
        share = Path(get_package_share_directory('yolov7_trt_ros'))
        candidates.insert(0, share / 'config' / PROFILE_NAME)
    except (PackageNotFoundError, LookupError, OSError):
        pass  # a source tree, or AMENT_PREFIX_PATH is not set
    return next((path for path in candidates if path.is_file()), None)


def profile_variable() -> str:
    """Return the profile variable that the installed rmw_fastrtps reads without complaint."""
    try:
        share = Path(get_package_share_directory('rmw_fastrtps_cpp'))
        text = (share / 'package.xml').read_text(encoding='utf-8')
    except (PackageNotFoundError, LookupError, OSError):
        return PROFILE_VARIABLES[0]
    major = re.search(r'<version>(\d+)', text)
    old = major is not None and int(major[1]) < _FIRST_RMW_ON_FASTDDS_3
    return PROFILE_VARIABLES[1 if old else 0]


def large_image_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """
    Return the variables to add so that Fast DDS can publish images over 512 KiB.

    That is the size of its default shared-memory segment; larger best-effort images are lost.
    Empty where `environment` already names a profile (the user's stands) or ours is not installed.
    To be set before rclpy.init.

    """
    profile = find_profile()
    if profile is None or any(environment.get(name) for name in PROFILE_VARIABLES):
        return {}
    return {profile_variable(): str(profile)}
