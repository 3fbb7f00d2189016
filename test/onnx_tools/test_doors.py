"""The package onnx is optional on a robot: ONNX Runtime alone opens and runs models."""

from __future__ import annotations

import os
from pathlib import Path
import subprocess
import sys

_SCRIPT = """
import importlib, pathlib, pkgutil, sys
sys.modules['onnx'] = None  # as where it is not installed
import numpy as np
from yolov7_trt_ros import onnx_tools
for module in pkgutil.iter_modules(onnx_tools.__path__):
    importlib.import_module(f'yolov7_trt_ros.onnx_tools.{module.name}')
from yolov7_trt_ros.engine.model_files import find_model
from yolov7_trt_ros.errors import MissingDependencyError
from yolov7_trt_ros.onnx_tools.graph import onnx_precision
from yolov7_trt_ros.onnx_tools.model_file import load_model
from yolov7_trt_ros.onnx_tools.runtime import OnnxSession
path = find_model('yolov7-nano')
rows = OnnxSession(path, threads=1).run(np.zeros((1, 3, 64, 64), np.float32))[0]
print(rows.shape, repr(onnx_precision(path)))
try:
    load_model(path)
except MissingDependencyError as exc:
    print(exc)
"""


def test_without_the_package_onnx() -> None:
    done = subprocess.run(
        [sys.executable, '-c', _SCRIPT], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    shape, message = done.stdout.splitlines()
    assert shape == "(1, 252, 85) ''"
    assert 'yolov7-nano_fp16w.onnx is read with it; install it with: pip install onnx' in message


def test_onnx_runtime_sends_nothing_to_its_maker(tmp_path: Path) -> None:
    script = (
        'from yolov7_trt_ros.engine.model_files import find_model\n'
        'from yolov7_trt_ros.onnx_tools.runtime import OnnxSession\n'
        "OnnxSession(find_model('yolov7-nano'), threads=1)\n"
    )
    places = {name: str(tmp_path) for name in ('HOME', 'TMPDIR', 'XDG_CACHE_HOME')}
    environment = {
        name: value for name, value in os.environ.items() if name != 'ORT_DISABLE_TELEMETRY'
    }
    subprocess.run(
        [sys.executable, '-B', '-c', script], check=True, timeout=600, env=environment | places
    )
    assert not [path for path in tmp_path.rglob('*') if path.is_file()]
