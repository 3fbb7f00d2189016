"""LatencyWatch: whether a new model needs much longer than the one it replaced."""

from __future__ import annotations

import collections
from collections.abc import Hashable

import numpy as np

from yolov7_trt_ros.core.units import NS_PER_MS

_SAMPLES = 200
_LEAST_SAMPLES = 20
_MOST_KINDS = 32
_SLOW, _OF = 3, 10


class LatencyWatch:
    """
    Learns from the frames of one model, then judges those of the next.

    Frames are distinguished by a `kind`: number and sizes of images. The first frame of each kind
    is neither learned from nor judged, as an engine may prepare itself then.

    """

    def __init__(self) -> None:
        self._known: collections.OrderedDict[Hashable, collections.deque[int]] = (
            collections.OrderedDict()
        )
        self._usual_ns: dict[Hashable, float] = {}
        self._seen: set[Hashable] = set()
        self._slow: collections.deque[bool] = collections.deque(maxlen=_OF)

    def learn(self, kind: Hashable, took_ns: int) -> None:
        """Note a frame of the model that serves undisputed."""
        samples = self._known.get(kind)
        if samples is None:
            self._known[kind] = collections.deque(maxlen=_SAMPLES)
        else:
            samples.append(took_ns)
        self._known.move_to_end(kind)
        if len(self._known) > _MOST_KINDS:
            self._known.popitem(last=False)

    def begin(self) -> None:
        """Judge from now on, by the 95th percentiles so far."""
        self._usual_ns = {
            kind: float(np.percentile(samples, 95))
            for kind, samples in self._known.items() if len(samples) >= _LEAST_SAMPLES
        }
        self._seen.clear()
        self._slow.clear()

    def judge(self, kind: Hashable, took_ns: int, ratio: float) -> str:
        """
        Return why the new model is too slow, '' if it is not or nothing is known.

        Slow is more than `ratio` times the 95th percentile of the former model.

        """
        if kind not in self._usual_ns:
            return ''
        limit_ns = ratio * self._usual_ns[kind]
        if kind not in self._seen:
            self._seen.add(kind)
            return ''
        self._slow.append(took_ns > limit_ns)
        if self._slow.count(True) < _SLOW:
            return ''
        return (
            f'{_SLOW} of its last {len(self._slow)} frames took over '
            f'{limit_ns / NS_PER_MS:.1f} ms, which is '
            'update_max_latency_ratio times what the former model took'
        )

    def forget(self) -> None:
        """Forget the former model: the present one is what the next is measured by."""
        self._known.clear()
