"""TrustedFolders: which files may be named over the graph, where anybody can set a parameter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yolov7_trt_ros.core.topics import split_names
from yolov7_trt_ros.engine.model_files import EMBEDDED_MODELS
from yolov7_trt_ros.engine.plan_cache import plan_cache_folder
from yolov7_trt_ros.errors import SettingError

_NO_FILES = {'model': tuple(EMBEDDED_MODELS), 'class_names': ('', 'auto', 'coco80')}


class TrustedFolders:
    """
    The folders from which files are taken that a parameter names while the node runs.

    What the node was started with is trusted: whoever starts it can do as much anyway.

    Parameters
    ----------
    start
        Values of the parameters at start. `model_folders` lists the folders; where it is empty,
        they are those of the files that `model`, `class_names` and `plan_cache` name.

    """

    def __init__(self, start: Mapping[str, Any]) -> None:
        named = split_names(start['model_folders'])
        files = [start[name] for name, others in _NO_FILES.items() if start[name] not in others]
        self._cache = str(start['plan_cache'])
        folders = [_resolved(name) for name in named] or [_resolved(name).parent for name in files]
        self._folders = (*folders, plan_cache_folder(self._cache).resolve())

    def check(self, changes: Mapping[str, Any]) -> None:
        """
        Check parameters about to be set; only those that name files are looked at.

        Raises
        ------
        SettingError
            A file or folder outside, wherever links lead; says where it may lie.

        """
        for name, value in changes.items():
            if name in _NO_FILES and value not in _NO_FILES[name]:
                self._check_path(name, str(value))
            elif name == 'plan_cache' and value != self._cache:
                self._check_path(name, str(plan_cache_folder(str(value))))

    def _check_path(self, name: str, value: str) -> None:
        path = _resolved(value)
        if not any(path.is_relative_to(folder) for folder in self._folders):
            raise SettingError(
                f'{name} may only name files in {", ".join(map(str, self._folders))} while the '
                f'node runs, got {value!r}; start the node with model_folders:={path.parent} to '
                'allow it'
            )


def _resolved(path: str) -> Path:
    """Return a path without links and `..`; one that cannot be followed as it is written."""
    try:
        return Path(path).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as exc:  # a loop, no such user, a NUL
        raise SettingError(f'{path!r} is no path that can be followed: {exc}') from exc
