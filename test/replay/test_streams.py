"""Live streams, from a real HTTP server of motion JPEG on this machine."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import http.server
import itertools
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest

from yolov7_trt_ros.errors import ImageError
from yolov7_trt_ros.replay.frames import BadFrame, Frame
from yolov7_trt_ros.replay.streams import is_stream, StreamSource

REPOSITORY = Path(__file__).resolve().parents[2]
BOUNDARY = 'frame'
SIZE_WH = (160, 96)


class MjpegServer:
    """A camera of motion JPEG; each connection ends after so many frames, 0 for never."""

    def __init__(self, frames_per_connection: int = 0, port: int = 0) -> None:
        self.connections = 0
        served = self

        class Handler(http.server.BaseHTTPRequestHandler):

            def do_GET(self) -> None:
                served.connections += 1
                self.send_response(200)
                self.send_header('Content-Type', f'multipart/x-mixed-replace; boundary={BOUNDARY}')
                self.end_headers()
                counted = (
                    range(frames_per_connection) if frames_per_connection else itertools.count()
                )
                with contextlib.suppress(OSError):
                    for number in counted:
                        if served.closed.wait(0.02):
                            return
                        self.wfile.write(_part(number))

            def log_message(self, *_: object) -> None:
                pass

        self.closed = threading.Event()
        self._server = http.server.ThreadingHTTPServer(('127.0.0.1', port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Return the address of the stream."""
        return f'http://127.0.0.1:{self.port}/stream.mjpg'

    def close(self) -> None:
        """End every connection, and listen no more."""
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _part(number: int) -> bytes:
    pixels = np.full((SIZE_WH[1], SIZE_WH[0], 3), number * 5 % 250, np.uint8)
    jpeg = cv2.imencode('.jpg', pixels)[1].tobytes()
    head = f'--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n'
    return head.encode() + jpeg + b'\r\n'


@pytest.fixture
def server() -> Iterator[MjpegServer]:
    camera = MjpegServer()
    yield camera
    camera.close()


@pytest.mark.parametrize(('text', 'is_one'), [
    ('0', True), ('12', True), ('/dev/video3', True), ('rtsp://user:word@camera/1', True),
    ('HTTP://camera:8080/a', True), ('a.mp4', False), ('/dev/video', False), ('1234567', False),
    ('video0', False), ('-1', False), ('', False), ('file:///a.jpg', False),
])
def test_what_is_a_stream(text: str, is_one: bool) -> None:
    assert is_stream(text) is is_one


def test_frames_come_with_growing_stamps(server: MjpegServer) -> None:
    source = StreamSource(server.url)
    assert (source.kind, source.count) == ('video', None)
    assert source.path.name == f'127-0-0-1-{server.port}-stream-mjpg'
    frames = list(itertools.islice(source, 5))
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert all(isinstance(frame, Frame) for frame in frames)
    stamps = [frame.stamp_ns for frame in frames if isinstance(frame, Frame)]
    assert stamps == sorted(set(stamps))
    assert frames[0].image.size_wh == SIZE_WH  # type: ignore[union-attr]


def test_a_slow_reader_gets_the_latest_frame(server: MjpegServer) -> None:
    source = StreamSource(server.url)
    frames = iter(source)
    next(frames)
    deadline_s = time.monotonic() + 600
    while source.skipped < 3:  # the reader's thread goes on meanwhile
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    assert isinstance(next(frames), Frame)
    frames.close()  # type: ignore[attr-defined]


def test_a_lost_connection_is_made_again() -> None:
    camera = MjpegServer(frames_per_connection=10)
    try:
        source = StreamSource(camera.url)
        frames = iter(source)
        while camera.connections < 3:
            assert isinstance(next(frames), Frame)
        assert any('connection lost' in each for each in source.warnings)
        frames.close()  # type: ignore[attr-defined]
    finally:
        camera.close()


def test_a_stream_that_stays_away_ends_with_a_reason(server: MjpegServer) -> None:
    source = StreamSource(server.url, patience_s=3.0)
    frames = iter(source)
    next(frames)
    server.close()
    *_, last = frames
    assert isinstance(last, BadFrame) and 'is gone: no frame for' in str(last.error)


def test_an_end_that_is_asked_for(server: MjpegServer) -> None:
    ended = threading.Event()
    frames = iter(StreamSource(server.url, stopped=ended.is_set))
    next(frames)
    ended.set()
    assert list(frames) == []


@pytest.mark.parametrize('address', ['http://127.0.0.1:1/no', '/dev/video987'])
def test_nobody_there(address: str) -> None:
    with pytest.raises(ImageError, match='cannot be opened'):
        StreamSource(address)


def test_a_webcam_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(ImageError, match='no webcam 987; (found: .dev.video|this machine)'):
        StreamSource('987')


@pytest.mark.parametrize(('address', 'name'), [
    ('rtsp://user:word@127.0.0.1:8554/cam.1?x=2', '127-0-0-1-8554-cam-1'),
    ('http://camera.local/stream', 'camera-local-stream'),
])
def test_the_whole_address_names_the_video(
    address: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StreamSource, '_open', lambda self: cv2.VideoCapture())
    assert StreamSource(address).path.stem == name


def test_frames_that_are_too_large_are_refused(server: MjpegServer) -> None:
    with pytest.raises(ImageError, match='pixels'):
        StreamSource(server.url, max_pixels=100)


def test_passwords_are_not_told() -> None:
    with pytest.raises(ImageError) as caught:
        StreamSource('http://user:secret@127.0.0.1:1/no')
    assert 'secret' not in str(caught.value) and '127.0.0.1:1/no' in str(caught.value)


def test_detect_ends_a_stream_with_ctrl_c_and_keeps_its_video(
    server: MjpegServer, tmp_path: Path
) -> None:
    detect = subprocess.Popen(
        [sys.executable, '-m', 'yolov7_trt_ros', 'detect', server.url, '-o', 'out', '--size', '64',
         '--save-txt', '--json', 'found.json'],
        cwd=tmp_path, env=os.environ | {'PYTHONPATH': str(REPOSITORY)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    deadline_s = time.monotonic() + 600
    while len(list(tmp_path.glob('out/labels/*.txt'))) < 3:
        assert detect.poll() is None and time.monotonic() < deadline_s
        time.sleep(0.02)
    detect.send_signal(signal.SIGINT)
    _, errors = detect.communicate(timeout=600)
    assert detect.returncode == 0, errors
    (video,) = (tmp_path / 'out').glob('*.mp4')
    (record,) = json.loads((tmp_path / 'found.json').read_text())['inputs']
    capture = cv2.VideoCapture(str(video))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) >= len(record['frames']) >= 3
    capture.release()
