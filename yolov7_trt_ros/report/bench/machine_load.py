"""How busy a machine was before a measurement; on a busy one times are longer and vary."""

from __future__ import annotations

import dataclasses
import os

_MOST_PER_CORE = 0.25


@dataclasses.dataclass(frozen=True)
class MachineLoad:
    """
    The load average of the last minute, and the cores that this process may use.

    Attributes
    ----------
    one_minute
        Runnable tasks on the whole machine; None if the system gives none.
    cores
        How many.

    """

    one_minute: float | None
    cores: int

    @property
    def warning(self) -> str:
        """Return a warning if the machine was busy or its load is unknown, else ''."""
        if self.one_minute is None:
            return 'this system reports no load, so interference by other work is unknown'
        if self.one_minute <= _MOST_PER_CORE * self.cores:
            return ''
        return (
            f'this machine is busy with other work (load {self.one_minute:.1f} on {self.cores} '
            'core(s)): times will be longer and vary'
        )

    def as_record(self) -> dict[str, object]:
        """Return the load as a JSON-ready dict."""
        return {**dataclasses.asdict(self), 'busy': bool(self.warning)}


def read_load() -> MachineLoad:
    """Return the current load."""
    try:
        one_minute = round(os.getloadavg()[0], 2)
    except OSError:
        one_minute = None
    return MachineLoad(one_minute, len(os.sched_getaffinity(0)))
