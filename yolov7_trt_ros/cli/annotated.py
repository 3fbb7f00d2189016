"""Write annotated frames: pictures one by one, videos as a video, bags as folders of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, TYPE_CHECKING

from yolov7_trt_ros.cli.own_mark import mark_mp4, marked_jpeg
from yolov7_trt_ros.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from yolov7_trt_ros.replay.frames import Frame
    from yolov7_trt_ros.replay.sources import FrameSource

JPEG_QUALITY = 92
_CODEC = 'mp4v'


class Names(Protocol):
    """Gives each output a name of its own."""

    def take(self, stem: str, suffix: str) -> Path:
        """Return a path that nothing else has."""


class PictureWriter:
    """Writes each frame as a JPEG file: of a bag into a folder of its own, by topic and number."""

    def __init__(self, names: Names, bag: Path | None = None) -> None:
        self._names = names
        self._folder = names.take(bag.stem, '') if bag else None

    def write(self, frame: Frame, pixels: NDArray[np.uint8]) -> Path:
        """Write one frame; return its file. Raises OSError."""
        import cv2

        if self._folder is None:
            path = self._names.take(frame.path.stem, '.jpg')
        else:
            topic = frame.source.strip('/').replace('/', '.')
            path = self._folder / topic / f'{frame.index:06d}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        _, jpeg = cv2.imencode('.jpg', pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        path.write_bytes(marked_jpeg(jpeg.tobytes()))
        return path

    def __enter__(self) -> PictureWriter:
        """Return the writer itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""


class VideoWriter:
    """Writes frames into an MP4 file, opened at the first one."""

    def __init__(self, path: Path, fps: float) -> None:
        self._path = path
        self._fps = fps
        self._writer: Any = None

    def write(self, frame: Frame, pixels: NDArray[np.uint8]) -> Path:
        """Write one frame; return the file. Raises InputError where OpenCV cannot write."""
        import cv2

        if self._writer is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            codec = cv2.VideoWriter.fourcc(*_CODEC)
            size_wh = pixels.shape[1], pixels.shape[0]
            self._writer = cv2.VideoWriter(str(self._path), codec, self._fps, size_wh)
        if not self._writer.isOpened():
            raise InputError(f'OpenCV cannot write the video {self._path}')
        self._writer.write(pixels)
        return self._path

    def __enter__(self) -> VideoWriter:
        """Return the writer itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()
            if self._path.is_file():
                mark_mp4(self._path)


def open_writer(source: FrameSource, names: Names) -> PictureWriter | VideoWriter:
    """Return the writer that fits a source."""
    if source.kind == 'video':
        return VideoWriter(names.take(source.path.stem, '.mp4'), source.fps or 30.0)
    return PictureWriter(names, source.path if source.kind == 'bag' else None)
