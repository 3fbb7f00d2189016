"""
Latency of the detector node from image topic to detections topic, and its CPU time.

    python benchmarks/node_latency.py --size 1920x1080 --rate 30 --seconds 20

The node, and each camera, is a process of its own; this one only listens. Cameras publish
best-effort bgr8 images, stamped right before, in two ways, each with a node of its own:
`serialized` gives the middleware bytes that are ready, with the stamp put in place, and costs what
a driver in C++ does; `message` has rclpy serialise a message object. Latency is from the stamp to
the detections here as bytes, before they become Python objects. A frame is lost when no
detections come for it: lost in transport, or dropped for a newer one. Stages are those of
/diagnostics, over the last 512 frames of a camera: of 30 Hz, with --seconds under 18, the 2 s of
warm-up are partly among them. Fewer than 5 boxes a frame are an error, not a result.

"""

from __future__ import annotations

import argparse
import array
import itertools
import json
import os
from pathlib import Path
import subprocess
import sys
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from measured_on import save
from photographs import add_arguments, check_boxes, describe, load_frames
from r2b_report import r2b_record, write_r2b
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from ready_bytes import ReadyImage
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from yolov7_trt_ros.core.latency import percentiles_ms
from yolov7_trt_ros.core.units import NS_PER_S, stamp_to_ns
from yolov7_trt_ros.engine.options import BACKENDS, MEMORIES, PRECISIONS
from yolov7_trt_ros.nodes.process import process_setup
from yolov7_trt_ros.records import to_record

WARM_UP_S, DRAIN_S, MATCH_S, STOP_S = 2.0, 2.5, 30.0, 30.0
STAGE_WINDOW, ERROR = 512, b'\2'  # of the node's percentiles; level of a status
PUBLISHERS = SERIALIZED, MESSAGE = 'serialized', 'message'
OPTIONS = {  # what is passed on to the node: default, choices
    'model': ('yolov7-nano', None), 'backend': ('auto', BACKENDS), 'memory': ('staged', MEMORIES),
    'precision': ('fp16', PRECISIONS), 'plan_cache': ('', None),
    'receive': ('auto', ('auto', 'direct', 'rclpy')),
}


Frames = tuple[list[int], dict[int, int]]  # stamps (ns) sent, and when what came of them was here


class MessageImage:
    """A message object that rclpy serialises each time."""

    def __init__(self, message: Image) -> None:
        self._message = message

    def publish(self, publisher: Any, stamp_ns: int) -> None:
        """Put the stamp in and publish."""
        stamp = self._message.header.stamp
        stamp.sec, stamp.nanosec = divmod(stamp_ns, NS_PER_S)
        publisher.publish(self._message)


def camera_messages(args: argparse.Namespace) -> list[MessageImage | ReadyImage]:
    """Return what a camera publishes in turn."""
    width, height = map(int, args.size.split('x'))
    made = []
    for picture in load_frames(args, width, height):
        message = Image(height=height, width=width, encoding='bgr8', step=width * 3)
        message.data = array.array('B', picture.tobytes())
        made.append((ReadyImage if args.publisher == SERIALIZED else MessageImage)(message))
    return made


def run_camera(args: argparse.Namespace, index: int) -> None:
    """Publish from the time (ns) that a line of stdin names, then print the stamps as JSON."""
    process_setup.tune_malloc()
    rclpy.init()
    node = rclpy.create_node(f'camera{index}')
    qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    publisher = node.create_publisher(Image, f'/camera{index}/image_raw', qos)
    messages = camera_messages(args)
    deadline = time.monotonic() + MATCH_S
    while not publisher.get_subscription_count() and time.monotonic() < deadline:
        time.sleep(0.05)
    print('ready', flush=True)
    start_ns, period_ns = int(sys.stdin.readline()), int(NS_PER_S / args.rate)
    end_ns = start_ns + int((WARM_UP_S + args.seconds) * NS_PER_S)
    due_ns = start_ns + period_ns * index // args.cameras  # cameras spread over the period
    stamps_ns = []
    while due_ns < end_ns:
        message = messages[len(stamps_ns) % len(messages)]
        time.sleep(max(0, due_ns - time.time_ns()) / NS_PER_S)
        stamps_ns.append(time.time_ns())
        message.publish(publisher, stamps_ns[-1])
        due_ns = max(due_ns + period_ns, stamps_ns[-1])  # a delay is not made up for in a burst
    time.sleep(1.0)  # the last ones are still to be read
    print(json.dumps(stamps_ns))
    rclpy.shutdown()


