"""Factors between units of time, and header stamps as nanoseconds."""

from __future__ import annotations

from typing import Any

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
MS_PER_S = 1_000


def stamp_to_ns(stamp: Any) -> int:
    """Return nanoseconds of a builtin_interfaces/Time, rclpy's or rosbags'."""
    return int(stamp.sec) * NS_PER_S + int(stamp.nanosec)


def in_seconds(stamp_ns: int) -> str:
    """Return a stamp in seconds with all its digits."""
    return '{}.{:09d}'.format(*divmod(stamp_ns, NS_PER_S))


def is_proper_stamp(stamp: Any) -> bool:
    """Tell whether a time is one that a clock gives: not before 1970, less than a second of ns."""
    return bool(stamp.sec >= 0 and 0 <= stamp.nanosec < NS_PER_S)
