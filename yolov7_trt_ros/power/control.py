"""
PowerControl: sets power mode, jetson_clocks, clock limits and fan of a board, and restores them.

Each change is read back before it counts. The state before the first change of each kind is
written to the journal first; `restore` restores it, latest first, also the changes of a killed
process. A dry run changes nothing and reports what would be done. Nothing is ever rebooted.

"""

from __future__ import annotations

from collections.abc import Callable
import functools
from pathlib import Path
import threading
from typing import Concatenate, ParamSpec, TypeVar

from yolov7_trt_ros.errors import PowerError, PowerTimeoutError
from yolov7_trt_ros.power.board.identity import BoardInfo, read_board
from yolov7_trt_ros.power.changes.board_parts import BoardParts
from yolov7_trt_ros.power.changes.foreign_modes import ForeignModes
from yolov7_trt_ros.power.changes.journal import Journal
from yolov7_trt_ros.power.changes.left_changes import LeftChanges
from yolov7_trt_ros.power.changes.records import (
    CLOCK_LOCK,
    FAN_PROFILE,
    FanRecord,
    LockRecord,
    ModeRecord,
    POWER_MODE,
)
from yolov7_trt_ros.power.changes.undo import UndoList
from yolov7_trt_ros.power.clocks.clock_lock import ClockLockState
from yolov7_trt_ros.power.defaults import COMMAND_TIMEOUT_S
from yolov7_trt_ros.power.nvpmodel.values import CurrentMode, PowerMode
from yolov7_trt_ros.power.root.commands import CommandRunner
from yolov7_trt_ros.power.root.root_access import ignore, Report, RootAccess
from yolov7_trt_ros.power.sysfs import SysfsTree

P = ParamSpec('P')
R = TypeVar('R')


