"""
Late frames and joules of the governor in the simulator, beside all alternatives.

    python benchmarks/governor.py

Same frames, noise and workload steps for every policy: MAXN with jetson_clocks, two power modes
with locked clocks, the kernel's governor, every fixed clock of the GPU, of which the best one in
hindsight is kept, an oracle that knows the future, and the governor as the power node runs it,
which is judged. Besides: loads that alternate, two detectors, and over-heating with tables of
several lengths. Nothing here was measured on a board;
`benchmarks/governor_simulation/simulated_board.py` says what the simulator was calibrated on.
Writes results/governor.json and docs/images/governor.png.

"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
import os
from pathlib import Path
import statistics
from typing import Any

from governor_simulation.simulated_board import (
    BASE,
    clock_states,
    MODES,
    ORIN_NANO_SUPER,
    TINY,
    TINY_PYTHON,
    TOP,
    Workload,
)
from governor_simulation.simulated_policies import Fixed, Governed, Oracle, Policy
from governor_simulation.simulated_trace import (
    alternating_trace,
    CALM,
    Detector,
    PYTHON_NOISE,
    random_trace,
    Trace,
)
from governor_simulation.simulator import Outcome, simulate
from measured_on import save

from yolov7_trt_ros.power.governor.inputs import Limits

HERE = Path(__file__).resolve().parent
REFERENCE = 'MAXN_SUPER + jetson_clocks'
NODE = 'governor, as in the node'
"""The GPU's clock alone, at most 20 decisions a second, two samples a second."""

MOST_LATE_PERCENT, MOST_BEHIND_POINTS = 1.0, 1.0
"""Late frames, and points of energy saved less than by the best fixed clock."""

HOT = replace(
    ORIN_NANO_SUPER, ambient_c=45.0, sink_c_per_w=3.0, sink_s=40.0, throttle_c=85.0
)
WEAK_SUPPLY = replace(ORIN_NANO_SUPER, over_current_w=15.5)
CAMERAS = (TINY, TINY.times(2), TINY.times(3))


def make_trace(name: str, seed: int) -> Trace:
    """Return one of the traces."""
    crowd = replace(TINY_PYTHON, cpu_ms=10.0)
    busy_memory = Workload(TINY.gpu_ms * 2.4, 0.85)
    makers: dict[str, Callable[[], Trace]] = {
        'steady': partial(random_trace, name, (BASE,), seed),
        'cameras': partial(random_trace, name, CAMERAS, seed),
        'models': partial(random_trace, name, (TINY, BASE), seed),
        'busy memory': partial(random_trace, name, (TINY.times(2), busy_memory), seed),
        'python': partial(
            random_trace, name, (TINY_PYTHON, TINY_PYTHON.times(1.3), crowd), seed,
            noise=PYTHON_NOISE,
        ),
        'slow camera': partial(
            random_trace, name, (TINY, BASE), seed, period_s=0.1, deadline_ms=30.0
        ),
        'hot': partial(
            random_trace, name, (TINY.times(3), BASE), seed, board=HOT, temperature_limit_c=83.0
        ),
        'too hot': partial(
            random_trace, name, (TINY.times(3), BASE), seed, board=HOT, temperature_limit_c=75.0
        ),
        'weak supply': partial(random_trace, name, CAMERAS, seed, board=WEAK_SUPPLY),
    }
    return makers[name]()


TRACES = {
    'steady': 'YOLOv7 at 30 Hz, no steps',
    'cameras': 'YOLOv7-tiny on 1, 2 or 3 cameras of 30 Hz',
    'models': 'YOLOv7-tiny or YOLOv7 at 30 Hz',
    'busy memory': 'two cameras, at times somebody else loads the memory',
    'python': 'YOLOv7-tiny from Python: 6.6 to 10 ms of CPU work, 5 % of frames 1.5 times as slow',
    'slow camera': '10 Hz, to be done in 30 ms: YOLOv7-tiny or YOLOv7',
    'hot': '45 degrees around, small heat sink, the hardware throttles at 85, limit 83',
    'too hot': 'the same with a limit of 75, which no clocks that hold the deadline can keep',
    'weak supply': 'over-current alarm from 15.5 W on: 1, 2 or 3 cameras',
}
NOT_JUDGED = ('too hot',)
"""There the temperature limit has to win over the deadline."""

