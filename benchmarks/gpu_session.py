"""
All measurements of the GPU path in one command, on a machine with an NVIDIA GPU.

    python benchmarks/gpu_session.py --plan tiny.plan --onnx tiny.onnx --checkpoint tiny.pt \
        --pictures val2017 --tiles 2 -o out

Each step is a process of its own with a time limit; one that fails or is not possible leaves the
others alone, and is named with its last line in `out/session.json`. `--plan` is the plan as built
by default (yolov7_trt build --max 8x3x640x640, which strips the decoding); from `--onnx` the plans
of the peers are built here, with the grid and with the NMS plugin inside, at level 0. Without it
only ours and what needs no plan are measured. `--steps` names some of: see STEPS.

"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
import subprocess
import sys
import time
from typing import Any

from measured_on import save

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CLI = ('-m', 'yolov7_trt_ros')
LAST_CHARACTERS = 400
UPDATES_END_S = 60

Step = Callable[[argparse.Namespace], 'list[str] | str']
"""Returns the arguments of Python, or why the step is left out."""


def build_grid(args: argparse.Namespace) -> list[str] | str:
    """Build the peers' plan with the grid inside."""
    return build(args, args.onnx, grid_plan(args), '--keep-grid')


def build_end2end(args: argparse.Namespace) -> list[str] | str:
    """Build the peers' plan with the NMS plugin inside."""
    return build(args, args.end2end_onnx, end2end_plan(args), '--keep-nms-plugin')


def build(
    args: argparse.Namespace, onnx: Path | None, plan: Path, keep: str
) -> list[str] | str:
    """Return the build of a square plan of batch 1 at level 0."""
    if onnx is None:
        return 'no ONNX model was given'
    if plan.is_file():
        return f'{plan.name} is there'
    return [
        *CLI, 'build', '-m', str(onnx), '-o', str(plan), keep, '--fp16', '--opt-level', '0',
        '--timing-cache', str(args.output / 'timing.cache'),
    ]


def gpu_path(args: argparse.Namespace) -> list[str]:
    """Stages, kernels, latency, host work, memory strategies, throughput, the usual way."""
    grid = ['--grid-plan', str(grid_plan(args))] if grid_plan(args).is_file() else []
    return [
        *script('gpu_path', args), '--plan', str(args.plan), *grid, *pictures(args),
        '--energy-seconds', '0',
    ]


def correct(args: argparse.Namespace) -> list[str] | str:
    """Check results against the CPU's."""
    if args.pictures is None:
        return 'needs --pictures'
    return [
        *script('gpu_correct', args), '--plan', str(args.plan), '--pictures', str(args.pictures),
    ]


def peers(args: argparse.Namespace) -> list[str]:
    """Ours and others on one class of engine."""
    command = [*script('peers', args), *pictures(args)]
    for option, path in (
        ('--plan', grid_plan(args)), ('--end2end-plan', end2end_plan(args)),
        ('--checkpoint', args.checkpoint),
    ):
        if path is not None and path.is_file():
            command += [option, str(path)]
    if args.torch_python:
        command += ['--torch-python', args.torch_python]
    return command


def detections_wire(args: argparse.Namespace) -> list[str]:
    """100 detections to the wire."""
    return script('detections_wire', args)


def host_work(args: argparse.Namespace) -> list[str]:
    """Python's part of a frame, without driver and copy."""
    return script('host_work', args)


def node_latency(args: argparse.Namespace) -> list[str]:
    """One camera of 1080p at 30 Hz, both kinds of publishers."""
    return [
        *script('node_latency', args), '--seconds', '18', *node(args),
        '--r2b-json', str(args.output / 'r2b.json'),
    ]


def node_locked(args: argparse.Namespace) -> list[str]:
    """One camera again, its images fetched from where they were received."""
    return [
        str(HERE / 'node_latency.py'), '-o', str(args.output / 'node_locked.json'),
        '--seconds', '18', *node(args), '--memory', 'locked', '--publishers', 'serialized',
    ]


def cameras(args: argparse.Namespace) -> list[str]:
    """1 and 8 cameras of 640x480 at 30 Hz."""
    return [*script('cameras', args), '--cameras', '1', '8', '--', *node(args)]


def refit(args: argparse.Namespace) -> list[str]:
    """Other weights into plans of the embedded model, and what serves meanwhile."""
    return [*script('refit', args), *pictures(args)]


