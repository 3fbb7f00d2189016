"""PictureSource: picture files, and folders of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import os
from pathlib import Path

from yolov7_trt_ros.core.defaults import DEFAULT_MAX_DECODED_PIXELS
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.pictures.picture_header import PictureHeader
from yolov7_trt_ros.core.plain_text import listed
from yolov7_trt_ros.core.preprocess import decode_picture
from yolov7_trt_ros.errors import ImageError, InputError
from yolov7_trt_ros.plain_file import open_plain_file
from yolov7_trt_ros.replay.file_kinds import (
    kind_of_content,
    natural_key,
    PICTURE_SUFFIXES,
    read_head,
)
from yolov7_trt_ros.replay.frames import BadFrame, Frame

_LARGEST_BYTES = 1 << 29
_SHOWN = 3


class PictureSource:
    """
    One picture, or the pictures of a folder in natural order (2 before 10).

    Each iteration reads the files again. Nothing stays open.

    Parameters
    ----------
    path
        File or folder.
    every
        Use every n-th picture.
    recursive
        Also enter subfolders, except links.
    outside
        A folder that is not entered, such as the output folder.
    max_pixels
        Maximum width x height of a picture.

    Attributes
    ----------
    warnings
        Files left out of the folder, and notes on the pictures read so far.

    Raises
    ------
    ImageError
        The folder contains no pictures.

    """

    kind = 'pictures'
    fps: float | None = None

    def __init__(
        self, path: Path, *, every: int = 1, recursive: bool = False,
        outside: Path | None = None, max_pixels: int = DEFAULT_MAX_DECODED_PIXELS,
    ) -> None:
        self.path = path
        self._max_pixels = max_pixels
        self.warnings: list[str] = []
        files: Sequence[Path] = [path]
        if path.is_dir():
            contents = list_folder(path, recursive=recursive, outside=outside)
            files = contents.pictures
            hint = 'links are not followed' if recursive else '--recursive enters them'
            left_out = contents.left_out(hint)
            if not files:
                raise ImageError(f'{path} contains no pictures' + (left_out and f'; {left_out}'))
            if left_out:
                self.warnings.append(f'{path}: {left_out}')
        self._files = files[::every]
        self.count: int | None = len(self._files)

    def __iter__(self) -> Iterator[Frame | BadFrame]:
        """Yield one item per file; `source` is its path within the folder."""
        for index, file in enumerate(self._files):
            name = str(file.relative_to(self.path)) if file != self.path else file.name
            try:
                image, header = read_picture(file, max_pixels=self._max_pixels)
            except ImageError as exc:
                yield BadFrame(exc, name, index, file)
                continue
            note = f'{file}: only its first frame or page is read'
            if header.is_animated and note not in self.warnings:
                self.warnings.append(note)
            yield Frame(image, 0, '', name, index, file)


@dataclasses.dataclass(frozen=True)
class FolderContents:
    """
    Contents of a folder, without hidden files and folders.

    Attributes
    ----------
    pictures
        In natural order, those of subfolders last.
    folders
        Subfolders that were not entered.
    others
        Other files.

    """

    pictures: tuple[Path, ...]
    folders: tuple[Path, ...]
    others: tuple[Path, ...]

    def left_out(self, hint: str) -> str:
        """Return what is not among the pictures, with a hint for folders; '' for nothing."""
        parts = []
        if self.folders:
            parts.append(f'folders not entered ({hint}): {_names(self.folders)}')
        if self.others:
            parts.append(f'files that are not pictures: {_names(self.others)}')
        return '; '.join(parts)


def list_folder(
    folder: Path, *, recursive: bool = False, outside: Path | None = None
) -> FolderContents:
    """
    Find the pictures in a folder, by their names, or else by their first bytes.

    Parameters
    ----------
    folder
        The folder.
    recursive
        Also enter its subfolders, except links.
    outside
        A folder that is not entered.

    Raises
    ------
    InputError
        A folder cannot be read.

    """
    pictures: list[Path] = []
    folders: list[Path] = []
    others: list[Path] = []
    for parent, inner, names in os.walk(folder, onerror=_refuse):
        here = sorted((Path(parent) / name for name in inner if name[0] != '.'), key=natural_key)
        here = [each for each in here if outside is None or each.resolve() != outside]
        entered = [each for each in here if recursive and not each.is_symlink()]
        folders += [each for each in here if each not in entered]
        inner[:] = [each.name for each in entered]
        files = (Path(parent) / name for name in names if name[0] != '.')
        for file in sorted(files, key=natural_key):
            (pictures if _is_picture(file) else others).append(file)
    return FolderContents(tuple(pictures), tuple(folders), tuple(others))


def find_pictures(
    folder: Path, warn: Callable[[str], None] = lambda text: None
) -> list[Path]:
    """
    Return the picture files of a folder in natural order, without hidden files.

    `warn` is called with what is left out, such as the pictures in its subfolders.

    """
    found = list_folder(folder)
    if left_out := found.left_out('only the pictures of the folder itself are used'):
        warn(f'{folder}: {left_out}')
    return list(found.pictures)


def load_picture(
    path: Path, *, upright: bool = True, max_pixels: int = DEFAULT_MAX_DECODED_PIXELS
) -> ImageView:
    """
    Read a picture as bgr8, turned upright by its EXIF data or as stored.

    From a file with several pictures, the first is read.

    Raises
    ------
    ImageError
        The file cannot be read or decoded; the message names it.

    """
    return read_picture(path, upright=upright, max_pixels=max_pixels)[0]


def read_picture(
    path: Path, *, upright: bool = True, max_pixels: int
) -> tuple[ImageView, PictureHeader]:
    """Read a picture like `load_picture`, and its header."""
    try:
        with open_plain_file(path, ImageError) as file:
            size = os.fstat(file.fileno()).st_size
            if size > _LARGEST_BYTES:
                raise ImageError(f'{path}: {size} bytes, expected at most {_LARGEST_BYTES}')
            data = file.read()
    except OSError as exc:
        raise ImageError(f'cannot read {path}: {exc.strerror}') from exc
    try:
        return decode_picture(data, upright=upright, max_pixels=max_pixels)
    except ImageError as exc:
        raise ImageError(f'{path}: {exc}') from exc


def _is_picture(file: Path) -> bool:
    if not file.is_file():
        return False
    if file.suffix.lower() in PICTURE_SUFFIXES:
        return True
    try:
        return kind_of_content(read_head(file), file.name) == 'pictures'
    except InputError:
        return False


def _names(paths: Sequence[Path]) -> str:
    return listed([path.name for path in paths], _SHOWN)


def _refuse(error: OSError) -> None:
    raise InputError(f'cannot read {error.filename}: {error.strerror}') from error
