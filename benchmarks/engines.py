"""
Several engines at once compared with the first alone, and with one engine on all threads.

    python benchmarks/engines.py --seconds 20 --rounds 3

    python benchmarks/engines.py --engine tiny.plan --engine yolov7-nano,backend=onnx,threads=8 \
        --no-instead --rates 30 60 --cameras 4 -o engines_h200.json

The worker of the node with its real engines and schedule; images come as serialised messages into
its slots, from a thread that plays the cameras, so what DDS costs is left out. Rows take turns
within each round: the first engine of `--engine` alone, all of them as a team, and `--instead`,
one engine in their place. A team is driven until its schedule has decided, and goes on from there
in each round; `settling` has what that took. Loads are camera rates: `--rates`, or shares of what
the first can do alone. Checked: received = processed + failed + dropped, and the order of each
topic; exit status 1 where that is violated.

"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import dataclasses
from pathlib import Path
import sys
import threading
import time
from typing import Any

from measured_on import save
import photographs
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image
from worker_stream import WorkerStream

from yolov7_trt_ros.bank.team.engine_schedule import Phase
from yolov7_trt_ros.bank.team.engine_team import EngineTeam
from yolov7_trt_ros.bank.team.pipelined_team import PipelinedTeam
from yolov7_trt_ros.bank.update.engine_bank import EngineBank, OpenModel
from yolov7_trt_ros.bank.update.pipelined_bank import PipelinedBank
from yolov7_trt_ros.bank.update.update_machine import ModelId
from yolov7_trt_ros.core.detector import DetectSettings, PipelinedDetector
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.latency import percentiles_ms
from yolov7_trt_ros.core.messages.serialized_image import SerializedImage
from yolov7_trt_ros.core.units import NS_PER_S
from yolov7_trt_ros.engine.open import open_detector
from yolov7_trt_ros.engine.options import DetectorOptions
from yolov7_trt_ros.nodes.detector.worker.detection_worker import DetectionWorker
from yolov7_trt_ros.nodes.detector.worker.detections_wire import DetectionsWire
from yolov7_trt_ros.nodes.detector.worker.team_worker import TeamWorker
from yolov7_trt_ros.nodes.detector_parameters import parameters
from yolov7_trt_ros.nodes.detector_parameters.settings import node_settings
from yolov7_trt_ros.nodes.images.frame_slots import FrameSlots
from yolov7_trt_ros.nodes.images.frame_statistics import Counts
from yolov7_trt_ros.nodes.images.image_stream import ReceivedFrame
from yolov7_trt_ros.records import to_record
from yolov7_trt_ros.report.bench.machine_load import read_load

SHARES = (0.7, 1.3, 2.2)
DECIDED = (Phase.TOGETHER, Phase.RESTING)
DEFAULT_ENGINE = 'yolov7-nano,backend=onnx,threads=1'
DEFAULT_INSTEAD = 'yolov7-nano,backend=onnx,threads=2'
_OUTPUT = Path(__file__).resolve().parent / 'results' / 'engines.json'


class Stream(WorkerStream):
    """A camera's topic: counts, and the latency of each frame that is published."""

    def __init__(self, topic: str) -> None:
        super().__init__(topic)
        self.latencies_ns: list[int] = []
        self.order: list[int] = []
        self.arrived_ns: dict[int, int] = {}

    def age_ns(self, stamp_ns: int) -> int:
        """Note that the frame of a stamp, which is its number, is out."""
        self.order.append(stamp_ns)
        self.latencies_ns.append(time.monotonic_ns() - self.arrived_ns[stamp_ns])
        return 0


@dataclasses.dataclass
class Row:
    """One way to run engines."""

    name: str
    bank: EngineBank
    detector: EngineBank | EngineTeam
    others: list[OpenModel] = dataclasses.field(default_factory=list)
    streams: list[Stream] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    violations: list[str] = dataclasses.field(default_factory=list)

    def result(self) -> dict[str, Any]:
        """Return what was measured since the last time, and forget it."""
        latencies = [each for stream in self.streams for each in stream.latencies_ns]
        counts = sum((stream.statistics.counts() for stream in self.streams), Counts())
        seconds = self.seconds
        self.streams, self.seconds = [], 0.0
        team = {}
        if isinstance(self.detector, EngineTeam):
            team = {'state': self.detector.text(), 'engines': self.detector.engine_texts()}
        return {
            'images_per_s': round(counts.processed / seconds, 2),
            'latency_ms': to_record(percentiles_ms(latencies)),
            'counts': {name: value for name, value in vars(counts).items() if value},
            **team,
        }


