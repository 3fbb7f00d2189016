"""EngineTeam: failures, hangs, unlike classes, updates; engines that do as they are told."""

from __future__ import annotations

from collections.abc import Callable
import threading

from bank_world import ELSEWHERE, IMAGE, MS, NAMES, NAN, SEEN, SETTINGS, ToldEngine
import numpy as np
import pytest

from yolov7_trt_ros.bank.bank_settings import BankSettings
from yolov7_trt_ros.bank.team.engine_health import FIRST_PAUSE_NS, GOOD_TRIALS
from yolov7_trt_ros.bank.team.engine_lane import Ticket
from yolov7_trt_ros.bank.team.engine_schedule import Phase
from yolov7_trt_ros.bank.team.engine_team import EngineTeam
from yolov7_trt_ros.bank.team.pipelined_team import PipelinedTeam
from yolov7_trt_ros.bank.update.engine_bank import EngineBank, OpenModel
from yolov7_trt_ros.bank.update.pipelined_bank import PipelinedBank
from yolov7_trt_ros.bank.update.update_machine import ModelId, UpdateLimits
from yolov7_trt_ros.core.detector import PipelinedDetector
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.errors import DeviceLostError, InferenceError
from yolov7_trt_ros.testing import make_detections

SWAPPED = ('car', 'person', 'bus')
SEEN_SWAPPED = make_detections(
    (8, 8), ((1, 1, 5, 5), 0.9, 1), ((2, 2, 7, 7), 0.8, 0), ((3, 3, 4, 4), 0.7, 2)
)


class Held:
    """A background that runs its jobs at once, or keeps them for the test while it is `held`."""

    def __init__(self, team: Team) -> None:
        self._team = team
        self.jobs: list[Callable[[], None]] = []

    def submit(self, job: Callable[[], None]) -> None:
        if self._team.held:
            self.jobs.append(job)
        else:
            job()

    def run(self) -> None:
        while self.jobs:
            self.jobs.pop(0)()

    def stop(self) -> None:
        """Nothing goes on."""

    def join(self, timeout_s: float) -> bool:
        return not self.jobs


class Team:
    """A team of told engines in one thread, and its clock."""

    def __init__(self, *engines: ToldEngine, limits: UpdateLimits | None = None) -> None:
        self.now_ns, self.held = 0, False
        self.backgrounds: list[Held] = []
        self.engines = engines
        self.bank = EngineBank(engines[0], 'first', limits=limits, clock=lambda: self.now_ns)
        self.team = EngineTeam(
            self.bank,
            [OpenModel(ModelId(number, f'engine {number}'), each, '')
             for number, each in enumerate(engines[1:], 2)],
            clock=lambda: self.now_ns, new_background=self._background,
        )

    def _background(self) -> Held:
        self.backgrounds.append(Held(self))
        return self.backgrounds[-1]

    def detect(self, settings=SETTINGS):
        return self.team.detect_batch([IMAGE], settings)[0][0]

    def give(self, engine: int) -> Ticket:
        """Give a frame to an engine."""
        ticket = Ticket([IMAGE], SETTINGS)
        self.team.begin(engine, ticket)
        return ticket

    def serve(self, frames: int, took_ms: int = 10) -> None:
        """Have the first answer frames, with the copies for others that belong to them."""
        for _ in range(frames):
            began_ns = self.now_ns
            self.detect()
            self.now_ns += took_ms * MS
            self.team.answered([began_ns])
            self.team.probe([IMAGE], SETTINGS)


def test_a_frame_that_the_first_fails_on_is_answered_by_another_one_which_then_serves():
    team = Team(ToldEngine(error=NAN), ToldEngine())
    assert team.detect() is not None and len(team.engines[1].calls) == 1
    assert team.team.out()[0].startswith('engine 1 is out, tried again in 10 s: it failed: the mo')
    assert not team.team.alone and team.team.choose() == 1
    assert team.team.text() == 'the others serve without the first'
    team.detect()
    assert len(team.engines[0].calls) == 1  # not asked again


def test_a_frame_that_both_fail_on_is_to_blame_itself():
    team = Team(ToldEngine(error=NAN), ToldEngine(error=InferenceError('too')))
    for _ in range(3):
        with pytest.raises(InferenceError, match='NaN'):
            team.detect()
    assert team.team.out() == [] and team.team.choose() == 0


