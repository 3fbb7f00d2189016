"""PauseEnergy: the energy that `idle` and `only_when_subscribed` save, for diagnostics."""

from __future__ import annotations

from collections.abc import Callable, Collection

from yolov7_trt_ros.nodes.diagnostics import STATUS_PERIOD_S
from yolov7_trt_ros.nodes.images.image_stream import ImageStream
from yolov7_trt_ros.nodes.power.sampler import Sampler
from yolov7_trt_ros.power.telemetry.pause_savings import PauseSavings, WorkTally
from yolov7_trt_ros.power.telemetry.sample import TelemetrySource

_STOP_S = 2.0


class PauseEnergy:
    """
    Reads the power of this machine once a second, as soon as a topic may be paused.

    For the executor's thread; the power is read in a separate thread.

    Parameters
    ----------
    open_source
        Opens the power telemetry; called in that thread.

    """

    def __init__(self, open_source: Callable[[], TelemetrySource]) -> None:
        self._open_source = open_source
        self._sampler: Sampler | None = None
        self._savings = PauseSavings()

    def tick(self, streams: Collection[ImageStream], *, may_pause: bool) -> None:
        """Add the work since the last call, about once a second; no streams if inactive."""
        if self._sampler is None:
            if not may_pause:
                return
            self._sampler = Sampler(
                self._open_source, lambda: STATUS_PERIOD_S, lambda sample: None
            )
            self._sampler.start()
        sample = self._sampler.newest
        if sample is not None:
            self._savings.add(sample, _tally(streams))

    def status(self) -> dict[str, str]:
        """Return the values for diagnostics; none if no topic may be paused."""
        sampler = self._sampler
        if sampler is None:
            return {}
        sample = sampler.newest
        if sampler.problem or sample is None:
            reason = sampler.problem or 'no reading yet'
            return {'energy saved by pauses (J)': f'unknown: {reason}'}
        rails = ', '.join(sample.rails) or 'no rail'
        problems = f'; {"; ".join(sample.problems)}' if sample.problems else ''
        measured = {'power measured by': f'{sampler.source_name}: {rails}{problems}'}
        return measured | self._savings.facts()

    def stop(self) -> None:
        """Stop reading, and forget the measurements."""
        sampler, self._sampler = self._sampler, None
        self._savings = PauseSavings()
        if sampler is not None:
            sampler.stop(_STOP_S)


def _tally(streams: Collection[ImageStream]) -> WorkTally:
    counts = [stream.counts() for stream in streams]
    paused = [bool(stream.gate.reason) for stream in streams]
    return WorkTally(
        processed=sum(each.processed for each in counts),
        skipped=sum(each.skipped for each in counts),
        paused=bool(paused) and all(paused),
        working=bool(paused) and not any(paused),
    )
