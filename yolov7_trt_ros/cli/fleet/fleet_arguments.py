"""Arguments of commands over many recordings: `--workers` and `--dask`. Light imports."""

from __future__ import annotations

import argparse
import os

from yolov7_trt_ros.cli.arguments import check_at_least
from yolov7_trt_ros.errors import SettingError


def add_fleet_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--workers` and `--dask`."""
    group = parser.add_argument_group('many recordings')
    group.add_argument(
        '--workers', type=int, metavar='N',
        help='process N at once, in processes of this machine (needs dask and distributed)',
    )
    group.add_argument(
        '--dask', metavar='ADDRESS',
        help='process on the workers of a Dask scheduler, tcp://HOST:8786; each must have the '
        'same files under the same paths',
    )


def check_fleet_arguments(args: argparse.Namespace) -> None:
    """
    Check them, and divide the cores of this machine among its workers.

    Raises
    ------
    SettingError
        Both are given, or the number of workers is below 1.

    """
    if args.workers is None:
        return
    if args.dask is not None:
        raise SettingError('give one of --workers, for this machine, and --dask, for others')
    check_at_least('--workers', args.workers)
    if not getattr(args, 'threads', 1):
        args.threads = max(1, (os.cpu_count() or 1) // args.workers)


def uses_dask(args: argparse.Namespace) -> bool:
    """Whether the arguments ask for Dask."""
    return args.workers is not None or args.dask is not None
