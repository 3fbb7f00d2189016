"""The governor's laws, on a closed loop of its own: no simulator and no board."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
import itertools
import random

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.power.policy import decide
from yolov7_trt_ros.power.policy_state import (
    Decision,
    FrameWindow,
    GovernorState,
    Limits,
    Readings,
    TUNING,
)
from yolov7_trt_ros.power.policy_table import (
    ClockState,
    PRIOR_QUANTILE,
    Spread,
    SPREAD_FRAMES,
    Table,
)

STATES = tuple(
    ClockState(float(gpu), emc, cpu)
    for gpu in range(300, 1100, 100) for emc in (2100.0, 3200.0) for cpu in (900.0, 1700.0)
)
TOP = max(STATES)
LIMITS = Limits(deadline_ms=30.0, temperature_limit_c=80.0)
PERIOD_S = 1 / 30


class Loop:
    """A board in three lines: latency from shares of the clocks, power from their squares."""

    def __init__(
        self, work_ms: float = 10.0, shares: tuple[float, float, float] = (0.6, 0.3, 0.1),
        limits: Limits = LIMITS, noise: float = 0.0, seed: int = 0, period_s: float = PERIOD_S,
        states: tuple[ClockState, ...] = STATES,
    ) -> None:
        self.work_ms, self.shares, self.limits, self.noise = work_ms, shares, limits, noise
        self.random, self.period_s = random.Random(seed), period_s
        self.state = GovernorState.start(states)
        self.time_s, self.switches, self.late = 0.0, [], 0
        self.temperature_c: float | None = 50.0
        self.alarms: tuple[str, ...] = ()
        self.throttled = False
        self.power_factor = 1.0

    def latency_ms(self) -> float:
        slower = [top / now for now, top in zip(self.state.clocks, TOP, strict=True)]
        mean = self.work_ms * sum(s * f for s, f in zip(self.shares, slower, strict=True))
        return mean * (1 + self.random.uniform(-self.noise, self.noise))

    def power_w(self) -> float:
        gpu, emc, cpu = (now / top for now, top in zip(self.state.clocks, TOP, strict=True))
        return self.power_factor * (4 + 8 * gpu**2 + emc + cpu)

    def readings(self) -> Readings:
        return Readings(
            self.time_s, self.power_w(), self.temperature_c, self.alarms, self.throttled
        )

    def step(self, frames: FrameWindow | None = None) -> Decision:
        if frames is None:
            latency_ms = self.latency_ms()
            self.late += latency_ms > self.limits.deadline_ms
            frames = FrameWindow((latency_ms,))
        self.time_s += self.period_s
        self.state, decision = decide(self.state, self.readings(), frames, self.limits)
        if decision.changed:
            self.switches.append((self.time_s, decision))
        return decision

    def run(self, seconds: float) -> Loop:
        for _ in range(round(seconds / self.period_s)):
            self.step()
        return self


shares = st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.floats(0.01, 1.0)).map(
    lambda three: tuple(one / sum(three) for one in three)
)


# ---- a steady workload


@settings(max_examples=25, deadline=None)
@given(
    st.floats(1.0, 80.0), shares, st.floats(0.0, 0.1), st.integers(0, 99), st.floats(5.0, 60.0)
)
def test_a_steady_workload_ends_in_one_state(work_ms, share, noise, seed, deadline_ms):
    limits = replace(LIMITS, deadline_ms=deadline_ms)
    loop = Loop(work_ms, share, limits, noise, seed).run(90)
    assert all(decision.clocks in STATES for _, decision in loop.switches)
    assert len([time_s for time_s, _ in loop.switches if time_s > 45]) <= 2, loop.switches


@settings(max_examples=25, deadline=None)
@given(st.floats(1.0, 25.0), shares, st.floats(0.0, 0.08), st.integers(0, 99))
def test_a_deadline_that_can_be_held_is_held(work_ms, share, noise, seed):
    loop = Loop(work_ms, share, noise=noise, seed=seed).run(60)
    assert loop.late <= 0.01 * 60 / PERIOD_S


@settings(max_examples=20, deadline=None)
@given(shares, st.integers(0, 99))
def test_a_light_workload_costs_less_power_than_the_highest_clocks(share, seed):
    loop = Loop(6.0, share, noise=0.03, seed=seed)
    first_w = loop.power_w()
    loop.run(40)
    assert loop.power_w() < 0.8 * first_w


@settings(max_examples=20, deadline=None)
@given(st.floats(31.0, 200.0), shares, st.integers(0, 99))
def test_a_deadline_that_nothing_holds_keeps_the_highest_clocks(work_ms, share, seed):
    loop = Loop(work_ms, share, noise=0.02, seed=seed).run(30)
    assert loop.state.clocks == TOP
    assert not loop.switches


def test_only_memory_counts_and_the_gpu_clock_is_found_to_be_useless():
    loop = Loop(20.0, (0.0, 1.0, 0.0)).run(60)
    assert loop.state.clocks[:2] == (300.0, 3200.0)


def test_rare_slow_frames_widen_the_margin_by_what_was_seen():
    loop = Loop(14.0)
    for index in range(3000):
        slow = 1.5 if index % 50 == 0 else 1.0
        loop.step(FrameWindow((loop.latency_ms() * slow,)))
    assert 1.45 <= loop.state.spread.quantile(0.995) <= 1.55
    assert loop.latency_ms() * 1.5 <= LIMITS.deadline_ms


# ---- steps


def test_a_heavier_workload_costs_one_late_frame_and_a_lighter_one_none():
    loop = Loop(8.0).run(30)
    assert loop.late == 0
    low = loop.state.clocks
    loop.work_ms = 24.0
    loop.step()
    assert (loop.late, loop.state.clocks) == (1, TOP)
    loop.run(20)
    assert loop.late <= 2
    loop.work_ms = 8.0
    before = loop.late
    loop.run(20)
    assert loop.late == before
    assert loop.power_w() <= 4 + 8 * (low.gpu_mhz / 1000 + 0.1) ** 2 + 2


def test_a_late_frame_that_the_spread_explains_is_borne():
    loop = Loop(14.0).run(10)
    ratios = [1.0] * 300 + [2.5] * 2
    loop.state = replace(loop.state, spread=Spread().with_ratios(ratios))
    clocks = loop.state.clocks
    decision = loop.step(FrameWindow((loop.latency_ms() * 2.4,)))
    assert decision.clocks == clocks
    assert loop.step(FrameWindow((loop.latency_ms() * 2.4,))).clocks == TOP


def test_dropped_frames_are_late_frames():
    loop = Loop(8.0).run(20)
    assert loop.state.clocks != TOP
    assert loop.step(FrameWindow((loop.latency_ms(),), dropped=2)).clocks == TOP


def test_frames_that_come_faster_than_the_deadline_set_the_pace():
    slow, fast = Loop(12.0, limits=replace(LIMITS, deadline_ms=100.0)), Loop(12.0)
    fast.limits = slow.limits
    for _ in range(1500):
        slow.step()
        fast.step(FrameWindow((fast.latency_ms(),), period_ms=20.0))
    assert slow.latency_ms() > 20.0 > fast.latency_ms()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.floats(2.0, 40.0), shares), min_size=2, max_size=4),
    st.integers(0, 99),
)
def test_every_switch_of_changing_workloads_has_a_cause(workloads, seed):
    loop = Loop(noise=0.03, seed=seed)
    for loop.work_ms, loop.shares in workloads:
        loop.run(15)
    assert len(loop.switches) <= 16 * len(workloads)
    for (_, one), (_, two) in itertools.pairwise(loop.switches):
        assert one.clocks != two.clocks


def test_what_failed_is_avoided_twice_as_long_each_time():
    loop = Loop(8.0).run(20)
    loop.state = replace(loop.state, margin=TUNING.most_margin)
    waits = []
    for _ in range(4):
        loop.state = replace(loop.state, clocks=STATES[0], margin=TUNING.most_margin)
        loop.step(FrameWindow((500.0, 500.0)))
        waits.append(loop.state.avoided[STATES[0]].until_s - loop.time_s)
    assert waits == pytest.approx([4.0, 8.0, 16.0, 32.0])


# ---- no frames, no readings


def test_without_frames_it_rests_and_wakes_at_full_speed():
    loop = Loop().run(10)
    for _ in range(90):
        loop.step(FrameWindow())
    assert loop.state.clocks == loop.state.candidates[0]
    decision = loop.step(FrameWindow((25.0,)))
    assert (decision.clocks, decision.reason) == (TOP, 'frames again')


def test_nothing_but_timings_is_enough():
    loop = Loop(8.0)
    for _ in range(900):
        frames = FrameWindow((loop.latency_ms(),))
        loop.time_s += PERIOD_S
        loop.state, _ = decide(loop.state, Readings(loop.time_s), frames, loop.limits)
    assert loop.state.clocks.gpu_mhz <= 500.0


def test_timings_of_a_throttled_board_teach_nothing():
    loop = Loop(8.0).run(20)
    table = loop.state.table
    loop.throttled = True
    for _ in range(60):
        loop.step(FrameWindow((29.0,)))
    assert loop.state.table == table


def test_a_gpu_without_other_clocks():
    states = tuple(ClockState(float(mhz)) for mhz in (600, 1200, 1800))
    state = GovernorState.start(states)
    for index in range(600):
        latency_ms = 8.0 * 1800 / state.clocks.gpu_mhz
        state, _ = decide(
            state, Readings(index * PERIOD_S), FrameWindow((latency_ms,)), LIMITS
        )
    assert state.clocks == states[0]


# ---- heat and alarms


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(60.0, 100.0), st.booleans(), st.floats(1.0, 90.0)), min_size=30,
        max_size=120,
    ),
    st.sampled_from(['deadline', 'power_budget']),
)
def test_while_it_is_hot_or_alarmed_no_clock_ever_rises(moments, governor):
    loop = Loop(limits=replace(LIMITS, governor=governor))
    for temperature_c, alarmed, latency_ms in moments:
        before = loop.state.clocks
        loop.temperature_c, loop.alarms = temperature_c, ('oc1',) if alarmed else ()
        after = loop.step(FrameWindow((latency_ms,))).clocks
        assert after in STATES
        if temperature_c >= 80.0 or alarmed:
            assert after.within(before)


def test_heat_that_stays_ends_at_the_lowest_gpu_clock_whatever_the_deadline():
    loop = Loop(25.0).run(5)
    loop.temperature_c = 85.0
    loop.run(30)
    assert loop.state.clocks.gpu_mhz == 300.0


def test_heat_that_goes_down_by_itself_costs_one_step():
    loop = Loop(25.0).run(5)
    before = loop.state.clocks.gpu_mhz
    for index in range(600):
        loop.temperature_c = 80.5 - index * 0.01
        loop.step()
    assert loop.state.clocks.gpu_mhz == before - 100.0


def test_when_long_cool_again_the_clocks_come_back():
    loop = Loop(25.0).run(5)
    loop.temperature_c = 85.0
    loop.run(30)
    loop.temperature_c = 60.0
    loop.run(400)
    assert loop.latency_ms() <= LIMITS.deadline_ms


@pytest.mark.parametrize('governor', ['deadline', 'power_budget'])
def test_an_alarm_lowers_the_gpu_clock_at_once(governor):
    loop = Loop(25.0, limits=Limits(governor, power_budget_w=100.0)).run(5)
    before = loop.state.clocks.gpu_mhz
    loop.alarms = ('oc2',)
    assert loop.step().clocks.gpu_mhz == before - 200.0


@settings(max_examples=10, deadline=None)
@given(st.floats(20.0, 28.0), st.integers(0, 99))
def test_alarms_that_come_back_are_provoked_ever_less_often(work_ms, seed):
    loop = Loop(work_ms, (1.0, 0.0, 0.0), noise=0.02, seed=seed, period_s=0.1)
    raised = []
    for _ in range(3000):
        loop.alarms = ('oc1',) if loop.state.clocks.gpu_mhz > 700.0 else ()
        if loop.alarms:
            raised.append(loop.time_s)
        loop.step()
    visits = [two for one, two in itertools.pairwise(raised) if two - one > 2.0]
    assert len(visits) <= 8
    gaps = [two - one for one, two in itertools.pairwise(visits)]
    assert gaps == sorted(gaps) or len(gaps) < 3


# ---- power budget


@settings(max_examples=40, deadline=None)
@given(st.floats(3.0, 20.0), st.floats(0.7, 1.3))
def test_a_steady_budget_is_kept_at_the_highest_clocks_that_fit(budget_w, factor):
    loop = Loop(limits=Limits('power_budget', power_budget_w=budget_w), period_s=0.25)
    loop.power_factor = factor
    loop.run(180)
    lowest = loop.state.candidates[0]
    assert loop.power_w() <= budget_w or loop.state.clocks == lowest
    assert not [time_s for time_s, _ in loop.switches if time_s > 120], loop.switches
    place = loop.state.candidates.index(loop.state.clocks)
    if loop.state.clocks != lowest and place + 4 < len(STATES):
        loop.state = replace(loop.state, clocks=loop.state.candidates[place + 4])
        assert loop.power_w() > 0.85 * budget_w


def test_more_load_than_the_budget_allows_lowers_the_clocks_and_less_raises_them():
    loop = Loop(limits=Limits('power_budget', power_budget_w=9.0)).run(60)
    before = loop.state.clocks.gpu_mhz
    loop.power_factor = 1.3
    loop.run(20)
    assert loop.state.clocks.gpu_mhz < before
    assert loop.power_w() <= 9.0
    loop.power_factor = 1.0
    loop.run(120)
    assert loop.state.clocks.gpu_mhz >= before - 100.0


def test_a_budget_without_a_power_reading_changes_nothing():
    state = GovernorState.start(STATES)
    state, decision = decide(state, Readings(10.0), FrameWindow(), Limits('power_budget'))
    assert (decision.clocks, decision.changed) == (TOP, False)


# ---- values


def test_the_same_arguments_give_the_same_answer_and_change_nothing():
    loop = Loop(8.0, noise=0.05).run(13)
    arguments = (loop.state, loop.readings(), FrameWindow((20.0, 50.0)), LIMITS)
    text = repr(loop.state)
    assert decide(*arguments) == decide(*arguments)
    assert repr(loop.state) == text
    with pytest.raises(FrozenInstanceError):
        loop.state.margin = 2.0


def test_off_means_off():
    state = GovernorState.start(STATES)
    readings = Readings(1.0, 99.0, 120.0, ('oc1',))
    assert decide(state, readings, FrameWindow((99.0,)), Limits('off'))[0] is state


@pytest.mark.parametrize(('values', 'words'), [
    ({'governor': 'turbo'}, "one of off, deadline, power_budget, is 'turbo'"),
    ({'deadline_ms': 0.0}, 'deadline_ms must be above 0, is 0.0'),
    ({'power_budget_w': -1.0}, 'power_budget_w must be above 0, is -1.0'),
    ({'miss_target': 0.5}, 'miss_target must be between 0 and 0.5, is 0.5'),
])
def test_limits_that_cannot_be_meant(values, words):
    with pytest.raises(SettingError, match=words):
        Limits(**values)


def test_no_clock_states():
    with pytest.raises(SettingError, match='at least one clock state, found none'):
        GovernorState.start(())


# ---- the table and the spread


clocks = st.sampled_from(STATES)


@given(clocks, clocks, shares, st.floats(1.0, 50.0))
def test_the_bound_of_an_unseen_state_holds_for_any_mix_of_work(seen, unseen, share, work_ms):
    def latency_ms(state: ClockState) -> float:
        slower = (top / now for now, top in zip(state, TOP, strict=True))
        return work_ms * sum(s * f for s, f in zip(share, slower, strict=True))

    table = Table().with_latency(seen, latency_ms(seen), 10)
    assert table.expected_ms(unseen) >= latency_ms(unseen) * (1 - 1e-9)


def test_an_empty_table_expects_nothing():
    assert Table().expected_ms(TOP) is None


def test_another_workload_scales_all_rows_and_the_scaled_ones_are_trusted_less():
    low = STATES[0]
    table = Table().with_latency(TOP, 10.0, 10).with_latency(low, 20.0, 10)
    shifted = table.shifted(TOP, 1.5, 15.0, 10)
    assert shifted.expected_ms(TOP) == 15.0
    assert 30.0 < shifted.expected_ms(low) < 33.0


def test_the_first_power_reading_of_another_workload_scales_the_others():
    low = STATES[0]
    table = Table().with_power(TOP, 12.0).with_power(low, 6.0)
    table = table.with_latency(TOP, 10.0, 10).shifted(TOP, 0.5, 5.0, 10).with_power(TOP, 9.0)
    assert table.expected_w(TOP, TOP) == 9.0
    assert table.expected_w(low, TOP) == pytest.approx(4.5)


@given(st.lists(st.floats(0.5, 3.0), min_size=1, max_size=1500), st.floats(0.5, 0.999))
def test_a_quantile_is_a_value_that_was_seen(ratios, fraction):
    spread = Spread().with_ratios(ratios)
    last = ratios[-SPREAD_FRAMES:]
    value = spread.quantile(fraction)
    assert value in last or value == PRIOR_QUANTILE
    assert sum(ratio > value for ratio in last) <= (1 - fraction) * len(last) + 1


def test_the_slowest_frame_is_remembered_longer_than_the_quantiles():
    spread = Spread().with_ratios([1.8]).with_ratios([1.0] * 2 * SPREAD_FRAMES)
    assert spread.quantile(0.995) == 1.0
    assert not spread.is_new(1.75)
    assert spread.is_new(1.9)
