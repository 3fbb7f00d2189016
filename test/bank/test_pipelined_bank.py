"""PipelinedBank: frames in flight over switches and roll-backs, each answered once, in order."""

from __future__ import annotations

from bank_world import ELSEWHERE, IMAGE, NAN, SEEN, SETTINGS, ToldEngine
import pytest

from yolov7_trt_ros.bank.update.pipelined_bank import PipelinedBank
from yolov7_trt_ros.bank.update.update_machine import UpdateLimits
from yolov7_trt_ros.core.detector import PipelinedDetector
from yolov7_trt_ros.errors import InferenceError


class PipelinedEngine(ToldEngine):
    """Gives its frames in their order, and fails where one is asked for in between."""

    def __init__(self, *arguments, **named) -> None:
        super().__init__(*arguments, **named)
        self.flights: list[int] = []
        self.begun = 0

    def submit(self, images, settings):
        self.begun += 1
        self.flights.append(self.begun)
        return self.begun, images, settings

    def collect(self, ticket):
        number, images, settings = ticket
        assert self.flights.pop(0) == number
        return super().detect_batch(images, settings)

    def detect_batch(self, images, settings):
        assert not self.flights
        return super().detect_batch(images, settings)


def bank_of(first: ToldEngine) -> PipelinedBank:
    """Return a bank where a new model serves as soon as it is open."""
    return PipelinedBank(first, 'first', limits=UpdateLimits(mode='immediate'))


def switch(bank: PipelinedBank, second: ToldEngine) -> None:
    model = bank.ask('second')
    assert model is not None and bank.opened(model, second)


def test_it_is_a_pipelined_detector_and_frames_of_one_engine_overlap():
    first = PipelinedEngine()
    bank = bank_of(first)
    assert isinstance(bank, PipelinedDetector)
    tickets = [bank.submit([IMAGE], SETTINGS) for _ in range(2)]
    assert first.flights == [1, 2]
    assert [bank.collect(each)[0] for each in tickets] == [[SEEN]] * 2


def test_around_a_switch_each_frame_is_answered_by_the_engine_it_was_begun_with():
    first, second = PipelinedEngine(), PipelinedEngine(ELSEWHERE)
    bank = bank_of(first)
    before = bank.submit([IMAGE], SETTINGS)
    switch(bank, second)
    after = bank.submit([IMAGE], SETTINGS)
    assert bank.collect(before)[0] == [SEEN] and bank.answered.detector is first
    assert bank.collect(after)[0] == [ELSEWHERE] and bank.answered.detector is second
    bank.collect(bank.submit([IMAGE], SETTINGS))
    assert second.begun == 1  # in flight again


def test_all_frames_in_flight_of_an_engine_that_fails_are_answered_by_the_former():
    first, second = PipelinedEngine(), PipelinedEngine(ELSEWHERE)
    bank = bank_of(first)
    switch(bank, second)
    bank.collect(bank.submit([IMAGE], SETTINGS))
    second.error = NAN
    one = bank.submit([IMAGE], SETTINGS)
    two = bank.submit([IMAGE], SETTINGS)
    assert bank.collect(one)[0] == [SEEN]  # by the first, which serves again
    three = bank.submit([IMAGE], SETTINGS)
    assert bank.collect(two)[0] == [SEEN]
    assert bank.collect(three)[0] == [SEEN]
    assert bank.serving.detector is first and 'rolled back' in bank.update_status().last
    bank.close()


def test_what_submit_raises_comes_out_of_collect_or_is_answered():
    first, second = PipelinedEngine(), PipelinedEngine()
    bank = bank_of(first)

    def refuse(*_):
        raise NAN

    first.submit = refuse
    with pytest.raises(InferenceError, match='NaN'):
        bank.collect(bank.submit([IMAGE], SETTINGS))
    del first.submit
    switch(bank, second)
    second.submit = refuse
    assert bank.collect(bank.submit([IMAGE], SETTINGS))[0] == [SEEN]
    assert bank.serving.detector is first


def test_an_engine_without_a_pipeline_may_take_the_place_of_one_with():
    first, second = PipelinedEngine(), ToldEngine(ELSEWHERE, max_batch=1)
    bank = bank_of(first)
    switch(bank, second)
    tickets = [bank.submit([IMAGE] * 2, SETTINGS), bank.submit([IMAGE], SETTINGS)]
    assert [len(bank.collect(each)[0]) for each in tickets] == [2, 1]
    assert second.batches == [1, 1, 1]
