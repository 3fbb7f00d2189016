"""VideoSource: the frames of a video file, read with OpenCV."""

from __future__ import annotations

from collections.abc import Iterator
import functools
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from yolov7_trt_ros.core.defaults import DEFAULT_MAX_DECODED_PIXELS
from yolov7_trt_ros.core.image import check_size, ImageView
from yolov7_trt_ros.core.units import NS_PER_MS, NS_PER_S
from yolov7_trt_ros.errors import ImageError
from yolov7_trt_ros.replay.frames import BadFrame, Frame
from yolov7_trt_ros.replay.video_length import edited_duration_s, is_cut_off, lists_frames

_DEFAULT_FPS = 30.0
_COMPLETE_SHARE = 0.9
"""A video with less of its stated frames and of its stated time is damaged."""
_UNEDITED_SHARE = 0.99
_SPARE_FRAMES = 1  # containers without a count state a duration, which is rounded
_PTS = getattr(cv2, 'CAP_PROP_PTS', None)


class VideoSource:
    """
    The frames of a video; each `Frame` has its own memory.

    Each iteration decodes from the start. Nothing stays open in between.

    Parameters
    ----------
    path
        The file.
    every
        Yield every n-th frame; the others are not decoded to pixels.
    max_pixels
        Maximum width x height.

    Raises
    ------
    ImageError
        OpenCV cannot open the file, or its frames are larger than `max_pixels`.

    """

    kind = 'video'

    def __init__(
        self, path: Path, *, every: int = 1, max_pixels: int = DEFAULT_MAX_DECODED_PIXELS
    ) -> None:
        self.path = path
        self.warnings: tuple[str, ...] = ()
        self._every = every
        capture = self._open()
        width = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        height = int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        if width > 0 and height > 0:
            check_size(width, height, max_pixels)
        fps = capture.get(cv2.CAP_PROP_FPS)
        frames = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        capture.release()
        self._source_fps = fps if math.isfinite(fps) and 0 < fps < 1000 else _DEFAULT_FPS
        self.fps: float | None = self._source_fps / every
        self._stated_frames = int(frames) if math.isfinite(frames) and frames > 0 else 0
        self.count: int | None = math.ceil(self._stated_frames / every) or None

    def __iter__(self) -> Iterator[Frame | BadFrame]:
        """Yield the frames; a `BadFrame` at the end if the video is truncated."""
        capture = self._open()
        try:
            yield from self._frames(capture)
        except cv2.error as exc:
            error = ImageError(f'{self.path} cannot be decoded: {exc.err}')
            yield BadFrame(error, self.path.name, 0, self.path)
        finally:
            capture.release()

    def _frames(self, capture: Any) -> Iterator[Frame | BadFrame]:
        number, stamp_ns, index, start_s, gap_s = 0, -1, 0, 0.0, 0.0
        while capture.grab():
            before_s, start_s = start_s, self._start_s(capture, number)
            gap_s = max(gap_s, start_s - before_s if number else 1 / self._source_fps)
            if number % self._every == 0:
                stamp_ns = max(stamp_ns + 1, self._position_ns(capture, number))
                read, pixels = capture.retrieve()
                if read and pixels is not None and pixels.size:
                    image = ImageView.from_array(np.asarray(pixels, np.uint8))
                    yield Frame(image, stamp_ns, '', self.path.name, index, self.path, stamp_ns)
                else:
                    error = ImageError(f'{self.path}: frame {number} cannot be decoded')
                    yield BadFrame(error, self.path.name, index, self.path, stamp_ns)
                index += 1
            number += 1
        if not self._is_whole(number, start_s + gap_s):
            error = ImageError(
                f'{self.path} is cut off or damaged: readable up to frame {number} of '
                f'{self._stated_frames or "an unknown number"}'
            )
            yield BadFrame(error, self.path.name, index, self.path)
        elif self._lacks_frames(number):
            self.warnings = (
                f'{self.path}: {number} of its {self._stated_frames} frames can be read; the '
                'others are damaged',
            )

    def _is_whole(self, number: int, reached_s: float) -> bool:
        """
        Return whether this many frames, until this time, are all of the video.

        The number that the container states is too large if it is computed from the duration, as
        for WebM with a varying rate, or if an edit list hides frames.

        """
        if not number:
            return False
        if number >= self._stated_frames - _SPARE_FRAMES:
            return True
        if is_cut_off(self.path):
            return False
        whole_s = edited_duration_s(self.path) or self._stated_frames / self._source_fps
        share = max(number / self._stated_frames, reached_s / whole_s)
        return share >= _COMPLETE_SHARE

    def _lacks_frames(self, number: int) -> bool:
        """Return whether listed frames are missing that no edit list hides."""
        if number >= self._stated_frames - _SPARE_FRAMES or not lists_frames(self.path):
            return False
        listed_s = self._stated_frames / self._source_fps
        return (edited_duration_s(self.path) or listed_s) >= _UNEDITED_SHARE * listed_s

    def _start_s(self, capture: Any, number: int) -> float:
        """Return the time of the frame just grabbed, on the clock of the duration."""
        found = self._position_ns(capture, number) / NS_PER_S
        pts = 0.0 if _PTS is None else capture.get(_PTS)  # from the start of the clock
        return max(found, pts / self._source_fps) if math.isfinite(pts) else found

    def _position_ns(self, capture: Any, number: int) -> int:
        """Return the time of the frame just grabbed, from its number if necessary."""
        milliseconds = capture.get(cv2.CAP_PROP_POS_MSEC)
        if number and math.isfinite(milliseconds) and milliseconds > 0:
            return round(float(milliseconds) * NS_PER_MS)
        return round(number / self._source_fps * NS_PER_S)

    def _open(self) -> Any:
        try:
            capture = cv2.VideoCapture(str(self.path), _backend())
        except cv2.error as exc:
            raise ImageError(f'{self.path} cannot be opened as a video: {exc.err}') from exc
        if not capture.isOpened():
            raise ImageError(
                f'{self.path} cannot be opened as a video: damaged, cut off, or of a codec that '
                'this OpenCV does not have'
            )
        return capture


@functools.cache
def _backend() -> int:
    """
    Return OpenCV's video backend: FFmpeg if available.

    Others would treat a name as a pattern of pictures, or print parts of a damaged file.

    """
    known = cv2.videoio_registry.getBackends()
    return int(cv2.CAP_FFMPEG if cv2.CAP_FFMPEG in known else cv2.CAP_ANY)
