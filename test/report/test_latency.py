from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from yolov7_trt_ros.core.latency import Percentiles, percentiles_ms


def test_percentiles_are_in_milliseconds() -> None:
    samples = [n * 1_000_000 for n in range(101)]
    assert percentiles_ms(samples) == Percentiles(50.0, 90.0, 99.0, 100.0)


def test_no_samples() -> None:
    assert percentiles_ms([]) == Percentiles(0, 0, 0, 0)


@given(st.lists(st.integers(0, 10**12), min_size=1))
def test_percentiles_rise(samples: list[int]) -> None:
    found = percentiles_ms(samples)
    assert found.p50 <= found.p90 <= found.p99 <= found.largest
    assert abs(found.largest - max(samples) / 1e6) <= 0.0006
