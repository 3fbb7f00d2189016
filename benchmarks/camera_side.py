"""
How a camera's settings affect the time until the middleware has delivered an image.

    python benchmarks/camera_side.py

A camera process publishes best-effort 1080p bgr8 images as bytes that are ready, which costs about
what a driver in C++ does; another process takes them below rclpy. The ways differ in one thing
from the first, which is what docs/large-images.md asks for, and take turns. Milliseconds, medians
of all rounds: `publish` of the camera's call, `arrived` from the stamp until the middleware has
the image, `taken` until it is taken, and the CPU time of the camera process for each image.

"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from measured_on import save

from yolov7_trt_ros.core.units import NS_PER_MS, NS_PER_S
from yolov7_trt_ros.nodes.process import process_setup

TOPIC, RATE_HZ, WARM_UP = 'camera_side', 15.0, 15
SEGMENT = '<segment_size>134217728</segment_size>'
MESSAGE = '<maxMessageSize>16777216</maxMessageSize>'
UDP = '<transport_id>udp</transport_id>\n        </userTransports>'
WAYS: dict[str, dict[str, Any]] = {
    'as documented': {},
    'history of 1 instead of 5': {'depth': 1},
    'reliable': {'reliable': True},
    'malloc as it comes': {'tuned': False},
    'segment of 32 MiB': {'segment_mib': 32},
    'published asynchronously': {'mode': 'ASYNCHRONOUS'},
    'shared memory alone': {'message_kib': 16384},
    'shared memory alone, parts of 1 MiB': {'message_kib': 1024},
    'shared memory alone, parts of 256 KiB': {'message_kib': 256},
}


def publish(options: dict[str, Any], count: int, size: str) -> None:
    """Publish images once somebody listens, and print what the calls have cost as JSON."""
    if options.get('tuned', True):
        process_setup.tune_malloc()
    import rclpy
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from ready_bytes import ReadyImage
    from sensor_msgs.msg import Image

    width, height = map(int, size.split('x'))
    message = Image(height=height, width=width, encoding='bgr8', step=width * 3)
    message.data.frombytes(os.urandom(width * height * 3))
    ready = ReadyImage(message)
    rclpy.init()
    node = rclpy.create_node('camera')
    kind = ReliabilityPolicy.RELIABLE if options.get('reliable') else ReliabilityPolicy.BEST_EFFORT
    publisher = node.create_publisher(
        Image, TOPIC, QoSProfile(depth=options.get('depth', 5), reliability=kind)
    )
    while not publisher.get_subscription_count():
        time.sleep(0.05)
    time.sleep(1.0)  # both sides match
    calls_ns, due_s = [], time.monotonic()
    for index in range(count):
        if index == WARM_UP:
            used_s = time.process_time()
        due_s += 1 / RATE_HZ
        time.sleep(max(0.0, due_s - time.monotonic()))
        began_ns = time.perf_counter_ns()
        ready.publish(publisher, time.time_ns())
        calls_ns.append(time.perf_counter_ns() - began_ns)
    cpu_s = time.process_time() - used_s
    time.sleep(1.0)
    print(json.dumps({
        'publish_ms': [ns / NS_PER_MS for ns in calls_ns[WARM_UP:]],
        'cpu_ms': [cpu_s * 1e3 / (count - WARM_UP)],
    }), flush=True)
    os._exit(0)  # nothing is to be saved


def receive(seconds: float) -> None:
    """Take images below rclpy for a time, and print when they were where as JSON."""
    process_setup.tune_malloc()
    import rclpy
    from rclpy.impl.implementation_singleton import rclpy_implementation
    from rclpy.qos import QoSProfile, ReliabilityPolicy

    from yolov7_trt_ros.nodes import qos
    from yolov7_trt_ros.nodes.below_rclpy.cpp_messages import ImageMessage
    from yolov7_trt_ros.nodes.below_rclpy.direct_take import leave_alone, open_direct
    from yolov7_trt_ros.nodes.below_rclpy.rcl_library import OK, TakeInfo

    rclpy.init()
    node = rclpy.create_node('receiver')
    direct = open_direct(node)
    handle = node.create_subscription(
        direct.types[qos.RAW], TOPIC, leave_alone,
        QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT),
    ).handle
    message, info = ImageMessage(direct.kinds[qos.RAW]), TakeInfo()
    wait_set = rclpy_implementation.WaitSet(1, 0, 0, 0, 0, 0, node.context.handle)
    arrived_ns, taken_ns, deadline_s = [], [], time.monotonic() + seconds
    while time.monotonic() < deadline_s:
        wait_set.clear_entities()
        wait_set.add_subscription(handle)
        wait_set.wait(NS_PER_S // 5)
        if direct.rcl.take(handle.pointer, message.address, info) == OK:
            now_ns, stamp_ns = time.time_ns(), message.lease().stamp_ns
            arrived_ns.append(info.read().received_ns - stamp_ns)
            taken_ns.append(now_ns - stamp_ns)
    print(json.dumps({
        'arrived_ms': [ns / NS_PER_MS for ns in arrived_ns[WARM_UP:]],
        'taken_ms': [ns / NS_PER_MS for ns in taken_ns[WARM_UP:]],
    }), flush=True)
    os._exit(0)  # nothing is to be saved


def changed(profile: str, options: dict[str, Any]) -> str:
    """Return a profile of Fast DDS with the segment, or without UDP and in parts, as asked for."""
    edits = [(SEGMENT, f'<segment_size>{options.get("segment_mib", 128) << 20}</segment_size>')]
    if 'message_kib' in options:
        edits += [
            (MESSAGE, f'<maxMessageSize>{options["message_kib"] << 10}</maxMessageSize>'),
            (UDP, '</userTransports>'),
        ]
    for old, new in edits:
        if profile.count(old) != 1:
            raise SystemExit(f'{old} is not once in the profile, which this script expects')
        profile = profile.replace(old, new)
    return profile


def run_way(name: str, args: argparse.Namespace, folder: Path) -> dict[str, list[float]]:
    """Run a camera and a receiver; returns what both have noted."""
    options = WAYS[name]
    environment = {k: v for k, v in os.environ.items() if k not in process_setup.PROFILE_VARIABLES}
    environment |= {
        'ROS_DOMAIN_ID': str(1 + os.getpid() % 100), 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
        'RMW_FASTRTPS_PUBLICATION_MODE': options.get('mode', 'SYNCHRONOUS'),
    }
    environment |= process_setup.large_image_environment(environment)
    command = [sys.executable, __file__, '--count', str(args.count), '--size', args.size]
    seconds = args.count / RATE_HZ + 5.0
    receiver = subprocess.Popen(
        [*command, '--receive', str(seconds)], env=environment, stdout=subprocess.PIPE, text=True
    )
    for variable in process_setup.PROFILE_VARIABLES:
        if variable in environment:
            own = folder / f'{list(WAYS).index(name)}.xml'
            own.write_text(changed(Path(environment[variable]).read_text(), options))
            environment[variable] = str(own)
    camera = subprocess.run(
        [*command, '--publish', name], env=environment, stdout=subprocess.PIPE, text=True,
        check=True,
    )
    found: dict[str, list[float]] = json.loads(camera.stdout.splitlines()[-1])
    return found | json.loads(receiver.communicate()[0].splitlines()[-1])


def main() -> None:
    """Measure all ways in turn, print and save."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').strip().partition('\n')[0])
    parser.add_argument('--count', type=int, default=75, help='images a run')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--size', default='1920x1080')
    parser.add_argument('--ways', nargs='+', choices=WAYS, default=list(WAYS))
    results = Path(__file__).resolve().parent / 'results'
    parser.add_argument('-o', '--output', type=Path, default=results / 'camera_side.json')
    parser.add_argument('--publish', choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument('--receive', type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.publish:
        return publish(WAYS[args.publish], args.count, args.size)
    if args.receive:
        return receive(args.receive)
    noted: dict[str, dict[str, list[float]]] = {name: {} for name in args.ways}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(args.rounds):
            for place in range(len(args.ways)):
                name = args.ways[(turn + place) % len(args.ways)]
                for key, values in run_way(name, args, Path(folder)).items():
                    noted[name].setdefault(key, []).extend(values)
                print(turn, name, flush=True)
    table = {
        name: {key: round(statistics.median(values), 3) for key, values in each.items()}
        | {'sent': len(each['publish_ms']), 'received': len(each['taken_ms'])}
        for name, each in noted.items()
    }
    print(json.dumps(table, indent=2))
    return save(args.output, {
        'size': args.size, 'rate_hz': RATE_HZ, 'rounds': args.rounds, 'medians': table,
    })


if __name__ == '__main__':
    main()
