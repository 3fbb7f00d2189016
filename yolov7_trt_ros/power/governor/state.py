"""
The governor's state: what it remembers between two decisions.

All values are frozen; `power.governor.governor.decide` returns new ones.

"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.power.governor.table import ClockState, ClockTable, Spread
from yolov7_trt_ros.power.governor.tuning import TUNING

_MOST_DOUBLINGS = 30
"""More would overflow a float some day; the time is limited long before."""


@dataclass(frozen=True)
class Backoff:
    """
    How often a clock state was too slow or took too much power, and how long to avoid it.

    Parameters
    ----------
    work
        By source: deadline share of the frames that were too slow there.

    """

    count: int = 0
    until_s: float = 0.0
    work: Mapping[str, float] = field(default_factory=dict)

    def again(self, until_s: float, work: Mapping[str, float]) -> Backoff:
        """Return the next backoff."""
        return Backoff(self.count + 1, until_s, work)


@dataclass(frozen=True)
class Ceiling:
    """
    The highest GPU clock that heat and alarms allow, and when it last changed.

    Parameters
    ----------
    retry_s
        Cool time after which the ceiling rises.
    hot
        An alarm is raised or the limit reached: clocks may not rise.
    over_c
        Excess over the limit when the ceiling changed.

    """

    gpu_mhz: float
    moved_s: float = 0.0
    retry_s: float = TUNING.thermal_retry_s
    hot: bool = False
    over_c: float = 0.0


@dataclass(frozen=True)
class Workload:
    """
    Frames of one source at one clock state with about the same latency.

    Parameters
    ----------
    share
        Typical latency as a share of the deadline.
    frames
        Number of frames; older ones count less.
    last_s
        Time of the last frame.

    """

    source: str
    clocks: ClockState
    share: float
    frames: float
    last_s: float


@dataclass(frozen=True)
class PreviousPower:
    """The settled power at the clocks before the last switch, and their workloads by source."""

    clocks: ClockState
    power_w: float
    work: Mapping[str, Workload]


@dataclass(frozen=True)
class OtherLoad:
    """
    The load of the GPU that the frames do not explain.

    Parameters
    ----------
    is_present
        It is so large that the clocks are not lowered.
    crossed_s
        Time since which the load is beyond the threshold; None: it is not.
    busy_s, looked_s
        Time of frames since the last sample, and the time of that sample.
    is_unknown
        Some of these frames have no latency.

    """

    is_present: bool = False
    crossed_s: float | None = None
    busy_s: float = 0.0
    looked_s: float = 0.0
    is_unknown: bool = False


@dataclass(frozen=True)
class GovernorState:
    """
    The memory of the governor; made by `GovernorState.start`.

    Parameters
    ----------
    candidates
        The available clock states, from slow to fast.
    top
        The last of them.
    clocks, since_s
        The requested one, and since when.
    held_s
        Time for which the clocks before were held.
    is_released
        The clocks are released; `clocks` are those to return to.
    emc_mhz, emc_read_mhz
        The memory clock, if it is only read: a change counts once it was read twice.
    table, tables
        The table of this memory clock; and those of others, if it is only read.
    recent
        By source: deadline shares of the last frames in this state.
    running
        By source: the current workload. Empty after a switch, until enough frames came.
    memory
        All workloads of the last minutes.
    previous
        By source: workloads of the previous state, until they are compared with this one.
    jumped
        The last switch was for late frames; whether the workload grew is not yet known.
    suspects
        Ratios of the frames before a jump: added to the spread if the workload turns out to be
        the old one.
    outcomes
        Whether each of the last ten frames was late.
    false_alarms
        Number of jumps that found the same workload.
    caution_s, caught_s
        Time for which heavier workloads count, and when that was set.
    avoided
        States that are avoided for a time.
    power_w, previous_power
        Settled power in this state, and in the state before.
    looked_s
        When a state of less power was last searched.
    last_frame_s, timed_s
        Times of the last frame, and of the last with a latency.
    other_load
        The load of the GPU by other programs.

    """

    candidates: tuple[ClockState, ...]
    top: ClockState
    clocks: ClockState
    since_s: float
    ceiling: Ceiling
    held_s: float = 0.0
    is_released: bool = False
    emc_mhz: float = 0.0
    emc_read_mhz: float = 0.0
    table: ClockTable = field(default_factory=ClockTable)
    tables: Mapping[float, ClockTable] = field(default_factory=dict)
    spread: Spread = field(default_factory=Spread)
    recent: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    running: Mapping[str, Workload] = field(default_factory=dict)
    memory: tuple[Workload, ...] = ()
    previous: Mapping[str, Workload] = field(default_factory=dict)
    jumped: bool = False
    suspects: tuple[float, ...] = ()
    outcomes: tuple[bool, ...] = ()
    false_alarms: int = 0
    caution_s: float = TUNING.caution_s
    caught_s: float = 0.0
    avoided: Mapping[ClockState, Backoff] = field(default_factory=dict)
    power_w: float | None = None
    previous_power: PreviousPower | None = None
    looked_s: float = 0.0
    last_frame_s: float = 0.0
    timed_s: float = 0.0
    other_load: OtherLoad = field(default_factory=OtherLoad)

    @classmethod
    def start(cls, candidates: Iterable[ClockState], time_s: float = 0.0) -> GovernorState:
        """
        Start at the highest of these clocks.

        Raises
        ------
        SettingError
            There is none.

        """
        states = tuple(sorted(set(candidates), key=rank))
        if not states:
            raise SettingError('the governor needs at least one clock state, found none; '
                               'check that the GPU frequencies of this board can be read')
        return cls(
            candidates=states, top=states[-1], clocks=states[-1],
            since_s=time_s, last_frame_s=time_s, timed_s=time_s,
            ceiling=Ceiling(max(state.gpu_mhz for state in states), time_s),
            other_load=OtherLoad(looked_s=time_s),
        )

    @property
    def allowed(self) -> tuple[ClockState, ...]:
        """
        Return the candidates under the ceiling, from slow to fast; never empty.

        While it is too hot, none above the current clocks.

        """
        if self.ceiling.gpu_mhz >= self.top.gpu_mhz and not self.ceiling.hot:
            return self.candidates
        under = [state for state in self.candidates if state.gpu_mhz <= self.ceiling.gpu_mhz]
        if self.ceiling.hot:
            under = [state for state in under if state.within(self.clocks)]
        return tuple(under) or (self.clocks,)

    def with_emc(self, clocks: ClockState) -> ClockState:
        """Return a candidate with the memory clock that was read, if it is not controlled."""
        return clocks if clocks.emc_mhz else clocks._replace(emc_mhz=self.emc_mhz)

    def avoiding(self, now_s: float, least_s: float = 0.0) -> GovernorState:
        """Return a state that avoids the current clocks, twice as long as the last failed ones."""
        last = max(self.avoided.values(), key=lambda one: one.count, default=Backoff())
        doublings = min(last.count, _MOST_DOUBLINGS)
        avoid_s = max(TUNING.retry_s * 2.0**doublings, least_s)
        work = {source: one.share for source, one in self.running.items()}
        again = last.again(now_s + min(TUNING.most_retry_s, avoid_s), work)
        return replace(self, avoided={**self.avoided, self.clocks: again})


def rank(state: ClockState) -> tuple[float, ClockState]:
    """Order clock states by their expected speed, without measurement."""
    product = 1.0
    for clock in state:
        product *= clock if clock > 0 else 1.0
    return product, state
