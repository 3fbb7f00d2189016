"""Set the clock and power limits of a PC's GPU through NVML; report them only in a dry run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from yolov7_trt_ros.errors import PowerCommandError, PowerPermissionError
from yolov7_trt_ros.power.changes.records import GpuRecord
from yolov7_trt_ros.power.nvml.gpu_journal import GpuJournal
from yolov7_trt_ros.power.nvml.library import AbsentError, NvmlDevice
from yolov7_trt_ros.power.root.root_access import Report

FIRST_THAT_LOCKS_CLOCKS = (7, 0)
"""Compute capability of Volta."""


class NvmlLimits:
    """
    Sets clock and power limits of a GPU, as nvidia-smi -lgc and -pl do; both need root.

    Parameters
    ----------
    device
        The GPU; it stays open.

    """

    def __init__(self, device: NvmlDevice) -> None:
        self._device = device

    def can_lock_clocks(self) -> bool:
        """Whether its clocks can be locked: from Volta on, and if its generation is unknown."""
        capability = self._ask('nvmlDeviceGetCudaComputeCapability')
        return capability is None or tuple(capability) >= FIRST_THAT_LOCKS_CLOCKS

    def clock_table_mhz(self) -> tuple[int, ...]:
        """Return the clocks at the highest memory clock, ascending; () if they are not listed."""
        memory_mhz = self._ask('nvmlDeviceGetSupportedMemoryClocks')
        if not memory_mhz:
            return ()
        table = self._ask('nvmlDeviceGetSupportedGraphicsClocks', max(memory_mhz)) or ()
        return tuple(sorted({int(mhz) for mhz in table}))

    def set_max_clock(self, mhz: int, min_mhz: int = 0) -> None:
        """
        Keep the clock of the GPU within limits; NVML cannot read them back.

        Raises
        ------
        PowerPermissionError
            Root is needed.
        PowerCommandError
            The GPU does not support it.

        """
        self._set('nvmlDeviceSetGpuLockedClocks', min_mhz, mhz)

    def reset_clocks(self) -> None:
        """Remove the limits of the clock; errors as `set_max_clock`."""
        self._set('nvmlDeviceResetGpuLockedClocks')

    def power_limit_mw(self) -> int | None:
        """Return the current power limit; None if this GPU has none."""
        limit: int | None = self._ask('nvmlDeviceGetPowerManagementLimit')
        return limit

    def least_power_limit_mw(self) -> int | None:
        """Return the lowest power limit that can be set; None if this GPU has none."""
        limits = self._ask('nvmlDeviceGetPowerManagementLimitConstraints')
        return None if limits is None else int(limits[0])

    def set_power_limit(self, limit_mw: int) -> None:
        """
        Set the power limit and read it back; errors as `set_max_clock`.

        Raises
        ------
        PowerCommandError
            It is not supported, or another limit was read back.

        """
        self._set('nvmlDeviceSetPowerManagementLimit', limit_mw)
        holds_mw = self.power_limit_mw()
        if holds_mw != limit_mw:
            raise PowerCommandError(
                f'a power limit of {limit_mw} mW was accepted, and now it is {holds_mw} mW; '
                'nvidia-smi -q -d POWER shows which limits this GPU allows'
            )

    def _ask(self, function: str, *arguments: object) -> Any:
        return self._device.guarded(function, partial(self._device.ask, function, *arguments))

    def _set(self, function: str, *arguments: object) -> None:
        self._device.guarded(function, partial(self._device.demand, function, *arguments))


class NvmlChanges:
    """
    Makes changes of a GPU, reports them as nvidia-smi commands, and tracks whether one is left.

    Parameters
    ----------
    limits
        Sets them.
    index
        Number of the GPU, as nvidia-smi counts.
    dry_run
        Change nothing; report what would be done.
    report
        Called with a line about each change.
    journal
        Keeps the state before each change; None: a SIGKILL leaves the change.

    """

    def __init__(
        self, limits: NvmlLimits, index: int, dry_run: bool, report: Report,
        journal: GpuJournal | None = None,
    ) -> None:
        self.limits = limits
        self._index, self._dry_run, self._report = index, dry_run, report
        self._journal = None if dry_run else journal
        self._is_left = False

    @property
    def is_left(self) -> bool:
        """Whether a change may have to be undone; also after a call that hung."""
        return self._is_left

    def adopt(self, name: str) -> GpuRecord | None:
        """Take over the change of an ended process; None without one of this name."""
        if self._journal is None:
            return None
        before = self._journal.take()
        if self._journal.problem:
            self._report(self._journal.problem)
        for other in before.keys() - {name}:
            self._report(f'{other} of an ended process is kept in the journal: this GPU has, or '
                         f'tells, only {name}')
        self._is_left |= name in before
        return before.get(name)

    def make(
        self, options: str, change: Callable[[], None], undo_options: str, name: str,
        before: GpuRecord,
    ) -> None:
        """
        Make a change, given the options of nvidia-smi that make and undo it.

        Its name and the state before it are written to the journal first.

        Raises
        ------
        PowerPermissionError
            Not root; the message gives the commands to use.
        PowerCommandError
            The GPU does not support it.
        PowerError
            The GPU is lost, or its driver hangs.

        """
        was_left = self._is_left
        if self._journal is not None:
            self._journal.put(name, before)
        self._is_left = not self._dry_run
        try:
            self._carry_out(options, change)
        except PowerPermissionError as exc:
            self._settle(name, was_left)
            raise PowerPermissionError(
                f'{exc}. Run the node as root, or do by hand: sudo {self._command(options)} '
                f'(-i {self._index} {undo_options} takes it away)'
            ) from exc
        except AbsentError:
            self._settle(name, was_left)
            raise

    def undo(self, options: str, change: Callable[[], None], name: str) -> None:
        """Undo the change; errors as `make`."""
        try:
            self._carry_out(options, change)
        except PowerPermissionError as exc:
            raise PowerPermissionError(
                f'{exc}. Do it by hand: sudo {self._command(options)}'
            ) from exc
        self._settle(name, False)

    def _settle(self, name: str, is_left: bool) -> None:
        """Note whether a change is left, after one that failed or was undone."""
        self._is_left = is_left
        if not is_left and self._journal is not None:
            self._journal.forget(name)

    def _carry_out(self, options: str, change: Callable[[], None]) -> None:
        if self._dry_run:
            self._report(f'would do as {self._command(options)}')
            return
        change()
        self._report(f'did as {self._command(options)}')

    def _command(self, options: str) -> str:
        return f'nvidia-smi -i {self._index} {options}'
