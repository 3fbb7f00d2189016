"""Laws of updates, over any order of events: one model serves, and nothing good is lost."""

from __future__ import annotations

from bank_world import ELSEWHERE, IMAGE, NAN, SETTINGS, ToldEngine, World
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule, RuleBasedStateMachine
import pytest

from yolov7_trt_ros.bank.update.update_machine import ModelId, UpdateLimits
from yolov7_trt_ros.core.units import NS_PER_S
from yolov7_trt_ros.errors import InferenceError, SettingError

KEEP_S = 10
CANDIDATES = {
    'good': lambda: ToldEngine(),
    'wrong': lambda: ToldEngine(ELSEWHERE),
    'NaN': lambda: ToldEngine(error=NAN),
    'slow': lambda: ToldEngine(took_ms=100),
    'other classes': lambda: ToldEngine(names=('cup',)),
}
UNFIT = {'wrong', 'NaN', 'slow', 'other classes'}


class Updates(RuleBasedStateMachine):
    """A node's life: frames, updates of every kind, and people who change their minds."""

    def __init__(self) -> None:
        super().__init__()
        limits = UpdateLimits(
            shadow_frames=3, shadow_share=1.0, min_detections=3, keep_ns=KEEP_S * NS_PER_S
        )
        self.world = World(limits)
        self.opening: ModelId | None = None
        self.engines: dict[int, ToldEngine] = {1: self.world.first}
        self.kinds = {1: 'good'}
        self.by_hand: set[int] = set()
        self.gone: set[int] = set()
        self.served = 1
        self.switched: tuple[int, int] | None = None  # the former model, and until when it stays
        self.answers = self.asked = 0

    # ---- events

    @rule(name=st.sampled_from(['a', 'b', 'c', 'first']))
    def ask(self, name: str) -> None:
        try:
            model = self.world.bank.ask(name)
        except SettingError:
            assert self.world.phase == 'kept'
            return
        if model is not None:
            self.opening = model

    @precondition(lambda self: self.opening is not None)
    @rule(kind=st.sampled_from([*CANDIDATES, 'no file']))
    def open_candidate(self, kind: str) -> None:
        model, self.opening = self.opening, None
        self.kinds[model.number] = kind
        if kind == 'no file':
            self.world.bank.failed(model, 'no such file')
            return
        self.engines[model.number] = CANDIDATES[kind]()
        self.world.bank.opened(model, self.engines[model.number])

    @rule(images=st.integers(1, 2), new_fails=st.booleans(), old_fails=st.booleans())
    def frame(self, images: int, new_fails: bool, old_fails: bool) -> None:
        bank = self.world.bank
        serving, kept = bank.serving.model.number, self.kept
        fails = {serving: new_fails, kept: old_fails}
        errors = {number: self.engines[number].error for number in fails if number}
        for number in errors:
            self.engines[number].error = NAN if fails[number] else errors[number]
        can_answer = [number for number in errors if self.engines[number].error is None]
        self.asked += 1
        try:
            found, _ = bank.detect_batch([IMAGE] * images, SETTINGS)
        except InferenceError:
            assert not can_answer
        else:
            assert found == [self.engines[bank.answered.model.number].finds] * images
            assert bank.answered.model.number == (serving if serving in can_answer else kept)
            bank.compare_last()
        self.answers += 1
        for number, error in errors.items():
            self.engines[number].error = error

    @rule()
    def run_jobs(self) -> None:
        self.world.run_jobs()

    @precondition(lambda self: self.world.jobs)
    @rule(data=st.data())
    def run_any_job(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.world.jobs) - 1))
        self.world.jobs.pop(index)()

    @rule()
    def some_good_frames(self) -> None:
        for _ in range(4):
            self.frame(1, False, False)
            self.world.run_jobs()
            self.note()

    @precondition(lambda self: self.world.phase == 'steady')
    @rule(kind=st.sampled_from([*CANDIDATES]))
    def whole_update(self, kind: str) -> None:
        self.ask('b')
        if self.opening is not None:
            self.open_candidate(kind)
        self.some_good_frames()

    @rule(seconds=st.sampled_from([0.5, 4, 11, 40]))
    def wait(self, seconds: float) -> None:
        self.world.now_ns += int(seconds * NS_PER_S)
        self.world.bank.tick()

    @rule()
    def promote(self) -> None:
        other = self.world.bank.update_status().other
        if other is None:
            with pytest.raises(SettingError):
                self.world.bank.promote()
            return
        if self.world.phase == 'kept':
            self.switched = None  # to let go of the former model is what it is for
        self.by_hand.add(other.number)
        self.world.bank.promote()

    @rule()
    def roll_back(self) -> None:
        if self.world.bank.update_status().other is None:
            with pytest.raises(SettingError):
                self.world.bank.roll_back()
            return
        self.world.bank.roll_back()

    # ---- laws

    @property
    def kept(self) -> int:
        status = self.world.bank.update_status()
        return status.other.number if status.phase.value == 'kept' else 0

    @invariant()
    def note(self) -> None:
        status = self.world.bank.update_status()
        resident = {status.serving.number} | ({status.other.number} if status.other else set())
        assert not resident & self.gone, 'a model that was given up is back'
        self.gone |= set(range(1, max(resident) + 1)) - resident
        if status.serving.number > self.served:
            if self.kinds[self.served] == self.kinds[status.serving.number]:
                self.by_hand.add(status.serving.number)  # no worse than one that was promoted so
            self.switched = (self.served, self.world.now_ns + KEEP_S * NS_PER_S)
        elif status.serving.number < self.served:
            assert self.switched is not None and status.serving.number == self.switched[0]
            self.switched = None
        self.served = status.serving.number

    @invariant()
    def what_failed_never_serves(self) -> None:
        number = self.world.bank.serving.model.number
        assert self.kinds[number] not in UNFIT or number in self.by_hand
        assert self.kinds[number] not in ('no file',)

    @invariant()
    def the_old_one_stays_for_its_time(self) -> None:
        if self.switched is not None and self.world.now_ns < self.switched[1]:
            assert self.kept == self.switched[0]
            assert not self.engines[self.kept].closed

    @invariant()
    def what_serves_is_open_and_what_went_is_closed_once(self) -> None:
        status = self.world.bank.update_status()
        assert not self.engines[status.serving.number].closed
        for number, engine in self.engines.items():
            assert engine.closed <= 1 and not engine.misused
            if number in self.gone and not self.world.jobs:
                assert engine.closed == 1

    @invariant()
    def every_frame_had_one_end(self) -> None:
        assert self.answers == self.asked

    def teardown(self) -> None:
        self.world.run_jobs()
        self.world.bank.close()
        assert all(engine.closed for engine in self.engines.values())


Updates.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
test_updates = Updates.TestCase
