"""The simulator against the published numbers it was calibrated on, and the governor in it."""

from __future__ import annotations

from dataclasses import replace
import statistics

from governor_simulation.simulated_board import (
    BASE,
    clock_states,
    MODES,
    ORIN_NANO_SUPER,
    overlapped,
    PYTHON_CPU_MS,
    TINY,
    TOP,
    Workload,
)
from governor_simulation.simulated_policies import Fixed, Governed, Oracle
from governor_simulation.simulated_trace import (
    alternating_trace,
    Detector,
    Noise,
    PYTHON_NOISE,
    random_trace,
    Trace,
)
from governor_simulation.simulator import REPORT_S, simulate, Simulation
import pytest

from yolov7_trt_ros.power.governor.inputs import Limits
from yolov7_trt_ros.power.governor.table import ClockState

SILENT = Noise(0.0, 0.0)
EXACT = replace(ORIN_NANO_SUPER, deviation=0.0)
MAXN = Fixed('MAXN_SUPER + jetson_clocks', TOP)


def gpu_ms(workload: Workload, clocks: ClockState) -> float:
    return overlapped(*workload.parts_ms(clocks)[:2])


def steady(workload: Workload, seconds: float = 20.0, **changes: object) -> Trace:
    trace = Trace('steady', ((0.0, workload),), seconds, noise=SILENT, board=EXACT)
    return replace(trace, **changes)


# ---- published numbers


@pytest.mark.parametrize(('workload', 'published_ms'), [(TINY, 9.04), (BASE, 27.70)])
def test_yolov7_on_an_orin_nano(workload, published_ms):
    assert gpu_ms(workload, MODES['15W']) == pytest.approx(published_ms)


@pytest.mark.parametrize('workload', [TINY, BASE])
def test_the_memory_clock_shifts_latency_by_11_to_48_percent(workload):
    slower = gpu_ms(workload, TOP._replace(emc_mhz=2133.0)) / gpu_ms(workload, TOP)
    assert 1.11 <= slower <= 1.48


def test_a_gpu_clock_12_percent_lower_costs_convolutions_10_6_percent():
    slower = gpu_ms(BASE, TOP._replace(gpu_mhz=0.88 * TOP.gpu_mhz)) / gpu_ms(BASE, TOP)
    assert slower == pytest.approx(1.106, abs=0.01)


def test_yolov8n_from_python_in_two_modes():
    load = Workload(4.2, 0.5, PYTHON_CPU_MS)
    for mode, published_ms in (('15W', 10.80), ('25W', 10.07)):
        total_ms = gpu_ms(load, MODES[mode]) + load.parts_ms(MODES[mode])[2]
        assert total_ms == pytest.approx(published_ms, rel=0.02)


def test_power_at_locked_clocks():
    assert ORIN_NANO_SUPER.idle_w(TOP, cpu_awake=True) == pytest.approx(6.61, abs=0.05)
    full = Workload(100.0, 0.81**3, 0.0)  # memory busy for 81 % of the time, as in the log
    loaded_w = ORIN_NANO_SUPER.idle_w(TOP, True) + ORIN_NANO_SUPER.busy_w(TOP, full)
    assert 21.1 <= loaded_w <= 22.0


def test_noise_of_a_python_program():
    trace = random_trace('noise', (TINY,), 0, duration_s=600.0, noise=PYTHON_NOISE)
    latencies = sorted(one for _, one in simulate(trace, MAXN).latencies)
    mean = statistics.mean(latencies)
    assert 1.4 <= latencies[int(0.955 * len(latencies))] / mean <= 1.7


def test_late_frames_cluster_as_published():
    trace = random_trace('noise', (TINY,), 0, duration_s=1200.0, noise=PYTHON_NOISE)
    slow = [one > 10.0 for _, one in simulate(trace, MAXN).latencies]
    after_slow = [two for one, two in zip(slow, slow[1:], strict=False) if one]
    assert sum(after_slow) / len(after_slow) == pytest.approx(0.74, abs=0.05)


# ---- how it runs


def test_an_idle_board_costs_its_idle_power():
    outcome = simulate(steady(TINY, 10.0, period_s=100.0), MAXN)
    assert outcome.joules == pytest.approx(10.0 * ORIN_NANO_SUPER.idle_w(TOP, True))