class Cameras:
    """Puts images of some topics into slots, each topic at its time."""

    def __init__(self, slots: FrameSlots[ReceivedFrame], frames: Sequence[Image]) -> None:
        self._slots, self._frames = slots, frames

    def run(self, streams: Sequence[Stream], rate_hz: float, seconds: float) -> None:
        """Send for some time, topics out of step with one another."""
        period_ns = int(NS_PER_S / rate_hz)
        begin_ns = time.monotonic_ns()
        due = sorted(
            (begin_ns + index * period_ns * 382 // 1000 % period_ns + number * period_ns, index,
             number + 1)
            for index in range(len(streams))
            for number in range(int(seconds * rate_hz))
        )
        for at_ns, index, number in due:
            time.sleep(max(0, at_ns - time.monotonic_ns()) / NS_PER_S)
            self._put(streams[index], number)

    def _put(self, stream: Stream, number: int) -> None:
        message = self._frames[number % len(self._frames)]
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(number, NS_PER_S)
        data = serialize_message(message)
        now_ns = stream.arrived_ns[number] = time.monotonic_ns()
        stream.statistics.count('received')
        frame = ReceivedFrame(stream, SerializedImage(data, False), now_ns, None)  # type: ignore
        if self._slots.put(stream.topic, frame):
            stream.statistics.count('dropped')


def drive(
    row: Row, frames: Sequence[Image], args: argparse.Namespace, rate_hz: float, seconds: float,
) -> None:
    """Have a row answer cameras for some time, and add to its result."""
    slots: FrameSlots[ReceivedFrame] = FrameSlots()
    values = {spec.name: spec.default for spec in parameters.PARAMETERS}
    settings = node_settings(values, row.bank.spec.class_names)
    streams = [Stream(f'/camera{number}') for number in range(args.cameras)]
    kind = TeamWorker if isinstance(row.detector, EngineTeam) else DetectionWorker
    worker = kind(
        row.detector, DetectionsWire(row.bank.spec.class_names), slots, lambda: settings,
        row.violations.append, lambda: True,
        lambda where, error: row.violations.append(f'{where}: {error!r}'),
    )
    worker.start()
    began = time.monotonic()
    Cameras(slots, frames).run(streams, rate_hz, seconds)
    row.seconds += time.monotonic() - began
    if worker.fault:
        row.violations.append(f'{row.name}: {worker.fault}')
    worker.stop()
    for stream in streams:
        counts = stream.statistics.counts()
        if counts.received != counts.processed + counts.failed + counts.dropped:
            row.violations.append(f'{row.name}: {counts} does not add up')
        if stream.order != sorted(set(stream.order)):
            row.violations.append(f'{row.name}: {stream.topic} is out of order')
    row.streams += streams


def settle(
    row: Row, frames: Sequence[Image], args: argparse.Namespace, rate_hz: float
) -> dict[str, Any]:
    """Drive a team until it has decided; returns what that took."""
    assert isinstance(row.detector, EngineTeam)
    schedule = row.detector._schedule
    schedule.restart(time.monotonic_ns())
    began = time.monotonic()
    while schedule.phase not in DECIDED and time.monotonic() - began < args.settle_seconds:
        drive(row, frames, args, rate_hz, 5.0)
    return {'seconds': round(time.monotonic() - began, 1), **row.result()}


def open_engine(text: str) -> Any:
    """Return the detector of `model,name=value,...`, as DetectorOptions names them."""
    model, *given = text.split(',')
    options: dict[str, Any] = {'model': model}
    kinds = {field.name: field.default for field in dataclasses.fields(DetectorOptions)}
    for each in given:
        name, _, value = each.partition('=')
        if name not in kinds:
            raise SystemExit(f'--engine {text}: {name!r} is none of {", ".join(kinds)}')
        default = kinds[name]
        options[name] = (
            value == 'true' if isinstance(default, bool) else type(default)(value)
        )
    return open_detector(DetectorOptions(**options))


def bank_of(text: str) -> EngineBank:
    """Return a bank of one engine."""
    detector = open_engine(text)
    kind = PipelinedBank if isinstance(detector, PipelinedDetector) else EngineBank
    return kind(detector, text)


