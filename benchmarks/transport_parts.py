"""
Effect of the profile, malloc and reliability on large images between two processes.

    python benchmarks/transport_parts.py

As benchmarks/transport.py, whose two processes these are, with one thing changed at a time.

"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
import subprocess
import sys
from typing import Any

from measured_on import save
import transport

SETTINGS = {  # profile of Fast DDS, malloc tuned, taken as bytes (as detector_node does)
    'default': (False, False, False), 'profile': (True, False, False),
    'profile and malloc': (True, True, False), 'profile, malloc, serialised': (True, True, True),
}
RUNS = (  # size, reliability, settings
    ('640x480', 'best effort', 'default'),
    ('640x480', 'best effort', 'profile'),
    ('640x480', 'best effort', 'profile and malloc'),
    ('640x480', 'best effort', 'profile, malloc, serialised'),
    ('640x480', 'reliable', 'default'),
    ('640x480', 'reliable', 'profile and malloc'),
    ('1920x1080', 'best effort', 'profile'),
    ('1920x1080', 'best effort', 'profile and malloc'),
    ('1920x1080', 'best effort', 'profile, malloc, serialised'),
    ('1920x1080', 'reliable', 'default'),
    ('1920x1080', 'reliable', 'profile and malloc'),
)
SETTLE_S = 6.0


def run_part(args: argparse.Namespace) -> None:
    """Run as camera or subscriber, with the requested QoS and malloc."""
    from rclpy.qos import QoSProfile, ReliabilityPolicy

    from yolov7_trt_ros.nodes.process.process_setup import tune_malloc

    if args.tuned:
        tune_malloc()
    reliability = ReliabilityPolicy.RELIABLE if args.reliable else ReliabilityPolicy.BEST_EFFORT
    transport._qos = lambda: QoSProfile(depth=5, reliability=reliability)
    if args.publish:
        transport.publish(*args.publish)
    else:
        transport.subscribe(args.subscribe, serialized=args.serialized)


def measure(size: str, reliability: str, settings: str, count: int) -> dict[str, Any]:
    """Run one pair of processes and return what the subscriber printed."""
    from yolov7_trt_ros.nodes.process.process_setup import (
        large_image_environment,
        PROFILE_VARIABLES,
    )

    profile, tuned, serialized = SETTINGS[settings]
    environment = {k: v for k, v in os.environ.items() if k not in PROFILE_VARIABLES}
    environment |= {
        'ROS_DOMAIN_ID': str(1 + os.getpid() % 100), 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'
    }
    if profile:
        environment |= large_image_environment(environment)
    part = [sys.executable, __file__]
    part += ['--reliable'] * (reliability == 'reliable') + ['--tuned'] * tuned
    part += ['--serialized'] * serialized
    seconds = count / transport.RATE_HZ + SETTLE_S
    subscriber = subprocess.Popen(
        [*part, '--subscribe', str(seconds)], env=environment, stdout=subprocess.PIPE, text=True
    )
    publisher = subprocess.Popen(
        [*part, '--publish', *size.split('x'), str(count)], env=environment
    )
    result: dict[str, Any] = json.loads(subscriber.communicate()[0].splitlines()[-1])
    publisher.wait()
    result['sent'] = count - transport.WARM_UP
    result['lost_percent'] = round(100 * (1 - result['received'] / result['sent']), 1)
    return {'size': size, 'reliability': reliability, 'settings': settings, **result}


def main() -> None:
    """Measure all runs, print and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--count', type=int, default=210, help='images per run')
    results = Path(__file__).resolve().parent / 'results'
    parser.add_argument('-o', '--output', type=Path, default=results / 'transport_parts.json')
    parser.add_argument('--publish', type=int, nargs=3, help=argparse.SUPPRESS)
    parser.add_argument('--subscribe', type=float, help=argparse.SUPPRESS)
    for name in ('--tuned', '--reliable', '--serialized'):
        parser.add_argument(name, action='store_true', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.publish or args.subscribe:
        return run_part(args)
    rows = []
    for size, reliability, settings in RUNS:
        rows.append(measure(size, reliability, settings, args.count))
        print(rows[-1], flush=True)
    return save(args.output, {'rate_hz': transport.RATE_HZ, 'depth': 5, 'runs': rows})


if __name__ == '__main__':
    main()
