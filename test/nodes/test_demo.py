"""The demo, whole: real node, two cameras, recorder, bag, pictures and summary."""

from __future__ import annotations

import json
from pathlib import Path
import signal
import subprocess
import sys
import time

import cv2
from fake_engine import FakeEngine
import pytest
from ros_probe import domain_apart

from yolov7_trt_ros.cli.demo.start import build_progress
from yolov7_trt_ros.engine.options import DetectorOptions
from yolov7_trt_ros.nodes.detector.plan_build import PlanBuild
from yolov7_trt_ros.replay.bags.bag_detections import read_detections
from yolov7_trt_ros.replay.bags.bag_reader import BagReader
from yolov7_trt_ros.replay.frames import Frame

DEMO = (sys.executable, '-m', 'yolov7_trt_ros', 'demo')


def run_demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the verb in a process of its own."""
    return subprocess.run(
        [*DEMO, *apart(), *arguments], capture_output=True, text=True, timeout=600,
    )


def apart() -> list[str]:
    """Return the option of a domain that no other test has at the same time."""
    return ['--domain-id', domain_apart(40)]


def test_demo_leaves_bag_pictures_videos_and_a_true_summary(tmp_path):
    (tmp_path / 'keep.txt').write_text('not ours')
    done = run_demo('--seconds', '8', '--rate', '8', '-o', str(tmp_path))
    assert done.returncode == 0, done.stderr
    lines = [each for each in done.stdout.splitlines() if str(tmp_path) not in each]
    assert max(map(len, lines)) <= 80
    assert 'The embedded model is small' in done.stdout
    summary = json.loads((tmp_path / 'summary.json').read_text(), parse_constant=pytest.fail)
    assert (summary['seconds'], summary['interrupted']) == (8.0, False)
    for name, camera in summary['cameras'].items():
        assert camera['received'] == camera['processed'] + camera['dropped'] + camera['failed']
        assert camera['failed'] == 0 and camera['processed'] > 5 and camera['rate_in_hz'] > 0
        assert 0 < camera['stamp_to_publish_p50_ms'] <= camera['stamp_to_publish_p99_ms']
        track = read_detections(tmp_path / 'bag', f'/{name}/detections')
        assert len(track.by_stamp_ns) == camera['detections_recorded']
        images = list(BagReader(tmp_path / 'bag', topics=[camera['topic_in_bag']]))
        assert all(isinstance(image, Frame) for image in images)
        assert len(images) == camera['images_recorded']
        # best effort: the recorder may match a camera later than the detector did, and a busy
        # machine loses some
        stamps = {image.stamp_ns for image in images}
        late = {stamp for stamp in track.by_stamp_ns if stamp >= min(stamps)}
        assert len(late) > 5 and len(late & stamps) > len(late) / 2
        assert camera['classes'].get('person', 0) > 0  # the first photograph shows one
        assert camera['frames_drawn'] > 5 and camera['drawing_error'] == ''
        assert count_frames(tmp_path / f'{name}.mp4') == camera['frames_drawn']
        assert f'{name}.mp4' in done.stdout and camera['video_codec'] in done.stdout
        assert list((tmp_path / 'pictures').glob(f'{name}_*.jpg'))
    assert (tmp_path / 'keep.txt').exists()


def count_frames(video: Path) -> int:
    """Return how many frames of a video can be read."""
    capture = cv2.VideoCapture(str(video))
    count = 0
    while capture.grab():
        count += 1
    capture.release()
    return count


def test_an_interrupted_demo_leaves_what_it_made_and_says_so(tmp_path):
    demo = subprocess.Popen(
        [*DEMO, *apart(), '--seconds', '3000', '-o', str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    deadline_s = time.monotonic() + 600
    while not list(tmp_path.glob('pictures/rear_*.jpg')):
        assert demo.poll() is None and time.monotonic() < deadline_s
        time.sleep(0.05)
    demo.send_signal(signal.SIGINT)
    told, errors = demo.communicate(timeout=600)
    assert demo.returncode == 130
    assert f'interrupted: written to {tmp_path} so far: ' in errors and 'rear.mp4' in errors
    assert 'Traceback' not in errors and 'rear.mp4' in told
    summary = json.loads((tmp_path / 'summary.json').read_text())
    assert summary['interrupted'] is True and summary['seconds'] < 3000
    camera = summary['cameras']['rear']
    assert count_frames(tmp_path / 'rear.mp4') == camera['frames_drawn'] > 0
    images = list(BagReader(tmp_path / 'bag', topics=[camera['topic_in_bag']]))
    assert len(images) == camera['images_recorded'] > 0


def test_demo_knows_the_progress_of_a_build_by_what_the_node_says():
    build = PlanBuild(FakeEngine().seam, DetectorOptions(model='m.onnx'), lambda: None)
    try:
        message = build.progress()
        assert build_progress({'message': message}).startswith('building a TensorRT plan: ')
    finally:
        build.cancel(30.0)


def test_demo_says_what_is_wrong(tmp_path):
    for arguments, words in (
        (('--source', '/nowhere'), 'no such file'),
        (('--seconds', '0'), 'within 1..3600'),
        (('--model', '/nowhere.onnx'), '/nowhere.onnx'),
    ):
        done = run_demo(*arguments, '-o', str(tmp_path))
        assert done.returncode in (1, 2)
        assert words in done.stderr and 'Traceback' not in done.stderr
