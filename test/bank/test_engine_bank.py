"""EngineBank and its machine, case by case: who serves, and why."""

from __future__ import annotations

import dataclasses
import threading

from bank_world import ELSEWHERE, IMAGE, Jobs, NAN, SEEN, SETTINGS, ToldEngine, World
import pytest

from yolov7_trt_ros.bank.bank_settings import BankSettings
from yolov7_trt_ros.bank.class_map import missing_classes
from yolov7_trt_ros.bank.update.background import BackgroundThread
from yolov7_trt_ros.bank.update.engine_bank import EngineBank
from yolov7_trt_ros.bank.update.update_machine import HANGS_NS, UpdateLimits
from yolov7_trt_ros.core.units import NS_PER_S
from yolov7_trt_ros.errors import DeviceLostError, ImageError, InferenceError, SettingError
from yolov7_trt_ros.testing import fake_spec, make_detections


def test_one_that_agrees_serves_from_the_next_frame_on_and_the_old_one_goes_after_its_time():
    world, new = World(), ToldEngine()
    world.begin(new)
    assert (world.phase, world.serving) == ('shadow', 'first')
    world.frames(4)
    assert (world.phase, world.serving) == ('kept', 'new')
    assert world.last == (
        'new serves: agreement 1.0000 in 4 frames with 8 detections, 1.00 times the latency'
    )
    calls = len(world.first.calls)
    world.frame()
    assert len(world.first.calls) == calls and world.bank.answered.detector is new
    world.wait(59)
    assert world.first.closed == 0
    world.wait(2)
    assert world.first.closed == 1 and world.phase == 'steady' and world.serving == 'new'


@pytest.mark.parametrize(('candidate', 'reason'), [
    (ToldEngine(ELSEWHERE), 'agreement 0.0000 in 4 frames with 12 detections is under'),
    (ToldEngine(error=NAN), 'it failed on a frame: the model gave 3 score value(s)'),
    (ToldEngine(error=ZeroDivisionError('x')), 'it failed on a frame: ZeroDivisionError: x'),
    (ToldEngine(took_ms=16), 'it takes 1.60 times as long, over update_max_latency_ratio 1.5'),
    (ToldEngine(names=('car', 'helmet')), 'it does not have the classes person'),
], ids=['disagrees', 'NaN', 'defect', 'slow', 'classes'])
def test_one_that_is_no_good_is_dropped_and_closed(candidate, reason):
    world = World()
    world.begin(candidate)
    world.frames(4)
    world.run_jobs()
    assert (world.phase, world.serving) == ('steady', 'first')
    assert reason in world.last and world.last.startswith('new dropped, first goes on: ')
    assert candidate.closed == 1 and world.first.closed == 0


def test_what_differs_most_is_named():
    world = World()
    world.begin(ToldEngine(ELSEWHERE))
    world.frames(4)
    assert 'most differ: person (missed 4, new 4), car (missed 4, new 0)' in world.last


def test_detections_of_nothing_agree_on_nothing():
    world = World(first=ToldEngine(make_detections((8, 8))))
    world.begin(ToldEngine(make_detections((8, 8))))
    world.frames(20)
    status = world.bank.update_status()
    assert (world.phase, status.frames, status.detections) == ('shadow', 20, 0)
    world.bank.promote()
    assert world.serving == 'new'


def test_classes_are_compared_by_name_and_may_grow():
    moved = make_detections(
        (8, 8), ((1, 1, 5, 5), 0.9, 2), ((2, 2, 7, 7), 0.8, 0), ((0, 0, 3, 3), 0.9, 1)
    )
    world = World()
    world.begin(ToldEngine(moved, names=('car', 'helmet', 'person')))
    world.frames(4)
    assert world.serving == 'new' and 'agreement 1.0000 in 4 frames with 8' in world.last


def test_a_score_that_crosses_the_threshold_is_no_lost_detection():
    before = make_detections((8, 8), ((1, 1, 5, 5), 0.9, 0), ((2, 2, 7, 7), 0.26, 1))
    after = make_detections((8, 8), ((1, 1, 5, 5), 0.9, 0))
    world = World(first=ToldEngine(before))
    world.begin(ToldEngine(after))
    world.frames(4)
    assert world.serving == 'new', world.last


def test_models_are_compared_by_what_is_published_though_more_is_asked_for():
    before = make_detections((8, 8), ((1, 1, 5, 5), 0.9, 0), ((2, 2, 7, 7), 0.24, 1))
    after = make_detections((8, 8), ((1, 1, 5, 5), 0.9, 0))
    for judged_score, serves in ((0.25, 'new'), (None, 'first')):
        world = World(first=ToldEngine(before))
        world.begin(ToldEngine(after))
        for _ in range(4):
            world.frame(settings=BankSettings(score_threshold=0.05, judged_score=judged_score))
            world.run_jobs()
        assert world.serving == serves, world.last


