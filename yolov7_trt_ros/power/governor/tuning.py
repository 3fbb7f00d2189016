"""The governor's tuning: times and shares, the same for every board."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tuning:
    """Times and shares that shape the behaviour; none depends on the board or its table."""

    settle_s: float = 0.02
    """After a switch it takes up to 8 ms until the new clocks hold."""

    stale_s: float = 0.3
    """Frames that began before a switch are passed over, those that come within so long."""

    neighbours: int = 5
    """A frame is compared with so many before it and after it."""

    shift: float = 0.1
    """A workload is another one when its frames take this share more or less."""

    missing: float = 1.5
    """A frame that was dropped counts as one that took so many times its deadline."""

    memory_s: float = 300.0
    """A workload is remembered so long."""

    weight_s: float = 20.0
    """Workloads weigh by how many frames of them there were in about so long."""

    power_settle_s: float = 1.0
    """The rail sensors average over 0.43 s."""

    enter: float = 0.75
    """To enter a state, at most this share of the allowed late frames is to be expected."""

    leave: float = 1.1
    """... and to stay, at most this."""

    present: float = 2.0
    """What runs now, taken alone, may be late so many times as often as all workloads together."""

    gain: float = 0.03
    """A state has to save this share of power to be worth a switch."""

    least_gain: float = 0.005
    """... and this share where its clocks are lower and its power was measured."""

    patience: int = 3
    """So many late frames of the last ten lead upwards; each false alarm asks for one more."""

    most_patience: int = 8

    headroom: float = 1.05
    """After a late frame the next state would have had so much more room for it."""

    known_s: float = 1.0
    """A state is left for too little room only after so long in it."""

    look_s: float = 0.5
    """A cheaper state is looked for at most this often."""

    caution_s: float = 2.0
    """
    A heavier workload of the last so many seconds still counts.

    Doubles each time the governor was caught with too low clocks, up to `most_caution_s`, and
    falls back by half in `calm_s`.
    """

    most_caution_s: float = 120.0
    calm_s: float = 40.0

    retry_s: float = 8.0
    """A state that failed is avoided so long, twice as long after each further failure."""

    most_retry_s: float = 600.0
    idle_s: float = 2.0
    """Without a frame for so long there is no work, and the clocks are let go of."""

    others_enter: float = 0.08
    """OtherLoad use the GPU when they take this share of what it can do at its highest clock."""

    others_leave: float = 0.04
    others_s: float = 3.0
    """... for so long."""

    others_calm_s: float = 10.0
    """They are gone when they take less than `others_leave` for so long."""

    thermal_step_s: float = 2.0
    """How long a lower ceiling gets to show its effect."""

    thermal_step: float = 0.1
    """The ceiling moves by this share of the highest clock; for an alarm by twice as much."""

    thermal_band_c: float = 4.0
    """It is cool when so much below the limit."""

    thermal_retry_s: float = 10.0
    """How long it has to be cool before the ceiling rises; doubles each time it was too soon."""

    alarm_step_s: float = 0.5
    """How long an alarm may stay up before the ceiling comes down again."""

    budget_reach: float = 0.4
    """States are looked at that lie above the present one by this share of the highest clock."""

    budget_entry: float = 0.97
    """One is entered when it is likely to take this share of the budget, or less."""


TUNING = Tuning()