def rows_of(args: argparse.Namespace) -> list[Row]:
    """Open what is compared; each row has engines of its own."""
    first, *others = args.engine
    rows = []
    alone = bank_of(first)
    rows.append(Row('first alone', alone, alone))
    bank = bank_of(first)
    team = PipelinedTeam if isinstance(bank, PipelinedBank) else EngineTeam
    more = [
        OpenModel(ModelId(number, text), open_engine(text), '')
        for number, text in enumerate(others, 2)
    ]
    rows.append(Row('team', bank, team(bank, more), more))
    if not args.no_instead:
        instead = bank_of(args.instead)
        rows.append(Row('one instead', instead, instead))
    return rows


def measure_rate(row: Row, frames: Sequence[Any], repeats: int = 30) -> float:
    """Return how many images a second the first engine does, one after the other."""
    for _ in range(3):
        row.bank.detect(frames[0], DetectSettings())
    began = time.monotonic()
    for number in range(repeats):
        row.bank.detect(frames[number % len(frames)], DetectSettings())
    return repeats / (time.monotonic() - began)


def main() -> int:
    """Measure, write, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('--engine', action='append', metavar='MODEL[,OPTION=VALUE...]')
    parser.add_argument('--instead', default=DEFAULT_INSTEAD, metavar='ENGINE')
    parser.add_argument('--no-instead', action='store_true')
    parser.add_argument('--cameras', type=int, default=2)
    parser.add_argument('--rates', type=float, nargs='+', metavar='HZ', help='of each camera')
    parser.add_argument('--size', type=int, nargs=2, default=(640, 480), metavar=('W', 'H'))
    parser.add_argument('--seconds', type=float, default=15.0, help='of a row in a round')
    parser.add_argument('--settle-seconds', type=float, default=120.0)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('-o', '--output', type=Path, default=_OUTPUT)
    photographs.add_arguments(parser)
    args = parser.parse_args()
    args.engine = args.engine or [DEFAULT_ENGINE] * 2
    threading.excepthook = lambda args: (sys.__excepthook__(*args[:3]), None)[1]

    pictures = photographs.load_frames(args, *args.size)
    frames = [_message(each) for each in pictures]
    rows = rows_of(args)
    capacity_hz = measure_rate(rows[0], [ImageView.from_array(each) for each in pictures])
    rates = args.rates or [capacity_hz * share / args.cameras for share in SHARES]
    result: dict[str, Any] = {
        'engines': args.engine, 'instead': None if args.no_instead else args.instead,
        'backends': {
            row.name: [row.bank.backend, *(each.detector.backend for each in row.others)]
            for row in rows
        },
        'cameras': args.cameras, 'size': list(args.size), 'first_alone_hz': round(capacity_hz, 2),
        'loads': [],
    }
    for rate_hz in rates:
        settling = settle(rows[1], frames, args, rate_hz)
        load = []
        for _ in range(args.rounds):
            for row in rows:
                drive(row, frames, args, rate_hz, args.seconds)
            load.append(read_load().as_record())
        result['loads'].append({
            'rate_hz_each': round(rate_hz, 2),
            'of_first_alone': round(rate_hz * args.cameras / capacity_hz, 2),
            'settling': settling, 'machine_load': load,
            'rows': {row.name: row.result() for row in rows},
        })
        _show(result['loads'][-1])
    for row in rows:
        row.detector.close()
    result['violations'] = sorted({each for row in rows for each in row.violations})
    save(args.output, result)
    for each in result['violations']:
        print(f'violation: {each}', file=sys.stderr)
    return 1 if result['violations'] else 0


def _message(bgr: Any) -> Image:
    height, width, _ = bgr.shape
    return Image(
        height=height, width=width, encoding='bgr8', step=3 * width, data=bgr.tobytes(),
    )


def _show(load: dict[str, Any]) -> None:
    print(f'{load["rate_hz_each"]} Hz a camera, {load["of_first_alone"]} of what the first can do')
    for name, row in load['rows'].items():
        latency = row['latency_ms']
        print(
            f'  {name:12} {row["images_per_s"]:7.1f} images/s, p50 {latency["p50"]:7.1f}, '
            f'p99 {latency["p99"]:7.1f} ms  {row.get("state", "")}'
        )


if __name__ == '__main__':
    sys.exit(main())
