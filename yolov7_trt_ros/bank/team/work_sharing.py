"""WorkSharing: a schedule for recordings, where the rate counts and no latency."""

from __future__ import annotations

from yolov7_trt_ros.bank.team.engine_schedule import EngineSchedule, FIRST


class WorkSharing(EngineSchedule):
    """
    Every engine takes the next frame as soon as it is ready; nothing is tried, nothing rests.

    An engine that fails is out, and is tried again on copies of frames, as in an EngineSchedule.
    It gets frames again at once if no other can answer them. However long an engine takes, it
    counts as working: a process may be stopped for hours and then go on.

    """

    ends_with_first = False

    @property
    def alone(self) -> bool:
        """Whether only the first is to begin frames: never."""
        return False

    def choose(self, now_ns: int) -> int | None:
        """Return the first engine that is ready, None if all in service are busy."""
        members = list(enumerate(self._members))
        serving = [(number, each) for number, each in members if each.is_in]
        idle = [number for number, each in serving or members if each.is_idle]
        return idle[0] if idle else None if serving else FIRST

    def ready(self) -> list[int]:
        """Return the engines that may run a frame again: those in service, then the others."""
        return [*super().ready(), *(
            number for number, each in enumerate(self._members)
            if not each.is_in and not each.health.is_gone
        )]

    def probe(self, now_ns: int) -> int | None:
        """Return an engine that is out and to be tried again on a copy of a frame, if any."""
        for number, each in enumerate(self._members):
            if each.is_idle and each.health.wants_trial(now_ns):
                return number
        return None

    def overdue(self, now_ns: int) -> list[int]:
        """Return the engines that hang: none."""
        return []

    def out(self, now_ns: int) -> dict[int, str]:
        """Return the engines that a failure has taken out, with messages."""
        return {
            number: each.health.text(now_ns) for number, each in enumerate(self._members)
            if not each.health.is_in
        }

    def text(self, now_ns: int) -> str:
        """Return the state as text."""
        return f'{sum(each.is_in for each in self._members)} of {len(self._members)} serve'
