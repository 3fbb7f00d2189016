"""The governor's inputs: the user's limits, the readings of the board, and the frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from yolov7_trt_ros.errors import SettingError

GOVERNORS = ('off', 'deadline', 'power_budget')


@dataclass(frozen=True)
class Limits:
    """
    What the user asks for.

    Parameters
    ----------
    governor
        One of `GOVERNORS`.
    deadline_ms
        Allowed latency of a frame, for 'deadline'.
    deadlines_ms
        That of sources which have one of their own, by their names.
    power_budget_w
        Allowed power of the board, for 'power_budget'.
    temperature_limit_c
        From here on the clocks go down; None: no limit.
    miss_target
        Allowed share of late frames; half of it is aimed at.

    """

    governor: str = 'deadline'
    deadline_ms: float = 33.0
    power_budget_w: float = 15.0
    temperature_limit_c: float | None = 85.0
    miss_target: float = 0.01
    deadlines_ms: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if self.governor not in GOVERNORS:
            raise SettingError(f'governor must be one of {", ".join(GOVERNORS)}, is '
                               f"'{self.governor}'; choose one of them")
        for name in ('deadline_ms', 'power_budget_w'):
            if not getattr(self, name) > 0:
                raise SettingError(f'{name} must be above 0, is {getattr(self, name)}; '
                                   f'set a positive number')
        for source, deadline_ms in self.deadlines_ms.items():
            if not deadline_ms > 0:
                raise SettingError(f'the deadline of {source} must be above 0 ms, is '
                                   f'{deadline_ms}; set a positive number')
        if not 0 < self.miss_target < 0.5:
            raise SettingError(f'miss_target must be between 0 and 0.5, is {self.miss_target}; '
                               f'0.01 allows one late frame in a hundred')


@dataclass(frozen=True)
class Readings:
    """
    The board at one moment.

    Parameters
    ----------
    time_s
        Any clock that only goes forward.
    power_w
        Power of the whole board, may be an average over half a second; None: not readable.
    temperature_c
        The hottest sensor; None: not readable.
    alarms
        Over-current or throttling alarms raised now.
    throttled
        The hardware runs below the clocks asked for: timings say nothing about them.
    gpu_load
        Busy share of the GPU, 0 to 1; None: not readable.
    emc_mhz
        The memory clock that was read, where nobody controls it; 0: not readable.
    is_new
        False: the board was not looked at since the last call, only frames have come.

    """

    time_s: float
    power_w: float | None = None
    temperature_c: float | None = None
    alarms: tuple[str, ...] = ()
    throttled: bool = False
    is_new: bool = True
    gpu_load: float | None = None
    emc_mhz: float = 0.0


@dataclass(frozen=True)
class FrameWindow:
    """
    The frames since the last call.

    Parameters
    ----------
    latencies_ms
        In order, oldest first.
    dropped
        Frames that were never worked on because the one before took too long: late frames.
    period_ms
        Time between frames of the source, when known. Frames slower than that pile up, whatever
        the deadline; so the smaller of both counts.
    unknown
        Frames that came, but whose stamps give no latency.
    sources
        Which detector each latency is of, in the same order; empty: all of one.

    """

    latencies_ms: tuple[float, ...] = ()
    dropped: int = 0
    period_ms: float | None = None
    unknown: int = 0
    sources: tuple[str, ...] = ()

    @property
    def by_source(self) -> tuple[tuple[str, float], ...]:
        """Return source and latency of each frame, oldest first."""
        sources = self.sources or ('',) * len(self.latencies_ms)
        return tuple(zip(sources, self.latencies_ms, strict=True))
