"""EngineHealth: whether one engine of several is in service, and when it is retried."""

from __future__ import annotations

from yolov7_trt_ros.core.units import NS_PER_S

FIRST_PAUSE_NS = 10 * NS_PER_S
LONGEST_PAUSE_NS = 600 * NS_PER_S
GOOD_TRIALS = 10
"""So many frames in a row it must answer on trial, to be in service again."""
MOST_FAILURES = 6
"""Number of failures after which an engine stays out of service."""
FORGIVEN_NS = 3600 * NS_PER_S
"""After so long in service without a failure, those before count no more."""


def pause_ns(number: int) -> int:
    """Return the pause after a failure, by its number from 1 on: four times as long each time."""
    return min(FIRST_PAUSE_NS << min(2 * max(number - 1, 0), 20), LONGEST_PAUSE_NS)


class EngineHealth:
    """
    In service, out of it until trials are good, or out for good.

    Parameters
    ----------
    may_go
        Whether it is ever out for good.

    Attributes
    ----------
    reason
        Why it is out, '' while it is in service.

    """

    def __init__(self, *, may_go: bool = True) -> None:
        self.reason = ''
        self._may_go = may_go
        self._failures = 0
        self._failed_ns = 0
        self._good = 0
        self._gone = False

    @property
    def is_in(self) -> bool:
        """Whether it gets frames."""
        return not self.reason

    @property
    def is_gone(self) -> bool:
        """Whether it is never tried again."""
        return self._gone

    def fail(self, reason: str, now_ns: int, *, for_good: bool = False) -> None:
        """Take it out; what comes while it pauses already is of the failure before."""
        if self.pause_left_ns(now_ns) and not for_good:
            return
        if self._failures and now_ns - self._failed_ns >= FORGIVEN_NS and self.is_in:
            self._failures = 0
        self._failures += 1
        self._failed_ns, self._good = now_ns, 0
        if self._may_go and (for_good or self._failures >= MOST_FAILURES):
            self._gone = True
        self.reason = reason

    def wants_trial(self, now_ns: int) -> bool:
        """Whether it is out, and its pause over."""
        return not self.is_in and not self._gone and not self.pause_left_ns(now_ns)

    def pause_left_ns(self, now_ns: int) -> int:
        """Return how long it is not tried yet."""
        if self.is_in or self._gone:
            return 0
        return max(0, self._failed_ns + pause_ns(self._failures) - now_ns)

    def pass_trial(self) -> None:
        """Note a good trial; after enough of them it is in service."""
        if not self.is_in and not self._gone:
            self._good += 1
            if self._good >= GOOD_TRIALS:
                self.reason = ''

    def text(self, now_ns: int) -> str:
        """Return the state as text."""
        if self.is_in:
            return 'in service'
        if self._gone:
            return f'out for good: {self.reason}'
        left_s = self.pause_left_ns(now_ns) / NS_PER_S
        tried = f'tried again in {left_s:.0f} s' if left_s else (
            f'on trial, {self._good} of {GOOD_TRIALS} frames'
        )
        return f'out, {tried}: {self.reason}'
