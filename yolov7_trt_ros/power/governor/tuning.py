"""The governor's tuning: times and shares, the same for every board."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tuning:
    """Times and shares of the governor; none depends on the board or its table."""

    settle_s: float = 0.02
    """Time for new clocks to take effect; up to 8 ms were measured."""

    stale_s: float = 0.3
    """Frames that end within this time after a switch count only if they began after it."""

    neighbours: int = 5
    """Number of frames before and after a frame with which it is compared."""

    shift: float = 0.1
    """A workload is another one if its frames differ by this share."""

    missing: float = 1.5
    """A dropped frame counts as one that took this multiple of its deadline."""

    memory_s: float = 300.0
    """Time for which a workload is remembered."""

    weight_s: float = 20.0
    """Workloads are weighted by their frames in about this time."""

    power_settle_s: float = 1.0
    """The rail sensors average over 0.43 s."""

    enter: float = 0.75
    """To enter a state, at most this share of the allowed late frames may be expected."""

    leave: float = 1.1
    """... and to stay in it, at most this share."""

    present: float = 2.0
    """The current workload alone may be late this many times as often as all together."""

    gain: float = 0.03
    """Share of power that a state has to save to be worth a switch."""

    least_gain: float = 0.005
    """... and this share if its clocks are lower and its power was measured."""

    patience: int = 3
    """Late frames of the last ten that raise the clocks; each false alarm adds one."""

    most_patience: int = 8

    headroom: float = 1.05
    """Factor of room that the next state has to have for a late frame."""

    known_s: float = 1.0
    """Time in a state before it is left for too little room."""

    look_s: float = 0.5
    """Least time between two searches for a state of less power."""

    caution_s: float = 2.0
    """
    Time for which a heavier workload still counts.

    Doubles each time the clocks were too low for a new workload, up to `most_caution_s`, and
    halves in `calm_s`.
    """

    most_caution_s: float = 120.0
    calm_s: float = 40.0

    retry_s: float = 8.0
    """Time for which a failed state is avoided; doubles with each further failure."""

    most_retry_s: float = 600.0
    idle_s: float = 2.0
    """Time without a frame after which the clocks are released."""

    others_enter: float = 0.08
    """Share of the GPU at its highest clock from which other programs count ..."""

    others_leave: float = 0.04
    others_s: float = 3.0
    """... if they take it for this time."""

    others_calm_s: float = 10.0
    """They no longer count after less than `others_leave` for this time."""

    thermal_step_s: float = 2.0
    """Time for a lower ceiling to take effect."""

    thermal_step: float = 0.1
    """Step of the ceiling as a share of the highest clock; twice as much for an alarm."""

    thermal_band_c: float = 4.0
    """It is cool at this much below the limit."""

    thermal_retry_s: float = 10.0
    """Cool time before the ceiling rises; doubles each time it was too short."""

    alarm_step_s: float = 0.5
    """Time of an alarm after which the ceiling is lowered again."""

    budget_reach: float = 0.4
    """Range above the current state that is searched, as a share of the highest clock."""

    budget_entry: float = 0.97
    """Share of the budget that a state may be expected to take to be entered."""


TUNING = Tuning()
