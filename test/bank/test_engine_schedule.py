"""EngineSchedule: laws of every decision, and cameras in simulated time; no frame later for it."""

from __future__ import annotations

from collections.abc import Sequence

from engine_simulation import Camera, Engine, MS, Simulation, SIZE
from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from yolov7_trt_ros.bank.team.engine_health import (
    EngineHealth,
    FIRST_PAUSE_NS,
    GOOD_TRIALS,
    LONGEST_PAUSE_NS,
    MOST_FAILURES,
    pause_ns,
)
from yolov7_trt_ros.bank.team.engine_schedule import EngineSchedule, FIRST, HANGS_NS, Phase
from yolov7_trt_ros.bank.team.engine_times import EngineTimes

CONTENTION = (45.0, 59.0)  # a GPU alone, and while DLAs work: NVIDIA/TensorRT#2745
TEN_MINUTES_S = 600
ENGINE_LIFE_S = 4 * TEN_MINUTES_S
TRIALS_COST = 1.005
"""By so much p99 of ten minutes may be over that of the first alone, for the trials in them."""


def both(
    engines: Sequence[tuple[float, ...]], cameras: Sequence[Camera], seconds: float = TEN_MINUTES_S
) -> tuple[Simulation, Simulation]:
    """Return how the first engine does alone, and how all do by schedule, on the same images."""
    alone, scheduled = (
        Simulation([Engine(*each) for each in engines], cameras, schedule=schedule).run(seconds)
        for schedule in (False, True)
    )
    for each in (alone, scheduled):
        assert each.received == len(each.answered) + each.dropped + each.failed
        for topic in range(len(cameras)):
            numbers = [number for camera, number in each.answered if camera == topic]
            assert numbers == sorted(set(numbers))
    return alone, scheduled


# ---- cameras in simulated time


def test_a_dla_that_slows_the_gpu_down_and_gains_all_the_same():
    alone, scheduled = both(
        [CONTENTION, (52.0, 64.0)], [Camera(80, 0), Camera(80, 11)], TEN_MINUTES_S
    )
    assert scheduled.schedule.phase is Phase.TOGETHER
    assert scheduled.p99_ms() < 0.95 * alone.p99_ms()
    assert len(scheduled.answered) > 1.1 * len(alone.answered)


@pytest.mark.parametrize('cameras', [
    [Camera(1000 / 30, 0), Camera(1000 / 30, 20)],  # neither one nor both keep up
    [Camera(1000 / 15, 0), Camera(1000 / 15, 20)],
], ids=['overload', '2 x 15 Hz'])
def test_where_the_dla_makes_images_late_it_rests_and_says_why(cameras):
    alone, scheduled = both([CONTENTION, (60.0, 75.0)], cameras)
    assert scheduled.p99_ms() <= TRIALS_COST * alone.p99_ms()
    assert len(scheduled.answered) >= 0.99 * len(alone.answered)
    text = scheduled.schedule.text(scheduled.now_ns)
    assert scheduled.schedule.phase is Phase.RESTING, text
    assert 'frames took longer with them than p99 without' in text or 'gain nothing' in text


def test_two_engines_that_do_not_disturb_each_other_answer_more_at_the_same_p99():
    alone, scheduled = both(
        [(45.0, 45.0)] * 2, [Camera(1000 / 30, 0), Camera(1000 / 30, 20)]
    )
    assert len(scheduled.answered) > 1.7 * len(alone.answered)
    assert scheduled.p99_ms() <= TRIALS_COST * alone.p99_ms()


def test_latencies_that_scatter_widely_do_not_stand_in_the_way():
    alone, scheduled = both([(45.0, 50.0, 2.0)] * 2, [Camera(100, 0), Camera(100, 10)])
    assert len(scheduled.answered) > 1.3 * len(alone.answered)
    assert scheduled.p99_ms() <= TRIALS_COST * alone.p99_ms()


def test_where_the_first_keeps_up_the_others_are_not_used():
    alone, scheduled = both([CONTENTION, (60.0, 75.0)], [Camera(200, 0), Camera(200, 70)])
    assert scheduled.p99_ms() <= TRIALS_COST * alone.p99_ms()
    assert scheduled.engines[1].begun < 0.02 * scheduled.engines[0].begun
    assert len(scheduled.answered) == len(alone.answered)


