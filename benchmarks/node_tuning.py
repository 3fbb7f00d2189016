"""
CPU time of the detector node with overlay and with a rate limit.

    python benchmarks/node_tuning.py

One node on one thread of ONNX Runtime, one camera of 640x480 bgr8 at 15 Hz (the image player).
Phases of the same node follow each other, twice: as it is, with a subscriber to the overlay, with
max_rate_hz 5. CPU time of the node's process, so that other processes of the machine count little.

"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
import subprocess
import sys
import time
from typing import Any

from measured_on import save
from node_latency import cpu_s
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParameters
import rclpy
from rclpy.node import Node
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from yolov7_trt_ros.nodes.process import process_setup

RATE_HZ, LIMIT_HZ, SETTLE_S = 15.0, 5.0, 1.5
START_S, STOP_S = 60.0, 20.0
PHASES = ('nobody looks', 'overlay', 'limited')
RESULTS = Path(__file__).resolve().parent / 'results' / 'node_tuning.json'


class Watcher:
    """Counts detections, looks at the overlay when asked to, and sets the rate."""

    def __init__(self) -> None:
        self.node: Node = rclpy.create_node('watcher')
        self.detections = self.overlays = 0
        self._subscription: Any = None
        self._client: Any = self.node.create_client(SetParameters, '/detector/set_parameters')
        self.node.create_subscription(
            Detection2DArray, '/camera/detections', self._on_detections, 10
        )

    def _on_detections(self, message: Detection2DArray) -> None:
        self.detections += 1

    def _on_overlay(self, message: Image) -> None:
        self.overlays += 1

    def spin(self, seconds: float) -> None:
        """Take messages for some time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            rclpy.spin_once(self.node, timeout_sec=left)

    def look(self, wanted: bool) -> None:
        """Subscribe to the overlay, or no longer."""
        if self._subscription is not None:
            self.node.destroy_subscription(self._subscription)
            self._subscription = None
        if wanted:
            self._subscription = self.node.create_subscription(
                Image, '/camera/detections/overlay', self._on_overlay, 1
            )

    def limit(self, rate_hz: float) -> None:
        """Set max_rate_hz."""
        value = ParameterValue(type=3, double_value=rate_hz)
        request = SetParameters.Request(parameters=[Parameter(name='max_rate_hz', value=value)])
        future = self._client.call_async(request)
        rclpy.spin_until_future_complete(self.node, future, timeout_sec=STOP_S)
        answer: Any = future.result()
        if answer is None or not answer.results[0].successful:
            raise SystemExit(f'refused: {answer}')


def measure_phase(watcher: Watcher, pid: int, phase: str, seconds: float) -> dict[str, Any]:
    """Return CPU and rates of one phase."""
    watcher.look(phase == 'overlay')
    watcher.limit(LIMIT_HZ if phase == 'limited' else 0.0)
    watcher.spin(SETTLE_S)
    watcher.detections = watcher.overlays = 0
    used_s, since = cpu_s(pid), time.monotonic()
    watcher.spin(seconds)
    lasted_s = time.monotonic() - since
    row = {
        'phase': phase,
        'cpu_percent': round(100 * (cpu_s(pid) - used_s) / lasted_s, 1),
        'detections_hz': round(watcher.detections / lasted_s, 1),
        'overlays_hz': round(watcher.overlays / lasted_s, 1),
    }
    print(row, flush=True)
    return row


def main() -> None:
    """Start the node and the camera, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--picture', required=True, help='what the camera shows')
    parser.add_argument('--seconds', type=float, default=5.0, help='of a phase')
    parser.add_argument('--network-size', type=int, default=320)
    parser.add_argument('--out', type=Path, default=RESULTS)
    args = parser.parse_args()
    for name in process_setup.PROFILE_VARIABLES:
        os.environ.pop(name, None)
    os.environ |= process_setup.large_image_environment(os.environ) | {
        'ROS_DOMAIN_ID': str(1 + os.getpid() % 100), 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'
    }
    run = [sys.executable, '-m']
    node = subprocess.Popen([
        *run, 'yolov7_trt_ros.nodes.detector.detector_node', '--ros-args', '-p', 'autostart:=true',
        '-p', 'backend:=onnx', '-p', 'threads:=1', '-p', f'network_size:={args.network_size}',
        '-p', 'image_topics:=/camera/image_raw', '--log-level', 'warn',
    ])
    camera = subprocess.Popen([
        *run, 'yolov7_trt_ros.nodes.tools.image_player_node', '--ros-args', '-r', '__ns:=/camera',
        '-p', f'source:={args.picture}', '-p', f'rate_hz:={RATE_HZ}', '--log-level', 'warn',
    ])
    try:
        rclpy.init()
        watcher = Watcher()
        deadline = time.monotonic() + START_S
        while not watcher.detections and time.monotonic() < deadline:
            watcher.spin(0.5)
        rows = [
            measure_phase(watcher, node.pid, phase, args.seconds) for phase in (*PHASES, *PHASES)
        ]
    finally:
        for each in (camera, node):
            each.terminate()
            each.wait(STOP_S)
    save(args.out, {'rate_hz': RATE_HZ, 'network_size': args.network_size, 'rows': rows})


if __name__ == '__main__':
    main()