def test_an_engine_that_fails_is_out_and_its_frame_answered():
    team = Team(ToldEngine(), ToldEngine(error=ZeroDivisionError('a defect')))
    tickets = [team.give(1), team.give(1)]
    team.team.settle()
    team.team.settle()
    assert all(each.found()[0][0] is SEEN for each in tickets)
    assert team.team.out() == [
        'engine 2 is out, tried again in 10 s: it failed: ZeroDivisionError: a defect'
    ]  # both frames are of one failure
    assert len(team.engines[0].calls) == 2


def test_the_first_is_taken_back_after_good_trials_on_copies():
    team = Team(ToldEngine(error=NAN), ToldEngine())
    team.detect()
    team.engines[0].error = None
    team.serve(5)
    assert len(team.engines[0].calls) == 1
    team.now_ns += FIRST_PAUSE_NS
    team.serve(GOOD_TRIALS + 1)
    assert team.team.out() == [] and team.team.choose() == 0
    assert len(team.engines[0].calls) == 1 + GOOD_TRIALS
    assert team.team.text() == 'the first serves alone, and is measured'


def test_one_that_hangs_costs_no_frame_and_what_it_says_later_is_not_heard():
    team = Team(ToldEngine(), ToldEngine(ELSEWHERE))
    team.serve(150)
    team.held = True
    ticket = team.give(1)
    hung = team.backgrounds[0]
    team.held = False
    team.team.settle()
    assert ticket.outcome is None
    team.now_ns += 60_000 * MS
    team.team.settle()
    team.team.settle()  # what another engine has answered meanwhile
    assert ticket.found()[0] == [SEEN]
    assert team.team.out() == ['engine 2 is hanging, for 60 s: it does not answer']
    team.now_ns += 10 * FIRST_PAUSE_NS
    team.serve(5)
    assert len(team.engines[1].calls) == 6  # those before; it is busy yet
    assert team.team.out() == ['engine 2 is hanging, for 160 s: it does not answer']
    hung.run()
    team.team.settle()
    assert team.team.out() == [
        'engine 2 is out, on trial, 0 of 10 frames: it failed: the engine does not answer'
    ]
    assert ticket.found()[0] == [SEEN]
    team.team.close()
    assert team.engines[0].closed and team.engines[1].closed


def test_one_that_hangs_alone_gets_no_more_frames_and_serves_once_it_answers():
    team = Team(ToldEngine(), ToldEngine(error=DeviceLostError('lost')))
    team.give(1)
    team.team.settle()
    team.team.settle()  # the frame, by the first
    team.held = True
    tickets = [team.give(0) for _ in range(3)]
    team.now_ns += 60_000 * MS
    team.team.settle()
    hung = team.backgrounds[-1]
    for _ in range(5):
        with pytest.raises(InferenceError, match='the engine does not answer'):
            team.detect()
    assert len(team.team._lanes[0].attempts) == len(tickets)  # what it was given before
    calls = len(team.engines[0].calls)
    hung.run()
    team.team.settle()
    assert len(team.engines[0].calls) == calls  # they are nobody's any more
    team.held = False
    assert team.detect() is not None and not team.team._lanes[0].attempts


def test_somebody_who_looks_wakes_the_thread_that_waits_where_an_engine_hangs():
    team = Team(ToldEngine(), ToldEngine())
    woken = []
    team.team.wake_with(lambda: woken.append(True))
    team.held = True
    team.give(1)
    team.team.look()
    assert not woken
    team.now_ns += 60_000 * MS
    team.team.look()
    assert woken and team.team.has_ended


def test_an_engine_that_still_hangs_is_left_as_it_is():
    team = Team(ToldEngine(), ToldEngine())
    team.held = True
    team.give(1)
    team.team.close()
    team.team.close()
    assert team.engines[0].closed and not team.engines[1].closed


def test_a_lost_device_is_the_end_of_another_engine_and_of_the_node_where_it_is_the_firsts():
    team = Team(ToldEngine(), ToldEngine(error=DeviceLostError('lost')))
    ticket = team.give(1)
    team.team.settle()
    team.team.settle()
    assert ticket.found()[0] == [SEEN]
    assert team.team.out() == ['engine 2 is out for good: it failed: lost']
    team.engines[0].error = DeviceLostError('lost')
    with pytest.raises(DeviceLostError):
        team.detect()


