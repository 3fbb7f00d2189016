"""
LockedClock: caps and holds the clock of a PC's GPU by the locked clocks of NVML.

NVML cannot read them back: a change counts once the call was accepted, and a previous lock by
another program is lost.

"""

from __future__ import annotations

from functools import partial

from yolov7_trt_ros.errors import PowerError, SettingError
from yolov7_trt_ros.power.changes.records import GpuRecord
from yolov7_trt_ros.power.nvml.limits import NvmlChanges


class LockedClock:
    """
    Locks the clock of a GPU from Volta on.

    Parameters
    ----------
    changes
        Makes the changes.

    Raises
    ------
    PowerError
        The GPU does not list its clocks.

    """

    name = 'gpu_locked_clocks'
    unit = 'MHz'
    note = ''

    def __init__(self, changes: NvmlChanges) -> None:
        self._changes = changes
        self._table = changes.limits.clock_table_mhz()
        changes.adopt(self.name)
        if not self._table:
            raise PowerError(
                'this GPU does not list its clocks (nvidia-smi -q -d '
                'SUPPORTED_CLOCKS shows N/A as well), so its clock cannot be limited here'
            )

    def steps(self) -> tuple[float, ...]:
        """Return the available clocks, MHz, ascending."""
        return tuple(map(float, self._table))

    def limit(self, cap: float | None, hold: float | None) -> float:
        """
        Cap the clock, and hold it below the cap; without both it is released.

        Returns
        -------
        float
            The highest clock allowed now, MHz: rounded down to an available one.

        Raises
        ------
        SettingError
            Not above 0 MHz.
        PowerError
            As `NvmlChanges.make`.

        """
        wanted = [mhz for mhz in (cap, hold) if mhz is not None]
        if not all(mhz > 0 for mhz in wanted):
            raise SettingError(f'a limit of the GPU clock needs to be above 0 MHz: {wanted}')
        table, most = self._table, min(wanted, default=self._table[-1])
        highest = max((mhz for mhz in table if mhz <= most), default=table[0])
        if wanted:
            lowest = table[0] if hold is None else highest
            change = partial(self._changes.limits.set_max_clock, highest, lowest)
            self._changes.make(
                f'-lgc {lowest},{highest}', change, '-rgc', self.name, GpuRecord(None)
            )
        elif self._changes.is_left:
            self.reset()
        return float(highest)

    def reset(self) -> None:
        """Release the clock; errors as `NvmlChanges.make`."""
        self._changes.undo('-rgc', self._changes.limits.reset_clocks, self.name)
