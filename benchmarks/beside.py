"""Run a command while something else is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import subprocess
import tempfile
from typing import TypeVar

T = TypeVar('T')


def run_beside(
    command: Sequence[str], work: Callable[[Callable[[], bool]], T]
) -> tuple[T, int, str]:
    """
    Run a command and `work` together; `work` gets a function that tests if the command runs.

    Returns the result of `work`, the exit status and the output. The output goes to a file: a full
    pipe without a reader would stop the command.

    """
    with tempfile.TemporaryFile() as printed:
        process = subprocess.Popen(command, stdout=printed, stderr=subprocess.STDOUT)
        try:
            done = work(lambda: process.poll() is None)
            status = process.wait()
        finally:
            process.kill()  # where the work has failed; of one that has ended it does nothing
            process.wait()
        printed.seek(0)
        return done, status, printed.read().decode(errors='replace')