def test_classes_are_those_of_the_first_by_name():
    team = Team(ToldEngine(), ToldEngine(SEEN_SWAPPED, names=SWAPPED))
    settings = BankSettings(class_ids=frozenset({1}), class_names=NAMES)
    ticket = Ticket([IMAGE], settings)
    team.team.begin(1, ticket)
    team.team.settle()
    found = team.team.found(ticket)[0][0]
    assert np.array_equal(found.class_ids, SEEN.class_ids)  # a bus is no class of the first
    assert team.engines[1].calls[0].settings.class_ids == {0}


def test_classes_are_those_of_the_model_that_has_answered_last_whoever_steps_in():
    team = Team(ToldEngine(), ToldEngine(), limits=UpdateLimits(mode='immediate'))
    new = ToldEngine(SEEN_SWAPPED, names=SWAPPED)
    team.bank.opened(team.bank.ask('new'), new)
    assert team.detect() is SEEN_SWAPPED
    team.engines[0].error = new.error = NAN
    found = team.detect()  # by the other one
    assert team.team.answered_by == 1 and team.team.spec.class_names == SWAPPED
    assert [SWAPPED[number] for number in found.class_ids] == list(NAMES)


def test_a_frame_from_before_a_switch_has_the_classes_of_after_it():
    team = Team(ToldEngine(), ToldEngine(), limits=UpdateLimits(mode='immediate'))
    team.held = True
    early = team.give(1)
    model = team.bank.ask('new')
    assert team.team.choose() is None  # until that one is out
    team.bank.opened(model, ToldEngine(SEEN_SWAPPED, names=SWAPPED))
    team.bank.detect_batch([IMAGE], SETTINGS)
    for each in team.backgrounds:
        each.run()
    team.team.settle()
    found = team.team.found(early)[0][0]
    assert [SWAPPED[number] for number in found.class_ids] == list(NAMES)
    assert team.team.choose() == 0


def test_while_the_model_is_updated_the_others_rest_and_then_begin_anew():
    team = Team(ToldEngine(), ToldEngine(), limits=UpdateLimits(mode='immediate'))
    team.serve(150)
    assert team.team.text() != 'the first serves alone, and is measured'
    new = ToldEngine(names=(*NAMES, 'bus'))
    model = team.bank.ask('new')
    assert team.team.alone and team.team.choose() == 0
    assert team.team.text() == 'the others rest while the model is updated'
    team.bank.opened(model, new)
    calls = len(team.engines[1].calls)
    team.serve(20)
    team.bank.promote()
    team.serve(150)
    assert len(team.engines[1].calls) == calls
    assert 'out: it lacks the classes bus' in team.team.engine_texts()['2: engine 2']


def test_a_first_that_is_out_is_asked_while_its_model_is_updated_and_its_successor_is_in():
    limits = UpdateLimits(shadow_frames=4, shadow_share=1.0, min_detections=4)
    team = Team(ToldEngine(error=NAN), ToldEngine(), limits=limits)
    team.detect()
    assert team.team.out()
    team.engines[0].error = None
    model = team.bank.ask('new')
    new = ToldEngine()
    team.bank.opened(model, new)
    while team.bank.update_status().phase.value == 'shadow':
        team.detect()
        team.bank.compare_last()
    assert team.detect() is not None and team.bank.answered.model == model
    assert len(team.engines[1].calls) == 1  # the frame that the first failed on
    team.bank.promote()
    team.serve(1)
    assert team.team.out() == [] and team.team.choose() == 0


def test_a_first_that_hangs_is_not_in_service_because_its_model_is_another_one():
    team = Team(ToldEngine(), ToldEngine(), limits=UpdateLimits(mode='immediate', keep_ns=0))
    team.detect()
    team.held = True
    ticket = team.give(0)
    hung = team.backgrounds[0]
    team.now_ns += 60_000 * MS
    team.held = False
    team.team.settle()
    team.team.settle()
    assert ticket.found() and len(team.engines[1].calls) == 1
    team.bank.opened(team.bank.ask('new'), ToldEngine())
    team.bank.promote()
    team.serve(3)
    assert team.team.out()[0].startswith('engine 1 is hanging')
    assert len(team.engines[1].calls) == 4
    hung.run()
    team.team.settle()
    team.now_ns += FIRST_PAUSE_NS
    team.serve(GOOD_TRIALS + 1)
    assert team.team.out() == []


