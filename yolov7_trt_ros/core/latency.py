"""Percentiles of latency samples."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses

import numpy as np

from yolov7_trt_ros.core.units import NS_PER_MS
from yolov7_trt_ros.records import with_key


@dataclasses.dataclass(frozen=True)
class Percentiles:
    """Milliseconds: median, 90th and 99th percentile, largest. All 0 without samples."""

    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    largest: float = dataclasses.field(default=0.0, metadata=with_key('max'))


def percentiles_ms(samples_ns: Sequence[int]) -> Percentiles:
    """
    Return percentiles in milliseconds of samples in nanoseconds, to the microsecond.

    Linear between samples, as numpy has it.

    """
    if not len(samples_ns):
        return Percentiles()
    values = np.percentile(np.asarray(samples_ns, np.float64), [50, 90, 99, 100]) / NS_PER_MS
    return Percentiles(*(round(float(value), 3) for value in values))