GPU_ONLY = tuple(
    state for state in clock_states() if state[1:] == TOP[1:]
)
IDLE_ALLOWED = 'MAXN_SUPER locked, CPU may sleep'
BEST_FIXED = 'best fixed clock in hindsight'
"""Of the GPU; the CPU may sleep."""

HOPELESS_PERCENT = 10.0
"""With so many late frames no lower clock is looked at."""


def policies(trace: Trace) -> list[Policy]:
    """Return fresh policies, the reference first."""
    limits = trace_limits(trace)
    locked = [
        Fixed(f'{name} + jetson_clocks', MODES[name]) for name in ('MAXN_SUPER', '15W')
    ]
    kernel = Fixed('MAXN_SUPER, schedutil-like', TOP, kernel=True, cpu_awake=False)
    unlocked = Fixed(IDLE_ALLOWED, TOP, cpu_awake=False)
    return [*locked, kernel, unlocked, Oracle(trace, 1.1), as_in_the_node(limits)]


def trace_limits(trace: Trace) -> Limits:
    """Return what the governor is asked for on a trace."""
    return Limits(
        deadline_ms=trace.deadline_ms, temperature_limit_c=trace.temperature_limit_c,
        deadlines_ms={trace.of(one).name: one.deadline_ms for one in trace.others},
    )


def as_in_the_node(limits: Limits) -> Governed:
    """Return the governor as the power node runs it, and as it is judged."""
    return Governed(limits, NODE, every_s=0.05, sample_s=0.5, candidates=GPU_ONLY)


def best_fixed(trace: Trace, seed: int) -> tuple[float, Outcome]:
    """Return the clock of least energy with few enough late frames, else of fewest; its run."""
    runs = {}
    for clocks in reversed(GPU_ONLY):
        runs[clocks.gpu_mhz] = simulate(trace, Fixed('', clocks, cpu_awake=False), seed)
        if 100.0 * runs[clocks.gpu_mhz].miss_share > HOPELESS_PERCENT:
            break
    in_time = [
        mhz for mhz, run in runs.items() if 100.0 * run.miss_share <= MOST_LATE_PERCENT
    ]
    if in_time:
        mhz = min(in_time, key=lambda one: runs[one].joules)
    else:
        mhz = min(runs, key=lambda one: runs[one].miss_share)
    return mhz, runs[mhz]


def run_trace(name: str, seed: int) -> dict[str, dict[str, float]]:
    """Return what each policy comes to on one trace."""
    trace = make_trace(name, seed)
    outcomes = {policy.name: simulate(trace, policy, seed) for policy in policies(trace)}
    reference = outcomes[REFERENCE].joules
    mhz, outcomes[BEST_FIXED] = best_fixed(trace, seed)
    rows = {policy: facts(outcome, trace, reference) for policy, outcome in outcomes.items()}
    rows[BEST_FIXED]['gpu_mhz'] = mhz
    return rows


def facts(outcome: Outcome, trace: Trace, reference_j: float) -> dict[str, float]:
    """Return the numbers of one run."""
    return {
        'late_percent': 100.0 * outcome.miss_share,
        'saved_percent': 100.0 * (1.0 - outcome.joules / reference_j),
        'power_w': outcome.joules / trace.duration_s,
        'joules_per_frame': outcome.joules / outcome.frames,
        'switches_per_minute': outcome.switches / trace.duration_s * 60.0,
        'hottest_c': outcome.hottest_c,
        'throttled_s': outcome.throttled_s,
        'alarms': float(outcome.alarms),
    }