def test_all_are_closed_whatever_one_raises():
    class Unwilling(ToldEngine):

        def close(self):
            super().close()
            raise RuntimeError('no')

    team = Team(Unwilling(), Unwilling(), ToldEngine())
    with pytest.raises(RuntimeError):
        team.team.close()
    assert all(each.closed for each in team.engines)


def test_copies_are_of_their_own_memory():
    team = Team(ToldEngine(), ToldEngine())
    team.serve(101)
    team.held = True
    pixels = np.zeros((8, 8, 3), np.uint8)
    team.team.probe([ImageView.from_array(pixels)], SETTINGS)
    pixels[:] = 9
    team.backgrounds[0].run()
    assert not team.engines[1].calls[-1].pixels.any()


def test_a_pipelined_first_overlaps_and_is_replaced_where_it_fails():
    class Pipelined(ToldEngine):

        def submit(self, images, settings):
            return images, settings

        def collect(self, ticket):
            return self.detect_batch(*ticket)

    first, other = Pipelined(), ToldEngine(ELSEWHERE)
    bank = PipelinedBank(first, 'first')
    team = PipelinedTeam(bank, [OpenModel(ModelId(2, 'other'), other, '')])
    assert isinstance(team, PipelinedDetector)
    tickets = [team.submit([IMAGE], SETTINGS) for _ in range(2)]
    assert [team.collect(each)[0] for each in tickets] == [[SEEN]] * 2
    first.error = NAN
    found, _ = team.collect(team.submit([IMAGE], SETTINGS))
    assert [each.boxes_xyxy.tolist() for each in found] == [ELSEWHERE.boxes_xyxy.tolist()]
    assert team.out()
    found, _ = team.collect(team.submit([IMAGE], SETTINGS))  # the first is not asked again
    assert len(first.calls) == 3 and len(other.calls) == 2
    team.close()
    assert first.closed and other.closed


def test_two_engines_work_at_the_same_time():
    both = threading.Barrier(2)
    engines = [ToldEngine(), ToldEngine()]
    for each in engines:
        each._on_detect = lambda: both.wait(600)
    bank = EngineBank(engines[0], 'first')
    team = EngineTeam(bank, [OpenModel(ModelId(2, 'other'), engines[1], '')])
    tickets = [Ticket([IMAGE], SETTINGS) for _ in engines]
    for number, ticket in enumerate(tickets):
        team.begin(number, ticket)
    while any(each.outcome is None for each in tickets):
        team.wait()
        team.settle()
    assert [each.found()[0][0].class_ids.tolist() for each in tickets] == [[0, 1]] * 2
    team.close()


def test_what_an_engine_answers_after_it_was_given_up_is_not_heard():
    begun, go = threading.Event(), threading.Event()
    engines = [ToldEngine(), ToldEngine(ELSEWHERE)]
    engines[1]._on_detect = lambda: (begun.set(), go.wait(600))
    now_ns = [0]
    team = EngineTeam(
        EngineBank(engines[0], 'first'), [OpenModel(ModelId(2, 'other'), engines[1], '')],
        clock=lambda: now_ns[0],
    )
    ticket = Ticket([IMAGE], SETTINGS)
    team.begin(1, ticket)
    assert begun.wait(600)
    now_ns[0] += 60_000 * MS
    while ticket.outcome is None:
        team.settle()
    assert team.out() and ticket.found()[0] == [SEEN]
    go.set()
    while team._lanes[1].attempts:
        team.wait()
        team.settle()
    assert ticket.found()[0] == [SEEN]
    team.close()


def test_phases_come_one_after_the_other():
    team = Team(ToldEngine(), ToldEngine())
    team.serve(120)
    assert team.team._schedule.phase in (Phase.TRYING, Phase.RESTING)
    texts = team.team.engine_texts()
    assert list(texts) == ['1: first', '2: engine 2']
    assert texts['1: first'].startswith('in service; 1')
