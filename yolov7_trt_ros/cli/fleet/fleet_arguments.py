"""Arguments of commands over many recordings: `--workers` and `--dask`. Light imports."""

from __future__ import annotations

import argparse
import os

from yolov7_trt_ros.cli.engine_arguments import check_engines
from yolov7_trt_ros.core.looks.look_options import AUTO
from yolov7_trt_ros.errors import SettingError

_MOST_WORKERS = 256
"""Each is a process with a model of its own."""


def add_fleet_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--workers` and `--dask`."""
    group = parser.add_argument_group('many recordings')
    group.add_argument(
        '--workers', type=int, metavar='N',
        help=f'process N at once, 1..{_MOST_WORKERS}, in processes of this machine (needs dask '
        'and distributed)',
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
        Both are given, one of them with `--engines` or `--second-look auto`, or the number of
        workers is out of its range.

    """
    check_engines(args)
    if getattr(args, 'second_look', '') == AUTO and uses_dask(args):
        raise SettingError(
            '--second-look auto measures in each worker, and one may choose differently from '
            'another: with --workers or --dask give on or off'
        )
    if args.workers is None:
        return
    if args.dask is not None:
        raise SettingError('give one of --workers, for this machine, and --dask, for others')
    if not 1 <= args.workers <= _MOST_WORKERS:
        raise SettingError(f'--workers must be within 1..{_MOST_WORKERS}, got {args.workers}')
    if not getattr(args, 'threads', 1):
        args.threads = max(1, (os.cpu_count() or 1) // args.workers)


def uses_dask(args: argparse.Namespace) -> bool:
    """Whether the arguments ask for Dask."""
    return args.workers is not None or args.dask is not None
