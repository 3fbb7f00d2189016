"""
EngineSchedule: decides which engine takes the next frame, and whether to use more than the first.

No threads, no clock, no engines: it decides from events that are reported with their times. It
keeps the 99th percentile of the latency at that of the first engine alone, or better; else the
others rest. docs/bank.md has the states.

"""

from __future__ import annotations

import collections
from collections.abc import Hashable, Sequence
import dataclasses
import enum

from yolov7_trt_ros.bank.team.engine_health import EngineHealth, pause_ns
from yolov7_trt_ros.bank.team.engine_times import EngineTimes
from yolov7_trt_ros.bank.team.latency_trial import LatencyTrial
from yolov7_trt_ros.core.units import NS_PER_MS, NS_PER_S

FIRST = 0
"""The engine that all others are compared with."""

HANGS_NS, _LEAST_HANG_NS, _HANG_TIMES = 30 * NS_PER_S, 2 * NS_PER_S, 20
"""An engine hangs after this multiple of its usual time, at least 2 s; if unknown, after 30 s."""

_OVERDUE_TIMES = 2
_RECENT_FRAMES = 60
_TRIED_BLOCKS, _TRIED_BLOCK = 4, 25
_BLOCK_TOGETHER, _BLOCK_ALONE = 200, 20
_MOST_PROBES, _PROBE_SHARE = 20, 50
_PROVEN_FRAMES = 1000


def hang_limit_ns(takes_ns: int | None) -> int:
    """Return the time after which an engine hangs, from its usual time (None: unknown)."""
    return HANGS_NS if takes_ns is None else max(_LEAST_HANG_NS, _HANG_TIMES * takes_ns)


class Phase(enum.Enum):
    """State of a schedule."""

    LEARNING = 'learning'
    """The first serves alone, and is measured."""
    PROBING = 'probing'
    """The first serves alone; the others are measured on copies of frames."""
    TRYING = 'trying'
    """All serve in some blocks of frames, the first alone in others, for comparison."""
    TOGETHER = 'together'
    """All serve; now and then the first alone, to go on comparing."""
    RESTING = 'resting'
    """The first serves alone until the others are tried again."""


@dataclasses.dataclass
class _Member:
    """One engine: what is known of it, and what it does now."""

    times: EngineTimes = dataclasses.field(default_factory=EngineTimes)
    health: EngineHealth = dataclasses.field(default_factory=EngineHealth)
    bar: str = ''
    kind: Hashable = None
    began_ns: int | None = None
    probes: int = 0
    answered: int = 0

    @property
    def is_idle(self) -> bool:
        return self.began_ns is None

    @property
    def is_in(self) -> bool:
        return self.health.is_in and not self.bar


class _RecentKinds:
    """The kinds of the newest frames."""

    def __init__(self) -> None:
        self._newest: collections.deque[Hashable] = collections.deque()
        self.all: collections.Counter[Hashable] = collections.Counter()
        self.last: Hashable = None

    def add(self, kind: Hashable) -> None:
        self.last = kind
        self._newest.append(kind)
        self.all[kind] += 1
        if len(self._newest) > _RECENT_FRAMES:
            oldest = self._newest.popleft()
            self.all[oldest] -= 1
            if not self.all[oldest]:
                del self.all[oldest]


