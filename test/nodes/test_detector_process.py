"""The detector process: lifecycle states, signals, models, QoS, cameras that come and go."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
import signal
import subprocess
import sys

import cv2
from onnx_models import brightness_grid
import pytest
from rclpy.qos import qos_profile_sensor_data
from ros_probe import DetectorProcess, image_msg, jpeg_msg, Probe, start_node
from sensor_msgs.msg import CompressedImage, Image

from yolov7_trt_ros.replay.bags.bag_detections import read_detections

STEPS = {
    'unconfigured': [],
    'inactive': ['configure'],
    'active': ['configure', 'activate'],
    'finalized': ['shutdown_unconfigured'],
}


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize('state', STEPS)
def test_a_signal_ends_it_cleanly_in_every_state(probe: Probe, log, state, number):
    with DetectorProcess(log) as process:
        probe.wait_for_state('unconfigured')
        for transition in STEPS[state]:
            assert probe.change_state(transition)
        assert probe.state() == state
        assert process.stop(number) == 0, process.text()


def test_a_signal_under_load_leaves_no_traceback(probe: Probe, log, photograph, receive):
    topics = {'image_topics': '/load/image_raw', 'receive': receive}
    with DetectorProcess(log, autostart=True, **topics) as process:
        camera = probe.publisher('/load/image_raw')
        for _ in range(10):
            camera.publish(probe.stamp(image_msg(photograph)))
            probe.spin(0.02)
        assert process.stop(signal.SIGINT) == 0
    probe.node.destroy_publisher(camera)


def test_cleanup_and_configure_again(probe: Probe, log, photograph):
    with DetectorProcess(log, image_topics='/again/image_raw'):
        answers: list = []
        for _ in range(3):
            assert probe.change_state('configure')
            assert probe.change_state('activate')
            camera = probe.publisher('/again/image_raw')
            answers = answers or probe.detections('/again/detections')
            assert probe.ask(camera, image_msg(photograph), answers).detections
            assert probe.change_state('deactivate')
            assert probe.change_state('cleanup')
            probe.node.destroy_publisher(camera)


def test_a_missing_model_is_named_and_can_be_corrected(probe: Probe, log):
    with DetectorProcess(log, model='/nowhere/model.onnx'):
        assert not probe.change_state('configure')
        assert probe.state() == 'unconfigured'
        probe.wait_until(lambda: '/nowhere/model.onnx' in probe.summary()[0], 'diagnostics')
        assert probe.set_parameter('model', 'yolov7-nano') == ''
        assert probe.change_state('configure')


def test_a_value_out_of_range_at_start_ends_with_one_line(log):
    process = DetectorProcess(log, score_threshold=3.0)
    assert process.process.wait(600) == 1
    assert 'cannot start' in process.text() and 'Traceback' not in process.text()


def test_auto_follows_a_reliable_publisher_and_a_compressed_one(
    probe: Probe, log, photograph, receive
):
    topics = {'image_topics': '/rel/image_raw,/jpg/image_raw/compressed', 'receive': receive}
    with DetectorProcess(log, autostart=True, **topics) as process:
        reliable = probe.publisher('/rel/image_raw', reliable=True)
        jpeg = probe.publisher('/jpg/image_raw/compressed', kind=CompressedImage)
        probe.wait_until(lambda: 'raw images, reliable' in process.text(), 'reliable')
        answers = {name: probe.detections(f'/{name}/detections') for name in ('rel', 'jpg')}
        probe.wait_until(reliable.get_subscription_count, 'the new subscription')
        assert probe.ask(reliable, image_msg(photograph), answers['rel']).detections
        assert probe.ask(jpeg, jpeg_msg(photograph), answers['jpg']).detections
        broken = jpeg_msg(photograph)
        broken.data = broken.data[:200]

        def failed() -> int:
            jpeg.publish(probe.stamp(broken))
            return probe.counts('/jpg/image_raw/compressed')['failed']

        probe.wait_until(failed, 'the broken JPEG')
        assert probe.ask(jpeg, jpeg_msg(photograph), answers['jpg']).detections
    probe.node.destroy_publisher(reliable)
    probe.node.destroy_publisher(jpeg)


def test_cameras_come_and_go_by_parameter(probe: Probe, log, photograph, receive):
    topics = {'image_topics': '/one/image_raw', 'receive': receive}
    with DetectorProcess(log, autostart=True, **topics):
        cameras = {
            name: probe.node.create_publisher(Image, f'/{name}/image_raw', qos_profile_sensor_data)
            for name in ('one', 'two')
        }
        probe.wait_until(cameras['one'].get_subscription_count, 'the first camera')
        answers = {'one': probe.detections('/one/detections')}
        probe.ask(cameras['one'], image_msg(photograph), answers['one'])
        assert probe.set_parameter('image_topics', '/one/image_raw, /two/image_raw') == ''
        probe.wait_until(cameras['two'].get_subscription_count, 'the second camera')
        answers['two'] = probe.detections('/two/detections')
        assert probe.ask(cameras['two'], image_msg(photograph), answers['two']).detections
        probe.ask(cameras['one'], image_msg(photograph), answers['one'])
        probe.wait_until(lambda: probe.counts('/one/image_raw')['processed'] >= 2, 'both frames')
        assert probe.set_parameter('image_topics', '/two/image_raw') == ''
        probe.wait_until(lambda: not cameras['one'].get_subscription_count(), 'its end')
        probe.wait_until(lambda: not probe.node.count_publishers('/one/detections'), 'its output')
        assert probe.ask(cameras['two'], image_msg(photograph), answers['two']).detections
    for camera in cameras.values():
        probe.node.destroy_publisher(camera)


def test_a_pattern_finds_cameras_that_come_later(probe: Probe, log, photograph):
    with DetectorProcess(log, autostart=True, image_topics='/row/*/image_raw'):
        probe.wait_until(lambda: probe.summary()[0] == 'active', 'the node')
        camera = probe.publisher('/row/left/image_raw')
        other = probe.node.create_publisher(Image, '/row/left/depth', qos_profile_sensor_data)
        found = probe.detections('/row/left/detections')
        assert probe.ask(camera, image_msg(photograph), found).detections
        assert other.get_subscription_count() == 0
        reason = probe.set_parameter('detections_topics', '/somewhere')
        assert 'must be empty where image_topics has a pattern' in reason
    probe.node.destroy_publisher(camera)
    probe.node.destroy_publisher(other)


def test_a_qos_mismatch_names_the_fix(probe: Probe, log, photograph):
    topic = '/strict/image_raw'
    with DetectorProcess(log, autostart=True, image_topics=topic, image_qos='reliable') as process:
        camera = probe.node.create_publisher(Image, topic, qos_profile_sensor_data)
        probe.wait_until(lambda: 'QoS mismatch on /strict/image_raw' in process.text(), 'warning')
        assert 'set image_qos to auto or best_effort' in process.text()
        probe.wait_until(lambda: 'QoS mismatch' in probe.summary(topic)[0], 'diagnostics')
    probe.node.destroy_publisher(camera)


def test_a_killed_camera_may_come_back(probe: Probe, log, tmp_path, photograph):
    cv2.imwrite(str(tmp_path / 'person.png'), photograph)
    arguments = [
        '-r', '__ns:=/player', '-p', f'source:={tmp_path / "person.png"}', '-p', 'rate_hz:=10.0',
    ]
    with DetectorProcess(log, autostart=True, image_topics='/player/image_raw'):
        answers = probe.detections('/player/detections')
        for _ in range(2):
            seen = len(answers)
            camera = start_node('image_player_node', arguments, tmp_path / 'player.txt')
            probe.wait_until(lambda before=seen: len(answers) > before + 3, 'detections')
            camera.kill()
            assert camera.wait(600) == -signal.SIGKILL
        assert answers[-1].header.frame_id == 'camera'


def test_the_recorder_writes_what_the_detector_publishes(probe: Probe, log, tmp_path, photograph):
    bag = tmp_path / 'bag'
    recorder = start_node(
        'recorder_node',
        ['-p', f'bag:={bag}', '-p', "images:=['/rec/image_raw']",
         '-p', "detections:=['/rec/detections']"],
        tmp_path / 'recorder.txt',
    )
    with DetectorProcess(log, autostart=True, image_topics='/rec/image_raw'):
        camera = probe.publisher('/rec/image_raw')
        answers = probe.detections('/rec/detections')

        def recorded() -> int:
            for line in reversed((tmp_path / 'recorder.txt').read_text().splitlines()):
                with contextlib.suppress(ValueError):  # of half a line, or one of the log
                    return int(json.loads(line)['topics'].get('/rec/detections', 0))
            return 0

        def matched() -> bool:
            return bool(probe.ask(camera, image_msg(photograph), answers) and recorded())

        probe.wait_until(matched, 'the recorder to match both topics')
        sent = [probe.ask(camera, image_msg(photograph), answers) for _ in range(3)]
        before = -1
        while before != (before := recorded()):  # two reports alike: all that came is written
            probe.spin(0.6)
        recorder.send_signal(signal.SIGINT)
        assert recorder.wait(600) == 0, (tmp_path / 'recorder.txt').read_text()
    track = read_detections(bag, '/rec/detections')
    for answer in sent:
        stamp_ns = answer.header.stamp.sec * 10**9 + answer.header.stamp.nanosec
        assert len(track.by_stamp_ns[stamp_ns]) == len(answer.detections)
    assert track.class_names[0] == 'person'
    probe.node.destroy_publisher(camera)


def test_the_player_names_a_source_that_is_missing(tmp_path):
    player = start_node('image_player_node', ['-p', 'source:=/nowhere'], tmp_path / 'player.txt')
    try:
        assert player.wait(600) == 1
    except subprocess.TimeoutExpired:
        player.kill()
        raise
    text = (tmp_path / 'player.txt').read_text()
    assert '/nowhere' in text and 'Traceback' not in text


def test_a_parameter_file_is_read_and_classes_of_a_list_taken(probe: Probe, log, tmp_path):
    file = tmp_path / 'detector.yaml'
    file.write_text(
        '/**:\n  ros__parameters:\n    autostart: true\n    score_threshold: 1\n'
        '    image_topics: [/one/image_raw, /two/image_raw]\n    classes: [person, dog]\n'
    )
    with DetectorProcess(log, '--params-file', str(file)):
        probe.wait_for_state('active')
        for topic in ('/one/detections', '/two/detections'):
            probe.wait_until(
                lambda topic=topic: probe.node.count_publishers(topic), f'a publisher of {topic}'
            )


def test_a_model_that_gives_nan_fails_frames_and_the_node_lives(
    probe: Probe, log, tmp_path, photograph
):
    model = tmp_path / 'nan.onnx'
    brightness_grid(model, objectness=float('nan'))
    topic = '/nan/image_raw'
    with DetectorProcess(
        log, autostart=True, image_topics=topic, model=model, network_size=64
    ):
        camera = probe.publisher(topic)

        def failed() -> int:
            camera.publish(probe.stamp(image_msg(photograph)))
            return probe.counts(topic)['failed']

        probe.wait_until(lambda: failed() >= 2, 'two failed frames')
        assert 'NaN' in probe.values()['last error']
        assert probe.state() == 'active'
    probe.node.destroy_publisher(camera)


@pytest.mark.parametrize('name', ['detector_node', 'power_node', 'image_player_node'])
def test_a_package_that_cannot_be_imported_is_one_line(tmp_path: Path, name: str) -> None:
    reason = 'numpy.core.multiarray failed to import'
    for module in ('cv2', 'rclpy'):
        (tmp_path / f'{module}.py').write_text(f'raise ImportError({reason!r})\n')
    script = Path(__file__).resolve().parents[2] / 'scripts' / name
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=600, check=False,
        env=os.environ | {'PYTHONPATH': f'{tmp_path}:{script.parents[1]}'},
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f'{name}: error: a package cannot be imported ({reason})')
    assert "pip install 'numpy<2'" in done.stderr and len(done.stderr.splitlines()) == 1
