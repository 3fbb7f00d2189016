"""
PowerLimit: limits the power of a PC's GPU whose clock cannot be locked, for the governor.

A lower limit slows only frames that would draw more power; the governor measures how much. The
limit is never set above the one that was found.

"""

from __future__ import annotations

from functools import partial
import math

from yolov7_trt_ros.errors import PowerCommandError
from yolov7_trt_ros.power.changes.records import GpuRecord
from yolov7_trt_ros.power.nvml.limits import NvmlChanges
from yolov7_trt_ros.power.units import MW_PER_W


class PowerLimit:
    """
    Limits the power of a GPU before Volta.

    Parameters
    ----------
    changes
        Makes the changes.

    Raises
    ------
    PowerCommandError
        Its power limit cannot be set either.

    """

    name = 'gpu_power_limit'
    unit = 'W'
    note = 'this GPU cannot lock its clock (it is older than Volta): its power is limited instead'

    def __init__(self, changes: NvmlChanges) -> None:
        self._changes = changes
        found_mw = changes.limits.power_limit_mw()
        least_mw = changes.limits.least_power_limit_mw()
        if found_mw is None or least_mw is None:
            raise PowerCommandError(
                'this GPU can neither lock its clock, being older than Volta, nor limit its power '
                '(nvidia-smi -q -d POWER shows N/A), so nothing can be governed here'
            )
        left = changes.adopt(self.name)  # the current limit may be set by that process
        self._found_mw = found_mw if left is None or left.was_mw is None else left.was_mw
        self._found_w = self._found_mw / MW_PER_W
        self._least_w = math.ceil(least_mw / MW_PER_W)

    def steps(self) -> tuple[float, ...]:
        """Return the available limits, W, ascending: whole ones, and the one that was found."""
        found_w = self._found_w
        whole = [float(watt) for watt in range(self._least_w, int(found_w) + 1) if watt < found_w]
        return (*whole, found_w)

    def limit(self, cap: float | None, hold: float | None) -> float:
        """
        Set the power limit; None restores the one that was found.

        Returns
        -------
        float
            The limit now, W, read back.

        Raises
        ------
        PowerCommandError
            A cap of the clock is requested, or another limit was read back.
        PowerError
            As `NvmlChanges.make`.

        """
        if cap is not None:
            raise PowerCommandError(
                'this GPU cannot lock its clock, which needs one from Volta on: leave '
                'gpu_max_freq_mhz at 0; the governor limits its power instead'
            )
        found_w = self._found_w
        if hold is not None:
            limit_mw = round(min(max(hold, self._least_w), found_w) * MW_PER_W)
            change = partial(self._changes.limits.set_power_limit, limit_mw)
            self._changes.make(
                f'-pl {limit_mw / MW_PER_W:g}', change, f'-pl {found_w:g}', self.name,
                GpuRecord(self._found_mw),
            )
            return limit_mw / MW_PER_W
        if self._changes.is_left:
            self.reset()
        return found_w

    def reset(self) -> None:
        """Restore the limit that was found; errors as `limit`."""
        change = partial(self._changes.limits.set_power_limit, self._found_mw)
        self._changes.undo(f'-pl {self._found_w:g}', change, self.name)