def _one_at_a_time(
    method: Callable[Concatenate[PowerControl, P], R],
) -> Callable[Concatenate[PowerControl, P], R]:
    """Run a method that changes the board in one thread at a time, with the journal open."""

    @functools.wraps(method)
    def guarded(self: PowerControl, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self._lock:
            self._enter()
            return method(self, *args, **kwargs)

    return guarded


class PowerControl:
    """
    Changes the power settings of a board, and restores them.

    Every method may take as long as its tools, up to `timeout_s` each: do not call them in a ROS
    executor. Thread-safe: a second thread waits for the first.

    Parameters
    ----------
    root
        Folder that holds `sys`, `etc`, `run` ...: `/`, or an emulated board's.
    runner
        Runs nvpmodel, jetson_clocks, sudo.
    dry_run
        Change nothing; report what would be done.
    report
        Called with a line about each change.
    timeout_s
        Time limit of one tool.
    program
        Name of this process in the journal.

    """

    def __init__(
        self,
        root: Path,
        runner: CommandRunner,
        *,
        dry_run: bool = False,
        report: Report = ignore,
        timeout_s: float = COMMAND_TIMEOUT_S,
        program: str = 'yolov7_trt power',
    ) -> None:
        self._root = root
        self._tree = SysfsTree(root)
        self._access = RootAccess(
            self._tree, runner, dry_run=dry_run, report=report, timeout_s=timeout_s
        )
        self._journal = Journal(root, is_root=runner.is_root, program=program)
        self._undo = UndoList(report, None if dry_run else self._journal)
        self._parts = BoardParts(self._access, self._undo)
        self._modes, self._caps = self._parts.modes, self._parts.caps
        self._clock_lock, self._fan = self._parts.clock_lock, self._parts.fan
        self._left = LeftChanges(self._parts, self._journal)
        self._foreign = ForeignModes(self._parts)
        self._lock = threading.RLock()

    @property
    def dry_run(self) -> bool:
        """Whether changes are only reported."""
        return self._access.dry_run

    @property
    def changed(self) -> tuple[str, ...]:
        """Return the names of the changes to restore, in the order of the first of each."""
        return self._undo.names

    def board(self) -> BoardInfo:
        """Return which board this is."""
        return read_board(self._root)

    def modes(self) -> tuple[PowerMode, ...]:
        """
        Return the power modes of the board.

        Raises
        ------
        PowerError
            The board has none, or they cannot be read.

        """
        return self._modes.conf().modes

    def default_mode_id(self) -> int | None:
        """Return the mode of the first boot; None if unknown."""
        return self._modes.conf().default_id

    def masks_that_differ(self, name_or_id: str) -> str:
        """
        Return `TPC_PG_MASK 240 -> 252` if a change to the mode needs a reboot, else ''.

        Raises
        ------
        PowerError
            No such mode; the message lists the available ones.

        """
        mode = self._modes.find(name_or_id)
        return self._modes.masks_that_differ(self._modes.before_or_default(), mode)

    def current_mode(self) -> CurrentMode:
        """
        Return the current power mode, as the board shows it.

        `contradiction` is what nvpmodel reports and the board does not show.

        Raises
        ------
        PowerFormatError
            No mode was ever set.
        PowerError
            Neither nvpmodel nor its status file can be read.

        """
        return self._modes.in_force(self._caps.own_files)

    @_one_at_a_time
    def set_mode(self, name_or_id: str) -> CurrentMode:
        """
        Change the power mode, and read it back.

        Caps, holds and locks are removed for the change and applied again within the new mode's
        limits, also if it fails. Nothing runs if the mode is the current one.

        Raises
        ------
        PowerError
            No such mode; the message lists the available ones.
        PowerRebootError
            It needs a reboot; the message names the mask that differs.
        PowerPermissionError
            Root is needed; the message gives the sudoers line.
        PowerCommandError
            The tool is missing, hangs, refuses, or reported success without effect.

        """
        mode = self._modes.find(name_or_id)
        self._undo.touch(POWER_MODE)
        before = self._parts.before_mode()
        if before is not None and before.mode_id == mode.mode_id and self._parts.shows(mode):
            return before
        previous = None if before is None else self._modes.conf().find_mode(before.mode_id)
        if previous is None:
            self._access.report(
                f'the power mode before {mode} is not known, so it cannot be put back'
            )
            return self._parts.switch_mode(mode, before)
        return self._switch_mode_from(previous, mode, before)

    def jetson_clocks_state(self) -> ClockLockState:
        """
        Return `on`, `off`, `broken` or `uncontrolled`: locked by another program.

        Broken: another program undid a part of our lock. Locking or restoring repairs it.

        Raises
        ------
        PowerError
            No clock can be read.

        """
        return self._clock_lock.state()

    @_one_at_a_time
    def set_jetson_clocks(self, on: bool) -> ClockLockState:
        """
        Lock the clocks at the mode's limits with jetson_clocks, or restore the state before.

        Clocks locked by another program stay locked; they count as on.

        Raises
        ------
        PowerCommandError
            They cannot be unlocked since another program locked them, or the tool failed.
        PowerPermissionError
            Root is needed; the message gives the sudoers line.

        """
        self._undo.touch(CLOCK_LOCK)
        state = self._clock_lock.state()
        if state != 'broken' and on == (state != 'off'):
            return state
        was_on = state in ('on', 'uncontrolled')
        self._undo.put(CLOCK_LOCK, self._undo.get(CLOCK_LOCK) or LockRecord(was_on))
        self._parts.switch_clock_lock(on)
        return self._clock_lock.state()

    def describe_clock_lock(self) -> str:
        """Return the state, and the clocks that a cap or hold of ours keeps below the lock."""
        state, units = self._clock_lock.state(), ' and '.join(self._caps.units).upper()
        return f'{state}, {units} kept lower' if units and state == 'on' else state

    def gpu_frequencies_mhz(self) -> tuple[float, ...]:
        """Return the GPU clocks that this power mode allows, ascending."""
        return self._caps.frequencies_mhz('gpu')

    def cpu_frequencies_mhz(self) -> tuple[float, ...]:
        """Return the CPU clocks that this power mode allows, ascending."""
        return self._caps.frequencies_mhz('cpu')

    @_one_at_a_time
    def set_max_frequency(self, unit: str, mhz: float | None) -> float:
        """
        Cap the clock of the 'gpu' or the 'cpu', within the power mode; None removes the cap.

        Returns
        -------
        float
            The highest frequency allowed now, MHz: rounded down to the table, and read back.

        Raises
        ------
        SettingError
            Unknown unit, or not above 0 MHz.
        PowerError
            There is no such clock, or the cap had no effect.

        """
        with self._parts.forgetting_unused_limits(unit):
            return self._caps.set_cap(unit, mhz)

    @_one_at_a_time
    def hold_frequency(
        self, unit: str, mhz: float | None, *, cap_only: bool = False
    ) -> float:
        """
        Keep the clock of the 'gpu' or the 'cpu' at one frequency; None releases it.

        It is never above the power mode's limit, nor above the cap of `set_max_frequency`, which
        applies again after it.

        Parameters
        ----------
        unit
            'gpu' or 'cpu'.
        mhz
            Rounded down to the table.
        cap_only
            Set only the maximum, if the minimum cannot be written: the clock may be lower.

        Returns
        -------
        float
            The highest frequency allowed now, MHz, read back; errors as `set_max_frequency`.

        """
        with self._parts.forgetting_unused_limits(unit):
            return self._caps.hold(unit, mhz, cap_only=cap_only)

    def fan_profile(self) -> str | None:
        """Return the fan profile; None if the board has none."""
        return self._fan.current()

    @_one_at_a_time
    def set_fan_profile(self, name: str) -> str:
        """
        Set the fan profile, and read it back.

        Raises
        ------
        PowerError
            No such profile (the message lists them), or as `set_mode`.

        """
        self._undo.touch(FAN_PROFILE)
        before = self._fan.current()
        if before == name:
            return name
        if before is not None and name in self._fan.profiles():
            self._undo.put(FAN_PROFILE, self._fan_record(before, name))
        return self._fan.set_profile(name)

    @property
    def journal_problem(self) -> str:
        """Return the defect of the journal that was found, '' for none."""
        return self._journal.problem

    @property
    def holds_journal(self) -> bool:
        """Whether this process, and no other, changes the board."""
        return self._journal.is_held

    @property
    def foreign_modes(self) -> int:
        """Return the number of power modes set by other programs, as far as detected."""
        return self._foreign.count

    def mode_was_changed(self) -> bool:
        """Whether nvpmodel has set a mode since our last change; fast."""
        return self._foreign.is_new

    def mode_stamps(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the stamps of the last mode that nvpmodel set: the noted one, and the current."""
        return self._modes.noted_stamp, self._modes.stamp()

    @_one_at_a_time
    def follow_mode(self) -> str:
        """Fit caps, holds and lock to a mode set by another program; returns its name."""
        mode = self._modes.stored()  # _enter has done it
        return '' if mode is None else mode.name

    @_one_at_a_time
    def adopt(self) -> tuple[str, ...]:
        """
        Take the journal, with the changes that an ended process did not restore.

        Returns
        -------
        tuple
            Names of these changes; `restore` restores them.

        Raises
        ------
        PowerError
            Another process has the journal; the message gives its pid.

        """
        return self._undo.names

    def restore(self) -> None:
        """
        Restore the state before the first change of each kind, latest first.

        May be called again. What could not be restored is kept for the next call, and in the
        journal.

        Raises
        ------
        PowerError
            Something could not be restored; everything else was.

        """
        with self._lock:
            if self._undo.names:
                self._enter()
                self._undo.run(self._left.put_back)

    @_one_at_a_time
    def keep(self) -> None:
        """Keep our changes: they are not to be restored."""
        self._undo.keep()

    def privileged_commands(
        self, *, reboot_modes: bool = False, fan: bool = False
    ) -> tuple[tuple[str, ...], ...]:
        """
        Return the commands, by absolute path, that sudo has to allow a user without root.

        Parameters
        ----------
        reboot_modes
            Also for power modes that need a reboot: that user can then reboot the board.
        fan
            Also for the fan profile: that user can then rewrite the fan's configuration.

        Raises
        ------
        PowerError
            A tool or the power modes are missing.

        """
        commands = [
            *self._modes.commands(reboot_modes=reboot_modes), *self._clock_lock.commands(),
            *self._caps.commands(), *(self._fan.commands() if fan else ()),
        ]
        return tuple(dict.fromkeys(commands))

    def close(self) -> None:
        """
        End the thread that reads files, and release the journal.

        Nothing is restored: remaining changes stay in the journal for the next start.
        """
        self._tree.close()
        self._journal.close()

    def _enter(self) -> None:
        """Take the journal, and follow the changes of other programs."""
        if self.dry_run:
            return
        if not self._journal.is_held:
            self._left.take()
        if self._foreign.is_new:
            self._foreign.follow()

    def _fan_record(self, before: str, name: str) -> FanRecord:
        old = self._undo.get(FAN_PROFILE)
        if isinstance(old, FanRecord):
            return FanRecord(old.was, tuple(dict.fromkeys((*old.set_to, name))))
        return FanRecord(before, (name,))

    def _switch_mode_from(
        self, previous: PowerMode, mode: PowerMode, before: CurrentMode | None
    ) -> CurrentMode:
        """Change the mode, with the previous one in the journal even if that fails half-way."""
        old = self._undo.get(POWER_MODE)
        earlier = old if isinstance(old, ModeRecord) else ModeRecord(previous.mode_id, ())
        wrong = self._modes.contradictions(previous, self._caps.own_files)
        self._undo.put(POWER_MODE, earlier.with_set(mode.mode_id))
        try:
            now = self._parts.switch_mode(mode, before)
        except PowerTimeoutError:
            raise  # the tool may still finish
        except PowerError:
            is_as_before = self._modes.contradictions(previous, self._caps.own_files) == wrong
            if is_as_before and self._parts.correct_noted_mode(previous) and old is None:
                self._undo.forget(POWER_MODE)
            raise
        self._undo.put(POWER_MODE, ModeRecord(earlier.was, (mode.mode_id,)))
        return now
