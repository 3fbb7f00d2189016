"""
Watch running nodes live: rates, latency, watts; needs ROS 2.

Listens to /diagnostics, to every topic of vision_msgs/Detection2DArray and to the values of power
nodes, on the ROS domain of the shell; changes nothing. Ctrl-C ends it. If the output is not a
terminal, snapshots are printed one after another. With --once the exit status is 1 if nothing was
received within ten seconds.

Examples
--------
  yolov7_trt top
  yolov7_trt top --once
  yolov7_trt top --topics /front/detections --period 1

"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import subprocess
import sys

from yolov7_trt_ros.cli.arguments import check_domain_id, LARGEST_DOMAIN_ID
from yolov7_trt_ros.errors import MissingDependencyError, SettingError
from yolov7_trt_ros.parent_process import ends_with_this_process

_NODE = 'yolov7_trt_ros.nodes.tools.top_node'
_STOP_S = 15.0
_PERIODS_S = (0.05, 60.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument(
        '--topics', default='', metavar='A,B', help='topics of detections (default: all)'
    )
    parser.add_argument('--once', action='store_true', help='print one snapshot and end')
    parser.add_argument(
        '--period', type=float, default=0.5, metavar='S',
        help='seconds between snapshots, '
        f'{"..".join(f"{end:g}" for end in _PERIODS_S)} (default: %(default)g)',
    )
    parser.add_argument(
        '--domain-id', type=int, metavar='N',
        help=f'ROS domain, 0..{LARGEST_DOMAIN_ID} (default: ROS_DOMAIN_ID)',
    )
    parser.add_argument(
        '--use-sim-time', action='store_true', help='use the time of /clock, for latencies'
    )


def run(args: argparse.Namespace) -> int:
    """Run the node that prints the snapshots; return its exit status."""
    environment = _check(args)
    command = [sys.executable, '-m', _NODE, *_ros_arguments(args)]
    with subprocess.Popen(command, env=environment) as process:
        before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            return _status(process.wait())
        except KeyboardInterrupt:
            return _status(_interrupt(process))
        finally:
            signal.signal(signal.SIGTERM, before)


def _check(args: argparse.Namespace) -> dict[str, str]:
    """Return the environment of the node."""
    least, most = _PERIODS_S
    if not least <= args.period <= most:
        raise SettingError(f'--period must be within {least:g}..{most:g} s, got {args.period:g}')
    environment = os.environ | ends_with_this_process()
    check_domain_id(args.domain_id)
    if args.domain_id is not None:
        environment['ROS_DOMAIN_ID'] = str(args.domain_id)
    for module in ('rclpy', 'vision_msgs'):
        if importlib.util.find_spec(module) is None:
            raise MissingDependencyError(
                f'top needs {module}, which is not installed; source your ROS 2 setup'
            )
    environment.setdefault('AMENT_PREFIX_PATH', sys.prefix)
    return environment


def _ros_arguments(args: argparse.Namespace) -> list[str]:
    values = {
        'once': str(args.once).lower(), 'period_s': repr(float(args.period)),
        'use_sim_time': str(args.use_sim_time).lower(),
    }
    if args.topics:
        values['detections_topics'] = f"'{args.topics}'"
    given = [part for name, value in values.items() for part in ('-p', f'{name}:={value}')]
    return ['--ros-args', *given]


def _interrupt(process: subprocess.Popen[bytes]) -> int:
    """End the node, which also gets Ctrl-C if both share the terminal."""
    process.send_signal(signal.SIGINT)
    try:
        return process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _status(code: int) -> int:
    """Return the exit status that a shell gives if a signal ended the node."""
    return code if code >= 0 else 128 - code
