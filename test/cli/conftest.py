"""Running the real command."""

from __future__ import annotations

from collections.abc import Callable
import os
from pathlib import Path
import subprocess
import sys

import cv2
import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `python3 -m yolov7_trt_ros` with arguments, in the test's folder."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        environ = os.environ | {'PYTHONPATH': str(REPOSITORY)}
        return subprocess.run(
            [sys.executable, '-m', 'yolov7_trt_ros', *map(str, arguments)],
            cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=600, check=False,
        )

    return run


@pytest.fixture(scope='session')
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with a person, a cat and a cup of coffee."""
    import skimage.data

    folder = tmp_path_factory.mktemp('photographs')
    for name in ('astronaut', 'chelsea', 'coffee'):
        rgb = getattr(skimage.data, name)()
        _, jpeg = cv2.imencode('.jpg', np.ascontiguousarray(rgb[..., ::-1]))
        (folder / f'{name}.jpg').write_bytes(jpeg.tobytes())
    return folder
