"""
PowerControl: power mode, jetson_clocks, clock limits and fan of a board, and the way back.

Each change is read back before it counts, and what was there before the first change of a kind is
remembered; `restore` puts all of it back, latest first. In a dry run nothing is changed, and the
report says what would be. Nothing is ever rebooted.

"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import functools
from pathlib import Path
import threading
from typing import Concatenate, ParamSpec, TypeVar

from yolov7_trt_ros.errors import PowerError
from yolov7_trt_ros.power.board import BoardInfo, read_board
from yolov7_trt_ros.power.clock_lock import ClockLock, ClockLockState
from yolov7_trt_ros.power.commands import COMMAND_TIMEOUT_S, CommandRunner
from yolov7_trt_ros.power.fan import FanProfiles
from yolov7_trt_ros.power.frequency_caps import FrequencyCaps
from yolov7_trt_ros.power.mode_switch import ModeSwitch
from yolov7_trt_ros.power.nvpmodel_values import CurrentMode, PowerMode
from yolov7_trt_ros.power.root_access import afterwards, ignore, Report, RootAccess
from yolov7_trt_ros.power.sysfs import SysfsTree
from yolov7_trt_ros.power.undo import UndoList

P = ParamSpec('P')
R = TypeVar('R')


def _one_at_a_time(
    method: Callable[Concatenate[PowerControl, P], R],
) -> Callable[Concatenate[PowerControl, P], R]:
    """Let one thread at a time into a method that changes or needs a steady board."""

    @functools.wraps(method)
    def guarded(self: PowerControl, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self._lock:
            return method(self, *args, **kwargs)

    return guarded


class PowerControl:
    """
    Changes the power settings of a board, and undoes it.

    Every method may take as long as the tools do, up to `timeout_s` each: call them away from a
    ROS executor. Safe for use by several threads, one of which waits for the other.

    Parameters
    ----------
    root
        Folder that holds `sys`, `etc`, `run` ...: `/`, or an emulated board's.
    runner
        Runs nvpmodel, jetson_clocks, sudo.
    dry_run
        Change nothing; `report` says what would be done.
    report
        Is told each change, a line each.
    timeout_s
        The longest that one tool may take.

    """

    def __init__(
        self,
        root: Path,
        runner: CommandRunner,
        *,
        dry_run: bool = False,
        report: Report = ignore,
        timeout_s: float = COMMAND_TIMEOUT_S,
    ) -> None:
        self._root = root
        self._tree = SysfsTree(root)
        self._access = RootAccess(
            self._tree, runner, dry_run=dry_run, report=report, timeout_s=timeout_s
        )
        self._modes = ModeSwitch(self._access)
        self._clock_lock = ClockLock(self._access)
        self._caps = FrequencyCaps(self._access)
        self._fan = FanProfiles(self._access, self._modes)
        self._undo = UndoList(report)
        self._lock = threading.RLock()

    @property
    def dry_run(self) -> bool:
        """Whether changes are only reported."""
        return self._access.dry_run

    @property
    def changed(self) -> tuple[str, ...]:
        """Return what `restore` would put back, in the order of the first change of each."""
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
            It has none, or they cannot be read.

        """
        return self._modes.conf().modes

    def current_mode(self) -> CurrentMode:
        """
        Return the power mode in force, as the board shows it.

        `problems` has what nvpmodel says and the board contradicts.

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

        Caps and holds are lifted and locked clocks freed for the change, and put back within the
        new mode's limits after it, also when it fails. Nothing runs if the mode is in force.

        Raises
        ------
        PowerError
            No such mode; the message lists those there are.
        PowerRebootError
            Only a reboot would set it; the message says which mask differs.
        PowerPermissionError
            Root is needed; the message has the sudoers line.
        PowerCommandError
            The tool is missing, hangs, refuses, or said done and did nothing.

        """
        mode = self._modes.find(name_or_id)
        before = self._modes.before(self._caps.own_files)
        if before is not None and before.mode_id == mode.mode_id and self._shows(mode):
            return before
        previous = None if before is None else self._modes.conf().find_mode(before.mode_id)
        was_shown = previous is not None and self._shows(previous)
        if previous is None:
            self._access.report(
                f'the power mode before {mode} is not known, so it cannot be put back'
            )
        try:
            with self._caps.lifted(), self._clocks_freed():
                now = self._modes.switch(mode, before)
        except PowerError:
            if was_shown and previous is not None and not self._shows(previous):
                self._remember_mode(previous)  # it failed half-way
            raise
        if previous is not None:
            self._remember_mode(previous)
        return now

    def jetson_clocks_state(self) -> ClockLockState:
        """
        Return `on`, `off`, `broken` or `uncontrolled`: locked by someone else.

        Broken: somebody undid a part of our lock. It can be locked again, or put back in whole.

        Raises
        ------
        PowerError
            No clock can be read.

        """
        return self._clock_lock.state()

    @_one_at_a_time
    def set_jetson_clocks(self, on: bool) -> ClockLockState:
        """
        Lock the clocks at the mode's caps with jetson_clocks, or put back what was before.

        Clocks that someone else has locked are left so; they count as on.

        Raises
        ------
        PowerCommandError
            Off is asked for, but someone else has locked them; or the tool failed.
        PowerPermissionError
            Root is needed; the message has the sudoers line.

        """
        state = self._clock_lock.state()
        if state != 'broken' and on == (state != 'off'):
            return state
        was_on = state in ('on', 'uncontrolled')
        self._undo.remember('jetson_clocks', functools.partial(self._undo_clock_lock, was_on))
        with self._caps.lifted():
            self._switch_clock_lock(on)
        return self._clock_lock.state()

    def gpu_frequencies_mhz(self) -> tuple[float, ...]:
        """Return the clocks the GPU can have in this power mode, rising."""
        return self._caps.frequencies_mhz('gpu')

    def cpu_frequencies_mhz(self) -> tuple[float, ...]:
        """Return the clocks the CPU can have in this power mode, rising."""
        return self._caps.frequencies_mhz('cpu')

    @_one_at_a_time
    def set_max_frequency(self, unit: str, mhz: float | None) -> float:
        """
        Cap the clock of the 'gpu' or the 'cpu', within the power mode; None takes the cap away.

        Returns
        -------
        float
            The highest frequency allowed now, MHz: rounded down to the table, and read back.

        Raises
        ------
        SettingError
            Another unit, or not above 0 MHz.
        PowerError
            There is no such clock, or it did not take the cap.

        """
        with self._limits_remembered(unit):
            return self._caps.set_cap(unit, mhz)

    @_one_at_a_time
    def hold_frequency(
        self, unit: str, mhz: float | None, *, cap_only: bool = False
    ) -> float:
        """
        Keep the clock of the 'gpu' or the 'cpu' at one frequency; None lets go of it.

        It is never above the power mode's limit nor the cap of `set_max_frequency`, which comes
        back into force after it.

        Parameters
        ----------
        unit
            'gpu' or 'cpu'.
        mhz
            Rounded down to the table.
        cap_only
            Set the maximum alone, where the minimum cannot be written: the clock may go below.

        Returns
        -------
        float
            The highest frequency allowed now, MHz, read back; errors as of `set_max_frequency`.

        """
        with self._limits_remembered(unit):
            return self._caps.hold(unit, mhz, cap_only=cap_only)

    def fan_profile(self) -> str | None:
        """Return the fan's profile; None where none can be set."""
        return self._fan.current()

    @_one_at_a_time
    def set_fan_profile(self, name: str) -> str:
        """
        Set the fan's profile, and read it back.

        Raises
        ------
        PowerError
            No such profile (the message lists them), or as for `set_mode`.

        """
        before = self._fan.current()
        if before == name:
            return name
        if before is not None and name in self._fan.profiles():
            self._undo.remember('fan_profile', functools.partial(self._undo_fan, before))
        return self._fan.set_profile(name)

    @_one_at_a_time
    def restore(self) -> None:
        """
        Put back what was there before the first change of each kind, latest first.

        Harmless when called again. What could not be put back stays remembered for the next call.

        Raises
        ------
        PowerError
            Something could not be put back; everything else was.

        """
        self._undo.run()

    def privileged_commands(self) -> tuple[tuple[str, ...], ...]:
        """
        Return each command that sudo has to allow a user who is not root, by absolute path.

        Raises
        ------
        PowerError
            A tool or the power modes are missing.

        """
        return tuple(
            dict.fromkeys(
                command
                for part in (self._modes, self._clock_lock, self._caps, self._fan)
                for command in part.commands()
            )
        )

    def close(self) -> None:
        """End the thread that reads files; nothing is put back, see `restore`."""
        self._tree.close()

    @contextmanager
    def _limits_remembered(self, unit: str) -> Iterator[None]:
        """Remember how to undo the caps and holds of the body; one that failed half-way too."""
        try:
            yield
        finally:
            if unit in self._caps.units:
                lift = functools.partial(self._caps.lift, unit)
                self._undo.remember(f'{unit}_max_frequency', lift)
            else:
                self._undo.forget(f'{unit}_max_frequency')

    def _shows(self, mode: PowerMode) -> bool:
        """Whether the board shows the mode, apart from our own caps."""
        return not self._modes.contradictions(mode, self._caps.own_files)

    def _remember_mode(self, mode: PowerMode) -> None:
        self._undo.remember('power_mode', functools.partial(self._set_mode_id, mode.mode_id))

    def _undo_fan(self, name: str) -> None:
        if self._fan.current() != name:
            self._fan.set_profile(name)

    def _set_mode_id(self, mode_id: int) -> None:
        mode, now = self._modes.find(str(mode_id)), self._modes.before(self._caps.own_files)
        if now is None or now.mode_id != mode_id or not self._shows(mode):
            with self._caps.lifted(), self._clocks_freed():
                self._modes.switch(mode, now)

    @contextmanager
    def _clocks_freed(self) -> Iterator[None]:
        """Have the clocks free in the body, and locked again after it if they were."""
        state = self._clock_lock.state()
        if state == 'off':
            yield
            return
        # Nobody knows what was before someone else's lock, so that one stays during the change,
        # and is then put at the new mode's caps.
        is_ours = state != 'uncontrolled'
        lock = self._clock_lock.turn_on if is_ours else self._clock_lock.lock_again
        with afterwards(lock):
            if is_ours:
                self._clock_lock.turn_off()
            yield

    def _switch_clock_lock(self, on: bool) -> None:
        if on:
            self._clock_lock.turn_on()
        else:
            self._clock_lock.turn_off()

    def _undo_clock_lock(self, on: bool) -> None:
        state = self._clock_lock.state()
        if state != 'broken' and on == (state != 'off'):
            return
        with self._caps.lifted():
            self._switch_clock_lock(on)