class EngineSchedule:
    """
    The state of some engines, numbered from 0 on; 0 is the first.

    Parameters
    ----------
    engines
        How many, 2 at least.

    """

    ends_with_first = True
    """Whether frames fail if the device of the first is lost, whatever the others could do."""

    def __init__(self, engines: int) -> None:
        self._members = [_Member() for _ in range(engines)]
        self._members[FIRST].health = EngineHealth(may_go=False)
        self._trial = LatencyTrial()
        self.phase, self.reason = Phase.LEARNING, ''
        self._kinds = _RecentKinds()
        self._rests = 0
        self._rest_until_ns = 0
        self._block_alone, self._block_frames, self._block_since_ns = True, 0, 0
        self._blocks = 0
        self._used = 0
        self._proven = 0
        self._frames = 0
        self._alone_since_ns = 0
        self._cold_until_ns = 0

    # ---- decisions

    @property
    def alone(self) -> bool:
        """Whether only the first is to begin frames."""
        if not self._members[FIRST].is_in and self._others_in():
            return False
        return self.phase not in (Phase.TRYING, Phase.TOGETHER) or self._block_alone

    def choose(self, now_ns: int) -> int | None:
        """Return the engine to begin a waiting frame, None if it shall wait."""
        first = self._members[FIRST]
        if self.alone or not self._others_in():  # though it be out: nobody else would answer
            return FIRST if first.is_idle else None
        if not first.is_in:
            return self._choose_substitute()
        best, most_ns = FIRST, 0
        for number in self._others_in():
            ahead_ns = self._ahead_ns(number, now_ns)
            if ahead_ns is not None and ahead_ns > most_ns:
                best, most_ns = number, ahead_ns
        return best if self._members[best].is_idle else None

    def probe(self, now_ns: int) -> int | None:
        """Return the engine that is to be tried on a copy of an answered frame, if any."""
        if self.phase is Phase.PROBING and self._members[FIRST].is_in and not self._others_idle():
            return None  # one at a time: they are measured
        for number, member in enumerate(self._members):
            if member.is_idle and self._wants_probe(number, now_ns):
                member.probes += 1
                return number
        return None

    def ready(self) -> list[int]:
        """Return the engines in service, those that are idle first."""
        numbers = [number for number, each in enumerate(self._members) if each.is_in]
        return sorted(numbers, key=lambda number: not self._members[number].is_idle)

    def overdue(self, now_ns: int) -> list[int]:
        """Return the engines that have not answered for so long that they hang."""
        return [
            number for number, each in enumerate(self._members) if self._hangs_ns(each, now_ns)
        ]

    # ---- what happens

    def begin(self, engine: int, kind: Hashable, now_ns: int, *, probe: bool = False) -> None:
        """Note that an engine begins with a frame, or with a copy of one."""
        member = self._members[engine]
        member.kind, member.began_ns = kind, now_ns
        if not probe:
            self._kinds.add(kind)
            self._used += engine != FIRST

    def end(self, engine: int, now_ns: int, *, probe: bool = False, good: bool = True) -> None:
        """Note that an engine has ended; `good` if it succeeded."""
        member = self._members[engine]
        if member.began_ns is None:
            return
        if good:
            if not member.times.add(member.kind, now_ns - member.began_ns):
                self._cold_until_ns = now_ns
            member.answered += not probe
            if probe:
                member.health.pass_trial()
                if engine == FIRST and member.is_in:
                    self._learn(now_ns)
        member.began_ns = None
        if engine != FIRST:
            self._alone_since_ns = now_ns

    def fail(self, engine: int, reason: str, now_ns: int, *, for_good: bool = False) -> None:
        """Take an engine out: it failed on a frame that another one answers, or on its trial."""
        self._members[engine].health.fail(reason, now_ns, for_good=for_good)

    def bar(self, engine: int, reason: str) -> None:
        """Keep an engine out for a reason that is no failure; '' lets it in."""
        self._members[engine].bar = reason

    def restart(self, now_ns: int) -> None:
        """Begin anew: there is another first engine."""
        first = self._members[FIRST]
        first.times.begin_anew()
        if first.is_idle:  # else what was there before may hang in its thread yet
            first.health = EngineHealth(may_go=False)
        self._trial.forget()
        self._rests = 0
        self._learn(now_ns)

    def answered(self, latencies_ns: Sequence[int], now_ns: int) -> None:
        """
        Note frames that were answered now: how long ago each had arrived.

        Those that arrived before the end of a cold run, an engine's first of a kind, are not
        compared: they may have waited for it.

        """
        self._frames += len(latencies_ns)
        warm = self._warm(latencies_ns, now_ns)
        if not self.alone:
            self._trial.add_together(warm)
            self._proven += len(latencies_ns)
        elif self._others_idle():
            self._trial.add_alone(each for each in warm if now_ns - each >= self._alone_since_ns)
        self._block_frames += len(latencies_ns)
        self._advance(now_ns)

    def overtaken(self, latencies_ns: Sequence[int], now_ns: int) -> None:
        """
        Note frames whose successors were answered before them: late ones, never published.

        How long ago each had arrived; as for `answered`.

        """
        if self.phase in (Phase.TRYING, Phase.TOGETHER):
            late_ns = self._trial.limit_ns() + 1
            self._trial.add_together(late_ns for _ in self._warm(latencies_ns, now_ns))
            self._advance(now_ns)

    def _warm(self, latencies_ns: Sequence[int], now_ns: int) -> list[int]:
        """Return those of frames that arrived after the latest cold run."""
        return [each for each in latencies_ns if now_ns - each >= self._cold_until_ns]

    # ---- reports

    def text(self, now_ns: int) -> str:
        """Return the state as text."""
        if not self._members[FIRST].is_in and self._others_in():
            return 'the others serve without the first'
        if self.phase is Phase.LEARNING:
            return 'the first serves alone, and is measured'
        if self.phase is Phase.PROBING:
            return 'the first serves alone; the others are measured on copies of frames'
        if self.phase in (Phase.TRYING, Phase.TOGETHER) and not self._others_in():
            return 'the first serves alone: the others are out'
        number = len(self._members)
        well = number - len(self.out(now_ns))
        who = 'all' if well == number else f'{well} of {number}'
        if self.phase is Phase.TRYING:
            return f'{who} are tried, in turns with the first alone'
        if self.phase is Phase.TOGETHER:
            return f'{who} serve: {self.reason}'
        left_s = max(0, self._rest_until_ns - now_ns) / NS_PER_S
        again = f'for {left_s:.0f} s' if self._usable() else 'for good'
        return f'the others rest {again}: {self.reason}'

    def engine_text(self, engine: int, now_ns: int) -> str:
        """Return `in service, 1203 frames, 45.1 ms (p95 47.0)`."""
        member = self._members[engine]
        how = self._state_text(member, now_ns)
        times = ''
        kind = self._kinds.last
        typical_ns, high_ns = member.times.typical_ns(kind), member.times.high_ns(kind)
        if typical_ns is not None and high_ns is not None:
            times = f', {typical_ns / NS_PER_MS:.1f} ms (p95 {high_ns / NS_PER_MS:.1f})'
        return f'{how}; {member.answered} frames{times}'

    def out(self, now_ns: int) -> dict[int, str]:
        """Return the engines that hang, that failed or that may not serve, with messages."""
        return {
            number: self._state_text(each, now_ns) for number, each in enumerate(self._members)
            if not each.is_in or self._hangs_ns(each, now_ns)
        }

    # ---- who is when ready

    def _others_in(self) -> list[int]:
        return [number for number, each in enumerate(self._members) if number and each.is_in]

    def _others_idle(self) -> bool:
        return all(each.is_idle for each in self._members[1:])

    def _usable(self) -> list[int]:
        """Return the other engines that serve or may serve later."""
        return [
            number for number, each in enumerate(self._members) if number
            and not each.health.is_gone
        ]

    def _choose_substitute(self) -> int | None:
        idle = [number for number in self._others_in() if self._members[number].is_idle]
        kind = self._kinds.last
        return min(
            idle, default=None,
            key=lambda number: self._members[number].times.high_ns(kind) or HANGS_NS,
        )

    def _ahead_ns(self, engine: int, now_ns: int) -> int | None:
        """
        Return how much earlier an engine will finish a frame than the first, at least.

        Both count with their 95th percentile, the remaining work of the first with its median.
        None if either is unknown for some kind of current frames.

        """
        first, other = self._members[FIRST], self._members[engine]
        kinds = self._kinds.all
        if not kinds or not first.times.knows(kinds) or not other.times.knows(kinds):
            return None
        wait_ns = self._remaining_ns(other, other.times.high_ns(other.kind), now_ns)
        if wait_ns is None:
            return None
        first_ns = self._remaining_ns(first, first.times.typical_ns(first.kind), now_ns) or 0
        return min(
            first_ns + (first.times.high_ns(kind) or 0) - wait_ns
            - (other.times.high_ns(kind) or 0)
            for kind in kinds
        )

    def _remaining_ns(self, member: _Member, takes_ns: int | None, now_ns: int) -> int | None:
        """Return how long an engine is still busy, None if unknown."""
        if member.began_ns is None:
            return 0
        if takes_ns is None or now_ns - member.began_ns > _OVERDUE_TIMES * takes_ns:
            return None
        return max(0, member.began_ns + takes_ns - now_ns)

    def _hangs_ns(self, member: _Member, now_ns: int) -> int:
        """Return for how long an engine has not answered, 0 while that is no hanging."""
        if member.began_ns is None:
            return 0
        waited_ns = now_ns - member.began_ns
        limit_ns = hang_limit_ns(member.times.high_ns(member.kind))
        return waited_ns if waited_ns > limit_ns else 0

    def _state_text(self, member: _Member, now_ns: int) -> str:
        """Return the state of an engine as text; one that hangs is not on trial."""
        if member.bar:
            return f'out: {member.bar}'
        waited_ns = self._hangs_ns(member, now_ns)
        if waited_ns:
            return f'hanging, for {waited_ns / NS_PER_S:.0f} s: it does not answer'
        return member.health.text(now_ns)

    # ---- what is measured

    def _wants_probe(self, engine: int, now_ns: int) -> bool:
        member = self._members[engine]
        if not self._members[FIRST].is_in:
            return member.health.wants_trial(now_ns)
        if member.bar or engine == FIRST or (self.alone and self.phase is not Phase.PROBING):
            return False
        if member.health.wants_trial(now_ns):
            return True
        budget = _MOST_PROBES + self._frames // _PROBE_SHARE
        return member.is_in and member.probes < budget and not member.times.knows(self._kinds.all)

    def _could_help(self) -> list[int]:
        """Return the others that could finish a frame before the first while that is busy."""
        first = self._members[FIRST].times
        return [
            number for number in self._others_in() if any(
                (high_ns := self._members[number].times.high_ns(kind)) is not None
                and high_ns < (first.typical_ns(kind) or 0) + (first.high_ns(kind) or 0)
                for kind in self._kinds.all
            )
        ]

    # ---- phases

    def _advance(self, now_ns: int) -> None:
        if self.phase is Phase.LEARNING:
            if self._trial.is_known:
                self._enter(Phase.PROBING, now_ns)
        elif self.phase is Phase.PROBING:
            self._end_probing(now_ns)
        elif self.phase is Phase.RESTING:
            if now_ns >= self._rest_until_ns and self._usable():
                self._enter(Phase.PROBING, now_ns)
        else:
            self._judge(now_ns)

    def _end_probing(self, now_ns: int) -> None:
        members = list(enumerate(self._members))[1:]
        if any(each.began_ns is not None or self._wants_probe(n, now_ns) for n, each in members):
            return
        if self._could_help():
            self._enter(Phase.TRYING, now_ns)
            self._begin_block(now_ns, alone=False)
        else:
            self._rest(self._hopeless(), now_ns)

    def _hopeless(self) -> str:
        first = self._members[FIRST].times
        if not self._others_in():
            return 'none of them is in service'
        for number in self._others_in():
            for kind in self._kinds.all:
                high_ns = self._members[number].times.high_ns(kind)
                typical_ns, tail_ns = first.typical_ns(kind), first.high_ns(kind)
                if high_ns is not None and typical_ns is not None and tail_ns is not None:
                    return (
                        f'engine {number + 1} takes {high_ns / NS_PER_MS:.1f} ms, and the first '
                        'answers an image that waits within '
                        f'{(typical_ns + tail_ns) / NS_PER_MS:.1f} ms'
                    )
        return 'none of them is known for the images that come'

    def _judge(self, now_ns: int) -> None:
        if harm := self._trial.harm():
            self._rest(harm, now_ns)
            return
        trying = self.phase is Phase.TRYING
        length = _TRIED_BLOCK if trying else _BLOCK_ALONE if self._block_alone else _BLOCK_TOGETHER
        if self._block_frames < length:
            return
        self._trial.add_block(
            together=not self._block_alone, frames=self._block_frames,
            took_ns=now_ns - self._block_since_ns,
        )
        self._blocks += 1
        if not self._block_alone and not trying and not self._used:
            self._rest(_KEEPS_UP, now_ns, grow=False)
        elif trying and self._blocks >= 2 * _TRIED_BLOCKS:
            self._decide(now_ns)
        else:
            self._begin_block(now_ns, alone=not self._block_alone)

    def _decide(self, now_ns: int) -> None:
        """End a trial in which the others did not increase the latency."""
        gain = self._trial.gain()
        if not self._used:
            self._rest(_KEEPS_UP, now_ns, grow=False)
        elif not gain:
            self._rest('they gain nothing: images a second, p50 and p99 are the same', now_ns)
        else:
            self._enter(Phase.TOGETHER, now_ns)
            self.reason, self._proven = gain, 0
            self._begin_block(now_ns, alone=False)

    def _rest(self, reason: str, now_ns: int, *, grow: bool = True) -> None:
        if self._proven >= _PROVEN_FRAMES:
            self._rests = 0
        self._rests += grow
        self._enter(Phase.RESTING, now_ns)
        self.reason, self._rest_until_ns = reason, now_ns + pause_ns(max(1, self._rests))

    def _learn(self, now_ns: int) -> None:
        self._enter(Phase.LEARNING, now_ns)

    def _enter(self, phase: Phase, now_ns: int) -> None:
        self.phase, self.reason = phase, ''
        self._block_alone, self._blocks, self._used, self._proven = True, 0, 0, 0
        self._frames = 0
        self._alone_since_ns = now_ns
        self._trial.forget_together()
        if phase is Phase.PROBING:
            for each in self._members[1:]:
                each.probes = 0
                each.times.forget()

    def _begin_block(self, now_ns: int, *, alone: bool) -> None:
        if alone:
            self._alone_since_ns = now_ns
        else:
            self._used = self._used if self.phase is Phase.TRYING else 0
        self._block_alone, self._block_frames, self._block_since_ns = alone, 0, now_ns


_KEEPS_UP = 'the first is ready whenever an image comes'
