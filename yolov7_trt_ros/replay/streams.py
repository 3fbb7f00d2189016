"""Live streams through OpenCV: webcams, RTSP, HTTP; latest frame only, with reconnection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import math
from pathlib import Path
import queue
import re
import threading
import time
from typing import Any

import cv2
import numpy as np

from yolov7_trt_ros.core.defaults import DEFAULT_MAX_DECODED_PIXELS
from yolov7_trt_ros.core.image import check_size, ImageView
from yolov7_trt_ros.core.plain_text import listed, quoted
from yolov7_trt_ros.errors import ImageError
from yolov7_trt_ros.replay.frames import BadFrame, Frame

PATIENCE_S = 30.0
_DEFAULT_FPS = 15.0
_LEAST_FPS, _MOST_FPS = 1.0, 120.0
_TIMEOUT_MS = 5000
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 4.0
_POLL_S = 0.2
_SCHEMES = re.compile(r'(rtsp|rtsps|http|https|rtmp|udp|tcp)://', re.IGNORECASE)
_DEVICE = re.compile(r'/dev/video(\d+)')
_USER = re.compile(r'//[^/@]*@')


def is_stream(text: str) -> bool:
    """Whether a text is a webcam (`0`, `/dev/video0`) or the address of a stream."""
    return _device(text) is not None or _SCHEMES.match(text) is not None


class StreamSource:
    """
    The frames of a live stream, until it is lost for longer than the patience.

    A thread reads continuously and keeps the latest frame, so no old frame is yielded. After a
    loss it reconnects, with growing pauses; `warnings` has the events.

    Parameters
    ----------
    address
        `0`, `/dev/video0`, `rtsp://...`, `http://...`.
    max_pixels
        Maximum width x height.
    stopped
        Called between frames; returns whether to end.
    patience_s
        How long a lost stream is retried, in seconds.

    Raises
    ------
    ImageError
        It cannot be opened at first, or its frames are larger than `max_pixels`.

    """

    kind = 'video'
    count: int | None = None

    def __init__(
        self, address: str, *, max_pixels: int = DEFAULT_MAX_DECODED_PIXELS,
        stopped: Callable[[], bool] = lambda: False, patience_s: float = PATIENCE_S,
    ) -> None:
        self.path = Path(_plain_name(address))
        self.name = _USER.sub('//', address)
        self.warnings: list[str] = []
        self.skipped = 0
        self._address, self._max_pixels = address, max_pixels
        self._stopped, self._patience_s = stopped, patience_s
        self._ended = threading.Event()
        self._latest: queue.Queue[Any] = queue.Queue(1)
        self._capture = self._open()
        if self._capture is None:
            raise ImageError(f'{quoted(self.name)} cannot be opened: {_open_failure(address)}')
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        known = math.isfinite(fps) and _LEAST_FPS <= fps <= _MOST_FPS
        self.fps: float | None = float(fps) if known else _DEFAULT_FPS

    def __iter__(self) -> Iterator[Frame | BadFrame]:
        """Yield the latest frames; a `BadFrame` at the end if the stream is lost."""
        thread = threading.Thread(target=self._read, name='stream', daemon=True)
        thread.start()
        try:
            yield from self._frames()
        finally:
            self._ended.set()
            thread.join()

    def _frames(self) -> Iterator[Frame | BadFrame]:
        start_ns, index = time.monotonic_ns(), 0
        while not self._stopped():
            with contextlib.suppress(queue.Empty):
                pixels = self._latest.get(timeout=_POLL_S)
                if pixels is None:
                    error = ImageError(
                        f'{quoted(self.name)} is gone: no frame for {self._patience_s:.0f} s'
                    )
                    yield BadFrame(error, self.path.name, index, self.path)
                    return
                image = ImageView.from_array(np.asarray(pixels, np.uint8))
                stamp_ns = time.monotonic_ns() - start_ns
                yield Frame(image, stamp_ns, '', self.path.name, index, self.path, stamp_ns)
                index += 1

    def _read(self) -> None:
        """Keep the latest frame, until the end is requested or the stream is lost."""
        capture, pause_s, alive_at_s = self._capture, _FIRST_PAUSE_S, time.monotonic()
        while not self._ended.is_set():
            pixels = _read_frame(capture)
            if pixels is not None:
                pause_s, alive_at_s = _FIRST_PAUSE_S, time.monotonic()
                self._keep(pixels)
                continue
            if capture is not None:
                self.warnings.append(f'{quoted(self.name)}: connection lost, trying again')
                capture.release()
            if time.monotonic() - alive_at_s > self._patience_s:
                self._keep(None)
                return
            self._ended.wait(pause_s)
            pause_s = min(_LONGEST_PAUSE_S, 2 * pause_s)
            with contextlib.suppress(ImageError):
                capture = None
                capture = self._open()
        if capture is not None:
            capture.release()

    def _keep(self, pixels: Any) -> None:
        with contextlib.suppress(queue.Empty):
            self._latest.get_nowait()
            self.skipped += 1
        self._latest.put(pixels)

    def _open(self) -> Any:
        """Return an open capture, None without an answer; ImageError for too many pixels."""
        device = _device(self._address)
        try:
            if device is not None:
                capture = cv2.VideoCapture(device)
            else:
                capture = cv2.VideoCapture(self._address, cv2.CAP_FFMPEG, [
                    cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _TIMEOUT_MS,
                    cv2.CAP_PROP_READ_TIMEOUT_MSEC, _TIMEOUT_MS,
                ])
            if not capture.isOpened():
                return None
            check_size(
                int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
                int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)), self._max_pixels,
            )
        except cv2.error:
            return None
        return capture


def _read_frame(capture: Any) -> Any:
    """Return the next frame, None if there is none."""
    if capture is None:
        return None
    try:
        return capture.read()[1]
    except cv2.error:
        return None


def _device(text: str) -> int | None:
    """Return the number of a webcam, None for other texts."""
    match = _DEVICE.fullmatch(text)
    digits = match[1] if match else text
    return int(digits) if digits.isdecimal() and len(digits) <= 3 else None


def _open_failure(address: str) -> str:
    """Return why a stream may fail to open."""
    device = _device(address)
    if device is None:
        return 'no answer, or not a stream that this OpenCV can read'
    if Path(f'/dev/video{device}').exists():
        return 'another program uses the webcam, or this user may not (group video)'
    found = sorted(str(path) for path in Path('/dev').glob('video*'))
    return f'there is no webcam {device}; ' + (
        f'found: {listed(found, 4)}' if found else 'this machine has none'
    )


def _plain_name(address: str) -> str:
    """Return a name for files, without dots: `webcam-0`, `camera-local-8080-stream`."""
    device = _device(address)
    if device is not None:
        return f'webcam-{device}'
    rest = _USER.sub('//', address).partition('://')[2].partition('?')[0]
    return re.sub(r'[^A-Za-z0-9]+', '-', rest).strip('-')[:80] or 'stream'
