"""Arguments of the commands over many recordings: how many at once, and where. Light imports."""

from __future__ import annotations

import argparse
import os

from yolov7_trt_ros.errors import SettingError


def add_fleet_arguments(parser: argparse.ArgumentParser) -> None:
    """Add where many recordings are worked on."""
    group = parser.add_argument_group('many recordings')
    group.add_argument(
        '--workers', type=int, metavar='N',
        help='work on N at once, in processes of this machine (needs dask and distributed)',
    )
    group.add_argument(
        '--dask', metavar='ADDRESS',
        help='work on the machines of a Dask scheduler, tcp://HOST:8786; each must have the same '
        'files under the same paths',
    )


def check_fleet_arguments(args: argparse.Namespace) -> None:
    """
    Check them, and share the cores of this machine among its workers.

    Raises
    ------
    SettingError
        Both are given, or no number of workers.

    """
    if args.workers is None:
        return
    if args.dask is not None:
        raise SettingError('give one of --workers, for this machine, and --dask, for others')
    if args.workers < 1:
        raise SettingError(f'--workers must be at least 1, got {args.workers}')
    if not getattr(args, 'threads', 1):
        args.threads = max(1, (os.cpu_count() or 1) // args.workers)


def uses_dask(args: argparse.Namespace) -> bool:
    """Tell whether the arguments ask for Dask."""
    return args.workers is not None or args.dask is not None
