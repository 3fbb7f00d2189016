"""Track ids through `detect`: in its JSON, in what it draws, and off by default."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from yolov7_trt_ros.cli.main import main
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.overlay import annotated_copy
from yolov7_trt_ros.testing import make_detections


def video(photographs: Path, path: Path) -> Path:
    """Write a still video."""
    picture = cv2.resize(cv2.imread(str(photographs / 'coffee.jpg')), (320, 240))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), 10, (320, 240))
    for _ in range(3):
        writer.write(picture)
    writer.release()
    return path


def test_detect_gives_the_objects_of_a_video_ids(photographs: Path, tmp_path: Path):
    path, out = video(photographs, tmp_path / 'still.mp4'), tmp_path / 'out.json'
    flags = ['-o', str(tmp_path / 'out'), '--json', str(out), '--size', '320', '-s', '0.1']
    assert main(['detect', str(path), *flags, '--track', 'bytetrack', '--track-lost', '2']) == 0
    record = json.loads(out.read_text())
    assert record['track'] == {'mode': 'bytetrack', 'lost_s': 2.0, 'low_score': 0.1}
    first, _, last = (
        {each['track_id'] for each in frame['detections']}
        for frame in record['inputs'][0]['frames']
    )
    assert first == set(range(1, len(first) + 1)) and first & last
    assert main(['detect', str(path), *flags]) == 0
    record = json.loads(out.read_text())
    assert 'track' not in record
    assert 'track_id' not in record['inputs'][0]['frames'][0]['detections'][0]


def test_a_value_out_of_range_is_refused(tmp_path: Path, capsys):
    flags = ['--track', 'iou', '--track-lost', '-1']
    assert main(['detect', 'a.mp4', '-o', str(tmp_path), *flags]) == 2
    assert 'track_lost_s must be within 0..3600, got -1' in capsys.readouterr().err


def test_ids_are_drawn():
    image = ImageView.from_array(np.zeros((200, 200, 3), np.uint8))
    found = make_detections((200, 200), ((40, 60, 160, 160), 0.9, 0))
    numbered = make_detections((200, 200), ((40, 60, 160, 160), 0.9, 0), track_ids=(17,))
    plain, drawn = (annotated_copy(image, each, ('dog',)) for each in (found, numbered))
    assert not np.array_equal(plain, drawn)
    none = make_detections((200, 200), ((40, 60, 160, 160), 0.9, 0), track_ids=(0,))
    assert np.array_equal(plain, annotated_copy(image, none, ('dog',)))
