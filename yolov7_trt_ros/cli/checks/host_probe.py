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
_IMPORT_TIMEOUT_S = 120


@dataclasses.dataclass(frozen=True)
class Check:
    """
    One line of the report.

    Attributes
    ----------
    name
        Subject of the check.
    status
        `ok`, `warn` (present, but not as it should be) or `missing`.
    found
        What was found.
    fix
        What to do about it; empty if nothing.
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


def import_error(module: str) -> str:
    """Return why a module cannot be imported, '' if it can; tried in another process."""
    try:
        done = subprocess.run(
            [sys.executable, '-c', f'import {module}'], capture_output=True, text=True,
            errors='replace', check=False, timeout=_IMPORT_TIMEOUT_S, stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError) as exc:
        return str(exc)
    lines = done.stderr.strip().splitlines() or [f'exit status {done.returncode}']
    return lines[-1] if done.returncode else ''


def run_command(command: Sequence[str]) -> str | None:
    """Return the output of a command, None if it does not exist, fails or hangs."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors='replace', check=True,
            timeout=_COMMAND_TIMEOUT_S, stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def gpu_questions() -> GpuQuestions:
    """Return the questions to the GPU engine; ImportError if packages such as NumPy lack."""
    from yolov7_trt_ros.engine.gpu_check import GpuQuestions

    return GpuQuestions()


@dataclasses.dataclass(frozen=True)
class HostProbe:
    """
    What the checks ask the host; each part can be replaced.

    Attributes
    ----------
    root
        Used instead of `/`.
    environ
        Used instead of `os.environ`.
    run
        Used instead of `run_command`.
    find_module, find_version, import_error, gpu_questions
        Used instead of the functions of these names.
    python
        Version of Python.
    prefix
        Used instead of `sys.prefix`.
    architecture
        Used instead of `platform.machine()`.

    """

    root: Path = Path('/')
    environ: Mapping[str, str] = dataclasses.field(default_factory=lambda: os.environ)
    run: Callable[[Sequence[str]], str | None] = run_command
    find_module: Callable[[str], Path | None] = find_module
    find_version: Callable[[str], str | None] = find_version
    import_error: Callable[[str], str] = import_error
    gpu_questions: Callable[[], GpuQuestions] = gpu_questions
    python: tuple[int, int, int] = (sys.version_info[0], sys.version_info[1], sys.version_info[2])
    prefix: Path = Path(sys.prefix)
    architecture: str = platform.machine()

    def read(self, path: str) -> str | None:
        """Return the text of a file under the root, None if it cannot be read."""
        try:
            data = (self.root / path.lstrip('/')).read_bytes()
        except OSError:
            return None
        return data.decode(errors='replace').strip('\0\n ')

    def which(self, program: str) -> str | None:
        """Return the path of a program on PATH."""
        return shutil.which(program, path=self.environ.get('PATH', ''))

    def ament_prefixes(self) -> list[Path]:
        """Return the prefixes of ROS packages: AMENT_PREFIX_PATH, then the Python prefix."""
        listed = self.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
        return [Path(path) for path in listed if path] + [self.prefix]