def test_the_class_filter_follows_the_names():
    world = World()
    new = ToldEngine(names=('car', 'helmet', 'person'))
    world.begin(new)
    settings = BankSettings(class_ids=frozenset({0}), class_names=('person', 'car'))
    world.frame(settings=settings)
    world.run_jobs()
    assert world.first.calls[-1].settings.class_ids == {0}
    assert new.calls[-1].settings.class_ids == {2}
    world.bank.promote()
    world.frame(settings=settings)
    assert new.calls[-1].settings.class_ids == {2}


def test_thresholds_of_classes_follow_the_names():
    world = World()
    new = ToldEngine(names=('car', 'helmet', 'person'))
    world.begin(new)
    settings = BankSettings(
        class_thresholds=((0, 0.4), (1, 0.6)), class_names=('person', 'car')
    )
    world.frame(settings=settings)
    world.run_jobs()
    world.bank.promote()
    world.frame(settings=settings)
    assert world.first.calls[-1].settings.class_thresholds == ((0, 0.4), (1, 0.6))
    assert new.calls[-1].settings.class_thresholds == ((0, 0.6), (2, 0.4))
    world.frame(settings=dataclasses.replace(settings))  # an equal one
    assert new.calls[-1].settings is new.calls[-2].settings


def test_the_share_is_kept_for_each_of_several_cameras_in_turn():
    limits = UpdateLimits(shadow_frames=1000, shadow_share=0.5)
    world, new = World(limits), ToldEngine()
    world.begin(new)
    seen = []
    for _ in range(200):
        before = len(new.calls)
        world.frames(1)
        seen.append(len(new.calls) - before)
    assert 48 <= sum(seen[::2]) <= 52 and 48 <= sum(seen[1::2]) <= 52


def test_frames_wait_for_no_comparison_and_none_is_queued():
    world, new = World(), ToldEngine()
    world.begin(new)
    for _ in range(10):
        world.frame()
    assert len(world.jobs) == 1 and not new.calls


def test_the_image_is_copied_for_whoever_uses_its_memory_next():
    world, new = World(), ToldEngine()
    world.begin(new)
    world.frame()
    IMAGE.pixels.setflags(write=True)
    IMAGE.pixels[:] = 7
    world.run_jobs()
    IMAGE.pixels[:] = 0
    assert not new.calls[-1].pixels.any()


def test_latency_is_told_by_the_quickest_frames_for_others_are_held_up():
    world, new = World(UpdateLimits(shadow_frames=30, shadow_share=1.0)), ToldEngine()
    world.begin(new)
    for number in range(30):
        new.took_ms = 11 if number % 6 == 0 else 100
        world.frames(1)
    assert world.serving == 'new' and '1.10 times the latency' in world.last


def test_what_is_hopelessly_slow_is_dropped_before_the_end():
    world = World(UpdateLimits(shadow_frames=1000, shadow_share=1.0))
    world.begin(ToldEngine(took_ms=46))
    world.frames(19)
    assert world.phase == 'shadow'
    world.frames(1)
    assert world.phase == 'steady' and 'it takes 4.60 times as long' in world.last


# ---- after the switch


def kept(new: ToldEngine, **limits) -> World:
    """Return a world where the new one serves and the first is kept."""
    world = World(UpdateLimits(mode='immediate', **limits))
    world.frames(30)
    world.begin(new)
    assert (world.phase, world.serving) == ('kept', 'new')
    return world


def test_the_very_frame_that_the_new_one_fails_on_is_answered_by_the_old_one():
    new = ToldEngine()
    world = kept(new)
    world.frame()
    new.error = NAN
    assert world.frame() == [SEEN]
    assert world.bank.answered.detector is world.first and world.serving == 'first'
    assert world.last.startswith('new rolled back to first: it failed: the model gave 3 score')
    world.run_jobs()
    assert new.closed == 1 and world.phase == 'steady'


def test_a_frame_that_both_fail_on_says_nothing_about_the_new_one():
    new = ToldEngine(error=ImageError('too large'))
    world = kept(new)
    world.first.error = ImageError('too large, says the old one')
    with pytest.raises(ImageError, match='the old one'):
        world.frame()
    assert (world.phase, world.serving) == ('kept', 'new')
    new.error = None
    assert world.frame() == [SEEN]


def test_a_lost_device_is_lost_to_both():
    world = kept(ToldEngine(error=DeviceLostError('gone')))
    calls = len(world.first.calls)
    with pytest.raises(DeviceLostError):
        world.frame()
    assert len(world.first.calls) == calls