def test_a_frame_costs_its_energy():
    workload = Workload(20.0, 0.3, 3.0)
    outcome = simulate(steady(workload, 10.0), MAXN)
    frame_s = (gpu_ms(workload, TOP) + workload.parts_ms(TOP)[2]) / 1e3
    busy_j = outcome.frames * frame_s * EXACT.busy_w(TOP, workload)
    assert outcome.joules == pytest.approx(10.0 * EXACT.idle_w(TOP, True) + busy_j, rel=0.005)


def test_the_same_seed_gives_the_same_run_and_another_one_another():
    trace = random_trace('cameras', (TINY, TINY.times(2)), 0, duration_s=20.0)
    one, two, other = (simulate(trace, MAXN, seed) for seed in (1, 1, 2))
    assert one == two
    assert one.latencies != other.latencies


def test_all_policies_see_the_same_frames():
    trace = random_trace('cameras', (TINY, TINY.times(2)), 0, duration_s=20.0)
    one, two = simulate(trace, MAXN), simulate(trace, Fixed('25W', MODES['25W']))
    assert [when for when, _ in one.latencies] == [when for when, _ in two.latencies]


def test_frames_that_take_longer_than_the_period_drop_others():
    outcome = simulate(steady(BASE.times(2), 10.0), Fixed('15W', MODES['15W']))
    assert outcome.dropped == pytest.approx(outcome.frames * 0.44, rel=0.1)
    assert outcome.miss_share == pytest.approx(1.0, abs=0.02)


def test_new_clocks_hold_after_their_delays():
    class Later(Fixed):

        def propose(self, readings, frames):
            return TOP

    low = ClockState(306.0, 2133.0, 960.0)
    simulation = Simulation(steady(TINY, 1.0), Later('later', low))
    seen = []

    def note(index, mhz, set_clock=simulation._set):
        seen.append((index, simulation._time_s))
        set_clock(index, mhz)

    simulation._set = note
    outcome = simulation.run()
    when, latency_ms = outcome.latencies[0]
    asked_s = when + latency_ms / 1e3 + REPORT_S
    delays = {index: time_s - asked_s for index, time_s in seen}
    assert delays == pytest.approx({0: 0.005, 1: 0.008, 2: 0.001}, abs=1e-6)


def test_a_hot_board_throttles():
    hot = replace(EXACT, ambient_c=70.0, sink_s=5.0, throttle_c=85.0)
    outcome = simulate(steady(BASE, 60.0, board=hot), MAXN)
    assert outcome.throttled_s > 10.0
    assert 85.0 <= outcome.hottest_c < 91.0


def test_too_much_current_raises_an_alarm():
    weak = replace(EXACT, over_current_w=12.0)
    outcome = simulate(steady(BASE, 10.0, board=weak), MAXN)
    assert outcome.alarms > 0
    assert outcome.throttled_s > 0.0


def test_the_kernels_governor_knows_no_deadline():
    trace = steady(BASE, 20.0, period_s=0.1, deadline_ms=30.0)
    assert simulate(trace, MAXN).miss_share == 0.0
    assert simulate(trace, Fixed('kernel', TOP, kernel=True)).miss_share > 0.9


# ---- the governor


def judged(trace: Trace, seed: int) -> tuple[float, float]:
    limits = Limits(
        deadline_ms=trace.deadline_ms, temperature_limit_c=trace.temperature_limit_c
    )
    outcome = simulate(trace, Governed(limits), seed)
    return outcome.miss_share, 1.0 - outcome.joules / simulate(trace, MAXN, seed).joules


@pytest.mark.parametrize('seed', [0, 1])
@pytest.mark.parametrize(('name', 'workloads', 'changes'), [
    ('cameras', (TINY, TINY.times(2), TINY.times(3)), {}),
    ('models', (TINY, BASE), {}),
    ('slow camera', (TINY, BASE), {'period_s': 0.1, 'deadline_ms': 30.0}),
])
def test_one_percent_late_and_15_percent_saved(name, workloads, changes, seed):
    late, saved = judged(random_trace(name, workloads, seed, duration_s=180.0, **changes), seed)
    assert late <= 0.01
    assert saved >= 0.15


