"""
Show what this machine has, what is missing, and how to get it.

One line per check: ok, warn or missing, and below it what to do. Nothing is changed. The exit
status is 1 if something is missing that the detector needs.

Examples
--------
  yolov7_trt doctor
  yolov7_trt doctor --json - | python3 -m json.tool

"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import dataclasses
from typing import Any

from yolov7_trt_ros.cli import arguments, output, output_paths
from yolov7_trt_ros.cli.checks.board import check_board
from yolov7_trt_ros.cli.checks.gpu import check_gpu
from yolov7_trt_ros.cli.checks.host_probe import Check, HostProbe, MISSING
from yolov7_trt_ros.cli.checks.packages import check_packages
from yolov7_trt_ros.cli.checks.ros import check_ros
from yolov7_trt_ros.cli.checks.transport import check_transport

SUBJECTS = (
    ('Detector', check_packages),
    ('ROS 2', check_ros),
    ('Images between processes', check_transport),
    ('NVIDIA GPU', check_gpu),
    ('Board', check_board),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    arguments.add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run the verb."""
    output_paths.check_json(args.json)
    return report(HostProbe(), args.json)


def report(probe: HostProbe, json_target: str | None = None) -> int:
    """Check a host, print the report, return the exit status."""
    subjects = [(title, check(probe)) for title, check in SUBJECTS]
    lacking = [
        item for _, checks in subjects for item in checks
        if item.required and item.status == MISSING
    ]
    if json_target:
        output.write_json(json_target, _record(subjects, lacking))
    if json_target != '-':
        output.say(format_report(subjects))
        output.say(_verdict(lacking))
    return 1 if lacking else 0


def format_report(subjects: Sequence[tuple[str, Sequence[Check]]]) -> str:
    """Return the report as text."""
    lines = []
    for title, checks in subjects:
        lines.append(title)
        for item in checks:
            lines.append(f'  {item.status:<8}{item.name}: {item.found}')
            if item.fix:
                lines.append(f'          -> {item.fix}')
        lines.append('')
    return '\n'.join(lines)


def _verdict(lacking: Sequence[Check]) -> str:
    if lacking:
        return f'The detector cannot run here: {", ".join(item.name for item in lacking)} missing.'
    return 'The detector can run here.'


def _record(
    subjects: Sequence[tuple[str, Sequence[Check]]], lacking: Sequence[Check]
) -> dict[str, Any]:
    return {
        'can_run': not lacking,
        'checks': [
            {'subject': title, **dataclasses.asdict(item)}
            for title, checks in subjects
            for item in checks
        ],
        'versions': output.installed_versions(),
    }
