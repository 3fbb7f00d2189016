"""A clock for timers that do not depend on /clock, such as those of diagnostics."""

from __future__ import annotations

from rclpy import clock


def steady_clock() -> clock.Clock:
    """
    Return a clock that does not depend on /clock.

    With `use_sim_time`, a timer on the node's clock does not run until there is a /clock.

    """
    kinds = clock.ClockType  # type: ignore[attr-defined, unused-ignore]
    return clock.Clock(clock_type=kinds.STEADY_TIME)
