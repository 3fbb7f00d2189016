"""Two frames in flight: in order, each one counted, and only where it is worth it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from test_worker import Bench, FOUND

from yolov7_trt_ros.core.detector import FrameTimings, PipelinedDetector
from yolov7_trt_ros.core.units import NS_PER_MS
from yolov7_trt_ros.errors import DeviceLostError, InferenceError
from yolov7_trt_ros.nodes.detector.worker.overlap import Overlap
from yolov7_trt_ros.testing import FakeDetector


class FakePipeline(FakeDetector):
    """A detector with a GPU of its own: a log of what was submitted and collected, and times."""

    def __init__(self, *arguments: Any, gpu_ms: float = 1000.0, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.log: list[str] = []
        self.most_in_flight = self.in_flight = 0
        self._gpu_ns = int(gpu_ms * NS_PER_MS)
        self.failing_submits: list[Exception | None] = []

    def submit(self, images: Sequence[Any], settings: Any) -> Any:
        self.log.append(f'submit {len(images)}')
        failure = self.failing_submits.pop(0) if self.failing_submits else None
        if failure is not None:
            raise failure
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        return images, settings

    def collect(self, ticket: Any) -> Any:
        self.log.append('collect')
        self.in_flight -= 1
        found, _ = self.detect_batch(*ticket)
        return found, FrameTimings(1, self._gpu_ns, 1)


def run(detector: FakePipeline) -> Bench:
    """Let a worker process eight frames, two of each of four topics."""
    bench = Bench(detector)
    assert isinstance(detector, PipelinedDetector)
    rounds = [2]
    take_waiting = bench.slots.take_waiting

    def refilled(most: int = 1) -> Any:
        if rounds[0] > 0 and not bench.slots._waiting:
            rounds[0] -= 1
            for topic in bench.streams:
                bench.put(topic)
        return take_waiting(most)

    bench.slots.take_waiting = refilled  # type: ignore[method-assign]
    bench.run()
    return bench


def test_the_next_frame_is_begun_while_one_is_on_the_gpu_and_the_order_is_kept():
    detector = FakePipeline([FOUND], gpu_ms=1000)
    bench = run(detector)
    assert detector.log[:4] == ['submit 1', 'collect', 'submit 1', 'submit 1']  # first it measures
    assert detector.most_in_flight == 2 and detector.in_flight == 0
    assert [topic for topic, _ in bench.published] == list('abcd') * 3
    assert bench.counts('processed') == [3] * 4 == bench.counts('received')
    assert bench.worker.status()['frames in flight'].startswith('2, for the GPU takes 1')


def test_with_a_gpu_that_is_faster_than_the_host_each_frame_is_waited_for():
    detector = FakePipeline([FOUND], gpu_ms=0)
    bench = run(detector)
    assert detector.most_in_flight == 1
    assert bench.worker.status()['frames in flight'].startswith('1, for the GPU takes 0.0 ms')


def test_a_detector_without_submit_has_one_frame_in_work_and_nothing_to_tell():
    bench = Bench(FakeDetector([FOUND]))
    bench.run()
    assert bench.worker.status() == {} and bench.counts('processed') == [1] * 4


@pytest.mark.parametrize('where', ['submit', 'collect'])
def test_a_frame_that_fails_in_flight_leaves_the_others_alone(where):
    failure = InferenceError('spoilt')
    script = [FOUND] * 12
    detector = FakePipeline(script)
    if where == 'submit':
        detector.failing_submits = [None, None, failure]
    else:
        detector._script[2:3] = [failure]  # of the third that is collected
    bench = run(detector)
    assert bench.counts('failed') == [0, 0, 1, 0]
    assert bench.counts('processed') == [3, 3, 2, 3]
    assert [topic for topic, _ in bench.published] == list('abd') + list('abcd') * 2
    assert bench.errors == ['c: spoilt']


def test_a_device_that_is_lost_with_two_in_flight_ends_the_worker():
    detector = FakePipeline([FOUND, FOUND, DeviceLostError('gone')])
    bench = Bench(detector)
    for topic in bench.streams:
        bench.put(topic)
    bench.worker.start()
    bench.worker._thread.join(600)
    assert bench.worker.device_lost and 'gone' in bench.worker.fault
    assert bench.counts('processed') == [1, 1, 0, 0]
    assert bench.counts('failed') == [0, 0, 1, 0] and bench.counts('dropped') == [0, 0, 0, 1]


def test_it_takes_a_margin_to_begin_with_two_and_less_to_go_on():
    overlap = Overlap()
    assert not overlap.is_worth_it and overlap.text() == '1'
    for gpu_ms, worth in ((1.3, False), (9.0, True)):
        for _ in range(50):
            overlap.note(NS_PER_MS, int(gpu_ms * NS_PER_MS), 0)
        assert overlap.is_worth_it is worth
    for _ in range(50):
        overlap.note_take(NS_PER_MS)
        overlap.note(NS_PER_MS, NS_PER_MS, int(1.3 * NS_PER_MS))
    assert overlap.is_worth_it  # 2.3 ms against 2 ms: enough to go on
    for _ in range(50):
        overlap.note_take(NS_PER_MS)
        overlap.note(NS_PER_MS, 0, 2 * NS_PER_MS)  # the GPU was ready before the host
    assert not overlap.is_worth_it