def test_slow_frames_lead_back_but_not_a_single_one():
    new = ToldEngine()
    world = kept(new)
    for took_ms in (500, 10, 16, 10, 16, 10, 16):  # the first of its size may take longer
        assert world.serving == 'new'
        new.took_ms = took_ms
        world.frames(1)
    assert world.serving == 'first'
    assert '3 of its last 6 frames took over 15.0 ms' in world.last


def test_latency_is_not_judged_where_the_old_one_saw_no_such_image():
    new = ToldEngine(took_ms=500)
    world = kept(new)
    for _ in range(20):
        world.bank.detect_batch([IMAGE] * 2, SETTINGS)
    assert world.serving == 'new'


def test_batches_are_cut_for_an_engine_that_takes_fewer():
    new = ToldEngine(max_batch=1)
    world = kept(new)
    assert world.bank.max_batch == 2
    found, timings = world.bank.detect_batch([IMAGE] * 2, SETTINGS)
    assert len(found) == 2 and new.batches == [1, 1] and timings.infer_ns == 20_000_000
    assert world.bank.max_batch == 1


def test_immediate_takes_other_classes_too():
    world = kept(ToldEngine(names=('helmet',)))
    assert world.bank.serving.detector.spec.class_names == ('helmet',)


# ---- people


def test_promote_during_opening_and_comparing_holds_as_soon_as_it_can():
    world = World()
    model = world.ask()
    assert world.bank.promote() == 'new serves as soon as it can'
    world.bank.opened(model, ToldEngine())
    assert world.serving == 'new'

    world, new = World(), ToldEngine(ELSEWHERE)
    world.begin(new)
    world.frame()
    world.bank.promote()
    assert world.serving == 'first'  # the candidate is in use by the background
    world.run_jobs()
    assert world.serving == 'new'


def test_promote_lets_go_of_the_kept_one_and_roll_back_returns_to_it():
    world = kept(ToldEngine())
    assert world.bank.promote() == 'new serves, first is let go'
    world.run_jobs()
    assert world.first.closed == 1
    new = ToldEngine()
    world = kept(new)
    assert world.bank.roll_back() == 'first serves from the next frame on'
    world.run_jobs()
    assert new.closed == 1 and world.first.closed == 0 and world.serving == 'first'


def test_without_an_update_there_is_nothing_to_do():
    world = World()
    for call in (world.bank.promote, world.bank.roll_back):
        with pytest.raises(SettingError, match='no update is under way'):
            call()


def test_who_asks_for_the_model_that_serves_ends_the_update():
    world = World()
    model = world.ask()
    assert world.bank.ask('first') is None
    late = ToldEngine()
    assert not world.bank.opened(model, late)
    world.run_jobs()
    assert late.closed == 1 and 'first was asked for again' in world.last


def test_who_asks_for_the_kept_one_goes_back_to_it_and_for_a_third_has_to_wait():
    world = kept(ToldEngine())
    with pytest.raises(SettingError, match='first is kept for 60 s more: call ~/promote'):
        world.bank.ask('third')
    assert world.bank.ask('new') is None
    assert world.bank.ask('first') is None
    assert world.serving == 'first'


def test_another_candidate_takes_the_place_of_one_under_way():
    world, second = World(), ToldEngine()
    model = world.ask('second')
    third = world.ask('third')
    assert world.bank.ask('third') is None
    assert not world.bank.opened(model, second)
    world.bank.failed(model, 'no matter')
    assert world.bank.opened(third, ToldEngine())
    world.run_jobs()
    assert second.closed == 1 and world.bank.update_status().other == third


def test_off_refuses():
    world = World(UpdateLimits(mode='off'))
    with pytest.raises(SettingError, match='the parameter update is off'):
        world.bank.ask('new')


@pytest.mark.parametrize('found', [
    ((1, 1, 5, 5), float('nan'), 0), ((1, 1, 5, 5), float('inf'), 0), ((1, 1, 5, 5), 7.0, 0),
    ((1, 1, 5, 5), -0.5, 0), ((float('nan'), 1, 5, 5), 0.9, 0), ((5, 5, 1, 1), 0.9, 0),
], ids=str)
def test_detections_that_cannot_be_are_an_error_of_the_candidate(found):
    world, new = World(), ToldEngine(make_detections((8, 8), found))
    world.begin(new)
    world.frames(4)
    assert (world.phase, world.serving) == ('steady', 'first')
    assert 'new dropped, first goes on: it failed on a frame: a detection has the score' in (
        world.last
    )
    assert len(new.calls) == 1 and new.closed == 1


