"""A clock for timers that go on whatever /clock says: diagnostics, looking for publishers."""

from __future__ import annotations

from rclpy import clock


def steady_clock() -> clock.Clock:
    """
    Return a clock that no /clock stops.

    A timer of a node's own clock stands still with `use_sim_time` while there is no /clock.

    """
    kinds = clock.ClockType  # type: ignore[attr-defined, unused-ignore]
    return clock.Clock(clock_type=kinds.STEADY_TIME)
