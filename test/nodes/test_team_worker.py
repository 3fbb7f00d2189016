"""TeamWorker: several engines at work on frames of real messages; order, ledger, failures."""

from __future__ import annotations

import json
from pathlib import Path
import subprocess
import sys
import threading
from typing import Any

import pytest
from test_worker import Bench, DEFAULTS, FOUND

from yolov7_trt_ros.bank.team.engine_schedule import Phase
from yolov7_trt_ros.bank.team.engine_team import EngineTeam
from yolov7_trt_ros.bank.update.engine_bank import EngineBank, OpenModel
from yolov7_trt_ros.bank.update.update_machine import ModelId
from yolov7_trt_ros.errors import DeviceLostError, InferenceError
from yolov7_trt_ros.nodes.detector.worker.detections_wire import DetectionsWire
from yolov7_trt_ros.nodes.detector.worker.team_worker import TeamWorker
from yolov7_trt_ros.nodes.detector_parameters.settings import node_settings
from yolov7_trt_ros.testing import FakeDetector

REPOSITORY = Path(__file__).resolve().parents[2]
KIND = ((8, 8),)
MS = 1_000_000


class Gated(FakeDetector):
    """Answers once `go` is set; `begun` tells that it has a frame."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments or ([FOUND],), on_detect=self._hold, **named)
        self.begun, self.go = threading.Event(), threading.Event()

    def _hold(self) -> None:
        self.begun.set()
        assert self.go.wait(600)


class TeamBench(Bench):
    """A bench with a team that has all its engines at work, as if it had tried that."""

    def __init__(self, *engines: FakeDetector, settings: dict[str, Any] | None = None) -> None:
        self.engines = engines
        super().__init__(engines[0], settings or {})

    def __post_init__(self) -> None:
        super().__post_init__()
        others = [
            OpenModel(ModelId(number, str(number)), each, '')
            for number, each in enumerate(self.engines[1:], 2)
        ]
        self.team = EngineTeam(EngineBank(self.engines[0], 'first'), others, clock=lambda: 10**12)
        schedule = self.team._schedule
        for member, ms in zip(schedule._members, (50, 60, 60), strict=False):
            for _ in range(6):
                member.times.add(KIND, ms * MS)
        schedule._kinds.add(KIND)
        schedule._trial.add_alone([10**15] * 100)  # nothing is late
        schedule._enter(Phase.TRYING, 0)
        schedule._begin_block(0, alone=False)
        values = node_settings(
            DEFAULTS | self.settings, self.engines[0].spec.class_names
        )
        self.worker = TeamWorker(
            self.team, DetectionsWire(self.engines[0].spec.class_names), self.slots,
            lambda: values, self.errors.append, lambda: True,
            lambda *defect: self.defects.append(defect),
        )

    def wait_for_published(self, count: int) -> None:
        done = threading.Event()
        while len(self.published) < count:
            assert not done.wait(0.01)

    def stop(self) -> None:
        self.worker.stop()
        self.team.close()
        assert not self.defects
        for stream in self.streams.values():
            counts = stream.statistics.counts()
            assert counts.received == counts.processed + counts.failed + counts.dropped


def test_frames_of_two_topics_are_worked_on_at_the_same_time():
    first, second = Gated(), Gated()
    bench = TeamBench(first, second)
    bench.worker.start()
    for topic in 'ab':
        bench.put(topic)
    assert first.begun.wait(600) and second.begun.wait(600)
    bench.put('c')
    second.go.set()
    bench.wait_for_published(2)  # b, and c by the engine that was ready
    assert [topic for topic, _ in bench.published] == ['b', 'c']
    first.go.set()
    bench.wait_for_published(3)
    bench.stop()
    assert bench.counts('processed') == [1, 1, 1, 0]
    assert [bench.streams[topic].engines for topic in 'abc'] == [['first'], ['2'], ['2']]


def test_a_frame_whose_successor_is_out_is_dropped_for_order():
    first, second = Gated(), FakeDetector([FOUND])
    bench = TeamBench(first, second)
    bench.worker.start()
    bench.put('a', frame_id='old')
    assert first.begun.wait(600)
    bench.put('a', frame_id='new')
    bench.put('b')
    bench.wait_for_published(2)
    first.go.set()
    bench.stop()
    assert [message.header.frame_id for _, message in bench.published] == ['new', 'b']
    assert bench.counts('dropped') == [1, 0, 0, 0]


def test_the_frame_of_a_failing_engine_is_answered_by_another():
    first = Gated()
    begun = threading.Event()
    second = FakeDetector([InferenceError('NaN')], on_detect=begun.set)
    bench = TeamBench(first, second)
    bench.worker.start()
    for topic in 'ab':
        bench.put(topic)
    assert begun.wait(600)  # or the first, ready again, would take both
    first.go.set()
    bench.wait_for_published(2)
    bench.stop()
    assert bench.errors == [] and 'NaN' in bench.team.out()[0]
    assert bench.counts('failed') == [0, 0, 0, 0]
    assert [bench.streams[topic].engines for topic in 'ab'] == [['first'], ['first']]


def test_a_frame_that_all_fail_on_is_counted_and_told():
    bench = TeamBench(
        FakeDetector([InferenceError('NaN of a'), FOUND]), FakeDetector([InferenceError('too')])
    )
    bench.worker.start()
    bench.put('a')
    bench.put('b')
    bench.wait_for_published(1)
    bench.stop()
    assert sum(bench.counts('failed')) == 1 and 'NaN of a' in bench.errors[0]


def test_a_defect_after_a_frame_does_not_end_the_worker(monkeypatch):
    bench = TeamBench(FakeDetector([FOUND]), FakeDetector([FOUND]))
    defect = ValueError('no such engine')

    def fail(received_ns: Any) -> None:
        raise defect

    monkeypatch.setattr(bench.team, 'answered', fail)
    bench.worker.start()
    for topic in 'abcd':
        bench.put(topic)
    bench.wait_for_published(4)
    assert not bench.worker.fault
    bench.worker.stop()
    assert set(bench.defects) == {('after a frame', defect)}
    bench.defects.clear()
    bench.stop()
    assert bench.counts('processed') == [1, 1, 1, 1]


def test_in_a_batch_that_fails_each_frame_is_tried_alone():
    bad = [InferenceError('NaN')]
    bench = TeamBench(
        FakeDetector([*bad * 3, FOUND], max_batch=4),
        FakeDetector(bad, max_batch=4),
        settings={'max_batch': 4},
    )
    for topic in 'abcd':
        bench.put(topic)
    bench.worker.start()
    bench.wait_for_published(2)
    bench.stop()
    assert (sum(bench.counts('failed')), sum(bench.counts('processed'))) == (2, 2)


def test_a_lost_device_of_the_first_ends_the_worker_and_drops_what_is_begun():
    second = Gated()
    lost = threading.Event()
    first = FakeDetector(
        [DeviceLostError('lost')], on_detect=lambda: lost.wait(600)
    )
    bench = TeamBench(first, second)
    bench.worker.start()
    for topic in 'ab':
        bench.put(topic)
    assert second.begun.wait(600)
    lost.set()
    bench.worker._thread.join(600)
    assert bench.worker.device_lost and 'lost' in bench.worker.fault
    second.go.set()
    bench.stop()
    assert bench.counts('failed') == [1, 0, 0, 0] and bench.counts('dropped') == [0, 1, 0, 0]


@pytest.mark.parametrize('put', [0, 1, 2])
def test_it_stops_with_frames_begun_and_without(put):
    first, second = Gated(), Gated()
    bench = TeamBench(first, second)
    bench.worker.start()
    for topic, engine in zip('ab'[:put], (first, second), strict=False):
        bench.put(topic)
        assert engine.begun.wait(600)
    stopping = threading.Thread(target=bench.stop)
    stopping.start()
    for each in (first, second):
        each.go.set()
    stopping.join(600)
    assert sum(bench.counts('processed')) == put


def test_many_frames_of_four_topics_stay_in_order():
    engines = [FakeDetector([FOUND]) for _ in range(3)]
    bench = TeamBench(*engines)
    bench.worker.start()
    for number in range(100):
        for topic in bench.streams:
            replaced = topic in bench.slots._waiting
            bench.put(topic, frame_id=str(number))
            bench.streams[topic].statistics.count('dropped', int(replaced))
    bench.wait_for_published(4)
    while bench.slots.has_waiting():
        bench.wait_for_published(1)
    bench.worker.stop()
    bench.team.close()
    assert not bench.defects and not bench.errors
    for topic in bench.streams:
        numbers = [int(each.header.frame_id) for name, each in bench.published if name == topic]
        assert numbers == sorted(numbers)


def test_the_benchmark_runs(tmp_path: Path) -> None:
    engine = 'yolov7-nano,backend=onnx,threads=1,network_size=64'
    result = subprocess.run(
        [sys.executable, REPOSITORY / 'benchmarks' / 'engines.py', '--engine', engine, '--engine',
         engine, '--no-instead', '--rates', '10', '--seconds', '1', '--rounds', '1',
         '--settle-seconds', '1', '--least-boxes', '0', '-o', tmp_path / 'engines.json'],
        capture_output=True, text=True, timeout=600,
    )
    assert result.returncode == 0, result.stderr
    load, = json.loads((tmp_path / 'engines.json').read_text())['loads']
    for row in load['rows'].values():
        assert row['counts']['processed'] > 1 and row['latency_ms']['p99'] > 0
