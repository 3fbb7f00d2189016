"""LatencyTrial: whether frames take longer with several engines than with the first alone."""

from __future__ import annotations

import collections
from collections.abc import Iterable

from yolov7_trt_ros.core.units import NS_PER_MS, NS_PER_S

LEAST_ALONE = 100
_ALONE, _TOGETHER = 200, 500
_GAIN = 0.03
_RULES = ((20, 3, 0.0), (500, 3, 0.025), (3000, 10, 0.015))
"""Number of latest frames of which only a number and a share may be late; 1 % always is."""


class LatencyTrial:
    """
    The newest latencies of frames with the first engine alone, and of those with all engines.

    The limit is the 99th percentile of the first alone, as it is known when a frame is answered.
    With all engines one frame of a hundred may be later. Chance makes that more or fewer, so the
    fewer frames are looked at, the more of them must be late to count as harm: `_RULES`.

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
        for latency_ns in latencies_ns:
            self.together.append(latency_ns)
            for window in self._windows:
                window.add(latency_ns > self._limit_ns)

    def add_block(self, *, together: bool, frames: int, took_ns: int) -> None:
        """Note the latency of a number of frames."""
        self._rates[together].add(frames, took_ns)

    def forget_together(self) -> None:
        """Begin another trial."""
        self.together.clear()
        self._windows = [_Window(*rule) for rule in _RULES]
        self._rates = {False: _Rate(), True: _Rate()}

    def forget(self) -> None:
        """Know nothing any more: another first engine."""
        self.alone.clear()
        self.forget_together()

    def harm(self) -> str:
        """Return why the first alone is better, '' if it is not."""
        harmful = next((each for each in self._windows if each.is_over), None)
        if harmful is None:
            return ''
        return (
            f'{harmful.late} of {harmful.frames} frames took longer with them than p99 without, '
            f'{self._limit_ns / NS_PER_MS:.1f} ms; their p99 is '
            f'{_quantile(self.together, 0.99) / NS_PER_MS:.1f} ms'
        )

    def gain(self) -> str:
        """Return what all engines are better at, '' if nothing."""
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


class _Window:
    """How many of the newest frames were late."""

    def __init__(self, frames: int, least: int, share: float) -> None:
        self._late: collections.deque[bool] = collections.deque(maxlen=frames)
        self._least, self._share = least, share
        self.late = 0

    def add(self, is_late: bool) -> None:
        if len(self._late) == self._late.maxlen:
            self.late -= self._late[0]
        self._late.append(is_late)
        self.late += is_late

    @property
    def frames(self) -> int:
        return len(self._late)

    @property
    def is_over(self) -> bool:
        return self.late > self._least + self._share * self.frames


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