@pytest.mark.parametrize('cameras', [[Camera(80, 0), Camera(80, 11)], [Camera(40, 0)]])
def test_a_first_run_that_takes_fifty_times_as_long_changes_nothing_later(cameras):
    rows = [
        Simulation([Engine(45.0, 45.0, cold=cold) for _ in range(2)], cameras, schedule=True)
        .run(60) for cold in (1.0, 50.0)
    ]
    warm, cold = (row.schedule for row in rows)
    assert warm.phase is cold.phase is Phase.TOGETHER
    assert max(cold._trial.alone) < 2 * max(warm._trial.alone)
    for engine in range(2):
        high_ns = [row.schedule._members[engine].times.high_ns(SIZE) for row in rows]
        assert high_ns[1] < 1.1 * high_ns[0]
    lost = int(50 * 45 / cameras[0].period_ms) + 1  # of each camera, meanwhile
    assert len(rows[1].answered) > 0.95 * (len(rows[0].answered) - lost * len(cameras))


def test_a_size_that_comes_later_takes_long_once_and_puts_nobody_to_rest():
    schedule, now_ns = EngineSchedule(2), 0
    schedule._trial.add_alone([20 * MS] * 100)
    schedule._enter(Phase.TOGETHER, 0)
    schedule._begin_block(0, alone=False)

    def answer(kind, took_ms, frames):
        nonlocal now_ns
        schedule.begin(FIRST, kind, now_ns)
        now_ns += took_ms * MS
        schedule.end(FIRST, now_ns)
        schedule.overtaken([took_ms * MS], now_ns)
        schedule.answered([took_ms * MS] * (frames - 1), now_ns)  # all that waited for it

    answer('a', 20, 1)
    answer('b', 1000, 6)
    assert schedule.phase is Phase.TOGETHER
    answer('b', 1000, 6)
    assert schedule.phase is Phase.RESTING


def test_an_engine_that_can_never_be_first_rests_for_longer_each_time():
    alone, scheduled = both([(50.0, 50.0), (1500.0, 1500.0)], [Camera(165, 0), Camera(165, 25)])
    assert scheduled.p99_ms() <= TRIALS_COST * alone.p99_ms()
    assert 'and the first answers an image that waits within 10' in scheduled.schedule.text(
        scheduled.now_ns
    )
    probing = [at_ms for at_ms, phase in scheduled.phases if phase is Phase.PROBING]
    pauses = [after - before for before, after in zip(probing, probing[1:], strict=False)]
    assert pauses == sorted(pauses) and pauses[-1] - pauses[-2] > 119_000  # 160 s after 40 s
    assert scheduled.engines[1].begun <= 5 * len(probing) + 1


def test_a_faster_one_takes_what_it_can_where_the_slow_one_is_named_first():
    alone, scheduled = both([(200.0, 200.0), (20.0, 20.0)], [Camera(100, 0), Camera(100, 5)])
    assert len(scheduled.answered) > 2.5 * len(alone.answered)
    assert scheduled.p99_ms() <= alone.p99_ms()


def test_a_load_that_comes_later_brings_the_others_in():
    cameras = [Camera(100, 0), Camera(100, 5, from_ms=35_000), Camera(100, 30, from_ms=35_000)]
    alone, scheduled = both([(45.0, 47.0)] * 2, cameras)
    assert scheduled.schedule.phase is Phase.TOGETHER
    assert scheduled.p99_ms() < alone.p99_ms()
    first = next(at_ms for at_ms, phase in scheduled.phases if phase is Phase.TOGETHER)
    assert 35_000 < first < 95_000


def test_a_failing_engine_loses_no_frame_and_is_out_for_good_in_the_end():
    engines = [Engine(225, 225), Engine(225, 225, fails=lambda begun: begun > 50)]
    simulation = Simulation(
        engines, [Camera(330, 0), Camera(330, 100)], schedule=True
    ).run(ENGINE_LIFE_S)
    assert simulation.failed == 0
    assert 'out for good: told to' in simulation.schedule.engine_text(1, simulation.now_ns)
    assert engines[1].begun <= 50 + MOST_FAILURES


def test_an_engine_that_has_failed_once_is_taken_back_after_good_trials():
    engines = [Engine(45, 45), Engine(45, 45, fails=lambda begun: begun == 100)]
    simulation = Simulation(
        engines, [Camera(66, 0), Camera(66, 20)], schedule=True
    ).run(TEN_MINUTES_S)
    assert simulation.failed == 0 and engines[1].begun > 1000
    assert 'in service' in simulation.schedule.engine_text(1, simulation.now_ns)


