"""
Many bags on Dask: same bytes as in sequence, cost of faults, and when it stops paying.

    python benchmarks/fleet.py --bags 200

Makes small bags of photographs and replays them in turn, with one worker and with two; every
output is compared byte for byte. Then two workers replay them once more while one bag is damaged,
one worker is killed with SIGKILL, and the other cannot write (a file-size limit, as on a full
disk) until the killed one is back. Then tasks that do nothing tell what the scheduler takes a bag.

"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any

import cv2
from measured_on import save
import numpy as np
import psutil
from regression import write_bag
import skimage.data

from yolov7_trt_ros.cli.fleet.dask_runs import dask_runner
from yolov7_trt_ros.cli.fleet.tasks import Task

HERE = Path(__file__).parent
PROGRAM = [sys.executable, '-m', 'yolov7_trt_ros']
SETTINGS = ['--size', '256', '--threads', '1', '--score-threshold', '0.1']
NOTHING_TASKS = 2000
STATE = '.yolov7_trt_work'


def make_bags(folder: Path, count: int, frames: int) -> list[Path]:
    """Write bags of cut-outs of a photograph, each other ones."""
    pictures = folder / 'pictures'
    pictures.mkdir()
    bags = []
    for number in range(count):
        files = []
        for frame in range(frames):
            top, left = number % 100, 20 * frame % 110
            rgb = skimage.data.astronaut()[top:top + 400, left:left + 400]
            small = cv2.resize(np.ascontiguousarray(rgb[..., ::-1]), (256, 256))
            file = pictures / f'{frame}.jpg'
            file.write_bytes(cv2.imencode('.jpg', small)[1].tobytes())
            files.append(file)
        bags.append(folder / f'bag{number:03d}')
        write_bag(bags[-1], files)
    return bags


def command(bags: list[Path], out: Path, *words: str) -> list[str]:
    """Return the command that replays the bags."""
    return [*PROGRAM, 'replay', *map(str, bags), '-o', str(out), *SETTINGS, *words]


def contents(folder: Path) -> dict[str, str]:
    """Return a hash of each file that a run has left for people."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob('*')) if path.is_file() and STATE not in path.parts
    }


def timed(bags: list[Path], out: Path, *words: str) -> dict[str, Any]:
    """Replay the bags; return wall and processor time, of the workers too."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run(command(bags, out, *words), check=True, capture_output=True)
    wall_s = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    load = Path('/proc/loadavg').read_text().split()[0]
    return {'wall_s': round(wall_s, 2), 'cpu_s': round(cpu_s, 2), 'load_after': float(load)}


def workers_of(process: subprocess.Popen[bytes], out: Path) -> list[psutil.Process]:
    """Return the processes of a run that have a model open, when both have."""
    while len(list(out.glob('*.mcap'))) < 10:
        if process.poll() is not None:
            raise SystemExit('the run ended before its workers could be harmed')
        time.sleep(0.05)
    found = psutil.Process(process.pid).children(recursive=True)
    return [each for each in found if any('onnxruntime' in m.path for m in each.memory_maps())]


def harmed(bags: list[Path], folder: Path, serial: dict[str, str]) -> dict[str, Any]:
    """Replay with a damaged bag, a worker that is killed and one that cannot write."""
    damaged = bags[len(bags) // 2]
    whole = next(damaged.glob('*.mcap'))
    data = whole.read_bytes()
    whole.write_bytes(data[:200])
    out = folder / 'harmed'
    process = subprocess.Popen(
        command(bags, out, '--workers', '2'), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    killed, limited = workers_of(process, out)[:2]
    resource.prlimit(limited.pid, resource.RLIMIT_FSIZE, (200, resource.RLIM_INFINITY))
    killed.kill()
    told = process.communicate()[1].decode().replace(f'{folder}/', '')
    whole.write_bytes(data)
    found = contents(out)
    bags_alone = {name: each for name, each in serial.items() if name.endswith('.mcap')}
    lost = sorted(set(bags_alone) - set(found))
    resumed = subprocess.run(command(bags, out, '--workers', '2'), capture_output=True)
    return {
        'exit_status': process.returncode, 'lost': lost, 'damaged': f'{damaged.name}.mcap',
        'others_equal_serial': all(found[name] == each for name, each in bags_alone.items()
                                   if name not in lost),
        'warnings': [line for line in told.splitlines() if 'warning' in line],
        'the_same_command_again': resumed.returncode,
        'then_equal_serial': contents(out) == serial,
    }


def nothing(args: argparse.Namespace, number: int) -> dict[str, Any]:
    """Do nothing, as a task."""
    return {'frames': 0}


def scheduler_cost() -> dict[str, float]:
    """Return what a task that does nothing takes: of the clock, and of this process's CPU."""
    tasks = [Task(str(number), (number,)) for number in range(NOTHING_TASKS)]
    with dask_runner(None, 2) as run:
        list(run(nothing, argparse.Namespace(), tasks[:100]))
        start, cpu = time.perf_counter(), time.process_time()
        list(run(nothing, argparse.Namespace(), tasks))
        wall_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    return {
        'wall_ms': round(1e3 * wall_s / NOTHING_TASKS, 2),
        'cpu_ms': round(1e3 * cpu_s / NOTHING_TASKS, 2),
    }


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--bags', type=int, default=200, help='(default: %(default)s)')
    parser.add_argument('--frames', type=int, default=2, help='a bag (default: %(default)s)')
    parser.add_argument('-o', '--output', type=Path, default=HERE / 'results' / 'fleet.json')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix='yolov7_trt_fleet_') as name:
        folder = Path(name)
        bags = make_bags(folder, args.bags, args.frames)
        runs = {}
        for label, words in (
            ('in turn', ()), ('1 worker', ('--workers', '1')), ('2 workers', ('--workers', '2')),
        ):
            runs[label] = timed(bags, folder / label, *words)
            print(label, runs[label], flush=True)
        serial = contents(folder / 'in turn')
        equal = {label: contents(folder / label) == serial for label in runs}
        faults = harmed(bags, folder, serial)
        print(faults, flush=True)
        shutil.rmtree(folder / 'harmed')
    cost = scheduler_cost()
    per_bag_ms = 1e3 * runs['in turn']['cpu_s'] / args.bags
    result = {
        'bags': args.bags, 'frames_a_bag': args.frames, 'settings': SETTINGS, 'runs': runs,
        'equal_to_in_turn_byte_for_byte': equal, 'files_compared': len(serial), 'faults': faults,
        'speed_of_2_workers_over_1': round(
            runs['1 worker']['wall_s'] / runs['2 workers']['wall_s'], 2),
        'scheduler_a_bag': cost, 'cpu_ms_a_bag_in_turn': round(per_bag_ms, 1),
        'bags_a_second_at_most': round(1e3 / cost['cpu_ms']),
        'cores_that_these_bags_keep_busy': round(per_bag_ms / cost['cpu_ms']),
    }
    save(args.output, result)


if __name__ == '__main__':
    main()