def summarise(runs: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Return mean values over the seeds, and the worst of what is judged."""
    result = {}
    for policy in runs[0]:
        rows = [run[policy] for run in runs]
        row = {key: round(statistics.mean(one[key] for one in rows), 3) for key in rows[0]}
        row['late_percent_worst_seed'] = round(max(one['late_percent'] for one in rows), 3)
        row['saved_percent_worst_seed'] = round(min(one['saved_percent'] for one in rows), 2)
        result[policy] = row
    return result


def judge(rows: dict[str, dict[str, float]]) -> dict[str, bool]:
    """Return whether the targets are met on average, and those of late frames with every seed."""
    node, fixed = rows[NODE], rows[BEST_FIXED]
    return {
        'late': node['late_percent'] <= MOST_LATE_PERCENT,
        'late_every_seed': node['late_percent_worst_seed'] <= MOST_LATE_PERCENT,
        'saved': node['saved_percent'] >= fixed['saved_percent'] - MOST_BEHIND_POINTS,
    }


def run_beside_fixed(trace: Trace, seed: int) -> dict[str, float]:
    """Return how the governor does on a trace, and the best fixed clock."""
    row, (mhz, fixed) = run_node(trace, seed), best_fixed(trace, seed)
    reference = simulate(trace, Fixed(REFERENCE, TOP), seed).joules
    row['best_fixed_mhz'] = mhz
    row['best_fixed_saved_percent'] = 100.0 * (1.0 - fixed.joules / reference)
    row['best_fixed_late_percent'] = 100.0 * fixed.miss_share
    return row


def run_node(trace: Trace, seed: int) -> dict[str, float]:
    """Return how the governor does on a trace."""
    reference = simulate(trace, Fixed(REFERENCE, TOP), seed).joules
    governed = as_in_the_node(trace_limits(trace))
    return facts(simulate(trace, governed, seed), trace, reference)


def run_exponent(exponent: float, seed: int) -> dict[str, float]:
    """Return how the governor does if GPU power followed the clock differently."""
    board = replace(ORIN_NANO_SUPER, gpu_exponent=exponent)
    return run_node(replace(make_trace('cameras', seed), board=board), seed)


def run_steps(steps_s: tuple[float, float], seed: int) -> dict[str, float]:
    """Return how the governor does if the workload steps more or less often."""
    return run_node(random_trace('cameras', CAMERAS, seed, steps_s=steps_s), seed)


def run_alternating(each_s: float, seed: int) -> dict[str, float]:
    """Return how the governor does on one and three cameras in turn."""
    return run_beside_fixed(alternating_trace('alternating', CAMERAS[::2], each_s, 300.0), seed)


def run_detectors(rear_deadline_ms: float, seed: int) -> dict[str, float]:
    """Return how the governor does with two detectors: 30 Hz in 50 ms, and 5 Hz."""
    rear = Detector('rear', BASE, 0.2, rear_deadline_ms)
    trace = Trace('front', ((0.0, TINY),), 300.0, deadline_ms=50.0, others=(rear,))
    return run_beside_fixed(trace, seed)


def run_table(steps: int, seed: int) -> dict[str, float]:
    """Return how long it is too hot with a table of so many clocks of the GPU."""
    trace = make_trace('too hot', seed)
    lowest, highest = GPU_ONLY[0].gpu_mhz, TOP.gpu_mhz
    table = tuple(
        TOP._replace(gpu_mhz=lowest + (highest - lowest) * place / (steps - 1))
        for place in range(steps)
    )
    governed = replace(as_in_the_node(trace_limits(trace)), candidates=table)
    outcome = simulate(trace, governed, seed)
    over = [sample for sample in outcome.samples if sample[4] > trace.temperature_limit_c]
    return {
        'over_limit_s': trace.duration_s * len(over) / len(outcome.samples),
        'hottest_c': outcome.hottest_c, 'switches': float(outcome.switches),
    }


def run_budget(budget_w: float, seed: int) -> dict[str, float]:
    """Return how well the power budget is kept: share of samples above it, and by how much."""
    trace = random_trace('cameras', CAMERAS, seed, noise=CALM)
    governed = as_in_the_node(Limits('power_budget', power_budget_w=budget_w))
    outcome = simulate(trace, governed, seed)
    watts = [sample[3] for sample in outcome.samples]
    over = [one for one in watts if one > budget_w]
    return {
        'mean_w': statistics.mean(watts),
        'over_budget_percent': 100.0 * len(over) / len(watts),
        'over_by_5_percent_percent': 100.0 * sum(w > 1.05 * budget_w for w in over) / len(watts),
        'mean_gpu_mhz': statistics.mean(sample[1] for sample in outcome.samples),
        'switches_per_minute': outcome.switches / trace.duration_s * 60.0,
    }


def mean_rows(rows: list[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each number, and the worst share of late frames."""
    result = {key: round(statistics.mean(row[key] for row in rows), 3) for key in rows[0]}
    if 'late_percent' in result:
        result['late_percent_worst_seed'] = round(max(row['late_percent'] for row in rows), 3)
    return result


def measure(seeds: range, pool: ProcessPoolExecutor) -> dict[str, Any]:
    """Run everything."""
    jobs = {name: [pool.submit(run_trace, name, s) for s in seeds] for name in TRACES}
    extras = {
        'gpu_power_exponent (cameras)': {
            str(value): [pool.submit(run_exponent, value, s) for s in seeds]
            for value in (0.5, 1.0, 3.0)
        },
        'workload_steps (cameras)': {
            f'every {low} to {high} s': [pool.submit(run_steps, (low, high), s) for s in seeds]
            for low, high in ((2.0, 8.0), (25.0, 60.0))
        },
        'alternating, one and three cameras': {
            f'each {each_s} s': [pool.submit(run_alternating, each_s, s) for s in seeds]
            for each_s in (1.0, 5.0)
        },
        'two detectors, deadline of the second': {
            f'{value} ms': [pool.submit(run_detectors, value, s) for s in seeds]
            for value in (200.0, 50.0)
        },
        'too hot, by length of the table': {
            f'{steps} steps': [pool.submit(run_table, steps, s) for s in seeds]
            for steps in (8, 49, 170)
        },
    }
    budgets = {
        f'{value} W': [pool.submit(run_budget, value, s) for s in seeds]
        for value in (8.5, 10.0, 12.0)
    }
    traces: dict[str, Any] = {}
    for name, runs in jobs.items():
        traces[name] = {
            'what': TRACES[name], 'policies': summarise([one.result() for one in runs])
        }
        traces[name]['node_meets_targets'] = (
            'not judged: the temperature limit rules out the deadline' if name in NOT_JUDGED
            else judge(traces[name]['policies'])
        )
        print_table(name, traces[name])
    return {
        'traces': traces,
        **{name: _means(rows) for name, rows in extras.items()},
        'power_budget_mode (cameras)': _means(budgets),
    }


def _means(jobs: dict[str, list[Any]]) -> dict[str, dict[str, float]]:
    return {key: mean_rows([one.result() for one in runs]) for key, runs in jobs.items()}


def print_table(name: str, trace: dict[str, Any]) -> None:
    """Print one trace."""
    print(f'\n{name}: {trace["what"]}   targets met: {trace["node_meets_targets"]}')
    for policy, row in trace['policies'].items():
        print(f'  {policy:34} late {row["late_percent"]:6.2f} % '
              f'(worst {row["late_percent_worst_seed"]:6.2f})  saved {row["saved_percent"]:5.1f} '
              f'% (worst {row["saved_percent_worst_seed"]:5.1f})  {row["power_w"]:5.2f} W  '
              f'{row["switches_per_minute"]:5.1f}/min  {row["hottest_c"]:3.0f} C  throttled '
              f'{row["throttled_s"]:5.1f} s  alarms {row["alarms"]:4.0f}', flush=True)


# ---- picture


COLOURS = {
    REFERENCE: '#888888', 'MAXN_SUPER, schedutil-like': '#d98a1f', NODE: '#1f6fb4',
}


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw two minutes of two traces, and all policies over all traces."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(12, 10), layout='constrained')
    grid = figure.add_gridspec(4, 2, height_ratios=(1.15, 0.8, 0.8, 1.7))
    for column, name in enumerate(('cameras', 'slow camera')):
        axes = [figure.add_subplot(grid[row, column]) for row in range(3)]
        _draw_trace(axes, make_trace(name, 0), TRACES[name])
    _draw_summary(figure.add_subplot(grid[3, :]), result['traces'])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    print(f'written: {path}')


def _draw_trace(axes: list[Any], trace: Trace, title: str) -> None:
    limits = Limits(deadline_ms=trace.deadline_ms)
    runs = {
        REFERENCE: simulate(trace, Fixed(REFERENCE, TOP)),
        'MAXN_SUPER, schedutil-like': simulate(
            trace, Fixed('', TOP, kernel=True, cpu_awake=False)),
        NODE: simulate(trace, as_in_the_node(limits)),
    }
    for name, outcome in runs.items():
        colour = COLOURS[name]
        when, latency = zip(*outcome.latencies, strict=True)
        axes[0].plot(when, latency, '.', ms=1.8, color=colour, label=name)
        time_s, gpu, _emc, watt, _temperature = zip(*outcome.samples, strict=True)
        axes[1].plot(time_s, gpu, lw=1.0, color=colour)
        axes[2].plot(time_s, watt, lw=1.0, color=colour)
    axes[0].axhline(trace.deadline_ms, color='#b22222', lw=1.0)
    axes[0].set_title(title, fontsize=10)
    axes[0].set_ylim(0, 2.4 * trace.deadline_ms)
    axes[0].text(1, trace.deadline_ms * 1.04, 'deadline', color='#b22222', fontsize=8)
    axes[0].legend(fontsize=7, loc='upper left', ncols=2, markerscale=4, framealpha=0.9)
    for axis, label in zip(axes, ('latency, ms', 'GPU, MHz', 'board, W'), strict=True):
        axis.set_ylabel(label, fontsize=9)
        axis.set_xlim(0, 120)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.25)
    axes[2].set_xlabel('s', fontsize=9)


