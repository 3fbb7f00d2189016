"""The cache folder of this package: plans, compiled kernels, measurements."""

from __future__ import annotations

import os
from pathlib import Path

from yolov7_trt_ros.home_folder import expand_home


def cache_folder(name: str) -> Path:
    """Return the folder of one kind of files: `$XDG_CACHE_HOME/yolov7_trt_ros/<name>`."""
    root = os.environ.get('XDG_CACHE_HOME') or expand_home('~/.cache')
    return Path(root) / 'yolov7_trt_ros' / name
