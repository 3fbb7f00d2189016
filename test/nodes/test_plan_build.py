"""PlanBuild by itself: what comes out of a build, and that nothing does once it is cancelled."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

from fake_engine import build_threads, FakeEngine
import pytest

from yolov7_trt_ros.engine.open import DetectorOptions
from yolov7_trt_ros.errors import BuildError, PlanMismatchError
from yolov7_trt_ros.nodes.plan_build import PlanBuild
from yolov7_trt_ros.testing import FakeDetector

TIMEOUT_S = 30.0
OPTIONS = DetectorOptions(model='m.onnx')


class Started:
    """A build of an engine, and the event that its end sets."""

    def __init__(self, engine: FakeEngine) -> None:
        self.ended = threading.Event()
        self.build = PlanBuild(engine.seam, OPTIONS, self.ended.set)


def test_gives_the_detector_once_the_plan_is_built():
    detector = FakeDetector()
    engine = FakeEngine(detector)
    started = Started(engine)
    assert started.build.take() is None
    engine.go.set()
    assert started.ended.wait(TIMEOUT_S)
    assert started.build.take() is detector
    assert engine.options == [OPTIONS]
    assert started.build.cancel(TIMEOUT_S)
    assert detector.closed == 0  # it is the taker's


@pytest.mark.parametrize(
    'engine',
    [
        FakeEngine(build_error=BuildError('no kernel for node Foo')),
        FakeEngine(PlanMismatchError('no kernel for this GPU')),
    ],
    ids=['build', 'open'],
)
def test_gives_the_reason_when_either_half_fails(engine):
    engine.go.set()
    started = Started(engine)
    assert started.ended.wait(TIMEOUT_S)
    with pytest.raises((BuildError, PlanMismatchError), match='no kernel'):
        started.build.take()


def test_a_defect_ends_the_build_with_a_reason():
    engine = FakeEngine(build_error=ZeroDivisionError())
    engine.go.set()
    started = Started(engine)
    assert started.ended.wait(TIMEOUT_S)
    with pytest.raises(BuildError, match='ended by a defect: ZeroDivisionError'):
        started.build.take()


def test_a_cancelled_build_ends_and_opens_nothing():
    engine = FakeEngine(FakeDetector())
    started = Started(engine)
    assert started.build.cancel(TIMEOUT_S)
    assert started.build.take() is None
    assert not started.ended.is_set() and not build_threads()


def test_a_detector_that_nobody_took_is_closed():
    detector = FakeDetector()
    engine = FakeEngine(detector)
    engine.go.set()
    started = Started(engine)
    assert started.ended.wait(TIMEOUT_S)
    assert started.build.cancel(TIMEOUT_S)
    assert detector.closed == 1
    assert not build_threads()


def test_a_build_waits_for_one_that_does_not_listen_and_what_that_gives_is_dropped():
    deaf, next_engine = FakeEngine(FakeDetector(), deaf=True), FakeEngine(FakeDetector())
    first = Started(deaf)
    assert not first.build.cancel(0.0)
    next_engine.go.set()
    second = Started(next_engine)
    deadline = time.monotonic() + TIMEOUT_S
    while 'building a plan: waiting for another build, ' not in second.build.progress():
        assert time.monotonic() < deadline and not second.ended.wait(0.01)
    assert next_engine.options == []
    deaf.go.set()
    assert second.ended.wait(TIMEOUT_S)
    assert first.build.cancel(TIMEOUT_S) and not first.ended.is_set()
    assert second.build.take() is not None


def test_a_process_leaves_over_a_build_that_cannot_be_stopped():
    script = (
        'import sys, threading\n'
        'from yolov7_trt_ros.engine.open import DetectorOptions\n'
        'from yolov7_trt_ros.nodes.plan_build import Engine, PlanBuild, exit_over_builds\n'
        'wait = threading.Event().wait\n'
        'engine = Engine(build=lambda options, report, cancelled: wait())\n'
        'print(PlanBuild(engine, DetectorOptions(), print).cancel(0.0))\n'
        'exit_over_builds(5)\n'
        'print("still here")\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', script], capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert (done.returncode, done.stdout) == (5, 'False\n'), done.stderr
