"""
NvmlGpuClock: the clock of a GPU in a PC, capped and held by NVML's locked clocks.

NVML cannot read them back: that a call was accepted has to do, and what another program had locked
before is lost. Only root may do it.

"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType

from yolov7_trt_ros.errors import PowerCommandError, PowerError, PowerPermissionError, SettingError
from yolov7_trt_ros.power.nvml import NvmlDevice, NvmlLimits
from yolov7_trt_ros.power.root_access import Report, ignore

STEPS = 12
"""The governor gets this many clocks of the hundred or so that there are."""


class NvmlGpuClock:
    """
    The GPU of a PC; it is opened by the first call.

    Parameters
    ----------
    library
        Returns the module pynvml.
    index
        Number of the GPU, as nvidia-smi counts.
    dry_run
        Change nothing; `report` says what would be done.
    report
        Is told each change, a line each.

    """

    def __init__(
        self, library: Callable[[], ModuleType], index: int = 0, *, dry_run: bool = False,
        report: Report = ignore,
    ) -> None:
        self._library, self._index = library, index
        self._dry_run, self._report = dry_run, report
        self._device: NvmlDevice | None = None
        self._table: tuple[int, ...] = ()
        self._cap_mhz: float | None = None
        self._hold_mhz: float | None = None
        self._is_locked = False

    @property
    def note(self) -> str:
        """Nothing: it is held or refused."""
        return ''

    @property
    def changed(self) -> tuple[str, ...]:
        """What `restore` would put back."""
        return ('gpu_max_frequency',) if self._is_locked else ()

    def frequencies_mhz(self) -> tuple[float, ...]:
        """
        Return clocks spread evenly over those of the GPU, rising, its lowest and highest included.

        Raises
        ------
        MissingDependencyError
            No pynvml.
        PowerError
            No driver, no GPU, or it does not tell.

        """
        table = self._find_table()
        count = min(STEPS, len(table))
        last = len(table) - 1
        places = {round(step * last / max(1, count - 1)) for step in range(count)}
        return tuple(float(table[place]) for place in sorted(places))

    def set_cap(self, mhz: float | None) -> float:
        """
        Limit the clock; None takes the limit away.

        Returns
        -------
        float
            The highest clock allowed now, MHz: rounded down to one there is; not read back.

        Raises
        ------
        SettingError
            Not above 0 MHz.
        PowerPermissionError
            Not root; the message has the command for it.
        PowerError
            As of `frequencies_mhz`; or this GPU does not lock clocks (older than Volta).

        """
        return self._lock(mhz, self._hold_mhz)

    def hold(self, mhz: float | None) -> float:
        """Keep the clock at one frequency below the cap; otherwise as `set_cap`."""
        return self._lock(self._cap_mhz, mhz)

    def restore(self) -> None:
        """
        Free the clock, if it was locked here.

        Raises
        ------
        PowerError
            The GPU is lost, or root is needed by now.

        """
        if self._is_locked:
            self._reset()

    def close(self) -> None:
        """Let go of the GPU."""
        if self._device is not None:
            self._device.close()

    def _lock(self, cap_mhz: float | None, hold_mhz: float | None) -> float:
        table = self._find_table()
        wanted_mhz = [mhz for mhz in (cap_mhz, hold_mhz) if mhz is not None]
        if not all(mhz > 0 for mhz in wanted_mhz):
            raise SettingError(f'a limit of the GPU clock needs to be above 0 MHz: {wanted_mhz}')
        highest = max((mhz for mhz in table if mhz <= min(wanted_mhz, default=table[-1])),
                      default=table[0])
        if wanted_mhz:
            lowest = table[0] if hold_mhz is None else highest
            self._change(
                f'-lgc {lowest},{highest}', lambda limits: limits.set_max_clock(highest, lowest)
            )
            self._is_locked = not self._dry_run
        elif self._is_locked:
            self._reset()
        self._cap_mhz, self._hold_mhz = cap_mhz, hold_mhz
        return float(highest)

    def _reset(self) -> None:
        self._change('-rgc', NvmlLimits.reset_clocks)
        self._is_locked = False

    def _change(self, options: str, change: Callable[[NvmlLimits], None]) -> None:
        """Make a change that `nvidia-smi` makes with these options."""
        if self._dry_run:
            self._report(f'would do as nvidia-smi -i {self._index} {options}')
            return
        try:
            change(NvmlLimits(self._open()))
        except PowerPermissionError as exc:
            raise PowerPermissionError(
                f'{exc}. Run the node as root, or do by hand: '
                f'sudo nvidia-smi -i {self._index} {options}'
                + ('' if options == '-rgc' else f' (-i {self._index} -rgc takes it away)')
            ) from exc
        except PowerCommandError as exc:
            raise PowerCommandError(
                f'{exc}. Locked clocks need a GPU from Volta on; the power of an older one can be '
                f'limited by hand: sudo nvidia-smi -i {self._index} -pl WATTS'
            ) from exc
        self._report(f'did as nvidia-smi -i {self._index} {options}')

    def _open(self) -> NvmlDevice:
        if self._device is None:
            self._device = NvmlDevice(self._library(), self._index)
        return self._device

    def _find_table(self) -> tuple[int, ...]:
        if not self._table:
            device = self._open()
            self._table = device.guarded('clocks', partial(_read_table, device))
        return self._table


def _read_table(device: NvmlDevice) -> tuple[int, ...]:
    """Return the clocks at the highest clock of the memory, rising."""
    memory_mhz = device.demand('nvmlDeviceGetSupportedMemoryClocks')
    table: list[int] = []
    if memory_mhz:
        table = device.demand('nvmlDeviceGetSupportedGraphicsClocks', max(memory_mhz))
    if not table:
        raise PowerError(
            'this GPU does not tell which clocks it can have (nvidia-smi -q -d SUPPORTED_CLOCKS '
            'shows N/A as well), so its clock cannot be limited here'
        )
    return tuple(sorted({int(mhz) for mhz in table}))
