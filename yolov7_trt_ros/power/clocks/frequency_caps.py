"""
Cap and hold the clocks of GPU and CPU, through devfreq and cpufreq, and remove these limits.

A cap limits the clock, a hold keeps it at one frequency (minimum = maximum) below the cap. Neither
exceeds the limit of the power mode, which was found before the first of them. Both are rounded
down to the clock's table, since the kernel rounds silently, and read back. The kernel refuses a
minimum above the maximum: to lower them the minimum is written first, to raise them the maximum.

"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
import dataclasses

from yolov7_trt_ros.errors import PowerCommandError, PowerError, SettingError
from yolov7_trt_ros.power.clocks.clock_files import (
    ClockFiles,
    ClockLimits,
    cpufreq_files,
    find_clocks,
    find_gpu_clock,
    HZ_PER_MHZ,
    read_limits,
    read_table_hz,
    round_cap_hz,
    ROUNDING_HZ,
)
from yolov7_trt_ros.power.root.root_access import afterwards, RootAccess


@dataclasses.dataclass(frozen=True)
class _Cap:
    """The limits found before the first cap or hold, and those written by the latest."""

    found: ClockLimits
    written: ClockLimits

    @property
    def raised_minimum(self) -> bool:
        """Whether the clock is held above its lowest frequency."""
        return self.written.minimum_hz > self.found.minimum_hz


@dataclasses.dataclass(frozen=True)
class _Request:
    """The requested limits of a unit; `pins`: a hold also writes the minimum."""

    cap_mhz: float | None = None
    hold_mhz: float | None = None
    pins: bool = True

    @property
    def is_empty(self) -> bool:
        """Whether nothing is requested."""
        return self.cap_mhz is None and self.hold_mhz is None


def _cautious_cap(old: _Cap | None, new: _Cap) -> _Cap:
    """Return the cap to remember while either of the two may be in force."""
    if old is None or old.written.maximum_hz <= new.written.maximum_hz:
        return new
    return _Cap(new.found, old.written)


class FrequencyCaps:
    """
    The current caps and holds, and the limits before each.

    Parameters
    ----------
    access
        Makes the changes.
    note
        Called before anything is written, with the unit and the limits found before the first cap
        or hold of each clock, by the file of its maximum.

    """

    def __init__(
        self, access: RootAccess, note: Callable[[str, Mapping[str, ClockLimits]], None]
    ) -> None:
        self._access = access
        self._note = note
        self._tree = access.tree
        self._caps: dict[str, dict[ClockFiles, _Cap]] = {}
        self._requests: dict[str, _Request] = {}

    @property
    def units(self) -> tuple[str, ...]:
        """Return the units that have a cap or are held."""
        return tuple(unit for unit, caps in self._caps.items() if caps)

    @property
    def own_files(self) -> frozenset[str]:
        """Return the files of the limits that have a cap or a hold of ours."""
        return frozenset(
            path for caps in self._caps.values() for clock in caps
            for path in (clock.minimum, clock.maximum)
        )

    def frequencies_mhz(self, unit: str) -> tuple[float, ...]:
        """Return the frequencies of the unit that the power mode allows, ascending."""
        clock = find_clocks(self._tree, unit)[0]
        limit_hz = self._limit(unit, clock).maximum_hz
        table_hz = read_table_hz(self._tree, clock)
        return tuple(entry / HZ_PER_MHZ for entry in table_hz if entry <= limit_hz)

    def set_cap(self, unit: str, mhz: float | None) -> float:
        """
        Cap the unit's clock; None removes the cap.

        Returns
        -------
        float
            The highest frequency allowed now, MHz, as read back. Heat may hold it lower.

        Raises
        ------
        SettingError
            Not above 0 MHz.
        PowerError
            There is no such clock, or the cap had no effect.

        """
        _check_mhz(unit, mhz)
        return self._request(unit, dataclasses.replace(self._asked(unit), cap_mhz=mhz))

    def hold(self, unit: str, mhz: float | None, *, cap_only: bool = False) -> float:
        """
        Hold the unit's clock at one frequency, at most its cap; None releases it.

        With `cap_only` the minimum is not written, and the clock may be lower.

        Returns
        -------
        float
            As `set_cap`, with the same errors.

        """
        _check_mhz(unit, mhz)
        request = dataclasses.replace(self._asked(unit), hold_mhz=mhz, pins=not cap_only)
        return self._request(unit, request)

    def lift(self, unit: str) -> None:
        """
        Restore the limits before the first cap or hold; does nothing without one.

        Raises
        ------
        PowerError
            A clock cannot be read or written; the others were restored.

        """
        failures = []
        for clock in list(self._caps.get(unit, {})):
            try:
                self._lift_clock(unit, clock)
            except PowerError as exc:
                failures.append(exc)
        if failures:
            raise failures[0]
        self._caps.pop(unit, None)
        self._requests.pop(unit, None)

    def _lift_clock(self, unit: str, clock: ClockFiles) -> None:
        cap = self._caps[unit][clock]
        back = self._limits_without(clock, cap)
        if back is not None and read_limits(self._tree, clock) != back:
            self._write(clock, back, cap.written.maximum_hz)
        del self._caps[unit][clock]

    def adopt(self, unit: str, found: Mapping[str, ClockLimits]) -> None:
        """Take over the caps of an ended process; `found` is as for `note`."""
        self._caps[unit] = {
            clock: _Cap(found[clock.maximum], read_limits(self._tree, clock))
            for clock in find_clocks(self._tree, unit) if clock.maximum in found
        }

    def rebase(
        self, limits_of: Callable[[ClockFiles], ClockLimits | None], *, may_rise: bool
    ) -> None:
        """
        Apply the limits of another power mode, set by another program.

        Parameters
        ----------
        limits_of
            Returns the limits of a clock in the mode; None if it sets none.
        may_rise
            Whether they may be above those found before.

        """
        for unit in self.units:
            self._caps[unit] = {
                clock: _Cap(_rebased(cap.found, limits_of(clock), may_rise), cap.written)
                for clock, cap in self._caps[unit].items()
                if self._tree.exists(clock.maximum)
            }
            request = self._requests.get(unit)
            if request is not None:
                self._request(unit, request)
            else:
                self._note(unit, self._found(unit))

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Remove caps and holds for the body, which sets limits; then apply them again."""
        requests = dict(self._requests)

        def cap_again() -> None:
            for unit, request in requests.items():
                self._request(unit, request)

        with afterwards(cap_again):
            for unit in self.units:
                self.lift(unit)
            yield

    def commands(self) -> list[tuple[str, ...]]:
        """Return the commands that sudo has to allow: write the limits of GPU and cores."""
        gpu = find_gpu_clock(self._tree)
        folders = self._tree.find('/sys/devices/system/cpu/cpu[0-9]*')
        clocks = [] if gpu is None else [gpu]
        clocks += [cpufreq_files(f'{folder}/cpufreq') for folder in folders]
        return [
            self._access.write_command(path)
            for clock in clocks for path in (clock.minimum, clock.maximum)
        ]

    def _asked(self, unit: str) -> _Request:
        return self._requests.get(unit, _Request())

    def _request(self, unit: str, request: _Request) -> float:
        """Apply the request to a unit; returns its highest frequency, read back."""
        if request.is_empty:
            self.lift(unit)
            return self._highest_mhz(unit)
        # All is read before anything is written: clocks may follow each other.
        new = {clock: self._cap_for(unit, clock, request)
               for clock in find_clocks(self._tree, unit)}
        caps = self._caps.get(unit, {})
        self._note(unit, self._found(unit) | {
            clock.maximum: cap.found for clock, cap in new.items()
        })
        self._caps[unit] = caps
        for clock, cap in new.items():
            old = caps.get(clock)
            caps[clock] = _cautious_cap(old, cap)  # until the write has succeeded
            self._write(clock, cap.written, 0 if old is None else old.written.maximum_hz)
            caps[clock] = cap
        self._requests[unit] = request
        return self._highest_mhz(unit)

    def _found(self, unit: str) -> dict[str, ClockLimits]:
        return {clock.maximum: cap.found for clock, cap in self._caps.get(unit, {}).items()}

    def _cap_for(self, unit: str, clock: ClockFiles, request: _Request) -> _Cap:
        found = self._limit(unit, clock)
        table_hz = read_table_hz(self._tree, clock)
        cap_hz = found.maximum_hz
        for mhz in (request.cap_mhz, request.hold_mhz):
            if mhz is not None:
                cap_hz = round_cap_hz(mhz * HZ_PER_MHZ, table_hz, cap_hz)
        pinned = request.pins and request.hold_mhz is not None
        minimum_hz = cap_hz if pinned else min(found.minimum_hz, cap_hz)
        return _Cap(found, ClockLimits(minimum_hz, cap_hz))

    def _limit(self, unit: str, clock: ClockFiles) -> ClockLimits:
        """Return the limits without our cap or hold."""
        cap = self._caps.get(unit, {}).get(clock)
        back = None if cap is None else self._limits_without(clock, cap)
        return read_limits(self._tree, clock) if back is None else back

    def _limits_without(self, clock: ClockFiles, cap: _Cap) -> ClockLimits | None:
        """Return the limits without the cap; None if nothing of the cap remains."""
        if self._access.dry_run:
            return cap.found
        try:
            now = read_limits(self._tree, clock)
        except PowerError:
            if self._is_offline(clock):
                return None
            raise
        if self._is_still_ours(now, cap):
            return cap.found
        if cap.raised_minimum and now.minimum_hz == cap.written.minimum_hz:
            return ClockLimits(cap.found.minimum_hz, now.maximum_hz)
        return None

    def _is_offline(self, clock: ClockFiles) -> bool:
        """Whether the clock is of an offline core, and so has no limits."""
        core = clock.maximum.partition('/cpufreq')[0]
        return core != clock.maximum and self._tree.read_or_empty(f'{core}/online') == '0'

    def _is_still_ours(self, now: ClockLimits, cap: _Cap) -> bool:
        """Whether no other program has set the limits since; heat may have lowered them."""
        if now.maximum_hz > cap.written.maximum_hz:
            return False
        # Heat lowers the maximum, and the minimum with it; a minimum below that was written.
        # Where the maximum is ours, the minimum may be one that we could not write.
        was_lowered = now.minimum_hz < min(cap.written.minimum_hz, now.maximum_hz)
        is_ours = now.maximum_hz == cap.written.maximum_hz
        return is_ours or not (cap.raised_minimum and was_lowered)

    def _highest_mhz(self, unit: str) -> float:
        clocks = find_clocks(self._tree, unit)
        if self._access.dry_run and unit in self._caps:
            return max(cap.written.maximum_hz for cap in self._caps[unit].values()) / HZ_PER_MHZ
        return max(read_limits(self._tree, clock).maximum_hz for clock in clocks) / HZ_PER_MHZ

    def _write(self, clock: ClockFiles, new: ClockLimits, last_maximum_hz: int) -> None:
        """Write the limits, in the order the kernel accepts, and read back."""
        old = read_limits(self._tree, clock)
        # Heat lowers the value read, not the value set: the maximum is always written, and the
        # value written last decides the order.
        is_cut = old.maximum_hz < last_maximum_hz
        paths = [(clock.maximum, new.maximum_hz)]
        if new.minimum_hz != old.minimum_hz or (new.is_pinned and is_cut):
            is_raised = new.maximum_hz > max(old.maximum_hz, last_maximum_hz)
            paths.insert(1 if is_raised else 0, (clock.minimum, new.minimum_hz))
        for path, new_hz in paths:
            self._access.write(path, str(new_hz // clock.unit_hz))
        if not self._access.dry_run:
            self._check(clock, new, checks_minimum=len(paths) > 1)

    def _check(self, clock: ClockFiles, new: ClockLimits, *, checks_minimum: bool) -> None:
        real = read_limits(self._tree, clock)
        if real.maximum_hz > new.maximum_hz + ROUNDING_HZ:
            raise _explain_no_effect(clock.maximum, new.maximum_hz, real.maximum_hz, clock.unit_hz)
        expected_hz = min(new.minimum_hz, real.maximum_hz)  # heat may have lowered both
        if checks_minimum and abs(real.minimum_hz - expected_hz) > ROUNDING_HZ:
            raise _explain_no_effect(clock.minimum, new.minimum_hz, real.minimum_hz, clock.unit_hz)


def _rebased(found: ClockLimits, limits: ClockLimits | None, may_rise: bool) -> ClockLimits:
    """Return the limits to restore after a change of the mode."""
    if limits is None:
        return found
    maximum_hz = limits.maximum_hz if may_rise else min(limits.maximum_hz, found.maximum_hz)
    return ClockLimits(min(limits.minimum_hz, maximum_hz), maximum_hz)


def _check_mhz(unit: str, mhz: float | None) -> None:
    if mhz is not None and not mhz > 0:
        raise SettingError(f'a limit of the {unit} clock needs to be above 0 MHz, got {mhz:g}')


def _explain_no_effect(path: str, new_hz: int, real_hz: int, unit_hz: int) -> PowerCommandError:
    return PowerCommandError(
        f'wrote {new_hz // unit_hz} to {path} and read back {real_hz // unit_hz}: the kernel did '
        'not take it; another program may set it too (nvpmodel, jetson_clocks, a thermal daemon)'
    )
