"""
Use a PyTorch checkpoint as a model: exported once, then kept in the cache.

The export runs in a separate process, as `yolov7_trt export`: nothing here imports PyTorch, and
nothing that a checkpoint holds is run. Official weights that are asked for by their name are not
fetched: the message says where they are.

"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from pathlib import Path
import subprocess
import sys
import threading

from yolov7_trt_ros import __version__
from yolov7_trt_ros.atomic_file import atomic_write
from yolov7_trt_ros.engine.building.plan_cache import plan_cache_folder
from yolov7_trt_ros.engine.file_kind import CHECKPOINT, find_kind
from yolov7_trt_ros.engine.model_files import find_model
from yolov7_trt_ros.errors import ModelFormatError, SettingError
from yolov7_trt_ros.home_folder import expand_home
from yolov7_trt_ros.parent_process import ends_with_this_process
from yolov7_trt_ros.plain_file import open_plain_file, read_plain_file, sha256_of

_NEEDED = ('torch', 'onnx', 'onnxruntime')
_EXPORTING = threading.Lock()
_RECORD_BYTES = 256


def find_or_export(model: str, plan_cache: str = '') -> Path:
    """
    Return the file of a model as `find_model` does; a checkpoint's is its export in the cache.

    Parameters
    ----------
    model
        Name or path.
    plan_cache
        As in `DetectorOptions`; exports lie beside the folder of the plans.

    Raises
    ------
    ModelNotFoundError, ModelFormatError
        As `find_model`; also where PyTorch is missing, or the checkpoint cannot be exported.

    """
    path = _find_checkpoint(model)
    if path is None or any(map(_is_missing, _NEEDED)):
        return find_model(model)
    target = plan_cache_folder(plan_cache).with_name('exports') / (
        f'{path.stem}_{__version__}_{sha256_of(path)[:16]}.onnx'
    )
    with _EXPORTING:
        if not _is_whole(target):
            _export(path, target)
            record = f'{sha256_of(target)}\n'.encode()
            with contextlib.suppress(OSError):  # then it is exported anew the next time
                atomic_write(_record_of(target), record)
    return target


def _record_of(target: Path) -> Path:
    return target.with_name(f'{target.name}.sha256')


def _is_whole(target: Path) -> bool:
    """Return whether an export is there as it was written, by the hash beside it."""
    try:
        wanted = read_plain_file(_record_of(target), _RECORD_BYTES).decode('ascii', 'replace')
        return wanted.strip() == sha256_of(target)
    except (OSError, ModelFormatError):
        return False


def _is_missing(package: str) -> bool:
    return importlib.util.find_spec(package) is None


def _find_checkpoint(model: str) -> Path | None:
    """Return the path of a PyTorch checkpoint; None for other files, left to find_model."""
    try:
        path = expand_home(model)
        if path.is_file():
            with open_plain_file(path) as file:
                return path if find_kind(path, file) == CHECKPOINT else None
    except (OSError, ValueError, SettingError, ModelFormatError):
        pass
    return None


def _export(checkpoint: Path, target: Path) -> None:
    """Export a checkpoint; raises ModelFormatError with the reason of the export."""
    print(f'yolov7_trt: exporting {checkpoint}, once; kept as {target}',
          file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, '-m', 'yolov7_trt_ros', 'export', str(checkpoint), '-o', str(target)],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
        env=os.environ | ends_with_this_process(),
    )
    lines = done.stderr.strip().splitlines() or ['no output']
    if done.returncode:
        reason = lines[-1].removeprefix('yolov7_trt: error: ')
        raise ModelFormatError(f'{checkpoint} cannot be exported: {reason}')
    for line in lines:
        if line.startswith('yolov7_trt: warning: '):
            print(line, file=sys.stderr, flush=True)
