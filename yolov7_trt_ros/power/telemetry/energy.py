"""Energy between samples: from hardware counters, else by integrating power over time."""

from __future__ import annotations

from yolov7_trt_ros.power.telemetry.sample import BoardSample
from yolov7_trt_ros.power.units import MW_PER_W, NS_PER_S

MAX_GAP_S = 10.0
"""Between samples further apart than this, power is not known well enough to integrate it."""


class EnergyCounter:
    """
    Sums up the energy of a board from its samples, in joules.

    Where both of two neighbouring samples have a counter (RAPL, NVML), its difference counts, no
    matter how long ago; otherwise the trapezoid under the total power. The time and energy of
    gaps (no total, or more than `max_gap_s` without a counter) are left out of both sums, so that
    the mean power stays right. Power on a Jetson is an average over about 0.43 s: intervals to
    measure should be several seconds long.

    Parameters
    ----------
    max_gap_s
        See above.

    """

    def __init__(self, max_gap_s: float = MAX_GAP_S) -> None:
        self._max_gap_s = max_gap_s
        self._last: BoardSample | None = None
        self._joules = 0.0
        self._seconds = 0.0
        self._gap_s = 0.0

    @property
    def joules(self) -> float:
        """Energy since the start."""
        return self._joules

    @property
    def seconds(self) -> float:
        """Time for which the energy is known."""
        return self._seconds

    @property
    def mean_w(self) -> float | None:
        """Mean power over the time that counts; None as long as that is none."""
        return self._joules / self._seconds if self._seconds > 0.0 else None

    def joules_per_frame(self, frames: int) -> float | None:
        """
        Return the energy of one of the frames processed since the start.

        It includes the power of the idle board. None without frames or energy. Frames are
        assumed to be spread evenly: those in gaps count with the mean power of the rest.
        """
        mean_w = self.mean_w
        if frames <= 0 or mean_w is None:
            return None
        return mean_w * (self._seconds + self._gap_s) / frames

    def add(self, sample: BoardSample) -> None:
        """Take the next sample; one that is not later than the one before is ignored."""
        last = self._last
        if last is not None and sample.time_ns <= last.time_ns:
            return
        self._last = sample
        if last is None:
            return
        duration_s = (sample.time_ns - last.time_ns) / NS_PER_S
        joules = self._between(last, sample, duration_s)
        if joules is None:
            self._gap_s += duration_s
        else:
            self._joules += joules
            self._seconds += duration_s

    def _between(self, last: BoardSample, sample: BoardSample, duration_s: float) -> float | None:
        if last.total_energy_j is not None and sample.total_energy_j is not None:
            counted_j = sample.total_energy_j - last.total_energy_j
            if counted_j >= 0.0:  # else the source was reopened in between
                return counted_j
        if last.total_mw is None or sample.total_mw is None or duration_s > self._max_gap_s:
            return None
        return (last.total_mw + sample.total_mw) / 2.0 / MW_PER_W * duration_s
