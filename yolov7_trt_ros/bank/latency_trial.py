"""LatencyTrial: whether frames take longer with more engines than with the first one alone."""

from __future__ import annotations

import collections
from collections.abc import Iterable

from yolov7_trt_ros.core.stamps import NS_PER_S
from yolov7_trt_ros.report.latency import NS_PER_MS

LEAST_ALONE = 100
_ALONE, _TOGETHER, _SHORT = 200, 500, 20
_LEAST_LATE = 4
_LATE_SHARE = 0.02
_GAIN = 0.03


class LatencyTrial:
    """
    The newest latencies of frames with the first engine alone, and of those with all engines.

    The limit is the 99th percentile of the first alone. With all engines one frame of a hundred
    may be later. More are told from chance by number: four of the last 20, or of the last 500
    more than three and more than two in a hundred.

    """

    def __init__(self) -> None:
        self.alone: collections.deque[int] = collections.deque(maxlen=_ALONE)
        self.together: collections.deque[int] = collections.deque(maxlen=_TOGETHER)
        self._rates: dict[bool, _Rate] = {}
        self._limit_ns = 0
        self.forget_together()

    @property
    def is_known(self) -> bool:
        """Whether enough frames were answered by the first alone."""
        return len(self.alone) >= LEAST_ALONE

    def limit_ns(self) -> int:
        """Return the 99th percentile of the first alone."""
        return self._limit_ns

    def add_alone(self, latencies_ns: Iterable[int]) -> None:
        """Note frames that no other engine had a part in."""
        self.alone.extend(latencies_ns)
        self._limit_ns = _quantile(self.alone, 0.99)

    def add_together(self, latencies_ns: Iterable[int]) -> None:
        """Note frames that were answered while other engines had their part."""
        self.together.extend(latencies_ns)

    def add_block(self, *, together: bool, frames: int, took_ns: int) -> None:
        """Note how long it took to answer so many frames."""
        self._rates[together].add(frames, took_ns)

    def forget_together(self) -> None:
        """Begin another trial."""
        self.together.clear()
        self._rates = {False: _Rate(), True: _Rate()}

    def forget(self) -> None:
        """Know nothing any more: another first engine."""
        self.alone.clear()
        self.forget_together()

    def harm(self) -> str:
        """Return why the first alone is better, '' where it is not."""
        limit_ns = self._limit_ns
        late = [each > limit_ns for each in self.together]
        if sum(late[-_SHORT:]) < _LEAST_LATE and (
            sum(late) < _LEAST_LATE or sum(late) <= _LATE_SHARE * len(late)
        ):
            return ''
        return (
            f'{sum(late)} of {len(late)} frames took longer with them than p99 without, '
            f'{limit_ns / NS_PER_MS:.1f} ms; their p99 is '
            f'{_quantile(self.together, 0.99) / NS_PER_MS:.1f} ms'
        )

    def gain(self) -> str:
        """Return what all engines are better at, '' where at nothing."""
        gains = []
        alone_hz, together_hz = self._rates[False].hz, self._rates[True].hz
        if alone_hz and together_hz > (1 + _GAIN) * alone_hz:
            gains.append(f'{together_hz:.1f} instead of {alone_hz:.1f} images/s')
        for share, name in ((0.5, 'p50'), (0.99, 'p99')):
            alone_ns = _quantile(self.alone, share)
            together_ns = _quantile(self.together, share)
            if together_ns < (1 - _GAIN) * alone_ns:
                gains.append(
                    f'{name} {together_ns / NS_PER_MS:.1f} instead of {alone_ns / NS_PER_MS:.1f} '
                    'ms'
                )
        return ', '.join(gains)


class _Rate:
    """Frames over time."""

    def __init__(self) -> None:
        self._frames, self._took_ns = 0, 0

    def add(self, frames: int, took_ns: int) -> None:
        self._frames += frames
        self._took_ns += took_ns

    @property
    def hz(self) -> float:
        return self._frames * NS_PER_S / self._took_ns if self._took_ns > 0 else 0.0


def _quantile(samples: Iterable[int], share: float) -> int:
    ordered = sorted(samples)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0
