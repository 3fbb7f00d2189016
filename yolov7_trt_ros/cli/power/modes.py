"""The power modes of a board for `power modes`: one line each, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from yolov7_trt_ros.power.nvpmodel.values import PowerMode


def needs_reboot(mode: PowerMode, current: PowerMode | None) -> bool | None:
    """Whether a change from the current mode needs a reboot, by the masks; None: unknown."""
    return None if current is None else mode.masks != current.masks


def mode_lines(
    modes: Sequence[PowerMode], current: PowerMode | None, default_id: int | None
) -> Iterator[str]:
    """Yield a line for each mode, the current one with a star."""
    for mode in modes:
        mark = '*' if mode == current else ' '
        notes = [*_limits(mode)]
        if mode.mode_id == default_id:
            notes.append('default')
        if needs_reboot(mode, current):
            notes.append('needs a reboot')
        elif current is None and mode.masks:
            notes.append('may need a reboot')
        yield f'{mark} {mode.mode_id:>2}  {mode.name:<14} {", ".join(notes)}'.rstrip()


def modes_record(
    modes: Sequence[PowerMode], current: PowerMode | None, default_id: int | None
) -> dict[str, Any]:
    """Return the modes for JSON; a missing cap or default is null."""
    return {
        'current': None if current is None else current.mode_id,
        'default': default_id,
        'modes': [_mode_record(mode, current, default_id) for mode in modes],
    }


def _mode_record(
    mode: PowerMode, current: PowerMode | None, default_id: int | None
) -> dict[str, Any]:
    return {
        'id': mode.mode_id,
        'name': mode.name,
        'cores': [core for core, is_on in sorted(mode.cores.items()) if is_on],
        'cores_off': [core for core, is_on in sorted(mode.cores.items()) if not is_on],
        'cpu_max_khz': _cap(mode.cpu_max_khz),
        'gpu_max_hz': _cap(mode.gpu_max_hz),
        'emc_max_hz': _cap(mode.emc_max_hz),
        'masks': mode.masks,
        'is_default': None if default_id is None else mode.mode_id == default_id,
        'needs_reboot': needs_reboot(mode, current),
    }


def _cap(value: int | None) -> int | None:
    return value if value is not None and value > 0 else None


def _limits(mode: PowerMode) -> Iterator[str]:
    """Yield the limits of a mode, as far as nvpmodel.conf sets them."""
    online = sum(mode.cores.values())
    if online:
        yield f'{online} cores'
    for name, value, per_mhz in (
        ('CPU', mode.cpu_max_khz, 1e3), ('GPU', mode.gpu_max_hz, 1e6),
        ('memory', mode.emc_max_hz, 1e6),
    ):
        if _cap(value) is not None and value is not None:
            yield f'{name} {value / per_mhz:.0f} MHz'
