"""The words that `make venv` has for a long installation."""

from __future__ import annotations

from pathlib import Path
import re
import subprocess
import sys

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'show_progress.py'


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(TOOL), '--period', '0.05', *command],
        capture_output=True, text=True, check=False,
    )


def test_a_long_command_is_told_of_and_its_status_is_kept() -> None:
    done = run(sys.executable, '-c', 'import time, sys; time.sleep(1); sys.exit(3)')
    assert done.returncode == 3
    lines = done.stdout.splitlines()
    assert lines and all(re.fullmatch(r'  \d+ s: fetching packages', line) for line in lines)


def test_options_of_the_command_are_its_own() -> None:
    done = run(sys.executable, '-c', 'import sys; print(sys.argv[1:])', '--period', '-q')
    assert "['--period', '-q']" in done.stdout and done.returncode == 0
