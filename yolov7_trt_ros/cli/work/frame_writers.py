"""Writers of annotated frames: pictures, videos, and folders of pictures for bags."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import os
from pathlib import Path
import shutil
from typing import Any, Protocol, TYPE_CHECKING

from yolov7_trt_ros.cli.work.own_mark import mark_mp4, marked_jpeg, marked_png
from yolov7_trt_ros.core.units import NS_PER_S
from yolov7_trt_ros.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from yolov7_trt_ros.replay.frames import Frame
    from yolov7_trt_ros.replay.sources import FrameSource

JPEG_QUALITY = 92
LONGEST_JPEG_SIDE_PX = 65500
"""Limit of libjpeg."""

_LEAST_FREE_BYTES = 1 << 20
_LONGEST_GAP_S = 10.0


class Names(Protocol):
    """Gives each output a unique name."""

    def take(self, stem: str, suffix: str) -> Path:
        """Return a path that is not in use."""


class PictureWriter:
    """
    Writes each frame as a JPEG file, as PNG if it is too large for JPEG.

    Frames of a bag go into a folder of the bag, by topic and number; those of a folder keep their
    relative paths.

    """

    def __init__(self, names: Names, source: FrameSource) -> None:
        self._names = names
        self._folder = names.take(source.path.stem, '') if source.kind == 'bag' else None

    def write(self, frame: Frame, pixels: NDArray[np.uint8]) -> Path:
        """
        Write one frame atomically; return its file.

        Raises
        ------
        InputError
            It cannot be written, or the disk is full.

        """
        suffix = picture_suffix(pixels)
        if self._folder is None:
            stem = os.path.splitext(frame.source)[0]
            path = self._names.take(stem, suffix)
        else:
            topic = frame.source.strip('/').replace('/', '.')
            path = self._folder / topic / f'{frame.index:06d}{suffix}'
        write_picture(path, pixels)
        return path

    def __enter__(self) -> PictureWriter:
        """Return the writer itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""


class NoWriter:
    """Writes nothing, for frames that are only shown."""

    def write(self, frame: Frame, pixels: NDArray[np.uint8]) -> Path:
        """Return the source file of the frame."""
        return frame.path

    def __enter__(self) -> NoWriter:
        """Return the writer itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""


class VideoWriter:
    """
    Writes frames into an MP4 file, which gets its name when it is complete.

    Frames are repeated to keep the time, because streams and some videos have no constant rate.

    Parameters
    ----------
    path
        The file.
    fps
        Frames per second.

    """

    def __init__(self, path: Path, fps: float) -> None:
        self._path = path
        from yolov7_trt_ros.atomic_file import hidden_name

        self._partial = hidden_name(path, '.mp4')
        self._fps = fps
        self._writer: Any = None
        self._frames = 0
        self.codec = ''

    def write(self, frame: Frame, pixels: NDArray[np.uint8]) -> Path:
        """Write one frame; return the file. Raises InputError if OpenCV cannot write."""
        import cv2

        from yolov7_trt_ros.atomic_file import create_new
        from yolov7_trt_ros.report.video_file import open_video

        try:
            if self._writer is None:
                with writing(self._path):
                    self._path.parent.mkdir(parents=True, exist_ok=True)
                    os.close(create_new(self._partial))  # OpenCV opens it by name
                size_wh = pixels.shape[1], pixels.shape[0]
                self._writer, self.codec = open_video(self._partial, self._fps, size_wh)
            if not self._writer.isOpened():
                raise InputError(f'OpenCV cannot write the video {self._path}{self._disk()}')
            for _ in range(self._copies(frame)):
                self._writer.write(pixels)
                self._frames += 1
        except cv2.error as exc:
            raise InputError(f'OpenCV cannot write the video {self._path}: {exc.err}') from exc
        return self._path

    def _copies(self, frame: Frame) -> int:
        """Return how often a frame is written: more than once after a gap."""
        due = round(frame.stamp_ns / NS_PER_S * self._fps) + 1 - self._frames
        return max(1, min(due, round(_LONGEST_GAP_S * self._fps)))

    def __enter__(self) -> VideoWriter:
        """Return the writer itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Finish the file, or discard it after an exception."""
        try:
            if self._writer is not None:
                self._writer.release()
            if self._writer is not None and kind is None:
                self._check()
                with writing(self._path):
                    mark_mp4(self._partial)
                    os.replace(self._partial, self._path)
        finally:
            self._partial.unlink(missing_ok=True)

    def _check(self) -> None:
        """Check the frames in the file: OpenCV does not report a full disk."""
        import cv2

        capture = cv2.VideoCapture(str(self._partial))
        found = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        capture.release()
        if found != self._frames:
            raise InputError(
                f'cannot write {self._path}: {found} of its {self._frames} frames are in the '
                f'file that OpenCV wrote{self._disk()}'
            )

    def _disk(self) -> str:
        """Return a note on a full disk, '' if it is not full."""
        try:
            free = shutil.disk_usage(self._path.parent).free
        except OSError:
            return ''
        return ': no space left on the disk' if free < _LEAST_FREE_BYTES else ''


def open_writer(
    source: FrameSource, names: Names | None
) -> PictureWriter | VideoWriter | NoWriter:
    """Return the writer for a source; without names nothing is written."""
    if names is None:
        return NoWriter()
    if source.kind == 'video':
        return VideoWriter(names.take(source.path.stem, '.mp4'), source.fps or 30.0)
    return PictureWriter(names, source)


def picture_suffix(pixels: NDArray[np.uint8]) -> str:
    """Return `.jpg`, or `.png` for a picture too large for it."""
    return '.png' if max(pixels.shape[:2]) > LONGEST_JPEG_SIDE_PX else '.jpg'


def write_picture(
    path: Path, pixels: NDArray[np.uint8], *, quality: int = JPEG_QUALITY
) -> None:
    """
    Write a marked JPEG or PNG file atomically.

    Raises
    ------
    InputError
        It cannot be written, or the disk is full.

    """
    from yolov7_trt_ros.atomic_file import atomic_write

    data = _encoded(path, pixels, quality)
    with writing(path):
        atomic_write(path, data)


def _encoded(path: Path, pixels: NDArray[np.uint8], quality: int) -> bytes:
    import cv2

    try:
        options = [cv2.IMWRITE_JPEG_QUALITY, quality] if path.suffix == '.jpg' else []
        done, data = cv2.imencode(path.suffix, pixels, options)
    except cv2.error as exc:
        raise InputError(f'cannot write {path}: {exc.err}') from exc
    if not done:
        raise InputError(f'cannot write {path}: OpenCV cannot encode {pixels.shape[1]}x'
                         f'{pixels.shape[0]} pixels')
    mark = marked_jpeg if path.suffix == '.jpg' else marked_png
    return mark(bytes(data))


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError into an InputError that names the file."""
    try:
        yield
    except OSError as exc:
        raise InputError(f'cannot write {path}: {exc.strerror or exc}') from exc
