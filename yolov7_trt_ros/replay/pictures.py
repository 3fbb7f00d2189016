"""Picture files and folders of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import dataclasses
import os
from pathlib import Path

from yolov7_trt_ros.core.defaults import DEFAULT_MAX_DECODED_PIXELS
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.pictures.picture_header import PictureHeader
from yolov7_trt_ros.core.plain_text import listed
from yolov7_trt_ros.core.preprocess import decode_picture
from yolov7_trt_ros.errors import ImageError, InputError
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

    Iterating twice reads twice. Nothing is kept open.

    Parameters
    ----------
    path
        File or folder.
    every
        Take only each n-th.
    recursive
        Enter the folders in a folder too, those behind links excepted.
    outside
        A folder that is not entered, such as the one for the output.
    max_pixels
        Most width x height of a picture.

    Attributes
    ----------
    warnings
        What was left out of the folder; grows by what is told of the pictures that are read.

    Raises
    ------
    ImageError
        The folder holds no pictures.

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
                raise ImageError(f'{path} holds no pictures' + (left_out and f'; {left_out}'))
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
            told = f'{file}: only the first of its frames or pages is read'
            if header.is_animated and told not in self.warnings:
                self.warnings.append(told)
            yield Frame(image, 0, '', name, index, file)


@dataclasses.dataclass(frozen=True)
class FolderContents:
    """
    What a folder holds; hidden files and folders are passed over.

    Attributes
    ----------
    pictures
        In natural order, those of inner folders after those beside the folder.
    folders
        Inner folders that were not entered.
    others
        Other files.

    """

    pictures: tuple[Path, ...]
    folders: tuple[Path, ...]
    others: tuple[Path, ...]

    def left_out(self, hint: str) -> str:
        """Tell what is not among the pictures, with a hint for folders; '' for nothing."""
        told = []
        if self.folders:
            told.append(f'folders not entered ({hint}): {_listed(self.folders)}')
        if self.others:
            told.append(f'files that are no pictures: {_listed(self.others)}')
        return '; '.join(told)


def list_folder(
    folder: Path, *, recursive: bool = False, outside: Path | None = None
) -> FolderContents:
    """
    Find the pictures in a folder, by their names, and by their first bytes where those tell none.

    Parameters
    ----------
    folder
        The folder.
    recursive
        Enter its folders too, those behind links excepted.
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


def find_pictures(folder: Path) -> list[Path]:
    """Return the picture files of a folder in natural order; hidden files are passed over."""
    return list(list_folder(folder).pictures)


def load_picture(
    path: Path, *, upright: bool = True, max_pixels: int = DEFAULT_MAX_DECODED_PIXELS
) -> ImageView:
    """
    Read a picture to bgr8, turned upright as its EXIF data says or as it is stored.

    Of a file with several, the first is read.

    Raises
    ------
    ImageError
        The file cannot be read or decoded; the message names it.

    """
    return read_picture(path, upright=upright, max_pixels=max_pixels)[0]


def read_picture(
    path: Path, *, upright: bool = True, max_pixels: int
) -> tuple[ImageView, PictureHeader]:
    """Read a picture as `load_picture` does, with what its header says."""
    try:
        size = path.stat().st_size
        if size > _LARGEST_BYTES:
            raise ImageError(f'{path}: {size} bytes, expected at most {_LARGEST_BYTES}')
        data = path.read_bytes()
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


def _listed(paths: Sequence[Path]) -> str:
    return listed([path.name for path in paths], _SHOWN)


def _refuse(error: OSError) -> None:
    raise InputError(f'cannot read {error.filename}: {error.strerror}') from error
