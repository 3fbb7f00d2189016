"""Records of the journal: the value before each change and the value set, frozen."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
from typing import Any

from yolov7_trt_ros.errors import PowerFormatError
from yolov7_trt_ros.power.clocks.clock_files import ClockLimits, HIGHEST_HZ

POWER_MODE, CLOCK_LOCK, FAN_PROFILE = 'power_mode', 'jetson_clocks', 'fan_profile'
LIMITS = {'gpu': 'gpu_max_frequency', 'cpu': 'cpu_max_frequency'}
GPU_CLOCKS, GPU_POWER = GPU_RECORDS = ('gpu_locked_clocks', 'gpu_power_limit')
"""The change of a PC's GPU, in a journal of its own."""
LASTING = (POWER_MODE, FAN_PROFILE)
"""Changes that outlast a boot."""

_MOST_ITEMS = 256
_MOST_CLOCKS = 1024
_LONGEST_TEXT = 256
_LARGEST_ID = 10**9
_HIGHEST_MW = 10**8


@dataclasses.dataclass(frozen=True)
class ModeRecord:
    """The id of the previous power mode, and of those that may have been set."""

    was: int
    set_to: tuple[int, ...]

    def with_set(self, mode_id: int) -> ModeRecord:
        """Return the record with another mode that may have been set."""
        return ModeRecord(self.was, tuple(dict.fromkeys((*self.set_to, mode_id))))


@dataclasses.dataclass(frozen=True)
class LockRecord:
    """Whether the clocks were locked."""

    was_on: bool


@dataclasses.dataclass(frozen=True)
class FanRecord:
    """The previous fan profile, and those that may have been set."""

    was: str
    set_to: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class LimitsRecord:
    """The previous limits of each clock, by the file of its maximum, and their power mode."""

    mode_id: int | None
    found: Mapping[str, ClockLimits]


@dataclasses.dataclass(frozen=True)
class GpuRecord:
    """The previous power limit of a PC's GPU, mW; None: its clocks were locked instead."""

    was_mw: int | None


Record = ModeRecord | LockRecord | FanRecord | LimitsRecord | GpuRecord


def record_to_json(record: Record) -> dict[str, Any]:
    """Return a record for JSON."""
    if isinstance(record, LockRecord):
        return {'was': record.was_on}
    if isinstance(record, GpuRecord):
        return {'was': record.was_mw}
    if isinstance(record, LimitsRecord):
        return {'mode': record.mode_id, 'was': {
            path: [limits.minimum_hz, limits.maximum_hz] for path, limits in record.found.items()
        }}
    return {'was': record.was, 'set': list(record.set_to)}


def record_from_json(name: str, value: object) -> Record:
    """
    Read a record.

    Raises
    ------
    PowerFormatError
        It is not a record of this name.

    """
    fields = value if isinstance(value, dict) else {}
    was: Any = fields.get('was')
    changed = fields.get('set')
    if name == CLOCK_LOCK and isinstance(was, bool):
        return LockRecord(was)
    if name in LIMITS.values():
        return _read_limits(name, fields)
    if (name == GPU_CLOCKS and was is None) or (name == GPU_POWER and _is_power(was)):
        return GpuRecord(was)
    if isinstance(changed, list) and len(changed) <= _MOST_ITEMS:
        if name == POWER_MODE and all(map(_is_id, [was, *changed])):
            return ModeRecord(was, tuple(changed))
        if name == FAN_PROFILE and all(map(_is_text, [was, *changed])):
            return FanRecord(was, tuple(changed))
    raise _unexpected(name, value)


def _read_limits(name: str, fields: Mapping[str, Any]) -> LimitsRecord:
    was, mode_id = fields.get('was'), fields.get('mode')
    if (
        not isinstance(was, dict) or len(was) > _MOST_CLOCKS or not all(map(_is_text, was))
        or not all(map(_is_pair, was.values())) or not (mode_id is None or _is_id(mode_id))
    ):
        raise _unexpected(name, dict(fields))
    return LimitsRecord(mode_id, {path: ClockLimits(*pair) for path, pair in was.items()})


def _is_id(value: object) -> bool:
    return type(value) is int and 0 <= value <= _LARGEST_ID


def _is_power(value: object) -> bool:
    return type(value) is int and 0 < value <= _HIGHEST_MW


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_TEXT


def _is_pair(value: object) -> bool:
    return (
        isinstance(value, list) and len(value) == 2
        and all(type(item) is int and 0 <= item <= HIGHEST_HZ for item in value)
        and value[0] <= value[1]
    )


def _unexpected(name: str, value: object) -> PowerFormatError:
    return PowerFormatError(f'expected a record of a change, found {name[:40]}: {value!r:.80}')
