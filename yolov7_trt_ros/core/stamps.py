"""Header stamps as nanoseconds."""

from __future__ import annotations

from typing import Any

NS_PER_S = 1_000_000_000


def stamp_to_ns(stamp: Any) -> int:
    """Return nanoseconds of a builtin_interfaces/Time, rclpy's or rosbags'."""
    return int(stamp.sec) * NS_PER_S + int(stamp.nanosec)
