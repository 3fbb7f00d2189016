"""
BoardParts: the parts of a board that PowerControl changes, and changes that affect several.

A power mode cannot be set while the clocks are locked, a lock hides the limits of a mode, and both
need caps removed: the sequences for that are here. Not thread-safe.

"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
import functools

from yolov7_trt_ros.errors import PowerError
from yolov7_trt_ros.power.changes.records import CLOCK_LOCK, LIMITS, LimitsRecord, LockRecord
from yolov7_trt_ros.power.changes.undo import UndoList
from yolov7_trt_ros.power.clocks.clock_files import ClockLimits, find_clocks
from yolov7_trt_ros.power.clocks.clock_lock import ClockLock
from yolov7_trt_ros.power.clocks.frequency_caps import FrequencyCaps
from yolov7_trt_ros.power.fan import FanProfiles
from yolov7_trt_ros.power.nvpmodel.mode_switch import ModeSwitch
from yolov7_trt_ros.power.nvpmodel.values import CurrentMode, PowerMode
from yolov7_trt_ros.power.root.root_access import afterwards, RootAccess


class BoardParts:
    """
    Mode, lock, caps and fan of a board, and the list of their changes.

    Parameters
    ----------
    access
        Makes the changes.
    undo
        The changes.

    Attributes
    ----------
    access, undo, modes, clock_lock, caps, fan
        The parts.

    """

    def __init__(self, access: RootAccess, undo: UndoList) -> None:
        self.access, self.undo = access, undo
        self.modes = ModeSwitch(access)
        self.clock_lock = ClockLock(access)
        self.caps = FrequencyCaps(access, self._note_limits)
        self.fan = FanProfiles(access, self.modes)

    def shows(self, mode: PowerMode) -> bool:
        """Whether the board shows the mode, apart from our own caps."""
        return not self.modes.contradictions(mode, self.caps.own_files)

    def mode_now(self) -> PowerMode | None:
        """Return the mode that nvpmodel has noted, or else the one it or the board shows."""
        mode = self.modes.stored()
        if mode is None:
            with suppress(PowerError):
                now = self.before_mode()
                mode = None if now is None else self.modes.conf().find_mode(now.mode_id)
        return mode

    def before_mode(self) -> CurrentMode | None:
        """Return the current mode, to restore it later; None if unknown."""
        return self.modes.before(self.caps.own_files)

    def switch_mode(self, mode: PowerMode, before: CurrentMode | None) -> CurrentMode:
        """Change the mode with caps and lock removed; errors as `ModeSwitch.switch`."""
        with self.caps.lifted(), self._unlocked():
            return self.modes.switch(mode, before)

    def correct_noted_mode(self, mode: PowerMode) -> bool:
        """Correct nvpmodel's status file if it names another mode than the board is in."""
        with suppress(PowerError):
            if self.modes.stored() not in (mode, None):
                self.switch_mode(mode, CurrentMode(mode.name, mode.mode_id))
        return self.modes.stored() in (mode, None)

    def switch_clock_lock(self, on: bool) -> None:
        """Lock the clocks or restore the baseline, with caps removed, within the mode."""
        with self.caps.lifted():
            if on:
                self.clock_lock.turn_on()
            else:
                self._turn_lock_off()

    def relock(self) -> None:
        """Restore the baseline and lock again, with a baseline of the current mode."""
        with self.caps.lifted():
            self._turn_lock_off()
            self.clock_lock.turn_on()

    def rebase_caps(self, mode: PowerMode) -> None:
        """Fit caps and holds to a mode that was not set here."""
        self.caps.rebase(
            functools.partial(self.modes.check.limits, mode), may_rise=self.shows(mode)
        )

    @contextmanager
    def forgetting_unused_limits(self, unit: str) -> Iterator[None]:
        """Forget the unit's limits after the body if none of ours remain."""
        try:
            yield
        finally:
            if unit in LIMITS and unit not in self.caps.units:
                self.undo.forget(LIMITS[unit])

    @contextmanager
    def _unlocked(self) -> Iterator[None]:
        """Unlock the clocks for the body, and lock them again after it if they were."""
        state = self.clock_lock.state()
        if state == 'off':
            yield
            return
        # The state before a foreign lock is unknown, so that lock stays during the change and is
        # then moved to the limits of the new mode.
        is_ours = state != 'uncontrolled'
        lock = self.clock_lock.turn_on if is_ours else self.clock_lock.lock_again
        with afterwards(lock):
            if is_ours:
                self.clock_lock.turn_off()
            yield

    def _turn_lock_off(self) -> None:
        mode = self.modes.stored()
        was_shown = mode is not None and self.shows(mode)
        self.clock_lock.turn_off()
        if mode is not None and was_shown and not self.shows(mode):
            # The baseline was stored in a mode with other cores.
            self.modes.switch(mode, CurrentMode(mode.name, mode.mode_id))

    def _note_limits(self, unit: str, found: Mapping[str, ClockLimits]) -> None:
        """Write the limits found to the journal before the first cap of a unit."""
        mode, lock = self.modes.stored(), self.undo.get(CLOCK_LOCK)
        if isinstance(lock, LockRecord) and not lock.was_on:
            found = self._without_lock(unit, found, mode)
        record = LimitsRecord(None if mode is None else mode.mode_id, dict(found))
        self.undo.put(LIMITS[unit], record)

    def _without_lock(
        self, unit: str, found: Mapping[str, ClockLimits], mode: PowerMode | None
    ) -> dict[str, ClockLimits]:
        """Return limits with the minimum before our lock, which is removed when they apply."""
        old = self.undo.get(LIMITS[unit])
        lowest = dict(old.found) if isinstance(old, LimitsRecord) else {}
        for clock in find_clocks(self.access.tree, unit):
            limits = None if mode is None else self.modes.check.limits(mode, clock)
            if limits is not None:
                lowest.setdefault(clock.maximum, limits)
        return {
            path: ClockLimits(
                min(limits.minimum_hz, lowest.get(path, limits).minimum_hz), limits.maximum_hz
            ) for path, limits in found.items()
        }