def build_refittable(args: argparse.Namespace) -> list[str]:
    """Build a plan of the embedded model for `updates`."""
    return [
        *CLI, 'build', 'yolov7-nano', '-o', str(args.output / 'refittable.plan'), '--refittable',
        '--fp16', '--opt-level', '0', '--min', '1x3x32x32', '--opt', '1x3x160x160', '--max',
        '1x3x640x640',
    ]


def second_look(args: argparse.Namespace) -> list[str]:
    """One look and two, milliseconds and joules."""
    return [*script('second_look_gpu', args), '--plan', str(args.plan), *pictures(args)]


def updates(args: argparse.Namespace) -> list[str]:
    """As many new models as time allows while two cameras send, each by a refit."""
    return [
        *script('updates', args), '--updates', '100', '--rate', '30', '--quiet-share', '0.35',
        '--limit-s', str(round(args.limit_s - UPDATES_END_S)),
        *([] if args.pictures is None else ['--pictures', str(args.pictures)]),
        '--plan', str(args.output / 'refittable.plan'),
    ]


def script(name: str, args: argparse.Namespace) -> list[str]:
    """Return a benchmark that writes its JSON into the session's folder."""
    return [str(HERE / f'{name}.py'), '-o', str(args.output / f'{name}.json')]


def pictures(args: argparse.Namespace) -> list[str]:
    """Return the arguments that choose pictures."""
    chosen = [] if args.pictures is None else ['--pictures', str(args.pictures)]
    return chosen if args.tiles is None else [*chosen, '--tiles', str(args.tiles)]


def node(args: argparse.Namespace) -> list[str]:
    """Return what node_latency needs to run the plan."""
    return ['--backend', 'tensorrt', '--model', str(args.plan), *pictures(args)]


def grid_plan(args: argparse.Namespace) -> Path:
    """Return the plan with the grid inside."""
    return Path(args.output / 'peers_grid.plan')


def end2end_plan(args: argparse.Namespace) -> Path:
    """Return the plan with the NMS plugin inside."""
    return Path(args.output / 'peers_end2end.plan')


STEPS: dict[str, Step] = {
    step.__name__: step for step in (
        build_grid, build_end2end, gpu_path, correct, detections_wire, host_work, node_latency,
        node_locked, cameras, peers, second_look, refit, build_refittable, updates,
    )
}


def run_step(command: list[str], limit_s: float, log: Path) -> dict[str, Any]:
    """Run one step; what it prints goes to a file."""
    start = time.monotonic()
    with log.open('w') as file:
        try:
            status: int | str = subprocess.run(
                [sys.executable, *command], cwd=ROOT, stdout=file, stderr=subprocess.STDOUT,
                timeout=limit_s, check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            status = f'not done within {limit_s:g} s'
    lines = log.read_text(errors='replace').strip().splitlines()
    last = lines[-1][-LAST_CHARACTERS:] if lines else ''
    return {
        'status': status, 'seconds': round(time.monotonic() - start, 1), 'last_line': last,
    }


def main() -> int:
    """Run the steps, one after another; 1 where one failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--plan', type=Path, required=True)
    parser.add_argument('--onnx', type=Path, help='grid export, for the plan of the peers')
    parser.add_argument('--end2end-onnx', type=Path, help='export with the NMS plugin')
    parser.add_argument('--checkpoint', type=Path)
    parser.add_argument('--torch-python', default='', help='of the peers, where it has PyTorch')
    parser.add_argument('--pictures', type=Path)
    parser.add_argument('--tiles', type=int)
    parser.add_argument('--steps', nargs='+', choices=STEPS, default=list(STEPS))
    parser.add_argument('--limit-s', type=float, default=240.0, help='of one step')
    parser.add_argument('-o', '--output', type=Path, required=True)
    args = parser.parse_args()
    for name in ('plan', 'onnx', 'end2end_onnx', 'checkpoint', 'pictures', 'output'):
        path = getattr(args, name)
        setattr(args, name, path and path.expanduser().resolve())
    args.output.mkdir(parents=True, exist_ok=True)
    told: dict[str, Any] = {}
    for name in args.steps:
        command = STEPS[name](args)
        if isinstance(command, str):
            told[name] = {'status': 0, 'left_out': command}
        else:
            told[name] = run_step(command, args.limit_s, args.output / f'{name}.log')
        print(name, told[name], flush=True)
        save(args.output / 'session.json', {'steps': told})
    return int(any(each['status'] != 0 for each in told.values()))


if __name__ == '__main__':
    raise SystemExit(main())
