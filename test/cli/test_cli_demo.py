"""How the demo waits for its detector, on made-up diagnostics and a made-up clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from yolov7_trt_ros.cli.demo_start import START_S, wait_until_ready
from yolov7_trt_ros.errors import Yolov7TrtError

ACTIVE = {'state': 'active', 'message': 'active', 'backend': 'TensorRT', 'last error': 'none'}
BUILDING = {'state': 'active', 'message': 'building a plan: tactics: head.2 43 %, 95 s',
            'last error': 'none'}


class Detector:
    """Says one thing after another, each for so many seconds; the last one for good."""

    def __init__(self, *said: tuple[float, dict[str, str]]) -> None:
        self.said, self.now_s = said, 0.0
        self.lines: list[str] = []

    def status(self) -> dict[str, str]:
        until_s = 0.0
        for seconds, status in self.said:
            until_s += seconds
            if self.now_s < until_s:
                return status
        return self.said[-1][1]

    def record(self) -> dict[str, Any]:
        status = self.status()
        return {'diagnostics': {'/detector: detector': status} if status else {}}

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def wait(self, ended: list[str] | None = None) -> None:
        wait_until_ready(
            self.record, lambda: ended or [], Path('log'),
            say=self.lines.append, clock_s=lambda: self.now_s, sleep=self.sleep,
        )


def test_a_detector_without_a_plan_to_build_is_waited_for_in_silence() -> None:
    detector = Detector((2, {}), (1, {'state': 'inactive', 'message': 'inactive'}), (0, ACTIVE))
    detector.wait()
    assert detector.lines == []
    assert 3 <= detector.now_s < 3.2


def test_a_build_is_told_every_few_seconds_and_may_outlast_every_limit() -> None:
    build_s = 10 * START_S
    detector = Detector((2, {}), (build_s, BUILDING), (START_S - 1, ACTIVE | {'backend': 'x'}))
    detector.wait()
    assert set(detector.lines) == {'building a TensorRT plan: tactics: head.2 43 %, 95 s'}
    assert build_s / 6 < len(detector.lines) <= build_s / 5 + 1
    assert detector.now_s == pytest.approx(2 + build_s, abs=0.2)


def test_active_without_a_model_is_not_ready() -> None:
    status = {'state': 'active', 'message': 'active', 'last error': 'none'}
    detector = Detector((1, status), (1, BUILDING), (0, ACTIVE))
    detector.wait()
    assert detector.now_s >= 2


@pytest.mark.parametrize('before', [[], [(500.0, BUILDING)]], ids=['at once', 'after a build'])
def test_its_own_reason_ends_the_wait(before: list[tuple[float, dict[str, str]]]) -> None:
    error = 'no detector: no kernel for node Foo'
    detector = Detector(*before, (0, {'state': 'active', 'message': error, 'last error': error}))
    with pytest.raises(Yolov7TrtError, match='no kernel for node Foo'):
        detector.wait()


def test_silence_after_a_build_has_an_end() -> None:
    detector = Detector((500, BUILDING), (0, {'state': 'active', 'message': 'active'}))
    with pytest.raises(Yolov7TrtError, match=r'the detector did not start.*log/detector\.txt'):
        detector.wait()
    assert detector.now_s == pytest.approx(500 + START_S, abs=0.5)


def test_a_process_that_has_ended_is_named() -> None:
    with pytest.raises(Yolov7TrtError, match=r'the recorder did not start.*log/recorder\.txt'):
        Detector((100, BUILDING)).wait(ended=['recorder'])
