"""The governor's inputs: the user's limits, the readings of the board, and the frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from yolov7_trt_ros.errors import SettingError

GOVERNORS = ('off', 'deadline', 'power_budget')


@dataclass(frozen=True)
class Limits:
    """
    The limits of the user.

    Parameters
    ----------
    governor
        One of `GOVERNORS`.
    deadline_ms
        Allowed latency of a frame, for 'deadline'.
    deadlines_ms
        Own deadlines of single sources, by name.
    power_budget_w
        Allowed power of the board, for 'power_budget'.
    temperature_limit_c
        Temperature from which the clocks are lowered; None: no limit.
    miss_target
        Allowed share of late frames; the target is half of it.

    """

    governor: str = 'deadline'
    deadline_ms: float = 33.0
    power_budget_w: float = 15.0
    temperature_limit_c: float | None = 85.0
    miss_target: float = 0.01
    deadlines_ms: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the limits."""
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
    The readings of the board at one moment.

    Parameters
    ----------
    time_s
        Time of any monotonic clock.
    power_w
        Power of the whole board, possibly averaged over half a second; None: not readable.
    temperature_c
        The hottest sensor; None: not readable.
    alarms
        Current over-current or throttling alarms.
    throttled
        The hardware runs below the requested clocks, so timings do not show them.
    gpu_load
        Busy share of the GPU, 0 to 1; None: not readable.
    emc_mhz
        The memory clock, if it is only read; 0: not readable.
    is_new
        False: only frames are new, the board was not read since the previous call.

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
    The frames since the previous call.

    Parameters
    ----------
    latencies_ms
        In order, oldest first.
    dropped
        Frames dropped because the one before took too long; they count as late.
    period_ms
        Time between frames of the source, if known. Slower frames pile up whatever the deadline,
        so the smaller of both counts.
    unknown
        Frames whose stamps give no latency.
    sources
        The detector of each latency, in the same order; empty: all of one.

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
