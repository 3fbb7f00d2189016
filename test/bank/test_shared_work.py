"""SharedWork: engines that share the frames of a recording, in order, each frame answered."""

from __future__ import annotations

from collections.abc import Sequence
import threading
from typing import Any

from bank_world import ELSEWHERE, IMAGE, NAN, SEEN, SETTINGS, ToldEngine
import pytest

from yolov7_trt_ros.bank.team.open_engines import open_engines
from yolov7_trt_ros.bank.team.shared_work import FRAMES_AHEAD, SharedWork
from yolov7_trt_ros.bank.update.engine_bank import OpenModel
from yolov7_trt_ros.bank.update.update_machine import ModelId
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.detector import (
    AheadDetector,
    Answer,
    detect_ahead,
    Detector,
    DetectSettings,
)
from yolov7_trt_ros.errors import DeviceLostError, InferenceError, ModelNotFoundError, SettingError
from yolov7_trt_ros.testing import FakeDetector, make_detections

SWAPPED = ('car', 'person', 'bus')


class Gate(ToldEngine):
    """Waits in `detect_batch` until the test opens it."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.open = threading.Event()

    def detect_batch(self, images: Sequence[Any], settings: DetectSettings) -> Any:
        assert self.open.wait(600)
        return super().detect_batch(images, settings)


def shared(first: Detector, *others: Detector) -> SharedWork:
    return SharedWork(first, 'first', [
        OpenModel(ModelId(number, f'engine {number}'), each, '')
        for number, each in enumerate(others, 2)
    ])


def same(found: Detections, wanted: Detections) -> bool:
    return found.boxes_xyxy.tolist() == wanted.boxes_xyxy.tolist()


def run(work: Detector, frames: int, settings: DetectSettings = SETTINGS) -> list[Any]:
    """Detect in frames, which are numbers; return what came of each, in the order of frames."""
    answers = list(detect_ahead(work, range(frames), lambda _: IMAGE, settings))
    assert [number for number, _ in answers] == list(range(frames))
    return [answer for _, answer in answers]


def test_a_slow_engine_keeps_no_frame_of_the_others_and_order_stays() -> None:
    slow, fast = Gate(finds=ELSEWHERE), ToldEngine()
    work = shared(slow, fast)
    assert isinstance(work, AheadDetector)
    tickets = [work.submit([IMAGE], SETTINGS) for _ in range(FRAMES_AHEAD)]
    for ticket in tickets[1:]:
        assert same(work.collect(ticket)[0][0], SEEN) and work.engine_of(ticket) == 'engine 2'
    slow.open.set()
    assert same(work.collect(tickets[0])[0][0], ELSEWHERE)
    assert work.engine_of(tickets[0]) == 'first'
    assert work.answered() == {'first': 1, 'engine 2': FRAMES_AHEAD - 1}
    work.close()
    work.close()
    assert slow.closed and fast.closed


def test_both_engines_work_at_the_same_time() -> None:
    """Each waits for the other: one after the other they would never meet."""
    together = threading.Barrier(2, timeout=600)
    first, second = (FakeDetector([SEEN], on_detect=together.wait) for _ in range(2))
    work = shared(first, second)
    assert all(isinstance(each, Answer) for each in run(work, 8))
    assert work.answered() == {'first': 4, 'engine 2': 4}
    work.close()


def test_a_frame_on_which_an_engine_fails_is_answered_by_another() -> None:
    good, bad = Gate(), ToldEngine(error=NAN)
    work = shared(good, bad)
    tickets = [work.submit([IMAGE], SETTINGS) for _ in range(2)]
    good.open.set()
    for ticket in tickets:
        assert same(work.collect(ticket)[0][0], SEEN) and work.engine_of(ticket) == 'first'
    answers = run(work, 20)
    assert all(same(each.found, SEEN) and each.engine == 'first' for each in answers)
    (told,) = work.out()
    assert told.startswith('engine 2 is out, ') and 'NaN or infinite' in told
    assert 'out, ' in work.engine_texts()['engine 2'] and work.answered()['engine 2'] == 0
    work.close()


def test_a_lost_device_is_lost_to_its_engine_alone() -> None:
    lost, good = ToldEngine(error=DeviceLostError('gone')), ToldEngine()
    work = shared(lost, good)
    answers = run(work, 20)
    assert all(same(each.found, SEEN) and each.engine == 'engine 2' for each in answers)
    assert work.out()[0].startswith('engine 1 is out, ')
    work.close()


def test_an_engine_that_is_out_answers_what_the_last_one_in_service_cannot() -> None:
    first, second = ToldEngine(error=NAN), ToldEngine()
    work = shared(first, second)
    assert all(each.engine == 'engine 2' for each in run(work, 4)) and work.out()
    first.error, second.error = None, NAN
    assert all(same(each.found, SEEN) and each.engine == 'first' for each in run(work, 20))
    assert len(work.out()) == 2  # none is in service: the first gets frames all the same
    work.close()


def test_a_long_stop_of_the_process_takes_no_engine_out() -> None:
    """The clock goes on for an hour while both engines have frames."""
    first, second = Gate(), Gate()
    work = shared(first, second)
    work._team._clock = lambda: 10**15  # type: ignore[method-assign]
    tickets = [work.submit([IMAGE], SETTINGS) for _ in range(2)]
    work._team._clock = lambda: 10**15 + 3600 * 10**9  # type: ignore[method-assign]
    work._team.settle()
    first.open.set()
    second.open.set()
    assert all(same(work.collect(ticket)[0][0], SEEN) for ticket in tickets)
    assert not work.out()
    work.close()


def test_a_frame_on_which_all_fail_has_the_error_and_blames_nobody() -> None:
    work = shared(ToldEngine(error=NAN), ToldEngine(error=InferenceError('other')))
    answers = run(work, 5)
    assert all(isinstance(each, InferenceError) for each in answers)
    assert not work.out() and sum(work.answered().values()) == 0
    with pytest.raises(InferenceError):
        work.detect(IMAGE, SETTINGS)
    work.close()


def test_items_without_an_image_keep_their_place() -> None:
    work = shared(ToldEngine(), ToldEngine())
    answers = list(detect_ahead(
        work, range(40), lambda number: None if number % 3 else IMAGE, SETTINGS
    ))
    assert [number for number, _ in answers] == list(range(40))
    assert [answer is None for _, answer in answers] == [bool(number % 3) for number in range(40)]
    work.close()


def test_a_frame_that_is_answered_is_not_kept_until_others_are_begun() -> None:
    """A live stream must not lag by the frames that may be begun ahead."""
    work = shared(ToldEngine(), ToldEngine())
    given = taken = 0

    def frames() -> Any:
        nonlocal given
        for number in range(FRAMES_AHEAD):
            while any(
                each.outcome is None for lane in work._team._lanes for each in lane.attempts
            ):
                work._team.wait()
            given += 1
            yield number

    for _ in detect_ahead(work, frames(), lambda _: IMAGE, SETTINGS):
        taken += 1
        assert given - taken <= 1
    assert taken == FRAMES_AHEAD
    work.close()


def test_frames_in_work_are_bounded() -> None:
    """However many frames there are, no more than these are read ahead of the answers."""
    read, answered, most = 0, 0, 0

    def frames() -> Any:
        nonlocal read
        for number in range(200):
            read += 1
            yield number

    work = shared(ToldEngine(), ToldEngine())
    for _ in detect_ahead(work, frames(), lambda _: IMAGE, SETTINGS):
        answered += 1
        most = max(most, read - answered)
    assert answered == 200 and most <= FRAMES_AHEAD
    work.close()


def test_class_ids_are_those_of_the_first_for_whichever_engine() -> None:
    seen = make_detections((8, 8), ((1, 1, 5, 5), 0.9, 1), ((3, 3, 4, 4), 0.7, 2))
    first, other = Gate(names=('person', 'car')), ToldEngine(seen, names=SWAPPED)
    work = shared(first, other)
    tickets = [work.submit([IMAGE], DetectSettings(class_ids=frozenset({0}))) for _ in range(2)]
    found: Detections = work.collect(tickets[1])[0][0]
    assert found.class_ids.tolist() == [0]  # person, and no bus
    assert other.calls[0].settings.class_ids == frozenset({1})
    first.open.set()
    work.collect(tickets[0])
    assert first.calls[0].settings.class_ids == frozenset({0})
    work.close()


def test_one_engine_answers_as_it_is() -> None:
    engine = ToldEngine()
    answers = run(engine, 3)
    assert [each.engine for each in answers] == [''] * 3
    assert isinstance(run(FakeDetector([NAN]), 1)[0], InferenceError)


def test_engines_that_cannot_be_opened_leave_none_open() -> None:
    good, without = ToldEngine(), ToldEngine(names=('person',))

    def missing() -> Detector:
        raise ModelNotFoundError('no file a.onnx')

    with pytest.raises(ModelNotFoundError, match='engine 3 of `engines`, b: no file a.onnx'):
        open_engines(ToldEngine().spec, [('a', lambda: good), ('b', missing)])
    assert good.closed == 1
    with pytest.raises(SettingError, match='engine 2 of `engines`, a lacks the classes car of'):
        open_engines(ToldEngine().spec, [('a', lambda: without)])
    assert without.closed == 1
    engines = open_engines(ToldEngine().spec, [('a', ToldEngine), ('b', ToldEngine)])
    assert [(each.model.number, each.model.name) for each in engines] == [(2, 'a'), (3, 'b')]
