"""PictureStore: pictures by number, of a folder, or spooled from a video or bag."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import contextlib
from pathlib import Path
import types

import cv2

from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.preprocess import to_bgr
from yolov7_trt_ros.errors import ImageError, InputError
from yolov7_trt_ros.home_folder import expand_home
from yolov7_trt_ros.replay.file_kinds import kind_of
from yolov7_trt_ros.replay.frames import BadFrame
from yolov7_trt_ros.replay.pictures import find_pictures, load_picture
from yolov7_trt_ros.replay.sources import open_frames
from yolov7_trt_ros.temporary_folder import TemporaryFolder

_JPEG_QUALITY = 95
"""Quality of spooled frames: less is lost than by a camera's own compression."""


class PictureStore:
    """
    Pictures that can be read in any order, by several threads at once.

    Parameters
    ----------
    path
        Folder of pictures, one picture, video or bag.
    topics
        Image topics of a bag; empty for all.
    every
        Use every n-th picture or frame.
    most
        Maximum number; None for all.
    progress
        Called after each frame that is spooled.

    Attributes
    ----------
    kind
        `pictures`, `video` or `bag`.
    files
        One per picture.
    warnings
        Frames that could not be used, and warnings of the source.

    Raises
    ------
    InputError
        The source does not exist, is of an unknown kind or without pictures, or the temporary
        folder has no space for the frames.

    """

    def __init__(
        self,
        path: str | Path,
        *,
        topics: Sequence[str] = (),
        every: int = 1,
        most: int | None = None,
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        self._stack = contextlib.ExitStack()
        self.warnings: tuple[str, ...] = ()
        path = expand_home(path)
        self.kind = kind_of(path)
        if self.kind == 'pictures':
            notes: list[str] = []
            files = find_pictures(path, notes.append) if path.is_dir() else [path]
            files, self.warnings = files[::every][:most], tuple(notes)
        else:
            with contextlib.ExitStack() as stack:
                folder = Path(stack.enter_context(TemporaryFolder('yolov7_trt_frames_')))
                files = self._spool(path, folder, topics, every, most, progress)
                self._stack = stack.pop_all()
        if not files:
            self.close()
            reason = f': {self.warnings[0]}' if self.warnings else ''
            raise InputError(f'expected pictures or frames in {path}, found none{reason}')
        self.files: tuple[Path, ...] = tuple(files)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> ImageView:
        """
        Read a picture.

        Raises
        ------
        ImageError
            The file cannot be decoded.

        """
        return load_picture(self.files[index])

    def __enter__(self) -> PictureStore:
        """Return the store; leaving closes it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Remove spooled files; calling it twice is harmless."""
        self._stack.close()

    def _spool(
        self, path: Path, folder: Path, topics: Sequence[str], every: int, most: int | None,
        progress: Callable[[], None],
    ) -> list[Path]:
        files: list[Path] = []
        source = open_frames(path, topics=topics, every=every)
        warnings = list(source.warnings)
        known = len(warnings)
        for item in source:
            if most is not None and len(files) >= most:
                break
            if isinstance(item, BadFrame):
                warnings.append(str(item.error))
                continue
            try:
                files.append(_write_frame(folder / f'{len(files):07d}.jpg', item.image))
            except ImageError as exc:
                warnings.append(str(exc))
            progress()
        self.warnings = (*warnings, *source.warnings[known:])
        return files


def _write_frame(file: Path, image: ImageView) -> Path:
    try:
        done, data = cv2.imencode('.jpg', to_bgr(image), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    except cv2.error as exc:
        raise ImageError(f'cannot encode a frame: {exc.err}') from exc
    if not done:
        raise ImageError(f'cannot encode a frame of {image.width}x{image.height} pixels')
    try:
        file.write_bytes(data.tobytes())
    except OSError as exc:
        raise InputError(f'cannot write {file}: {exc.strerror}') from exc
    return file
