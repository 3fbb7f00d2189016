"""NvmlGpu: a PC's GPU for the governor, which locks its clock or limits its power."""

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
"""Number of clocks for the governor, out of about a hundred."""


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
        Change nothing; report what would be done.
    report
        Called with a line about each change.
    timeout_s
        Time limit of one call.
    journal
        Keeps the state before each change, for the start after a SIGKILL; None: no journal.

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
        self._is_ours = False  # whether this process has set it, whatever an earlier one left

    @property
    def unit(self) -> str:
        """MHz, or W if the clock cannot be locked; known after the first call."""
        return LockedClock.unit if self._knob is None else self._knob.unit

    @property
    def note(self) -> str:
        """Return how the result differs from the request; '' for not at all."""
        return '' if self._knob is None else self._knob.note

    @property
    def changed(self) -> tuple[str, ...]:
        """Return the names of the changes to restore."""
        is_left = self._changes is not None and self._changes.is_left
        return (self._knob.name,) if is_left and self._knob is not None else ()

    @property
    def journal_problem(self) -> str:
        """Return the defect of the journal that was found, '' for none."""
        return '' if self._journal is None else self._journal.problem

    def adopt(self) -> tuple[str, ...]:
        """
        Take over the change of an ended process; `restore` undoes it.

        Raises
        ------
        PowerError
            Another process changes the GPU; the message gives its pid.

        """
        if self._journal is not None and self._journal.is_there and not self._dry_run:
            self._open()
        return self.changed

    def steps(self) -> tuple[float, ...]:
        """Return steps evenly spread over those of the GPU, including the lowest and highest."""
        steps = self._open().steps()
        count, last = min(STEPS, len(steps)), len(steps) - 1
        places = {round(number * last / max(1, count - 1)) for number in range(count)}
        return tuple(steps[place] for place in sorted(places))

    def set_cap(self, mhz: float | None) -> float:
        """
        Limit the clock; None removes the limit.

        Returns
        -------
        float
            The highest step allowed now; a clock is not read back.

        Raises
        ------
        SettingError
            Not above 0 MHz.
        PowerPermissionError
            Not root; the message gives the command to use.
        PowerError
            The GPU does not support it; the message says what it supports.

        """
        highest = self._open().limit(mhz, self._hold)
        self._cap, self._is_ours = mhz, True
        return highest

    def hold(self, step: float | None) -> float:
        """Hold one step, at most the cap; otherwise as `set_cap`."""
        highest = self._open().limit(self._cap, step)
        self._hold, self._is_ours = step, True
        return highest

    def restore(self) -> None:
        """
        Release the clock or restore the power limit, if it was changed here.

        Raises
        ------
        PowerError
            The GPU is lost, or root is needed.

        """
        if self.changed and self._knob is not None:
            self._knob.reset()

    def keep(self) -> None:
        """
        Keep our change: it is not to be restored. That of an earlier process still is.

        Raises
        ------
        PowerError
            The journal cannot be written.

        """
        if self._is_ours and self._journal is not None and self._knob is not None:
            self._journal.forget(self._knob.name)

    def close(self) -> None:
        """Release the GPU and the journal."""
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
