"""Write a video and pictures of one camera with boxes drawn in, during recording."""

from __future__ import annotations

from pathlib import Path
import queue
import threading
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.messages.image_message import view_message
from yolov7_trt_ros.core.messages.serialized_image import read_compressed_image, read_image
from yolov7_trt_ros.core.overlay import annotated_copy
from yolov7_trt_ros.core.units import stamp_to_ns
from yolov7_trt_ros.errors import InputError
from yolov7_trt_ros.replay.bags.bag_detections import detections_of
from yolov7_trt_ros.report.video_file import open_video

_PICTURE_EVERY = 24
_MOST_IMAGES = 24
"""Maximum number that wait for detections, and maximum number that wait for drawing."""


class _Pair(NamedTuple):
    """A serialised image and what was found in it."""

    message: bytes
    found: Detections


class DrawnCamera:
    """
    Pairs images with their detections by the stamp, and draws them in a separate thread.

    Images that cannot be drawn in time are skipped, so that closing does not take long. All but
    `codec`, `frames` and `error` is for the recording thread.

    Parameters
    ----------
    folder
        Where `NAME.mp4` and `pictures/` go.
    name
        Of the camera.
    rate_hz
        Frames per second of the video.
    compressed
        Whether its images are sensor_msgs/CompressedImage.
    class_ids
        Class ids by name; names that are not in it are added.

    Attributes
    ----------
    name
        As given.
    codec
        Of the video, '' before its first frame.
    frames
        How many were drawn.
    passed_over
        How many were not, because the machine is too slow.
    error
        Why nothing is drawn any more, '' while all is well.

    """

    def __init__(
        self, folder: Path, name: str, rate_hz: float, *, compressed: bool,
        class_ids: dict[str, int],
    ) -> None:
        self.codec = self.error = ''
        self.frames = self.passed_over = 0
        self._folder, self.name, self._rate_hz = folder, name, rate_hz
        self._read = read_compressed_image if compressed else read_image
        self._class_ids = class_ids
        self._waiting: dict[int, bytes] = {}
        self._queue: queue.Queue[_Pair | None] = queue.Queue(_MOST_IMAGES)
        self._writer: Any = None
        self._thread = threading.Thread(target=self._run, name=f'draw {name}', daemon=True)
        self._thread.start()

    def add_image(self, stamp_ns: int, message: bytes) -> None:
        """Keep a serialised image until its detections come."""
        self._waiting[stamp_ns] = message
        while len(self._waiting) > _MOST_IMAGES:
            del self._waiting[next(iter(self._waiting))]

    def add_detections(self, message: Any) -> None:
        """Take a Detection2DArray; without its image nothing is drawn."""
        image = self._waiting.pop(stamp_to_ns(message.header.stamp), None)
        if image is None:
            return
        try:
            self._queue.put_nowait(_Pair(image, detections_of(message, self._class_ids)))
        except queue.Full:
            self.passed_over += 1

    def close(self) -> None:
        """Draw waiting images, finish the video and end the thread."""
        self._queue.put(None)
        self._thread.join()

    def record(self) -> dict[str, object]:
        """Return the values for the JSON report."""
        return {
            'frames': self.frames, 'passed_over': self.passed_over, 'codec': self.codec,
            'error': self.error,
        }

    def _run(self) -> None:
        while (pair := self._queue.get()) is not None:
            if self.error:
                continue
            try:
                self._draw(pair)
            except (InputError, OSError, MemoryError, cv2.error) as exc:
                self.error = str(exc) or type(exc).__name__  # MemoryError says nothing
        if self._writer is not None:
            self._writer.release()

    def _draw(self, pair: _Pair) -> None:
        image = view_message(self._read(pair.message))
        canvas = annotated_copy(image, pair.found, tuple(self._class_ids))
        if self._writer is None:
            (self._folder / 'pictures').mkdir(parents=True, exist_ok=True)
            path = self._folder / f'{self.name}.mp4'
            self._writer, self.codec = open_video(path, self._rate_hz, image.size_wh)
            if not self._writer.isOpened():
                raise OSError(f'{path} cannot be written')
        self._writer.write(canvas)
        if self.frames % _PICTURE_EVERY == 0:
            self._save_picture(canvas)
        self.frames += 1

    def _save_picture(self, canvas: NDArray[np.uint8]) -> None:
        path = self._folder / 'pictures' / f'{self.name}_{self.frames:04d}.jpg'
        if not cv2.imwrite(str(path), canvas):
            raise OSError(f'{path} cannot be written')
