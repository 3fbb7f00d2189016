"""The demo, whole: real node, two cameras, recorder, bag, pictures and summary."""

from __future__ import annotations

import json
import subprocess
import sys

from fake_engine import FakeEngine

from yolov7_trt_ros.cli.demo_start import build_progress
from yolov7_trt_ros.engine.open import DetectorOptions
from yolov7_trt_ros.nodes.plan_build import PlanBuild
from yolov7_trt_ros.replay.bag_detections import read_detections
from yolov7_trt_ros.replay.bags import BagReader
from yolov7_trt_ros.replay.frames import Frame


def run_demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the verb in a process of its own."""
    return subprocess.run(
        [sys.executable, '-m', 'yolov7_trt_ros', 'demo', *arguments],
        capture_output=True, text=True, timeout=600,
    )


def test_demo_leaves_bag_pictures_videos_and_a_true_summary(tmp_path):
    (tmp_path / 'keep.txt').write_text('not ours')
    done = run_demo('--seconds', '4', '--rate', '8', '--domain-id', '88', '-o', str(tmp_path))
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / 'summary.json').read_text())
    for name, camera in summary['cameras'].items():
        assert camera['received'] == camera['processed'] + camera['dropped'] + camera['failed']
        assert camera['failed'] == 0 and camera['processed'] > 5
        assert 0 < camera['stamp_to_publish_p50_ms'] <= camera['stamp_to_publish_p99_ms']
        track = read_detections(tmp_path / 'bag', f'/{name}/detections')
        assert len(track.by_stamp_ns) == camera['detections_recorded']
        images = list(BagReader(tmp_path / 'bag', topics=[camera['topic']]))
        assert all(isinstance(image, Frame) for image in images)
        # best effort: the recorder may match a camera later than the detector did
        stamps = {image.stamp_ns for image in images}
        late = {stamp for stamp in track.by_stamp_ns if stamp >= min(stamps)}
        assert len(late) > 5 and len(late - stamps) <= 2
        assert camera['classes'].get('person', 0) > 0  # the first photograph shows one
        assert (tmp_path / f'{name}.mp4').stat().st_size > 10_000
        assert list((tmp_path / 'pictures').glob(f'{name}_*.jpg'))
    assert (tmp_path / 'keep.txt').exists()


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
        done = run_demo(*arguments, '--domain-id', '88', '-o', str(tmp_path))
        assert done.returncode in (1, 2)
        assert words in done.stderr and 'Traceback' not in done.stderr
