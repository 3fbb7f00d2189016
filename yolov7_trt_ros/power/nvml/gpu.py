"""NvmlGpu: the GPU of a PC as the governor uses it; its clock is locked or its power limited."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from yolov7_trt_ros.power.nvml.clock import LockedClock
from yolov7_trt_ros.power.nvml.gpu_journal import GpuJournal
from yolov7_trt_ros.power.nvml.library import NvmlDevice, READ_TIMEOUT_S
from yolov7_trt_ros.power.nvml.limits import NvmlChanges, NvmlLimits
from yolov7_trt_ros.power.nvml.power_limit import PowerLimit
from yolov7_trt_ros.power.root.root_access import ignore, Report

STEPS = 12
"""The governor gets this many clocks of the hundred or so that there are."""


class NvmlGpu:
    """
    The GPU of a PC; it is opened by the first call. Only root may change it.

    Every call may raise the errors of `NvmlDevice`, and MissingDependencyError without pynvml.

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
    timeout_s
        How long one call may take.
    journal
        Has what was before each change, for the start after a SIGKILL; None: there is none.

    """

    def __init__(
        self, library: Callable[[], ModuleType], index: int = 0, *, dry_run: bool = False,
        report: Report = ignore, timeout_s: float = READ_TIMEOUT_S,
        journal: GpuJournal | None = None,
    ) -> None:
        self._journal = journal
        self._library, self._index, self._timeout_s = library, index, timeout_s
        self._dry_run, self._report = dry_run, report
        self._device: NvmlDevice | None = None
        self._changes: NvmlChanges | None = None
        self._knob: LockedClock | PowerLimit | None = None
        self._cap: float | None = None
        self._hold: float | None = None

    @property
    def unit(self) -> str:
        """MHz, or W where the clock cannot be locked; known after the first call."""
        return LockedClock.unit if self._knob is None else self._knob.unit

    @property
    def note(self) -> str:
        """Return what is not as it was asked for; '' for nothing."""
        return '' if self._knob is None else self._knob.note

    @property
    def changed(self) -> tuple[str, ...]:
        """Return what `restore` would put back."""
        is_left = self._changes is not None and self._changes.is_left
        return (self._knob.name,) if is_left and self._knob is not None else ()

    def adopt(self) -> tuple[str, ...]:
        """
        Take over what a process that has ended has left; `restore` puts it back.

        Raises
        ------
        PowerError
            Another process changes the GPU; the message has its id.

        """
        if self._journal is not None and self._journal.is_there and not self._dry_run:
            self._open()
        return self.changed

    def steps(self) -> tuple[float, ...]:
        """Return steps spread evenly over those of the GPU, its lowest and highest included."""
        steps = self._open().steps()
        count, last = min(STEPS, len(steps)), len(steps) - 1
        places = {round(number * last / max(1, count - 1)) for number in range(count)}
        return tuple(steps[place] for place in sorted(places))

    def set_cap(self, mhz: float | None) -> float:
        """
        Limit the clock; None takes the limit away.

        Returns
        -------
        float
            The highest step allowed now: of a clock not read back.

        Raises
        ------
        SettingError
            Not above 0 MHz.
        PowerPermissionError
            Not root; the message has the command for it.
        PowerError
            This GPU does not have it; the message says what it has.

        """
        highest = self._open().limit(mhz, self._hold)
        self._cap = mhz
        return highest

    def hold(self, step: float | None) -> float:
        """Keep to one step, no higher than the cap; otherwise as `set_cap`."""
        highest = self._open().limit(self._cap, step)
        self._hold = step
        return highest

    def restore(self) -> None:
        """
        Free the clock or put the power limit back, if it was changed here.

        Raises
        ------
        PowerError
            The GPU is lost, or root is needed by now.

        """
        if self.changed and self._knob is not None:
            self._knob.reset()

    def close(self) -> None:
        """Let go of the GPU and of the journal."""
        if self._device is not None:
            self._device.close()
        if self._journal is not None:
            self._journal.close()

    def _open(self) -> LockedClock | PowerLimit:
        if self._device is None:
            self._device = NvmlDevice(
                self._library(), self._index, timeout_s=self._timeout_s
            )
        if self._knob is None:
            limits = NvmlLimits(self._device)
            self._changes = NvmlChanges(
                limits, self._index, self._dry_run, self._report, self._journal
            )
            kind = LockedClock if limits.can_lock_clocks() else PowerLimit
            self._knob = kind(self._changes)
        return self._knob
