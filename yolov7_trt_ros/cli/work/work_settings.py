"""What decides the result of a command that may be gone on with: its settings, as plain values."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_NO_MATTER = (
    'run', 'output', 'json', 'html', 'threads', 'paths', 'bags', 'force', 'workers', 'dask',
    'drives',
)
"""Arguments that change nothing of what is found."""


def settings_of(args: argparse.Namespace, sources: Sequence[Path]) -> dict[str, Any]:
    """
    Return the arguments of a command, with the hash of each model in place of its name alone.

    Raises
    ------
    ModelNotFoundError
        There is no such model.
    SettingError
        The file of class names cannot be used.

    """
    from yolov7_trt_ros.engine.model_files import load_class_names

    settings = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in vars(args).items() if name not in _NO_MATTER
    }
    for name in ('model', 'second_model', 'second_look_model'):
        if settings.get(name):
            settings[f'{name}_sha256'] = model_sha256(settings[name])
    # what the file says, for it may be another one when the work is gone on with
    if 'class_names' in settings:
        settings['class_names_read'] = list(load_class_names(args.class_names) or ())
    return settings | {'sources': [str(path.resolve()) for path in sources]}


def model_sha256(model: str) -> str:
    """Return the hash of a model's file, for a checkpoint that of its export."""
    from yolov7_trt_ros.engine.checkpoint_export import find_or_export
    from yolov7_trt_ros.engine.plain_file import sha256_of

    return sha256_of(find_or_export(model))
