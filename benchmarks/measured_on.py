"""
Where a measurement was made: the common part of all result files.

The load is that of before: it is read when this is imported.

"""

from __future__ import annotations

import datetime
from importlib import metadata
import json
import os
from pathlib import Path
import platform
import sys
from typing import Any

from yolov7_trt_ros.report.bench.machine_load import read_load

LOAD_BEFORE = read_load()
REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = (
    'numpy', 'opencv-python-headless', 'onnxruntime', 'rclpy', 'ros-fastdds', 'ros-fastrtps',
    'tensorrt', 'pycuda', 'cuda-bindings',
)


def measured_on() -> dict[str, Any]:
    """Return the command, date, processor and versions."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = 'not installed'
    return {
        'command': ' '.join(['python', *sys.argv]),
        'date': datetime.date.today().isoformat(),
        'processor': _processor(),
        'cores': os.cpu_count(),
        'load_before': LOAD_BEFORE.as_record(),
        'python': platform.python_version(),
        'versions': versions,
    }


def save(path: Path, result: dict[str, Any]) -> None:
    """Write a result file, `measured_on` included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({'measured_on': measured_on(), **result}, indent=2)
    path.write_text(without_places(text) + '\n')
    print(f'written: {path}')
    if LOAD_BEFORE.warning:
        print(f'warning: {LOAD_BEFORE.warning}', file=sys.stderr)


def without_places(text: str) -> str:
    """Return a text in which paths begin at the repository, or at `~`, and not at this machine."""
    home = str(Path.home())
    text = text.replace(f'{REPOSITORY}/', '')
    return text if home == '/' else text.replace(f'{home}/', '~/')


def _processor() -> str:
    for line in Path('/proc/cpuinfo').read_text().splitlines():
        if line.startswith('model name'):
            return line.partition(':')[2].strip()
    return platform.machine()
