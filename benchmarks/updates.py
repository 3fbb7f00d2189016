"""
Change the detector's model repeatedly while cameras send, and check that no image is lost.

    python benchmarks/updates.py --updates 100 --cameras 2 --rate 30

There are two parts, on the CPU, with the embedded model and models made from it
(updates_parts/models.py). The first changes to `updates` good models; each is opened, compared and
served, and the former one is closed; every tenth is rolled back. After each, the same load runs
without a change for as long (or `--quiet-share` of that), so that gaps between detections and
images without detections can be compared. What was found so far is written after every tenth, so
that a run which is ended from outside leaves a result; `--limit-s` ends it in time.

The second tries bad candidates of every kind, and builds that are killed in each phase
(updates_parts/node.py); the serving model must stay. At the end: received = processed + failed +
dropped, each detection belongs to one image, none failed; over the good updates memory grows by
less than 1 %, threads and file descriptors do not. Exit status 1 on any violation.

With --plan all runs on the GPU. Each good model is new then, so that its plan comes from a refit;
bad ones are left out. GPU memory comes from NVML (nvidia-ml-py): that of the node where the driver
lists it, and of all programs, which is judged between updates, when no refit runs:

    python benchmarks/updates.py --rate 30 --plan refittable.plan --quiet-share 0.35 --limit-s 420

"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
import contextlib
import json
import math
import os
from pathlib import Path
import signal
import sys
import tempfile
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from measured_on import save
from photographs import load_photographs
from rclpy.qos import DurabilityPolicy, QoSProfile
from soak_parts.cameras import Camera, FRAMES, Mode
from soak_parts.detector import Detector, Meter, Stuck
from soak_parts.ledger import Ledger
from soak_parts.soaked_node import isolate
from std_srvs.srv import Trigger
from updates_parts.figures import judge_run, p99_ratio, percentiles, Stretches
from updates_parts.models import good, write_bad
from updates_parts.node import PHASES

from yolov7_trt_ros.core.topics import detections_topics

SIZE_WH = (320, 240)
VANISHING = 'vanishing file'
REFUSED = ('outside', 'link to outside')
LIMIT_S = 300.0
MOST_SHADOWS = 10
"""Comparisons without a detection, relative to those asked for, that end a run."""

MOST_RATIO = 5.0  # of two models of one size, on a machine that others use too
LEAST_AGREEMENT = 0.9  # good ones agree in all, and few frames are compared
QUIET_S = 120.0
IN_TRANSIT_S = 0.5
METER_S = 0.5
WRITE_EVERY = 10
_LOG_CHARACTERS = 4000
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
STAND_IN = (sys.executable, str(Path(__file__).resolve().parent / 'updates_parts/node.py'))


class Watched(Detector):
    """A detector that records the arrival of detections per topic, and the state of an update."""

    def __init__(
        self, folder: Path, parameters: dict[str, Any], ledger: Ledger, idle: Any,
        command: Sequence[str],
    ) -> None:
        self.heard_ns: dict[str, list[int]] = {}
        self.update: dict[str, str] = {}
        super().__init__(folder, parameters, ledger, idle, command)
        self.node.create_subscription(
            DiagnosticStatus, '/detector/update', self._on_update, LATCHED
        )
        for name in ('promote', 'roll_back'):
            self._services[name] = self.node.create_client(Trigger, f'/detector/{name}')

    def _on_detections(self, topic: str, data: bytes) -> None:
        self.heard_ns.setdefault(topic, []).append(time.monotonic_ns())
        super()._on_detections(topic, data)

    def _on_update(self, message: DiagnosticStatus) -> None:
        self.update = {each.key: each.value for each in message.values}

    def call(self, name: str) -> None:
        """Call ~/promote or ~/roll_back, which must succeed."""
        answer = self.ask(name, Trigger.Request())
        if not answer.success:
            raise Stuck(f'{name}: {answer.message}')

    def spin_until(self, condition: Any, limit_s: float, what: str) -> None:
        """Send and listen until the condition is true; Stuck has the state of the update."""
        try:
            super().spin_until(condition, limit_s, what)
        except Stuck as exc:
            raise Stuck(f'{exc}; update: {self.update}') from exc

    def wait_for(self, state: str, number: str = '') -> None:
        """Wait until the update is in a state, and a model of that number serves."""
        self.spin_until(
            lambda: self.update.get('state') == state
            and (not number or self.update['number'] == number),
            LIMIT_S, f'{state}',
        )


class Run:
    """One node with its cameras, from start to stop."""

    def __init__(self, folder: Path, args: argparse.Namespace) -> None:
        folder.mkdir()
        self.models = folder / 'models'
        self.models.mkdir()
        self.ledger, self.series = Ledger(), []
        self.cameras: list[Camera] = []
        self._metered = 0.0
        self.plan_cache = folder / 'plans'
        self.topics = [f'/updates/cam{index}/image_raw' for index in range(args.cameras)]
        engine = {'backend': 'onnx'} if args.plan is None else {
            'backend': 'tensorrt', 'model': args.plan.resolve(), 'plan_cache': self.plan_cache,
        }
        self.detector = Watched(folder, {
            'autostart': True, 'image_topics': ','.join(self.topics),
            'network_size': args.network_size,
            'threads': 1, 'model_folders': self.models, **engine,
            'update_shadow_frames': args.shadow_frames, 'update_shadow_share': args.share,
            'update_min_detections': 1, 'score_threshold': 0.1, 'update_keep_s': 3600.0,
            'update_max_latency_ratio': MOST_RATIO, 'update_min_agreement': LEAST_AGREEMENT,
        }, self.ledger, self._idle, command=STAND_IN if args.plan is None else ())
        self.meter = Meter(self.detector.process.pid)
        self._rate_hz, self._pictures = args.rate, args.pictures

    def start(self) -> None:
        """Bring the cameras up, and wait for their first detections."""
        for topic, output in zip(self.topics, detections_topics(self.topics), strict=True):
            self.detector.listen(topic, output, overlay=False)
            self.ledger.begin(topic)
        self.detector.wait_until_up(LIMIT_S)
        mode = Mode('bgr8', reliable=False)
        self.cameras = [
            Camera(f'camera{index}', topic, SIZE_WH, mode, rate_hz=self._rate_hz,
                   ledger=self.ledger, pictures=self._pictures)
            for index, topic in enumerate(self.topics)
        ]
        self.detector.spin_until(
            lambda: len(self.detector.heard_ns) == len(self.topics), LIMIT_S, 'detections'
        )
        self.detector.spin(2.0)
        self.detector.heard_ns.clear()

    @contextlib.contextmanager
    def noting(self, stretches: Stretches) -> Iterator[None]:
        """Add the time of the block to those of a kind."""
        began_s, began_ns = time.monotonic(), time.time_ns()
        self.detector.heard_ns.clear()
        yield
        stretches.seconds += time.monotonic() - began_s
        stretches.spans_ns.append((began_ns, time.time_ns()))
        stretches.gaps_ms += self.gaps_ms()

    def gaps_ms(self) -> list[float]:
        """Return the gaps between detections of a topic so far, and forget them."""
        gaps = [
            (after - before) / 1e6 for times in self.detector.heard_ns.values()
            for before, after in zip(times, times[1:], strict=False)
        ]
        self.detector.heard_ns.clear()
        return gaps

    def stop(self) -> dict[str, int]:
        """Let all be answered, check that it adds up, stop; returns the sums."""
        for camera in self.cameras:
            camera.paused = True
        self.detector.spin(IN_TRANSIT_S)
        wrong = ['nothing was heard']

        def adds_up() -> bool:
            wrong[:] = self.ledger.check_quiet(self.detector.counters(), None)
            return not wrong

        try:
            self.detector.spin_until(adds_up, QUIET_S, 'counters')
        except Stuck:
            self.ledger.violations += wrong
        self.ledger.end_period(self.detector.counters(), None)
        for camera in self.cameras:
            camera.stop()
        self.ledger.violations += self.detector.stop()
        return {'sent': self.ledger.sent, **self.ledger.totals}

    def _idle(self) -> None:
        for camera in self.cameras:
            camera.publish_if_due()
        now = time.monotonic()
        if now - self._metered >= METER_S and self.detector.process.poll() is None:
            self._metered = now
            self.series.append(self.meter.read())

    # ---- updates

    def ask(self, model: Path | str) -> str:
        """Set the model; returns the reason of a refusal."""
        return self.detector.set_parameter('model', str(model))

    def update_well(self, model: Path, *, back: bool) -> None:
        """Have a good model serve, and let the former one go, or go back to it."""
        number, last = self.detector.update['number'], self.detector.update['last']
        if reason := self.ask(model):
            raise Stuck(f'{model.name} was refused: {reason}')
        self.detector.spin_until(
            lambda: self.detector.update['last'] != last or self._sees_nothing(), LIMIT_S,
            f'{model.name} to serve',
        )
        if self.detector.update['last'] == last:
            raise Stuck('the models find nothing to compare in these pictures at this network '
                        f'size: take others; {self.detector.update}')
        if self.detector.update['number'] == number:
            raise Stuck(f'{model.name} does not serve: {self.detector.update}')
        self.detector.call('roll_back' if back else 'promote')
        self.detector.wait_for('steady', number if back else '')

    def _sees_nothing(self) -> bool:
        """Whether the comparison has had its frames many times over, and no detection."""
        frames, detections = (
            self.detector.update.get(f'{name} compared', '0 of 0').split(' of ')
            for name in ('frames', 'detections')
        )
        return int(frames[0]) > MOST_SHADOWS * int(frames[1]) and detections[0] == '0'

    def update_badly(self, kind: str, model: Path | str) -> str:
        """Ask for a bad model; returns what became of it. The model that serves must stay."""
        number, last = self.detector.update['number'], self.detector.update['last']
        if reason := self.ask(model):
            return f'refused: {reason}'
        if kind == VANISHING:
            Path(model).unlink()
        self.detector.spin_until(
            lambda: self.detector.update['state'] in ('steady', 'kept')
            and self.detector.update['last'] != last,
            LIMIT_S, f'the end of {kind}',
        )
        found = self.detector.update
        if kind == VANISHING and found['state'] == 'kept':  # read before it had gone
            self.detector.call('roll_back')
            self.detector.wait_for('steady', number)
            return f'read before it had gone: {found["last"]}'
        if found['state'] == 'kept':
            self.ledger.violations.append(f'{kind} came to serve: {found["last"]}')
            self.detector.call('roll_back')
            self.detector.wait_for('steady', number)
        elif found['number'] != number or 'dropped' not in found['last']:
            self.ledger.violations.append(f'{kind}: {found}')
        elif self.detector.get('model') != found['serving']:
            self.ledger.violations.append(f'{kind}: the parameter is not what serves')
        return found['last']

    def kill_build(self, phase: str) -> str:
        """Kill the process of a build in a phase; returns what became of the update."""
        model = good(self.models / f'unbuilt_{phase}.onnx')
        last = self.detector.update['last']
        for former in PHASES[:PHASES.index(phase)]:
            model.with_suffix(f'.{former}').touch()
        if reason := self.ask(model):
            raise Stuck(f'{model.name} was refused: {reason}')
        self.detector.spin_until(
            lambda: phase in self.detector.update.get('progress', ''), LIMIT_S, f'phase {phase}'
        )
        builds = builds_of(self.detector.process.pid)
        if len(builds) != 1 or os.getpriority(os.PRIO_PROCESS, builds[0]) < 0:
            self.ledger.violations.append(f'{phase}: builds {builds}')
        os.kill(builds[0], signal.SIGKILL)
        self.detector.spin_until(
            lambda: self.detector.update['last'] != last, LIMIT_S, 'the end of a killed build'
        )
        return self.detector.update['last']


def builds_of(pid: int) -> list[int]:
    """Return the processes that build for a node."""
    found = []
    for folder in Path('/proc').iterdir():
        if folder.name.isdecimal():
            try:
                parent = int((folder / 'stat').read_text().rpartition(')')[2].split()[1])
                builds = b'--build' in (folder / 'cmdline').read_bytes()
            except OSError:  # it has ended
                continue
            if parent == pid and builds:
                found.append(int(folder.name))
    return found


class GoodUpdates:
    """The updates to good models, and what was measured so far."""

    def __init__(self, run: Run, args: argparse.Namespace) -> None:
        self.run, self.args, self.done = run, args, 0
        self.during, self.between = Stretches(), Stretches()
        self.after_each: list[dict[str, float]] = []

    def update(self, model: Path) -> None:
        """Change to a model, and let it serve for a share of the time that this took."""
        run, before_s = self.run, self.during.seconds
        with run.noting(self.during):
            run.update_well(model, back=self.done % 10 == 9)
        with run.noting(self.between):
            run.detector.spin((self.during.seconds - before_s) * self.args.quiet_share)
        self.after_each.append(run.meter.read())
        self.done += 1

    def to_record(self, counts: dict[str, int], *, ended: str) -> dict[str, Any]:
        """Return what was found; `ended` says why there are no more."""
        ledger = self.run.ledger
        during, between = self.during.to_record(ledger), self.between.to_record(ledger)
        growth, _ = judge_run(self.run.series, self.after_each)
        return {
            'updates': self.done, 'asked': self.args.updates, 'ended': ended,
            'quiet_share': self.args.quiet_share,
            'during_updates': during, 'between_updates': between,
            'p99_ratio': p99_ratio(during, between), 'counts': counts, 'growth': growth,
            'after_each': self.after_each,
            'plan_seconds': [
                json.loads(each.read_text())['build_seconds']
                for each in sorted(self.run.plan_cache.glob('*.plan.json'))
            ],
            'violations': ledger.violations,
        }


def run_good(
    folder: Path, args: argparse.Namespace, write: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Update to good models, and write what was found so far after every tenth."""
    run = Run(folder, args)
    good_updates, deadline = GoodUpdates(run, args), time.monotonic() + args.limit_s
    fresh = args.plan is not None  # a model that was there before has its plan
    models = [
        good(run.models / f'good{index}.onnx', index)
        for index in range(args.updates if fresh else 3)
    ]
    ended = 'all done'
    try:
        run.start()
        run.series.clear()
        for index in range(args.updates):
            if time.monotonic() > deadline:
                ended = f'after {args.limit_s:g} s'
                break
            serving = run.detector.update['serving']
            good_updates.update(models[index] if fresh else next(
                each for each in models if str(each) != serving
            ))
            if index % WRITE_EVERY == WRITE_EVERY - 1:
                write(good_updates.to_record({'sent': run.ledger.sent}, ended='it goes on'))
        run.ledger.violations += judge_run(run.series, good_updates.after_each)[1]
    except Stuck as exc:
        write(good_updates.to_record({'sent': run.ledger.sent}, ended=f'stuck: {exc}'))
        raise
    finally:
        counts = run.stop()
    return good_updates.to_record(counts, ended=ended)


