#!/usr/bin/env python3
"""
Run a command that is silent for minutes, and say every ten seconds how far it is.

    python tools/show_progress.py [--period SECONDS] pip install ...

What is counted are the packages in the environment of the Python that runs this. The exit status
is that of the command.

"""

import argparse
import pathlib
import subprocess
import sys
import sysconfig
import time

PERIOD_S = 10.0


def count_packages(folder):
    """Return how many packages an environment has."""
    return sum(1 for _ in pathlib.Path(folder).glob('*.dist-info'))


def main(words=None):
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--period', type=float, default=PERIOD_S)
    parser.add_argument('command', nargs=argparse.REMAINDER)
    args = parser.parse_args(words)
    folder, start_s = sysconfig.get_path('purelib'), time.monotonic()
    before = count_packages(folder)
    process = subprocess.Popen(args.command)
    while True:
        try:
            return process.wait(args.period)
        except subprocess.TimeoutExpired:
            new = count_packages(folder) - before
            did = f'{new} packages installed' if new else 'fetching packages'
            print(f'  {time.monotonic() - start_s:.0f} s: {did}', flush=True)


if __name__ == '__main__':
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
