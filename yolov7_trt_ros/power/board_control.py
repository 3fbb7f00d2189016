"""
BoardControl: the interface that changes a board's power settings, here or through a service.

`power.control.PowerControl` does it here; `power.service.remote_control.RemoteControl` asks the
service `yolov7_trt power serve` on the host of a container.

"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from yolov7_trt_ros.errors import PowerError
from yolov7_trt_ros.power.board.identity import BoardInfo
from yolov7_trt_ros.power.clocks.clock_lock import ClockLockState
from yolov7_trt_ros.power.control import PowerControl
from yolov7_trt_ros.power.defaults import COMMAND_TIMEOUT_S
from yolov7_trt_ros.power.nvpmodel.values import CurrentMode, PowerMode
from yolov7_trt_ros.power.root.commands import CommandRunner
from yolov7_trt_ros.power.root.root_access import ignore, Report
from yolov7_trt_ros.power.service.remote_control import RemoteControl


class BoardControl(Protocol):
    """Changes a board and undoes it; `PowerControl` documents each method."""

    @property
    def dry_run(self) -> bool:
        """Whether changes are only reported."""

    @property
    def changed(self) -> tuple[str, ...]:
        """Return the names of the changes to restore."""

    @property
    def journal_problem(self) -> str:
        """Return the defect of the journal that was found, '' for none."""

    @property
    def holds_journal(self) -> bool:
        """Whether this process, and no other, changes the board."""

    @property
    def foreign_modes(self) -> int:
        """Return the number of power modes set by other programs, as far as detected."""

    def board(self) -> BoardInfo:
        """Return which board this is."""

    def modes(self) -> tuple[PowerMode, ...]:
        """Return the power modes of the board."""

    def default_mode_id(self) -> int | None:
        """Return the mode of the first boot; None if unknown."""

    def current_mode(self) -> CurrentMode:
        """Return the current power mode, as the board shows it."""

    def set_mode(self, name_or_id: str) -> CurrentMode:
        """Change the power mode, and read it back."""

    def jetson_clocks_state(self) -> ClockLockState:
        """Return whether the clocks are locked, and by whom."""

    def set_jetson_clocks(self, on: bool) -> ClockLockState:
        """Lock the clocks, or restore the state before."""

    def describe_clock_lock(self) -> str:
        """Return the state, and the clocks that a cap or hold of ours keeps below the lock."""

    def gpu_frequencies_mhz(self) -> tuple[float, ...]:
        """Return the GPU clocks that this power mode allows, ascending."""

    def cpu_frequencies_mhz(self) -> tuple[float, ...]:
        """Return the CPU clocks that this power mode allows, ascending."""

    def set_max_frequency(self, unit: str, mhz: float | None) -> float:
        """Cap the clock of the 'gpu' or the 'cpu'; None removes the cap."""

    def hold_frequency(
        self, unit: str, mhz: float | None, *, cap_only: bool = False
    ) -> float:
        """Keep the clock of the 'gpu' or the 'cpu' at one frequency; None releases it."""

    def fan_profile(self) -> str | None:
        """Return the fan profile; None if the board has none."""

    def set_fan_profile(self, name: str) -> str:
        """Set the fan profile, and read it back."""

    def mode_was_changed(self) -> bool:
        """Whether nvpmodel has set a mode since our last change; fast."""

    def follow_mode(self) -> str:
        """Fit caps, holds and lock to a mode set by another program; returns its name."""

    def adopt(self) -> tuple[str, ...]:
        """Take the journal, with the changes that an ended process did not restore."""

    def restore(self) -> None:
        """Restore the state before the first change of each kind, latest first."""

    def keep(self) -> None:
        """Keep our changes: they are not to be restored."""

    def close(self) -> None:
        """Release the board; this restores nothing."""


def open_control(
    root: Path,
    runner: CommandRunner,
    *,
    socket: Path | None = None,
    dry_run: bool = False,
    report: Report = ignore,
    timeout_s: float = COMMAND_TIMEOUT_S,
    program: str = 'yolov7_trt power',
) -> BoardControl:
    """
    Return the control of the board: through the host's service if it answers, else direct.

    Parameters
    ----------
    socket
        Socket of the service; None: none. A socket that refuses is reported.
    root, runner, dry_run, report, timeout_s, program
        See `PowerControl`.

    """
    if socket is not None:
        try:
            return RemoteControl(
                socket, dry_run=dry_run, report=report, timeout_s=timeout_s, program=program
            )
        except PowerError as exc:
            report(f'the power service of the host cannot be used: {exc}')
    return PowerControl(
        root, runner, dry_run=dry_run, report=report, timeout_s=timeout_s, program=program
    )