class Listener:
    """Takes detections as bytes with their time of arrival, and the latest diagnostics."""

    def __init__(self, cameras: int) -> None:
        rclpy.init()
        self.statuses: dict[str, tuple[bytes, str, dict[str, str]]] = {}
        self.taken: list[list[tuple[bytes, int]]] = [[] for _ in range(cameras)]
        self._node = rclpy.create_node('node_latency')
        self._node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)
        for index, taken in enumerate(self.taken):
            self._node.create_subscription(
                Detection2DArray, f'/camera{index}/detections',
                lambda data, taken=taken: taken.append((data, time.time_ns())), 10, raw=True,
            )
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)

    def spin_until(self, until_ns: int) -> None:
        """Take messages until a time of the system's clock."""
        while (left_ns := until_ns - time.time_ns()) > 0:
            self._executor.spin_once(timeout_sec=left_ns / NS_PER_S)

    def wait_until_detecting(self, node: subprocess.Popen[str]) -> None:
        """Wait until the node is active with its model, telling how a build gets on."""
        for turn in itertools.count():
            level, text, values = self.statuses.get('/detector: detector', (b'', 'starting', {}))
            if level == ERROR or node.poll() is not None:
                raise SystemExit(f'the node cannot detect: {text}, exit status {node.poll()}')
            if values.get('state') == 'active' and 'backend' in values:
                return
            if turn % 10 == 0:
                print(f'waiting for the node: {text}', flush=True)
            self.spin_until(time.time_ns() + NS_PER_S // 2)

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.shutdown()

    def result(self, index: int, sent_ns: list[int]) -> tuple[dict[int, int], dict[str, Any]]:
        """Return the arrival (ns) of the frame of each stamp, and a note on the camera."""
        taken = [(deserialize_message(d, Detection2DArray), ns) for d, ns in self.taken[index]]
        found = {stamp_to_ns(m.header.stamp): (len(m.detections), ns) for m, ns in taken}
        arrived_ns = {ns: found[ns][1] for ns in sent_ns if ns in found}
        latencies_ns = [arrived - sent for sent, arrived in arrived_ns.items()]
        boxes = [found[ns][0] for ns in sent_ns if ns in found]
        values = self.statuses.get(f'/detector: /camera{index}/image_raw', (b'', '', {}))[2]
        over = min(STAGE_WINDOW, int(values.get('processed', 0)))
        return arrived_ns, {
            'sent': len(sent_ns), 'received': len(boxes), 'lost': len(sent_ns) - len(boxes),
            'latency_ms': to_record(percentiles_ms(latencies_ns)),
            'images_per_batch': float(values.get('images per batch', 0.0)),
            'boxes_per_frame': round(sum(boxes) / max(1, len(boxes)), 2),
            'node_counts_with_warm_up': {k: int(v) for k, v in values.items() if v.isdigit()},
            'stages_over_frames': over, 'of_them_warm_up': max(0, over - len(boxes)),
            'stages_ms': {k[:-5]: float(v) for k, v in values.items() if k.endswith(' (ms)')},
        }

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {pair.key: pair.value for pair in status.values}
            self.statuses[status.name] = (status.level, status.message, values)


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has used: all threads, user and system."""
    fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def run_cameras(
    args: argparse.Namespace, listener: Listener, pid: int
) -> tuple[list[list[int]], float]:
    """Return the stamps of measured frames per camera, and the node's CPU in % of one core."""
    commands = [
        [sys.executable, *sys.argv, '--camera', str(index), '--publisher', args.publisher]
        for index in range(args.cameras)
    ]
    pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'text': True}
    cameras = [subprocess.Popen(command, **pipes) for command in commands]
    if any(each.stdout.readline() != 'ready\n' for each in cameras):
        raise SystemExit('a camera could not start')
    start_ns = time.time_ns() + NS_PER_S // 2
    for each in cameras:
        print(start_ns, file=each.stdin, flush=True)
    begin_ns = start_ns + int(WARM_UP_S * NS_PER_S)
    end_ns = begin_ns + int(args.seconds * NS_PER_S)
    listener.spin_until(begin_ns)
    used_s, since = cpu_s(pid), time.monotonic()
    listener.spin_until(end_ns)
    percent = 100 * (cpu_s(pid) - used_s) / (time.monotonic() - since)
    listener.spin_until(end_ns + int(DRAIN_S * NS_PER_S))
    sent = [json.loads(each.communicate()[0]) for each in cameras]
    return [[ns for ns in each if begin_ns <= ns < end_ns] for each in sent], round(percent, 1)


