"""Power saved by pausing a detector: its power while it detects, less its power while paused."""

from __future__ import annotations

import dataclasses
import math

from yolov7_trt_ros.power.telemetry.energy import EnergyCounter
from yolov7_trt_ros.power.telemetry.sample import BoardSample

LEAST_INTERVALS = 5
"""Number of intervals of each kind before a result: power varies between them."""

_SURE = 2.0
"""Number of standard errors from which a difference is significant."""


@dataclasses.dataclass(frozen=True)
class WorkTally:
    """
    The work of a detector up to a moment.

    Attributes
    ----------
    processed, skipped
        Frames since the start: with detection, and skipped.
    paused, working
        Whether all topics are paused, and whether none is; neither if some are.

    """

    processed: int
    skipped: int
    paused: bool
    working: bool


class _Kind:
    """The mean power of intervals of one kind, in watts, and its uncertainty."""

    def __init__(self) -> None:
        self.count, self.seconds, self.joules, self.frames = 0, 0.0, 0.0, 0
        self._sum_w = self._sum_of_squares = 0.0

    def add(self, joules: float, seconds: float, frames: int) -> None:
        """Count one more interval."""
        self.count += 1
        self.seconds += seconds
        self.joules += joules
        self.frames += frames
        self._sum_w += joules / seconds
        self._sum_of_squares += (joules / seconds) ** 2

    @property
    def is_known(self) -> bool:
        """Whether there were enough intervals."""
        return self.count >= LEAST_INTERVALS

    @property
    def mean_w(self) -> float:
        """Return the mean power; needs at least one interval."""
        return self.joules / self.seconds

    @property
    def variance_of_mean(self) -> float:
        """Return the square of the standard error of the mean, in square watts."""
        mean_w = self._sum_w / self.count
        variance = self._sum_of_squares / self.count - mean_w ** 2
        return max(0.0, variance) / (self.count - 1)


class PauseSavings:
    """
    Compares the power of a machine while a detector works with that while it is paused.

    An interval between two samples counts as work if frames were processed and no topic is
    paused, as a pause if images arrived and all were skipped. The first interval after each
    change counts as neither, nor does one without known energy. The power is that of the whole
    machine as far as it is measured, including other programs.

    """

    def __init__(self) -> None:
        self._counter = EnergyCounter()
        self._last: tuple[BoardSample, WorkTally] | None = None
        self._last_kind: _Kind | None = None
        self._work, self._pause = _Kind(), _Kind()

    def add(self, sample: BoardSample, tally: WorkTally) -> None:
        """Take the newest sample, and the work up to about its time; an old one is ignored."""
        last = self._last
        if last is not None and sample.time_ns <= last[0].time_ns:
            return
        before_j, before_s = self._counter.joules, self._counter.seconds
        self._counter.add(sample)
        self._last = sample, tally
        if last is None:
            return
        kind, former = self._kind(last[1], tally), self._last_kind
        self._last_kind = kind
        joules, seconds = self._counter.joules - before_j, self._counter.seconds - before_s
        if kind is not None and kind is former and seconds > 0.0:
            kind.add(joules, seconds, tally.processed - last[1].processed)

    def _kind(self, last: WorkTally, tally: WorkTally) -> _Kind | None:
        processed = tally.processed - last.processed
        if last.working and tally.working and processed > 0:
            return self._work
        if last.paused and tally.paused and processed == 0 and tally.skipped > last.skipped:
            return self._pause
        return None

    def facts(self) -> dict[str, str]:
        """Return the results by name with unit; an unknown one gives the reason."""
        work, pause = self._work, self._pause
        facts = {
            'power while detecting (W)': _power_text(work, 'frames were detected in'),
            'power while paused (W)': _power_text(pause, 'images were passed over'),
            'energy per frame (J)': f'{work.joules / work.frames:.3f}' if work.is_known
            else 'unknown',
        }
        unsure = self._find_uncertainty()
        saved_w = 0.0 if unsure else work.mean_w - pause.mean_w
        of_a_frame_j = 0.0 if unsure else saved_w * work.seconds / work.frames
        return facts | {
            'energy per frame by detecting (J)': unsure or f'{of_a_frame_j:.3f}',
            'energy saved by pauses (J)': unsure or f'{saved_w * pause.seconds:.1f}',
        }

    def _find_uncertainty(self) -> str:
        """Return why the difference of both is unknown, '' if it is known."""
        if not (self._work.is_known and self._pause.is_known):
            return 'unknown'
        difference_w = self._work.mean_w - self._pause.mean_w
        error_w = math.sqrt(self._work.variance_of_mean + self._pause.variance_of_mean)
        if difference_w > _SURE * error_w:
            return ''
        return f'unknown: {difference_w:.2f} W less while paused, give or take {error_w:.2f} W'


def _power_text(kind: _Kind, what: str) -> str:
    if kind.is_known:
        return f'{kind.mean_w:.2f}'
    return f'unknown: {kind.count} of {LEAST_INTERVALS} intervals in which {what}'
