"""
Time to publish detections: as bytes written directly, and as message objects.

    python benchmarks/detections_wire.py --rounds 300

For each number of detections both ways in turns of 20, so that a slow spell of the machine meets
both: `make` gives what is published, `publish` is rclpy's call, to one reliable subscription that
nobody reads. Before each, memory of the size of a 1080p image is written, for in the node caches
are full of images as well. Milliseconds in one thread, by the wall clock and, for a machine under
load, of its CPU. The class names are COCO's.

"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
import statistics
import time
from typing import Any

from measured_on import save
import numpy as np
import rclpy
from vision_msgs.msg import Detection2DArray

from yolov7_trt_ros.core.class_names import COCO80
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.messages.serialized_image import MessageHeader
from yolov7_trt_ros.nodes import qos
from yolov7_trt_ros.nodes.conversions import DetectionsToMsg, header_to_msg
from yolov7_trt_ros.nodes.detector.worker.detections_wire import DetectionsWire
from yolov7_trt_ros.nodes.process import process_setup

HEADER = MessageHeader(1_700_000_000, 123_456_789, 'camera_front')
TURN = WARM_UP = 20
IMAGE_BYTES = 1920 * 1080 * 3


def some_detections(count: int) -> Detections:
    """Return detections of random classes in a 1080p image."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 1000, (count, 2, 2)).astype(np.float32)
    boxes = np.sort(corners, axis=1).reshape(count, 4)
    ids = rng.integers(0, len(COCO80), count, np.int32)
    return Detections(boxes, rng.random(count, np.float32), ids, (1920, 1080))


def percentiles(samples_ns: list[int]) -> dict[str, float]:
    """Return median and 99th percentile in milliseconds."""
    ordered = [ns / 1e6 for ns in sorted(samples_ns[WARM_UP:])]
    return {
        'p50': round(statistics.median(ordered), 4),
        'p99': round(ordered[int(0.99 * (len(ordered) - 1))], 4),
    }


def measure(publisher: Any, count: int, rounds: int) -> dict[str, Any]:
    """Return the times of both ways for one number of detections."""
    wire, to_msg = DetectionsWire(COCO80), DetectionsToMsg(COCO80)
    assert not wire.reason, wire.reason
    detections = some_detections(count)
    ways = {
        'bytes': lambda: wire.make(detections, HEADER, 'name'),
        'messages': lambda: to_msg.convert(detections, header_to_msg(HEADER), 'name'),
    }
    samples: dict[str, list[int]] = {
        f'{way} {part}': [] for way in ways for part in ('make', 'publish', 'both', 'both cpu')
    }
    image = np.zeros(IMAGE_BYTES, np.uint8)
    for _ in range(1 + rounds // TURN):
        for way, make in (each for each in ways.items() for _ in range(TURN)):
            image += 1
            start, start_cpu = time.perf_counter_ns(), time.thread_time_ns()
            made = make()
            ready = time.perf_counter_ns()
            publisher.publish(made)
            done, done_cpu = time.perf_counter_ns(), time.thread_time_ns()
            samples[f'{way} make'].append(ready - start)
            samples[f'{way} publish'].append(done - ready)
            samples[f'{way} both'].append(done - start)
            samples[f'{way} both cpu'].append(done_cpu - start_cpu)
    return {'detections': count, 'message_bytes': len(ways['bytes']())} | {
        f'{name}_ms'.replace(' ', '_'): percentiles(each) for name, each in samples.items()
    }


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').strip().partition('\n')[0])
    parser.add_argument('--rounds', type=int, default=300)
    parser.add_argument('--detections', type=int, nargs='+', default=[0, 10, 100, 300])
    results = Path(__file__).parent / 'results'
    parser.add_argument('-o', '--output', type=Path, default=results / 'detections_wire.json')
    args = parser.parse_args()
    process_setup.tune_malloc()  # as the node does
    os.environ |= {
        'ROS_DOMAIN_ID': str(1 + os.getpid() % 100), 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'
    }
    rclpy.init()
    node = rclpy.create_node('detections_wire')
    publisher = node.create_publisher(Detection2DArray, 'detections', qos.DETECTIONS)
    node.create_subscription(Detection2DArray, 'detections', lambda _: None, 10, raw=True)
    while not publisher.get_subscription_count():
        time.sleep(0.05)
    rows = [measure(publisher, count, args.rounds) for count in args.detections]
    for row in rows:
        print(*(f'{name}: {value}' for name, value in row.items()), sep='\n  ')
    save(args.output, {'rounds': args.rounds, 'rows': rows})
    rclpy.shutdown()


if __name__ == '__main__':
    main()