def run_bad(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Ask for bad models, one of each kind, and kill builds."""
    run = Run(folder, args)
    outside = good(folder / 'outside.onnx')
    (run.models / 'link.onnx').symlink_to(outside)
    candidates: dict[str, Path | str] = {
        'outside': outside, 'link to outside': run.models / 'link.onnx',
        **write_bad(run.models / 'bad', load_photographs(
            args.pictures, *SIZE_WH, tiles=1, count=FRAMES
        )),
    }
    became: dict[str, str] = {}
    killed: dict[str, str] = {}
    try:
        run.start()
        for kind, model in candidates.items():
            if args.kinds and kind not in args.kinds:
                continue
            became[kind] = run.update_badly(kind, model)
            if became[kind].startswith('refused') != (kind in REFUSED):
                run.ledger.violations.append(f'{kind}: {became[kind]}')
        killed |= {phase: run.kill_build(phase) for phase in PHASES}
        run.ledger.violations += [
            f'killed in {phase}: {told}' for phase, told in killed.items()
            if 'SIGKILL' not in told
        ]
        gaps = percentiles(run.gaps_ms())
    finally:
        counts = run.stop()
    return {
        'candidates': {kind: told.replace(str(folder), '...') for kind, told in became.items()},
        'killed_builds': {kind: told.replace(str(folder), '...') for kind, told in killed.items()},
        'gaps_ms': gaps, 'counts': counts, 'violations': run.ledger.violations,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run all parts; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--updates', type=int, default=100)
    parser.add_argument('--cameras', type=int, default=2)
    parser.add_argument('--rate', type=float, default=10.0, help='Hz, of each camera')
    parser.add_argument('--share', type=float, default=1.0, help='update_shadow_share')
    parser.add_argument(
        '--network-size', type=int, default=160, help='not below that of the plan (default: 160)'
    )
    parser.add_argument('--shadow-frames', type=int, default=20, help='update_shadow_frames')
    parser.add_argument(
        '--quiet-share', type=float, default=1.0,
        help='time without an update after each, of what it took (default: %(default)s)',
    )
    parser.add_argument(
        '--limit-s', type=float, default=math.inf,
        help='seconds after which no further good update is begun (default: none)',
    )
    parser.add_argument(
        '--plan', type=Path,
        help='refittable plan of the embedded model: on the GPU, each update a refit, no bad ones',
    )
    parser.add_argument('--pictures', type=Path, help="photographs (default: scikit-image's)")
    parser.add_argument('--kinds', nargs='*', help='of bad candidates (default: all)')
    parser.add_argument(
        '-o', '--output', type=Path,
        default=Path(__file__).resolve().parent / 'results' / 'updates.json',
    )
    args = parser.parse_args(argv)
    load = os.getloadavg()[0]

    def write(parts: dict[str, Any]) -> None:
        save(args.output, {
            'cameras': args.cameras, 'rate_hz': args.rate, 'size_wh': SIZE_WH,
            'share': args.share, 'network_size': args.network_size,
            'load_average_before_and_after': [round(load, 1), round(os.getloadavg()[0], 1)],
            **parts,
        })

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        isolate(folder)
        try:
            parts = {'good_updates': run_good(
                folder / 'good', args, lambda found: write({'good_updates': found})
            )}
            write(parts)
            parts['bad_candidates'] = (
                run_bad(folder / 'bad', args) if args.plan is None else {'violations': []}
            )
        except Stuck as exc:
            for log in folder.glob('*/detector.txt'):
                print(log.read_text()[-_LOG_CHARACTERS:])
            print(f'stuck: {exc}')
            return 1
    violations = [each for part in parts.values() for each in part['violations']]
    write(parts)
    print('\n'.join(violations) or 'no violations')
    return 1 if violations else 0


if __name__ == '__main__':
    raise SystemExit(main())