def test_without_the_first_the_others_serve_until_it_is_well_again():
    engines = [Engine(45, 45, fails=lambda begun: 300 <= begun < 303), Engine(45, 45)]
    simulation = Simulation(
        engines, [Camera(66, 0), Camera(66, 20)], schedule=True
    ).run(TEN_MINUTES_S)
    assert simulation.failed == 0
    assert engines[0].begun > 2000


# ---- laws


def schedule_of(number: int = 3, *, ms: Sequence[float] = (45, 50, 50)) -> EngineSchedule:
    """Return a schedule whose engines are known, and which tries all of them."""
    schedule = EngineSchedule(number)
    now_ns = 0
    for _ in range(1000):
        if schedule.phase is Phase.TRYING:
            return schedule
        schedule.begin(FIRST, SIZE, now_ns)
        now_ns += int(ms[0] * MS)
        schedule.end(FIRST, now_ns)
        schedule.answered([int(ms[0] * MS)], now_ns)
        trial = schedule.probe(now_ns)
        if trial is not None:
            schedule.begin(trial, SIZE, now_ns, probe=True)
            now_ns += int(ms[trial] * MS)
            schedule.end(trial, now_ns, probe=True)
    raise AssertionError(schedule.text(now_ns))


EVENTS = st.lists(st.tuples(
    st.sampled_from(['choose', 'end', 'fail', 'answer', 'probe', 'bar', 'restart', 'overtaken']),
    st.integers(0, 2), st.integers(0, 200), st.sampled_from(['a', 'b']),
), max_size=300)


def test_the_first_answers_though_it_is_out_where_all_others_are():
    schedule = schedule_of()
    now_ns = 10**12
    schedule._enter(Phase.TRYING, now_ns)
    schedule.begin(FIRST, 'a', now_ns)
    schedule.end(FIRST, now_ns, good=False)
    schedule.fail(FIRST, 'told to', now_ns)
    assert schedule.choose(now_ns) in (1, 2)
    for number in (1, 2):
        schedule.bar(number, 'other classes')
    assert schedule.choose(now_ns) == FIRST
    assert schedule.text(now_ns) == 'the first serves alone: the others are out'


@given(EVENTS, st.booleans())
@settings(max_examples=100, deadline=None)
def test_whatever_happens_only_engines_that_are_idle_and_well_begin(events, known):
    schedule = schedule_of() if known else EngineSchedule(3)
    now_ns = 10**12
    for event, engine, step_ms, kind in events:
        now_ns += step_ms * MS
        member = schedule._members[engine]
        if event in ('choose', 'probe'):
            chosen = schedule.choose(now_ns) if event == 'choose' else schedule.probe(now_ns)
            if chosen is None:
                continue
            begun = schedule._members[chosen]
            assert begun.is_idle
            others = schedule._others_in()
            if event == 'choose':
                assert begun.is_in or (chosen == FIRST and not others)
                if chosen != FIRST and schedule._members[FIRST].is_in:
                    assert schedule.phase in (Phase.TRYING, Phase.TOGETHER)
                    assert begun.times.knows(schedule._kinds.all)
            schedule.begin(chosen, kind, now_ns, probe=event == 'probe')
        elif event == 'end' and not member.is_idle:
            schedule.end(engine, now_ns)
        elif event == 'fail' and not member.is_idle:
            schedule.end(engine, now_ns, good=False)
            schedule.fail(engine, 'told to', now_ns)
        elif event == 'answer':
            schedule.answered([step_ms * MS], now_ns)
        elif event == 'overtaken':
            schedule.overtaken([step_ms * MS], now_ns)
        elif event == 'bar' and engine != FIRST:
            schedule.bar(engine, 'other classes' if step_ms % 2 else '')
        elif event == 'restart':
            schedule.restart(now_ns)
        assert schedule.text(now_ns)
        for number in range(3):
            assert schedule.engine_text(number, now_ns)
    for number in range(3):
        schedule.end(number, now_ns + MS)
    assert schedule.choose(now_ns + MS) is not None  # with all idle nobody waits for ever


@given(st.lists(st.integers(0, 5), min_size=20, max_size=200))
@settings(max_examples=30, deadline=None)
def test_sizes_that_change_with_each_image_are_explored_within_bounds(kinds):
    schedule = schedule_of()
    schedule._begin_block(10**12, alone=False)
    schedule._enter(Phase.PROBING, 10**12)
    now_ns, probes, phases = 10**12, [0, 0, 0], 1
    for kind in kinds:
        before = schedule.phase
        schedule.begin(FIRST, kind, now_ns)
        now_ns += 45 * MS
        schedule.end(FIRST, now_ns)
        schedule.answered([45 * MS], now_ns)
        phases += schedule.phase is Phase.PROBING and before is not Phase.PROBING
        trial = schedule.probe(now_ns)
        if trial is not None:
            probes[trial] += 1
            schedule.begin(trial, kind, now_ns, probe=True)
            now_ns += 50 * MS
            schedule.end(trial, now_ns, probe=True)
    assert max(probes) <= 20 * phases + len(kinds) // 50 + 1


