"""PlanBuild by itself: what comes out of a build, and that nothing does once it is cancelled."""

from __future__ import annotations

import hashlib
from pathlib import Path
import shutil
import subprocess
import sys
import threading
import time

from fake_engine import build_threads, FakeEngine
import pytest

from yolov7_trt_ros.engine.model_files import find_model
from yolov7_trt_ros.engine.options import DetectorOptions
from yolov7_trt_ros.errors import BuildError, ModelError, PlanMismatchError
from yolov7_trt_ros.nodes.detector.plan_build import CandidateOpening, Engine, PlanBuild
from yolov7_trt_ros.testing import FakeDetector

TIMEOUT_S = 600.0
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
    with pytest.raises(BuildError, match='ended with an unexpected error: ZeroDivisionError'):
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
        'from yolov7_trt_ros.engine.options import DetectorOptions\n'
        'from yolov7_trt_ros.nodes.detector.plan_build import (\n'
        '    Engine, PlanBuild, exit_despite_builds)\n'
        'wait = threading.Event().wait\n'
        'engine = Engine(build=lambda options, report, cancelled: wait())\n'
        'print(PlanBuild(engine, DetectorOptions(), print).cancel(0.0))\n'
        'exit_despite_builds(5)\n'
        'print("still here")\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', script], capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert (done.returncode, done.stdout) == (5, 'False\n'), done.stderr


@pytest.mark.parametrize('replace', [False, True], ids=['written to', 'replaced'])
def test_a_new_model_is_the_file_whose_hash_is_told(tmp_path: Path, replace: bool) -> None:
    model = tmp_path / 'new.onnx'
    shutil.copy(find_model('yolov7-nano'), model)
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    detectors = [FakeDetector([]), FakeDetector([])]

    def open_and_spoil(options: DetectorOptions) -> FakeDetector:
        if len(opened) == 1 and replace:
            other = tmp_path / 'other.onnx'
            shutil.copy(model, other)
            other.rename(model)
        elif len(opened) == 1:
            with model.open('ab') as file:
                file.write(b'more')
        opened.append(options)
        return detectors[len(opened) - 1]

    def opening() -> CandidateOpening:
        ended = threading.Event()
        made = CandidateOpening(
            Engine(open_and_spoil), DetectorOptions(model=str(model)), ended.set, may_build=False
        )
        assert ended.wait(600)
        return made

    opened: list[DetectorOptions] = []
    first = opening()
    assert first.take() is detectors[0]
    assert first.sha256 == digest
    with pytest.raises(ModelError, match='was written to while it was opened: copy it'):
        opening().take()
    assert detectors[1].closed == 1


def test_a_candidate_is_closed_whatever_goes_wrong_after_it_was_opened():
    detector, ended = FakeDetector(), threading.Event()

    def prepare(_) -> None:
        raise ZeroDivisionError('a defect')

    opening = CandidateOpening(
        FakeEngine(detector).seam, OPTIONS, ended.set, may_build=False, prepare=prepare
    )
    assert ended.wait(TIMEOUT_S)
    with pytest.raises(BuildError, match='ZeroDivisionError: a defect'):
        opening.take()
    assert opening.cancel(TIMEOUT_S) and detector.closed == 1


def test_candidates_are_opened_one_after_the_other_however_many_are_asked_for():
    begun, go, ended = threading.Event(), threading.Event(), threading.Event()
    opened: list[FakeDetector] = []

    def open_slowly(_) -> FakeDetector:
        opened.append(FakeDetector())
        begun.set()
        assert go.wait(TIMEOUT_S)
        return opened[-1]

    def ask() -> CandidateOpening:
        return CandidateOpening(
            Engine(open_detector=open_slowly), OPTIONS, ended.set, may_build=False
        )

    first = ask()
    assert begun.wait(TIMEOUT_S)
    assert not first.cancel(0)
    given_up = [ask() for _ in range(5)]
    assert all(each.cancel(TIMEOUT_S) for each in given_up)  # though the first is not done
    last = ask()
    deadline = time.monotonic() + TIMEOUT_S
    while 'waiting for a model that is still being opened' not in last.progress():
        assert time.monotonic() < deadline
    assert len(opened) == 1
    go.set()
    assert ended.wait(TIMEOUT_S) and first.cancel(TIMEOUT_S)
    assert last.take() is opened[1]
    assert [each.closed for each in opened] == [1, 0]
