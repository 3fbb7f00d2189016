"""Settings that decide the result of a resumable command, as plain values."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import dataclasses
from pathlib import Path
from typing import Any, TYPE_CHECKING

from yolov7_trt_ros.cli.effects.given_options import GIVEN

if TYPE_CHECKING:
    from yolov7_trt_ros.engine.options import DetectorOptions

_NO_MATTER = (
    'run', 'output', 'json', 'html', 'threads', 'paths', 'bags', 'force', 'workers', 'dask',
    'drives',
)
"""Arguments that do not change the results."""


def settings_of(args: argparse.Namespace, sources: Sequence[Path]) -> dict[str, Any]:
    """
    Return the arguments of a command, with the hash of each model.

    Raises
    ------
    ModelNotFoundError
        There is no such model.
    SettingError
        The file of class names cannot be used.

    """
    from yolov7_trt_ros.cli.arguments import detector_options
    from yolov7_trt_ros.engine.engine_list import read_engines
    from yolov7_trt_ros.engine.model_files import load_class_names

    settings = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in vars(args).items()
        if name not in _NO_MATTER and not name.startswith(GIVEN)
    }
    for name in ('model', 'second_model', 'second_look_model'):
        if settings.get(name):
            settings[f'{name}_sha256'] = model_sha256(settings[name])
    # the content of the file, which may change until the work continues
    if 'class_names' in settings:
        settings['class_names_read'] = list(load_class_names(args.class_names) or ())
    if settings.get('engines'):
        named = read_engines(args.engines, detector_options(args, rectangular=True))
        settings['engines'] = [
            [each.name, record]
            for each, record in zip(named, engine_records([e.options for e in named]), strict=True)
        ]
    return settings | {'sources': [str(path.resolve()) for path in sources]}


def engine_records(engines: Sequence[DetectorOptions]) -> list[dict[str, Any]]:
    """Return what decides the detections of each engine: options and content of the model."""
    return [
        {'model': Path(each.model).name, 'sha256': model_sha256(each.model)} | {
            name: value for name, value in dataclasses.asdict(each).items()
            if name not in ('model', 'threads', 'plan_cache', 'refit_from')
        } for each in engines
    ]


def model_sha256(model: str) -> str:
    """Return the hash of a model's file, or of the export of a checkpoint."""
    from yolov7_trt_ros.engine.checkpoint_export import find_or_export
    from yolov7_trt_ros.plain_file import sha256_of

    return sha256_of(find_or_export(model))