@given(st.integers(1, 1000))
def test_pauses_grow_and_are_bounded(number):
    assert FIRST_PAUSE_NS <= pause_ns(number) <= pause_ns(number + 1) <= LONGEST_PAUSE_NS


def test_the_first_is_tried_again_without_end():
    schedule = schedule_of()
    now_ns = 10**12
    for _ in range(3 * MOST_FAILURES):
        schedule.fail(FIRST, 'NaN', now_ns)
        now_ns += LONGEST_PAUSE_NS
        assert schedule.probe(now_ns) == FIRST
        schedule.begin(FIRST, SIZE, now_ns, probe=True)
        schedule.end(FIRST, now_ns, probe=True, good=False)


def test_a_trial_needs_so_many_good_frames_in_a_row():
    health = EngineHealth()
    health.fail('NaN', 0)
    assert not health.wants_trial(FIRST_PAUSE_NS - 1) and health.wants_trial(FIRST_PAUSE_NS)
    for _ in range(GOOD_TRIALS - 1):
        health.pass_trial()
    assert not health.is_in and f'{GOOD_TRIALS - 1} of {GOOD_TRIALS}' in health.text(10**12)
    health.fail('NaN', FIRST_PAUSE_NS)
    for _ in range(GOOD_TRIALS):
        assert not health.is_in
        health.pass_trial()
    assert health.is_in and health.text(0) == 'in service'


def test_what_hangs_is_named_by_what_it_usually_takes():
    schedule = schedule_of()
    now_ns = 10**12
    schedule.begin(1, SIZE, now_ns)
    assert schedule.overdue(now_ns + 1_900 * MS) == []
    assert schedule.overdue(now_ns + 2_100 * MS) == [1]
    schedule.begin(2, 'never seen', now_ns)
    assert schedule.overdue(now_ns + HANGS_NS) == [1]
    assert schedule.out(now_ns + HANGS_NS) == {1: 'hanging, for 30 s: it does not answer'}
    assert schedule.engine_text(1, now_ns + HANGS_NS).startswith('hanging, for 30 s')
    schedule.end(1, now_ns + HANGS_NS + 1)
    assert schedule.out(now_ns + HANGS_NS) == {} and 'in service' in schedule.engine_text(
        1, now_ns + HANGS_NS)


def test_an_engine_that_may_not_serve_is_told_as_one_that_is_out():
    schedule = EngineSchedule(2)
    assert schedule.out(0) == {}
    schedule.bar(1, 'it lacks the classes dog, cat')
    assert schedule.out(0) == {1: 'out: it lacks the classes dog, cat'}
    assert schedule.engine_text(1, 0).startswith('out: it lacks the classes dog, cat; 0 frames')
    schedule._trial.add_alone([20 * MS] * 100)
    for _ in range(2):
        schedule.answered([20 * MS], 10**12)
    assert schedule.text(10**12) == 'the others rest for 10 s: none of them is in service'


@pytest.mark.parametrize(('phase', 'text'), [
    (Phase.TOGETHER, 'serve: a gain'), (Phase.TRYING, 'are tried, in turns with the first alone'),
])
def test_those_that_are_out_do_not_count_among_all_that_serve(phase, text):
    schedule = EngineSchedule(3)
    schedule.phase, schedule.reason = phase, 'a gain'
    assert schedule.text(0) == f'all {text}'
    schedule.bar(2, 'it lacks the classes dog')
    assert schedule.text(0) == f'2 of 3 {text}'


def test_times_are_unknown_until_enough_of_them_are_there_and_kinds_are_bounded():
    times = EngineTimes()
    assert not times.add('a', 10**6)  # the first does not count
    for number in range(4):
        assert times.add('a', number)
        assert times.typical_ns('a') is None and not times.knows(['a'])
    times.add('a', 4)
    assert times.typical_ns('a') == 2 and times.high_ns('a') == 3 and times.knows(['a'])
    times.forget()
    assert not times.knows(['a']) and times.add('a', 4)  # what was prepared still is
    times.begin_anew()
    assert not times.add('a', 4)
    for number in range(100):
        times.add(number, 1)
    assert not times.knows(['a']) and len(times._kinds) == 32
