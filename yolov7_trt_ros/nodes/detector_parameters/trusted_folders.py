"""TrustedFolders: which files parameters may name while the node runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yolov7_trt_ros.core.topics import split_names
from yolov7_trt_ros.engine.building.plan_cache import plan_cache_folder
from yolov7_trt_ros.engine.model_files import EMBEDDED_MODELS
from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.home_folder import expand_home

_NO_FILES = {
    'model': tuple(EMBEDDED_MODELS), 'second_look_model': ('', *EMBEDDED_MODELS),
    'class_names': ('', 'auto', 'coco80'),
}


class TrustedFolders:
    """
    The folders in which parameters may name files while the node runs.

    Files given at start are trusted: who starts the node could open them anyway.

    Parameters
    ----------
    start
        Values of the parameters at start. `model_folders` lists the folders; if it is empty,
        they are those of the files that `model`, `second_look_model`, `class_names` and
        `plan_cache` name.

    """

    def __init__(self, start: Mapping[str, Any]) -> None:
        start = {'second_look_model': '', **start}
        self._start = {name: start[name] for name in (*_NO_FILES, 'plan_cache')}
        self._start['engines'] = start.get('engines', '')
        named = split_names(start['model_folders'])
        files = [start[name] for name, others in _NO_FILES.items() if start[name] not in others]
        folders = [_resolved(name) for name in named] or [_resolved(name).parent for name in files]
        self._folders = (*folders, plan_cache_folder(start['plan_cache']).resolve())

    def check(self, changes: Mapping[str, Any]) -> None:
        """
        Check the parameters about to be set that name files.

        Raises
        ------
        SettingError
            A file or folder is outside, also through links; the message lists the allowed ones.

        """
        self.files_to_open(changes)

    def files_to_open(self, values: Mapping[str, Any]) -> dict[str, str]:
        """
        Return the parameters that name files, as checked paths through trusted folders.

        Call it each time before files are opened, because a link may have changed since. The path
        has no link outside trusted folders: only those who may write there could still redirect
        it, and they could replace the file itself. Values given at start are unchanged.

        Raises
        ------
        SettingError
            As `check`.

        """
        found = {}
        for name, value in values.items():
            if name in _NO_FILES and value not in _NO_FILES[name]:
                path = str(value)
            elif name == 'plan_cache':
                path = str(plan_cache_folder(str(value)))
            else:
                continue
            if value != self._start[name]:
                found[name] = str(self._check_path(name, path))
        return found

    def is_from_start(self, name: str, value: str) -> bool:
        """Whether a parameter has the value given at start."""
        return bool(value == self._start[name])

    def path_to_open(self, name: str, path: str) -> str:
        """Return the path of one file that a parameter names, as `files_to_open` does."""
        return str(self._check_path(name, path))

    def _check_path(self, name: str, value: str) -> Path:
        path = _resolved(value)
        if not self._is_inside(path):
            raise SettingError(
                f'{name} may only name files in {", ".join(map(str, self._folders))} while the '
                f'node runs, got {value!r}; start the node with model_folders:={path.parent} to '
                'allow it'
            )
        return self._keep_name(value, path)

    def _keep_name(self, value: str, path: Path) -> Path:
        """Return a path with the given name, which shows the kind of file, if that is safe."""
        given = expand_home(value)
        named = _resolved(str(given.parent)) / given.name
        return named if given.name not in ('', '..') and self._is_inside(named) else path

    def _is_inside(self, path: Path) -> bool:
        return any(path.is_relative_to(folder) for folder in self._folders)


def _resolved(path: str) -> Path:
    """Return a path without links and `..`; SettingError if it cannot be followed."""
    try:
        return expand_home(path).resolve()
    except (OSError, RuntimeError) as exc:  # a loop
        raise SettingError(f'{path!r} is not a usable path: {exc}') from exc
