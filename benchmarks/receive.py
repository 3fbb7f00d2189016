"""
Cost of receiving one large image: rclpy's raw take, the node through rclpy, and below it.

    python benchmarks/receive.py

A camera process publishes best-effort bgr8 images, a process of its own takes each of them and
reads its header, as the node does, without a network. Ways, one after the other in each round:

    take_message   a wait set of our own and rclpy's raw take, which makes bytes: no executor
    rclpy          the node's way with receive rclpy: executor, callback, slots, a worker thread
    direct         the node's way with receive direct: the worker waits and takes

CPU is that of the whole process for each message that was sent, the middleware's threads included;
take is the time of the call that takes one message; latency is from the stamp until the worker has
the image. Medians of the rounds.

"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
import statistics
import subprocess
import sys
import threading
import time
from typing import Any

from measured_on import save
import transport

from yolov7_trt_ros.core.units import NS_PER_MS, NS_PER_S

WAYS = ('take_message', 'rclpy', 'direct')
SETTLE_S = 6.0
MEASURED = ('cpu_ms', 'take_ms', 'latency_ms')


class Notes:
    """What each message has cost; filled by one thread."""

    def __init__(self) -> None:
        self.ages_ns: list[int] = []
        self.stamps_ns: list[int] = []
        self.used_s: list[float] = []
        self.takes_ns: list[int] = []

    def note(self, stamp_ns: int) -> None:
        """Note a message that is there with its pixels."""
        self.ages_ns.append(time.time_ns() - stamp_ns)
        self.stamps_ns.append(stamp_ns)
        self.used_s.append(time.process_time())

    def result(self) -> dict[str, Any]:
        """Return medians in milliseconds, without the warm-up."""
        first = transport.WARM_UP
        ages_ns, used_s = self.ages_ns[first:], self.used_s[first:]
        spent_s = used_s[-1] - used_s[0]
        takes_ns = self.takes_ns[first:]
        sent = (self.stamps_ns[-1] - self.stamps_ns[first]) / NS_PER_S * transport.RATE_HZ
        return {
            'received': len(ages_ns), 'sent': round(sent) + 1, 'cpu_ms': spent_s / sent * 1e3,
            'latency_ms': statistics.median(ages_ns) / NS_PER_MS,
            'take_ms': statistics.median(takes_ns) / NS_PER_MS if takes_ns else None,
        }


def receive(way: str, seconds: float) -> None:
    """Receive images for a time in one variant, and print their cost as JSON."""
    import rclpy
    from rclpy.lifecycle import LifecycleNode

    from yolov7_trt_ros.nodes.process.process_setup import tune_malloc

    tune_malloc()
    rclpy.init()
    node, notes = LifecycleNode('receiver'), Notes()
    if way == 'take_message':
        take_messages(node, notes, seconds)
    else:
        pull_or_push(node, notes, seconds, way)
    print(json.dumps(notes.result()), flush=True)
    os._exit(0)  # nothing is to be saved


def take_messages(node: Any, notes: Notes, seconds: float) -> None:
    """Take with rclpy's own call alone."""
    from rclpy.impl.implementation_singleton import rclpy_implementation
    from sensor_msgs.msg import Image

    from yolov7_trt_ros.core.messages.serialized_image import read_image
    from yolov7_trt_ros.nodes.below_rclpy.direct_take import leave_alone

    handle = node.create_subscription(Image, transport.TOPIC, leave_alone, transport._qos()).handle
    wait_set = rclpy_implementation.WaitSet(1, 0, 0, 0, 0, 0, node.context.handle)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        wait_set.clear_entities()
        wait_set.add_subscription(handle)
        wait_set.wait(NS_PER_MS * 200)
        began_ns = time.perf_counter_ns()
        taken = handle.take_message(Image, True)
        if taken is not None:
            notes.takes_ns.append(time.perf_counter_ns() - began_ns)
            notes.note(read_image(taken[0]).header.stamp_ns)


