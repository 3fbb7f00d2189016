"""
BoardControl: what changes a board's power settings, in this process or through the host's service.

`power.control.PowerControl` does it here; `power.remote_control.RemoteControl` asks the service
that `yolov7_trt power serve` is on the host of a container.

"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from yolov7_trt_ros.errors import PowerError
from yolov7_trt_ros.power.board.identity import BoardInfo
from yolov7_trt_ros.power.clocks.clock_lock import ClockLockState
from yolov7_trt_ros.power.control import PowerControl
from yolov7_trt_ros.power.nvpmodel.values import CurrentMode, PowerMode
from yolov7_trt_ros.power.root.commands import COMMAND_TIMEOUT_S, CommandRunner
from yolov7_trt_ros.power.root.root_access import ignore, Report
from yolov7_trt_ros.power.service.remote_control import RemoteControl


class BoardControl(Protocol):
    """Changes a board and undoes it; each method does what that of `PowerControl` does."""

    @property
    def dry_run(self) -> bool:
        """Whether changes are only reported."""

    @property
    def changed(self) -> tuple[str, ...]:
        """Return what `restore` would put back."""

    @property
    def journal_problem(self) -> str:
        """Return what was wrong with the journal that was found, or nothing."""

    @property
    def holds_journal(self) -> bool:
        """Whether this process, and no other, changes the board."""

    @property
    def foreign_modes(self) -> int:
        """How often somebody else has set a power mode, as far as it was noticed."""

    def board(self) -> BoardInfo:
        """Return which board this is."""

    def modes(self) -> tuple[PowerMode, ...]:
        """Return the power modes of the board."""

    def default_mode_id(self) -> int | None:
        """Return the mode of the first boot; None where nothing tells it."""

    def current_mode(self) -> CurrentMode:
        """Return the power mode in force, as the board shows it."""

    def set_mode(self, name_or_id: str) -> CurrentMode:
        """Change the power mode, and read it back."""

    def jetson_clocks_state(self) -> ClockLockState:
        """Return whether the clocks are locked, and by whom."""

    def set_jetson_clocks(self, on: bool) -> ClockLockState:
        """Lock the clocks, or put back what was before."""

    def describe_clock_lock(self) -> str:
        """Return the state, and which clocks a cap or hold of ours keeps below the lock."""

    def gpu_frequencies_mhz(self) -> tuple[float, ...]:
        """Return the clocks the GPU can have in this power mode, rising."""

    def cpu_frequencies_mhz(self) -> tuple[float, ...]:
        """Return the clocks the CPU can have in this power mode, rising."""

    def set_max_frequency(self, unit: str, mhz: float | None) -> float:
        """Cap the clock of the 'gpu' or the 'cpu'; None takes the cap away."""

    def hold_frequency(
        self, unit: str, mhz: float | None, *, cap_only: bool = False
    ) -> float:
        """Keep the clock of the 'gpu' or the 'cpu' at one frequency; None lets go of it."""

    def fan_profile(self) -> str | None:
        """Return the fan's profile; None where none can be set."""

    def set_fan_profile(self, name: str) -> str:
        """Set the fan's profile, and read it back."""

    def mode_was_changed(self) -> bool:
        """Whether nvpmodel has set a mode since the last change here; takes no time."""

    def follow_mode(self) -> str:
        """Keep caps, holds and lock within a mode that somebody else has set; return its name."""

    def adopt(self) -> tuple[str, ...]:
        """Take the journal, and with it what a process that has ended did not put back."""

    def restore(self) -> None:
        """Put back what was there before the first change of each kind, latest first."""

    def keep(self) -> None:
        """Leave what was changed here as it is: nobody is to put it back."""

    def close(self) -> None:
        """Let go of the board; nothing is put back here."""


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
    Return what changes the board: the host's service where it answers, else this process.

    Parameters
    ----------
    socket
        Of the service; None: there is none. A socket that refuses is told to `report`.
    root, runner, dry_run, report, timeout_s, program
        As of `PowerControl`.

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