def _draw_summary(axis: Any, traces: dict[str, Any]) -> None:
    """Draw energy saved against late frames: one marker a policy, one point a trace."""
    shown = {
        REFERENCE: 's', '15W + jetson_clocks': '^',
        'MAXN_SUPER, schedutil-like': 'D', BEST_FIXED: 'P', 'oracle (knows the future)': '*',
        NODE: 'o',
    }
    palette = {'15W + jetson_clocks': '#a05195',
               BEST_FIXED: '#b22222', 'oracle (knows the future)': '#2f2f2f', **COLOURS}
    for policy, marker in shown.items():
        rows = [traces[name]['policies'][policy] for name in traces if name not in NOT_JUDGED]
        axis.plot(
            [row['saved_percent'] for row in rows],
            [max(0.01, row['late_percent']) for row in rows], marker, ls='', color=palette[policy],
            label=policy, ms=8 if policy == NODE else 6, alpha=0.85,
            zorder=3 if policy == NODE else 2,
        )
    axis.set_yscale('log')
    axis.set_ylim(0.007, 110)
    axis.axhspan(0.007, MOST_LATE_PERCENT, color='#1f6fb4', alpha=0.08,
                 label='target: at most 1 % late')
    axis.set_xlabel('energy saved against MAXN_SUPER + jetson_clocks, %', fontsize=9)
    axis.set_ylabel('late frames, % (0.01 or none at the bottom)', fontsize=9)
    axis.set_title('each marker one trace, mean of all seeds; simulated', fontsize=10)
    axis.grid(alpha=0.25)
    axis.legend(fontsize=8, loc='upper center', bbox_to_anchor=(0.5, -0.17), ncols=4)


def main() -> None:
    """Simulate, print, save and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument(
        '--first-seed', type=int, default=10, help='the governor was tuned on seeds 0 to 2')
    parser.add_argument('-o', '--output', type=Path, default=HERE / 'results' / 'governor.json')
    parser.add_argument(
        '--picture', type=Path, default=HERE.parent / 'docs' / 'images' / 'governor.png'
    )
    args = parser.parse_args()
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    with ProcessPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        result = measure(seeds, pool)
    result = {
        'simulated': True, 'seeds': list(seeds), 'seconds_per_trace': 300,
        'targets': {
            'late_percent': MOST_LATE_PERCENT, 'points_behind_best_fixed': MOST_BEHIND_POINTS,
        },
        **result,
    }
    save(args.output, result)
    plot(result, args.picture)


if __name__ == '__main__':
    main()