def pull_or_push(node: Any, notes: Notes, seconds: float, way: str) -> None:
    """Receive as the node does, with a thread that takes the frames."""
    import rclpy

    from yolov7_trt_ros.nodes.below_rclpy.direct_take import open_direct
    from yolov7_trt_ros.nodes.callback_net import OneThreadExecutor
    from yolov7_trt_ros.nodes.images.image_stream import ImageStream
    from yolov7_trt_ros.nodes.images.pulled_images import PulledImages
    from yolov7_trt_ros.nodes.images.pushed_images import PushedImages
    from yolov7_trt_ros.nodes.images.topic_plan import plan_streams, wanted_topics

    images: Any = PushedImages(node)
    if way == 'direct':
        direct = open_direct(node)
        _time_takes(direct.rcl, notes)
        images = PulledImages(node, direct)
    (names,) = plan_streams(node, wanted_topics(node, transport.TOPIC, '')).streams
    stream = ImageStream(
        node, names, image_transport='raw', image_qos='best_effort', on_error=print
    )
    stream.subscribe(images)

    def work() -> None:
        while taken := images.take():
            for _, frame in taken:
                notes.note(frame.message.read().header.stamp_ns)
            del taken, frame

    threading.Thread(target=work, daemon=True).start()
    executor = OneThreadExecutor()
    executor.add_node(node)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and rclpy.ok():
        executor.spin_once(timeout_sec=1.0)  # the node's own timer wakes it as often


def _time_takes(rcl: Any, notes: Notes) -> None:
    """Record the time of each take of a message."""
    take = rcl.take

    def timed(*arguments: Any) -> int:
        began_ns = time.perf_counter_ns()
        code: int = take(*arguments)
        notes.takes_ns.append(time.perf_counter_ns() - began_ns)
        return code

    rcl.take = timed


def measure(way: str, size: str, count: int) -> dict[str, Any]:
    """Run a camera and a receiver and return what the receiver printed."""
    from yolov7_trt_ros.nodes.process.process_setup import (
        large_image_environment,
        PROFILE_VARIABLES,
    )

    environment = {k: v for k, v in os.environ.items() if k not in PROFILE_VARIABLES}
    environment |= {
        'ROS_DOMAIN_ID': str(1 + os.getpid() % 100), 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'
    }
    environment |= large_image_environment(environment)
    command = [sys.executable, __file__, '--count', str(count)]
    receiver = subprocess.Popen(
        [*command, '--receive', way], env=environment, stdout=subprocess.PIPE, text=True
    )
    camera = subprocess.Popen([*command, '--publish', *size.split('x')], env=environment)
    result: dict[str, Any] = json.loads(receiver.communicate()[0].splitlines()[-1])
    camera.wait()
    return {'way': way, **result}


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians of each variant, and CPU relative to rclpy's raw take."""
    table: dict[str, Any] = {}
    for way in WAYS:
        mine = [row for row in rows if row['way'] == way]
        table[way] = {
            name: round(statistics.median(each[name] for each in mine), 3)
            for name in MEASURED if mine[0][name] is not None
        }
    base = table['take_message']['cpu_ms']
    for values in table.values():
        values['cpu_against_take_message'] = round(values['cpu_ms'] / base, 3)
    return table


def main() -> None:
    """Measure all ways in turn, print and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--count', type=int, default=210, help='images a run')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--size', default='1920x1080')
    results = Path(__file__).resolve().parent / 'results'
    parser.add_argument('-o', '--output', type=Path, default=results / 'receive.json')
    parser.add_argument('--publish', type=int, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument('--receive', choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.publish:
        from yolov7_trt_ros.nodes.process.process_setup import tune_malloc

        tune_malloc()
        return transport.publish(*args.publish, args.count)
    if args.receive:
        return receive(args.receive, args.count / transport.RATE_HZ + SETTLE_S)
    rows = []
    load_before = os.getloadavg()[0]
    for number in range(args.rounds):
        for way in WAYS[number % 3:] + WAYS[:number % 3]:
            rows.append(measure(way, args.size, args.count))
            print(rows[-1], flush=True)
    table = summary(rows)
    print(json.dumps(table, indent=2))
    return save(args.output, {
        'size': args.size, 'rate_hz': transport.RATE_HZ, 'reliability': 'best effort',
        'load_before': load_before, 'medians': table, 'runs': rows,
    })


if __name__ == '__main__':
    main()
