"""HostProbe: everything that `doctor` asks of the host, replaceable in tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import importlib.machinery
import importlib.metadata
import importlib.util
import os
from pathlib import Path
import platform
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from yolov7_trt_ros.engine.gpu_check import GpuQuestions

OK, WARN, MISSING = 'ok', 'warn', 'missing'
_COMMAND_TIMEOUT_S = 5


@dataclasses.dataclass(frozen=True)
class Check:
    """
    One line of the report.

    Attributes
    ----------
    name
        What was looked at.
    status
        `ok`, `warn` (there, but not as it should be) or `missing`.
    found
        What is there.
    fix
        What to do about it; empty where nothing is to be done.
    required
        The detector cannot run without it.

    """

    name: str
    status: str
    found: str
    fix: str = ''
    required: bool = False


def find_module(name: str) -> Path | None:
    """Return the file or folder of a top-level module without importing it."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(spec.origin) if spec.origin else None


def find_version(distribution: str) -> str | None:
    """Return the version of an installed distribution."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def run_command(command: Sequence[str]) -> str | None:
    """Return what a command prints, None where it does not exist, fails or hangs."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors='replace', check=True,
            timeout=_COMMAND_TIMEOUT_S, stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def gpu_questions() -> GpuQuestions:
    """Return what to ask the GPU engine; ImportError where it lacks NumPy and the like."""
    from yolov7_trt_ros.engine.gpu_check import GpuQuestions

    return GpuQuestions()


@dataclasses.dataclass(frozen=True)
class HostProbe:
    """
    What the checks ask.

    Attributes
    ----------
    root
        In place of `/`.
    environ
        In place of `os.environ`.
    run
        In place of `run_command`.
    find_module, find_version, gpu_questions
        In place of the functions of the same names.
    python
        Version of Python.
    prefix
        In place of `sys.prefix`.
    architecture
        In place of `platform.machine()`.

    """

    root: Path = Path('/')
    environ: Mapping[str, str] = dataclasses.field(default_factory=lambda: os.environ)
    run: Callable[[Sequence[str]], str | None] = run_command
    find_module: Callable[[str], Path | None] = find_module
    find_version: Callable[[str], str | None] = find_version
    gpu_questions: Callable[[], GpuQuestions] = gpu_questions
    python: tuple[int, int, int] = (sys.version_info[0], sys.version_info[1], sys.version_info[2])
    prefix: Path = Path(sys.prefix)
    architecture: str = platform.machine()

    def read(self, path: str) -> str | None:
        """Return the text of a file under the root, None where it cannot be read."""
        try:
            data = (self.root / path.lstrip('/')).read_bytes()
        except OSError:
            return None
        return data.decode(errors='replace').strip('\0\n ')

    def which(self, program: str) -> str | None:
        """Return the path of a program on PATH."""
        return shutil.which(program, path=self.environ.get('PATH', ''))

    def ament_prefixes(self) -> list[Path]:
        """Return where ROS packages may be: AMENT_PREFIX_PATH, then the Python prefix."""
        listed = self.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
        return [Path(path) for path in listed if path] + [self.prefix]