GPU_ONLY = tuple(state for state in clock_states() if state[1:] == TOP[1:])


def as_in_the_node(trace: Trace, **changes: object) -> Governed:
    limits = Limits(
        deadline_ms=trace.deadline_ms, temperature_limit_c=trace.temperature_limit_c,
        deadlines_ms={trace.of(one).name: one.deadline_ms for one in trace.others},
    )
    return replace(
        Governed(limits, every_s=0.05, sample_s=0.5, candidates=GPU_ONLY), **changes)


ALTERNATING = alternating_trace('alternating', (TINY, TINY.times(3)), 1.0, 90.0)
TWO = Trace(
    'front', ((0.0, TINY),), 90.0, deadline_ms=50.0, others=(Detector('rear', BASE, 0.2, 200.0),)
)


@pytest.mark.parametrize('trace', [ALTERNATING, TWO], ids=lambda trace: trace.name)
def test_it_settles_near_the_best_fixed_clock(trace):
    best = Fixed('best', TOP._replace(gpu_mhz=612.0), cpu_awake=False)  # 510: too many late
    reference, fixed = simulate(trace, MAXN).joules, simulate(trace, best)
    outcome = simulate(trace, as_in_the_node(trace))
    assert outcome.miss_share <= 0.01 >= fixed.miss_share
    assert outcome.switches <= 10 * trace.duration_s / 60
    assert 1.0 - outcome.joules / reference >= 2 / 3 * (1.0 - fixed.joules / reference)


def test_frames_of_two_detectors_wait_for_each_other():
    alone = replace(TWO, others=(), noise=SILENT, board=EXACT, duration_s=10.0)
    both = replace(TWO, noise=SILENT, board=EXACT, duration_s=10.0)
    fast, shared = (simulate(trace, MAXN) for trace in (alone, both))
    assert shared.frames == fast.frames + 50
    assert max(one for _, one in shared.latencies) > max(one for _, one in fast.latencies) + 10.0


def test_the_length_of_the_table_does_not_change_how_long_it_is_too_hot():
    hot = replace(
        EXACT, ambient_c=45.0, sink_c_per_w=3.0, sink_s=40.0, throttle_c=85.0)
    trace = Trace(
        'too hot', ((0.0, TINY.times(3)),), 120.0, board=hot, temperature_limit_c=70.0)
    over_s = []
    for steps in (8, 49, 170):
        table = tuple(
            TOP._replace(gpu_mhz=306.0 + 714.0 * place / (steps - 1)) for place in range(steps))
        outcome = simulate(trace, as_in_the_node(trace, candidates=table))
        over_s.append(0.1 * sum(one[4] > 70.0 for one in outcome.samples))
    assert min(over_s) > 2.0
    assert max(over_s) <= 1.2 * min(over_s), over_s


def test_nobody_beats_the_oracle_by_much():
    trace = random_trace('cameras', (TINY, TINY.times(2)), 0, duration_s=120.0)
    best = simulate(trace, Oracle(trace, 1.1)).joules
    governed = simulate(trace, Governed(Limits(deadline_ms=trace.deadline_ms))).joules
    assert 0.98 * best <= governed <= 1.15 * best


def test_the_temperature_limit_wins_over_the_deadline():
    hot = replace(EXACT, ambient_c=55.0, sink_s=10.0, throttle_c=95.0)
    trace = steady(BASE, 120.0, board=hot, temperature_limit_c=70.0)
    assert simulate(trace, MAXN).hottest_c > 76.0
    limits = Limits(deadline_ms=trace.deadline_ms, temperature_limit_c=70.0)
    assert simulate(trace, Governed(limits)).hottest_c < 72.5


def test_the_power_budget_is_kept():
    trace = random_trace('cameras', (TINY, TINY.times(2)), 0, duration_s=120.0)
    outcome = simulate(trace, Governed(Limits('power_budget', power_budget_w=9.0)))
    settled = [power_w for time_s, _, _, power_w, _ in outcome.samples if time_s > 10.0]
    assert sum(power_w > 9.45 for power_w in settled) < 0.1 * len(settled)
    assert statistics.mean(settled) > 7.0


def test_every_clock_state_is_offered_once():
    states = clock_states()
    assert len(states) == len(set(states)) == 48
    assert max(states) == TOP
