"""
Run the detector node under load and faults; check its counters and that it does not grow.

    python benchmarks/soak.py --minutes 30 --cameras 4 --rate 5 --seed 1

The node is a process of its own; cameras of different sizes and encodings send from here. Faults
come in rounds: every kind once a round, order and details drawn from the seed
(soak_parts/faults.py). Checked continuously: detections belong to images that were sent, none is
published twice; services answer in time, and after each fault every camera is served again in
time. Checked at quiet moments (cameras paused, all processed), per topic and exactly: received =
processed + failed + dropped + skipped, processed = detections heard here, failed = corrupt images
that reached the node. At the end: the sums over all lifecycle periods, and no growth of memory,
threads and file descriptors (medians of the first and the last third; tolerances in
soak_parts/ledger.py). Exit status 1 on any violation.

"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import faulthandler
from pathlib import Path
import random
import sys
import tempfile
import time

from measured_on import save
from soak_parts.detector import Stuck
from soak_parts.faults import draw_round, FAULTS
from soak_parts.report import report, show
from soak_parts.soaked_node import isolate, MODEL_S, Soak

from yolov7_trt_ros.engine.options import BACKENDS
from yolov7_trt_ros.nodes.process import process_setup

ROUND_S = 1800.0  # at most, else something hangs
MOST_VIOLATIONS = 50


def run(soak: Soak, seconds: float, seed: int, *, rounds: int = 0) -> None:
    """Make faults for a time, or a number of rounds; Stuck or not, take everything down."""
    try:
        soak.start_cameras()
        _run_rounds(soak, soak.started + seconds, seed, rounds)
        soak.pause(True)
        soak.ledger.end_period(soak.detector.counters(), soak.detector.removed())
        soak.ledger.violations += soak.ledger.check_totals()
    except Stuck as exc:
        soak.ledger.violations.append(f'stuck: {exc}')
    finally:
        soak.stop_cameras()
        soak.ledger.violations += soak.detector.stop()


def _run_rounds(soak: Soak, end: float, seed: int, rounds: int) -> None:
    """Make rounds of faults; ends with a quiet check."""
    number, dwell = 0, not rounds
    while number < rounds or not rounds:
        for name, rng in draw_round(seed, number):
            if dwell and time.monotonic() >= end:
                break
            _make_fault(soak, name, rng)
            if dwell:
                soak.detector.spin(rng.uniform(0.5, 2.0))
        number += 1
        soak.check_quiet(f'after round {number}')
        if dwell and time.monotonic() >= end:
            return


def _make_fault(soak: Soak, name: str, rng: random.Random) -> None:
    """Make one fault, note it, and see that every camera is served again."""
    began = time.monotonic()
    details = FAULTS[name](soak, rng)
    soak.await_detections()
    soak.events.append({
        'at_s': round(began - soak.started, 1), 'fault': name, 'details': details,
        'seconds': round(time.monotonic() - began, 1),
    })
    if len(soak.ledger.violations) > MOST_VIOLATIONS:
        raise Stuck('too many violations')


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print and save; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.strip().partition('\n')[0])
    parser.add_argument('--minutes', type=float, default=30.0)
    parser.add_argument('--rounds', type=int, default=0, help='instead of --minutes')
    parser.add_argument('--cameras', type=int, default=4)
    parser.add_argument('--rate', type=float, default=5.0, help='images per second and camera')
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--backend', default='auto', choices=BACKENDS)
    parser.add_argument('--model', default='yolov7-nano')
    results = Path(__file__).parent / 'results'
    parser.add_argument('-o', '--output', type=Path, default=results / 'soak.json')
    args = parser.parse_args(arguments)
    if args.cameras < 2:
        parser.error('--cameras: at least 2')
    process_setup.tune_malloc()
    faulthandler.dump_traceback_later(
        MODEL_S + (args.rounds * ROUND_S or args.minutes * 60), exit=True
    )
    with tempfile.TemporaryDirectory(prefix='soak') as folder:
        isolate(Path(folder))
        soak = Soak(args, Path(folder))
        run(soak, args.minutes * 60, args.seed, rounds=args.rounds)
        result = report(soak)
        if result['violations']:
            log = args.output.with_suffix('.log')
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text(soak.detector.log.read_text())
    settings = {name: getattr(args, name) for name in ('cameras', 'rate', 'seed')}
    show(result)
    save(args.output, {'settings': settings, **result})
    return 1 if result['violations'] else 0


if __name__ == '__main__':
    sys.exit(main())
