"""The recorder where it cannot write: at start, and on a disk that is full."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
import resource
import signal
import subprocess
import sys

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
import numpy as np
import pytest
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from rclpy.serialization import serialize_message
from ros_probe import image_msg, Probe
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.nodes.process.own_output import take_stdout
from yolov7_trt_ros.nodes.tools.recorder_node import _MORE_CLASSES, _MOST_NAMES, RecorderNode
from yolov7_trt_ros.replay.bags.detection_message import DETECTIONS_TYPE


def start(bag: Path, room_bytes: int = 1 << 30) -> subprocess.Popen[str]:
    """Start a recorder whose files may grow so far, as if the disk were full then."""
    parameters = [f'bag:={bag}', "images:=['/full/image_raw']", "detections:=['/full/detections']"]
    command = [sys.executable, '-m', 'yolov7_trt_ros.nodes.tools.recorder_node', '--ros-args']
    return subprocess.Popen(
        command + [each for name in parameters for each in ('-p', name)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, room_bytes)),
    )


def test_a_bag_that_exists_is_told_in_one_line(tmp_path):
    (tmp_path / 'bag').mkdir()
    recorder = start(tmp_path / 'bag')
    _, errors = recorder.communicate(timeout=600)
    assert recorder.returncode == 1
    assert 'cannot start: bag cannot be created' in errors and 'exists already' in errors
    assert 'Traceback' not in errors


def test_a_full_disk_ends_it_with_one_line_and_a_last_report(probe: Probe, tmp_path):
    room_bytes = 2 << 20
    recorder = start(tmp_path / 'bag', room_bytes)
    camera = probe.node.create_publisher(Image, '/full/image_raw', qos_profile_sensor_data)
    message = image_msg(np.zeros((480, 640, 3), np.uint8))

    def ended() -> bool:
        camera.publish(probe.stamp(message))
        probe.spin(0.05)
        return recorder.poll() is not None

    probe.wait_until(ended, 'the recorder to end')
    probe.node.destroy_publisher(camera)
    output, errors = recorder.communicate(timeout=600)
    assert recorder.returncode == 1, errors
    assert errors.count('cannot continue to record') == 1 and 'File too large' in errors
    assert 'Traceback' not in errors
    assert json.loads(output.splitlines()[-1])['topics']['/full/image_raw'] >= 1
    assert 0 < (tmp_path / 'bag' / 'bag.mcap').stat().st_size <= room_bytes


def test_a_disk_that_is_full_only_at_the_end_is_told_too(tmp_path):
    recorder = start(tmp_path / 'bag', room_bytes=1000)
    assert recorder.stdout is not None
    assert 'topics' in json.loads(recorder.stdout.readline())
    recorder.send_signal(signal.SIGINT)
    _, errors = recorder.communicate(timeout=600)
    assert recorder.returncode == 1
    assert errors.count('cannot continue to record') == 1 and 'Traceback' not in errors


def test_it_records_on_when_nobody_reads_its_reports(tmp_path):
    recorder = start(tmp_path / 'bag')
    assert recorder.stdout is not None and recorder.stderr is not None
    recorder.stdout.readline()
    recorder.stdout.close()
    said = iter(recorder.stderr.readline, '')
    assert any('no more reports' in line for line in said)
    recorder.send_signal(signal.SIGINT)
    assert 'Traceback' not in recorder.stderr.read()
    assert recorder.wait(timeout=600) == 0
    assert (tmp_path / 'bag' / 'metadata.yaml').is_file()


LOGS_TO_STDOUT = """
import os, sys
from yolov7_trt_ros.nodes.process.own_output import take_stdout
data = take_stdout()
os.write(1, b'[RTPS_TRANSPORT Error] of the middleware\\n')
print('of a library')
sys.stdout.flush()
print('data', file=data, flush=True)
"""


@pytest.mark.parametrize(('redirected', 'output', 'errors'), [
    ('', 'data\n', '[RTPS_TRANSPORT Error] of the middleware\nof a library\n'),
    ('2>&-', 'data\n[RTPS_TRANSPORT Error] of the middleware\nof a library\n', ''),
])
def test_the_data_on_standard_output_is_not_mixed_with_logs(redirected, output, errors):
    command = f'exec "$0" -c "$1" {redirected}'
    run = subprocess.run(
        ['sh', '-c', command, sys.executable, LOGS_TO_STDOUT],
        capture_output=True, text=True, timeout=600,
    )
    assert sorted(run.stdout.splitlines()) == sorted(output.splitlines())
    assert (run.returncode, run.stderr) == (0, errors)


def test_without_standard_output_the_data_goes_nowhere(monkeypatch):
    monkeypatch.setattr(sys, 'stdout', None)
    with take_stdout() as output:
        assert output.name == os.devnull


def make(probe: Probe, bag: Path, **values: object) -> RecorderNode:
    """Make a recorder in this process."""
    values = {'bag': str(bag)} | values
    overrides = [Parameter(name, value=each) for name, each in values.items()]
    return RecorderNode(
        reports=io.StringIO(), context=probe.node.context, parameter_overrides=overrides
    )


@pytest.mark.parametrize(('values', 'words'), [
    ({'images': ['/a', '/a/compressed'], 'compress': True}, '/a/compressed would be in the bag'),
    ({'images': ['/found']}, '/found would be in the bag twice'),
    ({'images': ['/a/raw', '/b/raw']}, 'got 2 of images and 1 of detections'),
    ({'images': ['/a_b/raw', '/a/b/raw'], 'detections': ['/x', '/y']}, 'would be a_b.mp4'),
])
def test_topics_that_get_in_each_others_way_are_refused_before_a_bag(
    probe: Probe, tmp_path, values, words
):
    defaults = {'detections': ['/found'], 'drawn': str(tmp_path)}
    with pytest.raises(SettingError, match=words):
        make(probe, tmp_path / 'bag', **(defaults | values))
    assert not (tmp_path / 'bag').exists()


@pytest.mark.parametrize(('topics', 'names'), [
    (['/front/image_raw', '/rear/image_raw/compressed'], {'front', 'rear'}),
    (['/robot/front/raw', '/robot/rear/raw'], {'robot_front', 'robot_rear'}),
    (['/robot/left', '/robot/right', '/top'], {'robot_left', 'robot_right', 'top'}),
])
def test_each_camera_has_a_video_of_its_own(probe: Probe, tmp_path, topics, names):
    found = [f'/found_{number}' for number in range(len(topics))]
    node = make(
        probe, tmp_path / 'bag', drawn=str(tmp_path), images=topics, detections=found)
    try:
        assert {camera.name for camera in node._drawn.values()} == names
    finally:
        node.destroy_node()


def test_its_reports_do_not_grow_with_the_names_that_others_invent(probe: Probe, tmp_path):
    node = make(probe, tmp_path / 'bag', images=['/a'], detections=['/found'])
    also = node._connect('/also', DETECTIONS_TYPE)
    try:
        for part in range(3):
            node._on_diagnostics(DiagnosticArray(status=[
                DiagnosticStatus(
                    name=f'{number} of {part}', message='m' * 10_000,
                    values=[KeyValue(key='k' * 10_000, value='v' * 10_000)],
                ) for number in range(_MOST_NAMES)
            ]))
            found = Detection2DArray()
            for number in range(_MOST_NAMES):
                result = ObjectHypothesisWithPose()
                result.hypothesis.class_id = f'{number} of {part}'
                found.detections.append(Detection2D(results=[result]))
            node._on_detections('/found', also, serialize_message(found))
        assert list(node._diagnostics)[-1] == f'{_MOST_NAMES - 1} of 2'
        assert len(node._diagnostics) == _MOST_NAMES
        classes = node._classes['/found']
        assert classes.total() == 3 * _MOST_NAMES and len(classes) == _MOST_NAMES + 1
        assert classes[_MORE_CLASSES] == 2 * _MOST_NAMES
        node._reports.truncate(0)
        node.report()
        assert len(node._reports.getvalue()) < 3000 * _MOST_NAMES
    finally:
        node.destroy_node()
