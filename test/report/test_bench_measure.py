from __future__ import annotations

from collections.abc import Callable, Sequence
import itertools

import numpy as np
import pytest

from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.errors import InferenceError, PowerError, SettingError
from yolov7_trt_ros.report.bench.measure import BenchPlan, measure_batch, rotation, run_frames
from yolov7_trt_ros.report.bench.row import Energy
from yolov7_trt_ros.testing import FAKE_TIMINGS, FakeDetector

PLAN = BenchPlan(seconds=0.05, least_runs=6, warm_up_runs=3)
PICTURES = [
    ImageView.from_array(np.full((24, 32 + n, 3), 40 * n, np.uint8)) for n in range(5)
]


class Meter:
    """Says 2 J a frame."""

    def __init__(self) -> None:
        self.frames: list[int] = []

    def measure(self, work: Callable[[], int]) -> Energy:
        self.frames.append(work())
        return Energy('fake', ('rail',), 1.0, 2.0 * self.frames[-1], 2.0)


class NoMeter:

    def measure(self, work: Callable[[], int]) -> Energy:
        raise PowerError('no power source')


class EventClock:
    """Plays CUDA events: three runs of 2, 3 and 4 ms for each batch that it is shown."""

    clock = 'CUDA events'
    by_detector = False

    def __init__(self) -> None:
        self.shown: list[list[int]] = []

    def sample(self, images: Sequence[ImageView]) -> list[int]:
        self.shown.append([image.width for image in images])
        return [2_000_000, 3_000_000, 4_000_000]


class DetectorClock:
    clock = 'host clock'
    by_detector = True

    def sample(self, images: Sequence[ImageView]) -> list[int]:
        raise AssertionError('the frames tell it already')


def refused(batch: int) -> DetectorClock:
    raise SettingError(f'no batch of {batch}')


def test_pictures_take_turns_and_combinations_repeat() -> None:
    batches = list(itertools.islice(rotation(PICTURES, 3), 10))
    widths = [tuple(image.width for image in batch) for batch in batches]
    assert widths[:2] == [(32, 33, 34), (35, 36, 32)]
    assert set(itertools.chain(*widths)) == {32, 33, 34, 35, 36}
    assert widths[:5] == widths[5:]


def test_network_of_a_host_engine_comes_from_the_same_frames() -> None:
    detector, meter = FakeDetector(), Meter()
    result = measure_batch(
        detector, PICTURES, 1, PLAN, open_clock=lambda _: DetectorClock(), meter=meter
    )
    assert result.network is not None
    assert result.end_to_end is not None
    assert result.network.latency_ms.p50 == FAKE_TIMINGS.infer_ns / 1e6
    assert result.network.fps == pytest.approx(200.0)
    assert result.network.runs == result.end_to_end.runs >= PLAN.least_runs
    assert result.energy is not None
    assert meter.frames[0] > 0
    assert {call.size_wh[0] for call in detector.calls} == {32, 33, 34, 35, 36}
    timed = result.end_to_end.runs + meter.frames[0]
    assert len(detector.calls) >= timed + 2 * len(PICTURES)  # every picture twice before


def test_events_are_timed_apart_and_with_percentiles() -> None:
    clock = EventClock()
    result = measure_batch(
        FakeDetector(max_batch=4), PICTURES, 4, PLAN, open_clock=lambda _: clock, meter=NoMeter()
    )
    assert result.network is not None
    assert result.network.clock == 'CUDA events'
    assert (result.network.latency_ms.p50, result.network.latency_ms.p99) == (3.0, 4.0)
    assert result.network.fps == pytest.approx(4 / 0.003, abs=0.01)
    assert {len(widths) for widths in clock.shown} == {4}
    assert len({tuple(widths) for widths in clock.shown}) == 5
    assert result.energy is None
    assert result.energy_error == 'no power source'


def test_batches_that_a_model_does_not_take_have_a_reason() -> None:
    meter = Meter()
    result = measure_batch(FakeDetector(), PICTURES, 8, PLAN, open_clock=refused, meter=meter)
    assert (result.network, result.end_to_end, result.energy) == (None, None, None)
    assert result.network_error == 'no batch of 8'
    assert '8' in result.end_to_end_error
    assert result.energy_error == result.end_to_end_error
    assert not meter.frames


def test_engine_that_fails_loses_its_numbers_not_the_benchmark() -> None:
    detector = FakeDetector([InferenceError('NaN in\nthe output')])
    result = measure_batch(
        detector, PICTURES, 1, PLAN, open_clock=lambda _: DetectorClock(), meter=Meter()
    )
    assert result.network is result.end_to_end is None
    assert result.network_error == result.end_to_end_error == 'NaN in the output'


def test_frames_of_a_batch_count_each() -> None:
    detector = FakeDetector(max_batch=4)
    assert run_frames(detector, PICTURES, 4, 0.0) == 4
    assert detector.batches == [4]