def test_limits_hold_for_an_update_that_is_under_way():
    world = kept(ToldEngine())
    world.bank.limit(UpdateLimits(mode='immediate', keep_ns=600 * NS_PER_S))
    world.wait(599)
    assert world.phase == 'kept'
    world.bank.limit(UpdateLimits(mode='immediate', keep_ns=0))
    world.wait(0)
    assert world.phase == 'steady' and world.first.closed == 1

    slow = ToldEngine(took_ms=14)
    world = kept(slow)
    world.frames(10)
    assert world.serving == 'new'
    world.bank.limit(UpdateLimits(mode='immediate', max_latency_ratio=1.2))
    world.frames(3)
    assert 'took over 12.0 ms' in world.last and world.serving == 'first'


@pytest.mark.parametrize('is_at_work', [True, False])
def test_a_candidate_that_is_compared_serves_once_updates_are_immediate(is_at_work):
    world = World()
    world.begin(ToldEngine(ELSEWHERE))
    if is_at_work:
        world.frame()
    world.bank.limit(UpdateLimits(mode='immediate'))
    world.run_jobs()
    assert world.serving == 'new' and 'update is immediate' in world.last


def test_a_request_comes_with_limits_of_its_own():
    world, off = World(UpdateLimits(mode='off')), UpdateLimits(mode='off')
    with pytest.raises(SettingError, match='the parameter update is off'):
        world.bank.check('new')
    world.bank.check('new', UpdateLimits())
    world.bank.opened(world.bank.ask('new', UpdateLimits(mode='immediate')), ToldEngine())
    assert world.serving == 'new'
    world.bank.promote()
    with pytest.raises(SettingError, match='the parameter update is off'):
        world.bank.ask('third', off)
    assert world.bank.ask('third') is not None  # what is refused changes no limit


def test_what_works_while_a_bank_is_closed_is_closed_when_it_ends():
    world, new = World(), ToldEngine()
    world.begin(new)
    world.frame()
    hanging = world.jobs.pop()
    threads: list[str] = []
    world.bank._new_background = lambda: threads.append('') or Jobs(world.jobs)
    changes = world.changes
    world.bank.close()
    assert world.first.closed == 1 and new.closed == 0
    hanging()
    assert len(threads) == 1  # that which closes it, and none to compare another frame
    world.run_jobs()
    assert (world.first.closed, new.closed, world.changes) == (1, 1, changes)


def test_a_candidate_that_hangs_is_given_up_and_left_open():
    world, new = World(), ToldEngine()
    world.begin(new)
    world.frame()
    hanging = world.jobs.pop()
    world.wait(HANGS_NS / NS_PER_S + 1)
    assert world.phase == 'steady' and 'has not answered a frame within 30 s' in world.last
    assert new.closed == 0  # somebody uses it
    hanging()
    world.run_jobs()
    assert new.closed == 1 and world.serving == 'first'


def test_closing_twice_is_harmless():
    world, new = World(), ToldEngine()
    world.begin(new)
    world.bank.close()
    world.bank.close()
    assert new.closed and world.first.closed
    with pytest.raises(InferenceError, match='closed'):
        world.frame()


def test_with_real_threads_a_frame_does_not_wait_for_the_candidate():
    in_work, go, switched = threading.Event(), threading.Event(), threading.Event()
    new = ToldEngine()
    new._on_detect = lambda: (in_work.set(), go.wait(600))
    limits = UpdateLimits(shadow_frames=1, shadow_share=1.0, min_detections=1)
    first = ToldEngine()
    bank = EngineBank(first, 'first', limits=limits, new_background=BackgroundThread, on_change=(
        lambda: switched.set() if bank.serving.detector is new else None
    ))
    model = bank.ask('new')
    bank.opened(model, new)
    bank.detect_batch([IMAGE], SETTINGS)
    bank.compare_last()
    assert in_work.wait(600)
    for _ in range(5):
        bank.detect_batch([IMAGE], SETTINGS)
    assert len(first.calls) == 6
    go.set()
    assert switched.wait(600)
    bank.close()


def test_settings_that_are_plain_are_taken_as_they_are():
    world = World()
    world.frame(settings=dataclasses.replace(SETTINGS, class_ids=frozenset({1})))
    assert world.first.calls[-1].settings.class_ids == {1}


def test_a_class_that_has_no_name_is_missed_too():
    assert missing_classes(fake_spec(('', 'car')), fake_spec(('car',))) == "''"
    assert missing_classes(fake_spec(tuple('abcde')), fake_spec(())) == 'a, b, c and 2 more'
    assert missing_classes(fake_spec(('car',)), fake_spec(('bus', 'car'))) == ''