def node_command(args: argparse.Namespace) -> list[str]:
    """Return the command that starts the node."""
    names = (*OPTIONS, 'max_batch', 'batch_max_wait_ms')
    parameters = {name: getattr(args, name) for name in names if getattr(args, name)}
    parameters |= {'cuda_graph': str(args.cuda_graph).lower(), 'autostart': 'true'}
    parameters['image_topics'] = ','.join(f'/camera{i}/image_raw' for i in range(args.cameras))
    command = [sys.executable, '-m', 'yolov7_trt_ros.nodes.detector.detector_node', '--ros-args']
    for name, value in parameters.items():
        command += ['-p', f'{name}:={value}']
    return [*command, '--log-level', 'warn']


def measure(args: argparse.Namespace) -> tuple[dict[str, Any], list[Frames]]:
    """Run the node and cameras that publish as `args.publisher`; the frames are those of each."""
    node = subprocess.Popen(node_command(args))
    listener = Listener(args.cameras)
    try:
        listener.wait_until_detecting(node)
        sent_ns, cpu_percent = run_cameras(args, listener, node.pid)
        if node.poll() is not None or not any(listener.taken):
            raise SystemExit(f'no detections, or the node has ended: exit status {node.poll()}')
    finally:
        listener.close()
        node.terminate()
        try:
            node.wait(STOP_S)
        except subprocess.TimeoutExpired:
            node.kill()
    results = [listener.result(index, each) for index, each in enumerate(sent_ns)]
    for _, each in results:
        check_boxes(each['boxes_per_frame'], args.least_boxes)
    latencies_ns = [arrived - sent for each, _ in results for sent, arrived in each.items()]
    return {
        'node': listener.statuses['/detector: detector'][2], 'node_cpu_percent': cpu_percent,
        'latency_ms': to_record(percentiles_ms(latencies_ns)),
        'cameras': [each for _, each in results],
    }, [(sent, arrived) for sent, (arrived, _) in zip(sent_ns, results, strict=True)]


def show(publisher: str, result: dict[str, Any]) -> None:
    """Print the result as a short table."""
    print(f'cameras publish {publisher}')
    print(*(f'{name}: {value}' for name, value in result['node'].items()), sep=', ')
    print('latency ms:', result['latency_ms'], f'CPU {result["node_cpu_percent"]} % of one core')
    for index, each in enumerate(result['cameras']):
        names = ('sent', 'received', 'lost', 'boxes_per_frame')
        print(f'camera{index}:', *(f'{k} {each[k]}' for k in names))
        for name, value in each['stages_ms'].items():
            print(f'{name:>22} {value:8.2f} ms', end='\n' if name.endswith('p99') else '')


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__.strip().partition('\n')[0])
    for name, (default, choices) in OPTIONS.items():
        parser.add_argument(f'--{name.replace("_", "-")}', default=default, choices=choices)
    parser.add_argument('--no-cuda-graph', dest='cuda_graph', action='store_false')
    numbers = {
        'size': '1920x1080', 'rate': 30.0, 'seconds': 15.0, 'cameras': 1,
        'max_batch': 1, 'batch_max_wait_ms': 0.0,
    }
    for name, default in numbers.items():
        parser.add_argument(f'--{name.replace("_", "-")}', type=type(default), default=default)
    results = Path(__file__).parent / 'results'
    parser.add_argument('-o', '--output', type=Path, default=results / 'node_latency.json')
    add_arguments(parser)
    parser.add_argument('--publishers', nargs='+', default=PUBLISHERS, choices=PUBLISHERS)
    parser.add_argument(
        '--r2b-json', type=Path,
        help="also write this file with ros2_benchmark's keys, of the first publisher",
    )
    parser.add_argument('--camera', type=int, help=argparse.SUPPRESS)
    parser.add_argument('--publisher', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.camera is not None:
        return run_camera(args, args.camera)
    for name in process_setup.PROFILE_VARIABLES:
        os.environ.pop(name, None)
    os.environ |= process_setup.large_image_environment(os.environ) | {
        'ROS_DOMAIN_ID': str(1 + os.getpid() % 100), 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'
    }
    measured = {}
    for publisher in args.publishers:
        args.publisher = publisher
        measured[publisher], frames = measure(args)
        show(publisher, measured[publisher])
        if args.r2b_json is not None and publisher == args.publishers[0]:
            records = {f'camera{index}': r2b_record(*each) for index, each in enumerate(frames)}
            write_r2b(args.r2b_json, args.size, records)
    save(args.output, {
        'size': args.size, 'rate_hz': args.rate, 'seconds': args.seconds,
        'max_batch': args.max_batch, 'batch_max_wait_ms': args.batch_max_wait_ms,
        'warm_up_s': WARM_UP_S, 'least_boxes': args.least_boxes,
        'pictures': describe(args),
        'publishers': measured,
    })


if __name__ == '__main__':
    main()
