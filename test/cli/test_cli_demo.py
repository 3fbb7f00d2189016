"""The demo without ROS: how it waits, what it refuses, what it tells."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
import sys
from typing import Any

import cv2
import numpy as np
import pytest
from rich.console import Console

from yolov7_trt_ros.cli.demo import summary as demo_summary
from yolov7_trt_ros.cli.demo.run import Played, Processes
from yolov7_trt_ros.cli.demo.source import find_source
from yolov7_trt_ros.cli.demo.start import START_S, wait_until_ready
from yolov7_trt_ros.cli.verbs import demo
from yolov7_trt_ros.errors import InputError, Yolov7TrtError

ACTIVE = {'state': 'active', 'message': 'active', 'backend': 'TensorRT', 'last error': 'none'}
BUILDING = {'state': 'active', 'message': 'building a plan: tactics: head.2 43 %, 95 s',
            'last error': 'none'}


class Detector:
    """Says one thing after another, each for so many seconds; the last one for good."""

    def __init__(self, *said: tuple[float, dict[str, str]]) -> None:
        self.said, self.now_s = said, 0.0
        self.lines: list[str] = []

    def status(self) -> dict[str, str]:
        until_s = 0.0
        for seconds, status in self.said:
            until_s += seconds
            if self.now_s < until_s:
                return status
        return self.said[-1][1]

    def record(self) -> dict[str, Any]:
        status = self.status()
        return {'diagnostics': {'/detector: detector': status} if status else {}}

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def wait(self, ended: list[str] | None = None) -> None:
        wait_until_ready(
            self.record, lambda: ended or [], Path('log'),
            say=self.lines.append, clock_s=lambda: self.now_s, sleep=self.sleep,
        )


def test_a_detector_without_a_plan_to_build_is_waited_for_in_silence() -> None:
    detector = Detector((2, {}), (1, {'state': 'inactive', 'message': 'inactive'}), (0, ACTIVE))
    detector.wait()
    assert detector.lines == []
    assert 3 <= detector.now_s < 3.2


def test_a_build_is_told_every_few_seconds_and_may_outlast_every_limit() -> None:
    build_s = 10 * START_S
    detector = Detector((2, {}), (build_s, BUILDING), (START_S - 1, ACTIVE | {'backend': 'x'}))
    detector.wait()
    assert set(detector.lines) == {'building a TensorRT plan: tactics: head.2 43 %, 95 s'}
    assert build_s / 6 < len(detector.lines) <= build_s / 5 + 1
    assert detector.now_s == pytest.approx(2 + build_s, abs=0.2)


def test_active_without_a_model_is_not_ready() -> None:
    status = {'state': 'active', 'message': 'active', 'last error': 'none'}
    detector = Detector((1, status), (1, BUILDING), (0, ACTIVE))
    detector.wait()
    assert detector.now_s >= 2


@pytest.mark.parametrize('before', [[], [(500.0, BUILDING)]], ids=['at once', 'after a build'])
def test_its_own_reason_ends_the_wait(before: list[tuple[float, dict[str, str]]]) -> None:
    error = 'no detector: no kernel for node Foo'
    detector = Detector(*before, (0, {'state': 'active', 'message': error, 'last error': error}))
    with pytest.raises(Yolov7TrtError, match='no kernel for node Foo'):
        detector.wait()


def test_silence_after_a_build_has_an_end() -> None:
    detector = Detector((500, BUILDING), (0, {'state': 'active', 'message': 'active'}))
    with pytest.raises(Yolov7TrtError, match=r'the detector did not start.*log/detector\.txt'):
        detector.wait()
    assert detector.now_s == pytest.approx(500 + START_S, abs=0.5)


def test_a_process_that_has_ended_is_named() -> None:
    with pytest.raises(Yolov7TrtError, match=r'the recorder did not start.*log/recorder\.txt'):
        Detector((100, BUILDING)).wait(ended=['recorder'])


# ---- sources and processes


def test_a_source_is_read_before_anything_is_started(tmp_path: Path) -> None:
    good, bad = tmp_path / 'a.png', tmp_path / 'b.mp4'
    cv2.imwrite(str(good), np.full((40, 60, 3), 90, np.uint8))
    bad.write_bytes(b'no video at all')
    (tmp_path / 'notes.txt').write_text('no picture')
    (tmp_path / 'c.jpg').write_bytes(good.read_bytes()[:50])
    assert find_source(str(good)) == good
    for name, reason in (
        ('b.mp4', 'cannot be opened as a video'), ('notes.txt', 'of an unknown kind'),
        ('c.jpg', 'cannot be played: '), ('gone', 'no such file'),
    ):
        with pytest.raises(InputError, match=reason):
            find_source(str(tmp_path / name))
    with pytest.raises(InputError, match='is an address'):
        find_source('rtsp://camera/1')


def test_a_process_that_ends_by_itself_is_told_with_its_reason(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        processes = Processes(stack, tmp_path, 88)
        processes.start('rear', [sys.executable, '-c', 'input()']).wait(600)
        with pytest.raises(Yolov7TrtError, match='the rear ended unexpectedly: EOFError'):
            processes.check()


# ---- what it tells

RECORD: dict[str, Any] = {
    'topics': {'/front/image_raw': 123456, '/front/detections': 123456},
    'classes': {'/front/detections': {'person': 99999, 'fire hydrant': 88888, 'cup': 777,
                                      'traffic light': 6, 'tie': 5}},
    'diagnostics': {
        '/detector: detector': {'backend': 'TensorRT 10.16.2.10 (NVIDIA GeForce RTX 5090)'},
        '/detector: /front/image_raw': {
            'received': '123456', 'processed': '123400', 'dropped': '56', 'failed': '0',
            'stamp_to_publish p50 (ms)': '12345.6', 'stamp_to_publish p99 (ms)': 'nan',
        },
    },
    'drawn': {'/front/image_raw': {'frames': 3, 'codec': 'MPEG-4', 'error': ''}},
}


def test_the_table_fits_80_columns() -> None:
    text = io.StringIO()
    Console(file=text, width=80).print(demo_summary.table(demo_summary.summarise(RECORD)))
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    whole = ' '.join(text.getvalue().split())
    for word in ('front', 'rear', '123456', 'person', '99999', 'traffic'):
        assert word in whole
    assert '\u2026' not in text.getvalue()  # nothing is cut off


def test_the_summary_is_json() -> None:
    summary = demo.complete_summary(Played(RECORD, {'/front/image_raw': 12.5}, 3.21, True))
    again = json.loads(json.dumps(summary, allow_nan=False))
    front, rear = again['cameras']['front'], again['cameras']['rear']
    assert (front['rate_in_hz'], rear['rate_in_hz']) == (12.5, None)
    assert front['stamp_to_publish_p99_ms'] is None
    assert (again['seconds'], again['interrupted']) == (3.21, True)


def test_what_was_made_is_listed_with_the_codec(tmp_path: Path) -> None:
    for name in ('front.mp4', 'summary.json'):
        (tmp_path / name).write_bytes(bytes(600_000))
    lines = demo_summary.what_was_made(demo_summary.summarise(RECORD), tmp_path)
    text = '\n'.join(lines)
    assert max(map(len, text.splitlines()[1:])) <= 80
    assert lines[0] == f'In {tmp_path}/, 1 MB:'
    assert 'front.mp4' in text and '(MPEG-4)' in text and 'browsers' in text
    assert 'rear.mp4' not in text and 'bag/' not in text
