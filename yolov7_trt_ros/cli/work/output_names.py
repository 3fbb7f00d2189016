"""OutputNames: a unique name for each output, so that no other file is replaced."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path

from yolov7_trt_ros.cli import interruption
from yolov7_trt_ros.cli.work.output_file import OutputFile
from yolov7_trt_ros.cli.work.own_mark import is_own


class OutputNames:
    """
    Gives each output a unique name, never that of an input or of a foreign file.

    Parameters
    ----------
    folder
        Folder of the outputs.
    inputs
        Files and folders that are read.

    """

    def __init__(self, folder: Path, inputs: list[Path], *, recursive: bool = False) -> None:
        self.folder = folder
        self._taken: set[Path] = set()
        self._given: list[OutputFile] = []
        for path in inputs:
            self._taken.add(path.resolve())
            if path.is_dir():
                self._taken.update(self._files_in(path.resolve(), recursive=recursive))

    def take(self, stem: str, suffix: str) -> Path:
        """Return `stem + suffix` in the folder, with `stem-2`, `stem-3` ... if taken."""
        for number in itertools.count(1):
            number_text = '' if number == 1 else f'-{number}'
            path = self.folder / f'{stem}{number_text}{suffix}'
            if path.resolve() not in self._taken and _is_free(path, suffix):
                break
        self._taken.add(path.resolve())
        self.add(path)
        return path

    def add(self, path: Path) -> None:
        """Add a file that has its name from elsewhere and will be written."""
        self._given.append(OutputFile(path))

    def describe(self) -> str:
        """Return a sentence on the outputs that were written before an interruption."""
        there = [file.path for file in self._given if file.is_written()]
        apart = [str(path) for path in there if not path.is_relative_to(self.folder)]
        count = len(there) - len(apart)
        inside = [f'outputs in {self.folder}: {count}'] if count else []
        return ', and '.join([*inside, *apart]) or interruption.NOTHING_WRITTEN

    def _files_in(self, path: Path, *, recursive: bool) -> set[Path]:
        """Return the files read from a folder: all but earlier outputs in a folder within it."""
        own = self.folder.resolve()
        files: set[Path] = set()
        with contextlib.suppress(OSError):  # it cannot be read: told where it is opened
            for file in path.rglob('*') if recursive else path.iterdir():
                if own == path or own not in file.resolve().parents:
                    files.add(file.resolve())
        return files


def _is_free(path: Path, suffix: str) -> bool:
    """Whether nothing has this name, or an output of ours: a folder if it has no suffix."""
    if not path.exists() and not path.is_symlink():
        return True
    return path.is_dir() == (not suffix) and is_own(path)
