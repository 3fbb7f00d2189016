"""
Cost and delivery of large images between two processes, before and after our settings.

    python benchmarks/transport.py

A camera process publishes best-effort bgr8 images at 30 Hz, a subscriber process takes them with a
plain rclpy subscription. Before: Fast DDS and malloc as they come. After: the profile
config/fastdds_large_images.xml on both sides and malloc tuned, as detector_node does at start.

"""

from __future__ import annotations

import argparse
import array
import json
import os
from pathlib import Path
import subprocess
import sys
import time
from typing import Any

from measured_on import save

RATE_HZ = 30.0
TOPIC = 'benchmark_image'
SIZES = ((640, 480), (1920, 1080))
WARM_UP = 30


def publish(width: int, height: int, count: int) -> None:
    """Publish images once there is a subscriber."""
    import rclpy
    from sensor_msgs.msg import Image

    rclpy.init()
    node = rclpy.create_node('benchmark_camera')
    publisher = node.create_publisher(Image, TOPIC, _qos())
    message = Image(height=height, width=width, encoding='bgr8', step=width * 3)
    message.data = array.array('B', bytes(width * height * 3))
    while not publisher.get_subscription_count():
        rclpy.spin_once(node, timeout_sec=0.05)
    time.sleep(1.0)  # both sides match
    due = time.monotonic()
    for index in range(count):
        due += 1 / RATE_HZ
        time.sleep(max(0.0, due - time.monotonic()))
        message.header.frame_id = str(index)
        message.header.stamp = node.get_clock().now().to_msg()
        publisher.publish(message)
    time.sleep(1.0)
    node.destroy_node()
    rclpy.shutdown()


def subscribe(seconds: float, *, serialized: bool = False) -> None:
    """Take images, as messages or serialised, and print what they cost as JSON."""
    import numpy as np
    import rclpy
    from sensor_msgs.msg import Image

    from yolov7_trt_ros.core.messages.serialized_image import read_image

    rclpy.init()
    node = rclpy.create_node('benchmark_subscriber')
    seen: list[tuple[int, int, float]] = []

    def on_image(message: Any) -> None:
        stamp = message.header.stamp
        note(message.header.frame_id, stamp.sec * 10**9 + stamp.nanosec)

    def on_bytes(message: bytes) -> None:
        header = read_image(message).header
        note(header.frame_id, header.stamp_ns)

    def note(frame_id: str, stamp_ns: int) -> None:
        age_ns = node.get_clock().now().nanoseconds - stamp_ns
        seen.append((int(frame_id), age_ns, time.process_time()))

    node.create_subscription(
        Image, TOPIC, on_bytes if serialized else on_image, _qos(), raw=serialized
    )
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        rclpy.spin_once(node, timeout_sec=0.2)
    steady = [each for each in seen if each[0] >= WARM_UP]
    result: dict[str, Any] = {'received': len(steady)}
    if len(steady) > 10:
        ages_ms = np.array([each[1] for each in steady]) / 1e6
        spent_s = steady[-1][2] - steady[0][2]
        result |= {
            'cpu_ms_per_message': round(spent_s / (len(steady) - 1) * 1e3, 2),
            'latency_p50_ms': round(float(np.percentile(ages_ms, 50)), 2),
            'latency_p99_ms': round(float(np.percentile(ages_ms, 99)), 2),
        }
    print(json.dumps(result))
    node.destroy_node()
    rclpy.shutdown()


def _qos() -> Any:
    from rclpy.qos import QoSProfile, ReliabilityPolicy

    return QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


def measure(width: int, height: int, count: int, *, ours: bool) -> dict[str, Any]:
    """Run one pair of processes and return what the subscriber printed."""
    from yolov7_trt_ros.nodes.process.process_setup import (
        large_image_environment,
        PROFILE_VARIABLES,
    )

    environment = {k: v for k, v in os.environ.items() if k not in PROFILE_VARIABLES}
    environment |= {'ROS_DOMAIN_ID': '87', 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}
    if ours:
        environment |= large_image_environment(environment)
    tuned = ['--tuned'] if ours else []
    seconds = count / RATE_HZ + 6
    subscriber = subprocess.Popen(
        [sys.executable, __file__, '--subscribe', str(seconds), *tuned],
        env=environment, stdout=subprocess.PIPE, text=True,
    )
    publisher = subprocess.Popen(
        [sys.executable, __file__, '--publish', str(width), str(height), str(count), *tuned],
        env=environment,
    )
    text = subscriber.communicate()[0]
    publisher.wait()
    result: dict[str, Any] = json.loads(text.splitlines()[-1])
    result['sent'] = count - WARM_UP
    result['lost_percent'] = round(100 * (1 - result['received'] / result['sent']), 1)
    return result


def main() -> None:
    """Measure every size before and after, print and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--count', type=int, default=330, help='images per run')
    parser.add_argument(
        '-o', '--output', type=Path, default=Path(__file__).parent / 'results' / 'transport.json'
    )
    parser.add_argument('--publish', type=int, nargs=3, help=argparse.SUPPRESS)
    parser.add_argument('--subscribe', type=float, help=argparse.SUPPRESS)
    parser.add_argument('--tuned', action='store_true', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.tuned:
        from yolov7_trt_ros.nodes.process.process_setup import tune_malloc

        tune_malloc()
    if args.publish:
        publish(*args.publish)
    elif args.subscribe:
        subscribe(args.subscribe)
    else:
        rows = []
        for width, height in SIZES:
            for ours in (False, True):
                row = {'size': f'{width}x{height}', 'settings': 'ours' if ours else 'default'}
                row |= measure(width, height, args.count, ours=ours)
                print(row, flush=True)
                rows.append(row)
        save(args.output, {'rate_hz': RATE_HZ, 'reliability': 'best effort', 'runs': rows})


if __name__ == '__main__':
    main()
