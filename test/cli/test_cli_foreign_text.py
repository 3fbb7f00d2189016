"""Names that others gave: on a terminal they do nothing, in JSON they are as they were."""

from __future__ import annotations

from collections.abc import Callable
import json
from pathlib import Path
import subprocess
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores

from yolov7_trt_ros.cli import output
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.replay.bags.detection_message import DetectionMessages, DETECTIONS_TYPE
from yolov7_trt_ros.replay.bags.rosbags_adapter import load_typestore

Command = Callable[..., subprocess.CompletedProcess[str]]
EVIL = '\x1b[2J\a\u202eevil\x9b\nwithin the limits'
TOPIC = f'/cam{EVIL}/image'
IMAGE = 'sensor_msgs/msg/Image'


def is_harmless(text: str) -> bool:
    return all(line.isprintable() for line in text.split('\n'))


def write_images(folder: Path, encodings: list[str]) -> Path:
    types = get_typestore(Stores.ROS2_HUMBLE)
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for number, encoding in enumerate(encodings):
            connection = writer.add_connection(f'{TOPIC}{number}', IMAGE, typestore=types)
            header = types.types['std_msgs/msg/Header'](
                types.types['builtin_interfaces/msg/Time'](1, 2), EVIL)
            message = types.types[IMAGE](
                header, height=64, width=64, encoding=encoding, is_bigendian=0, step=192,
                data=np.zeros(64 * 192, np.uint8))
            writer.write(connection, number, bytes(types.serialize_cdr(message, IMAGE)))
    return folder


def write_detections(folder: Path, scores: list[float]) -> Path:
    types = load_typestore()
    messages = DetectionMessages(('class' + EVIL, 'other'))
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(f'/d{EVIL}', DETECTIONS_TYPE, typestore=types)
        for number, score in enumerate(scores):
            found = Detections(np.array([[1, 2, 30, 40]], np.float32),
                               np.array([score], np.float32), np.zeros(1, np.int32), (64, 64))
            data = types.serialize_cdr(messages.build(number, '', found), DETECTIONS_TYPE)
            writer.write(connection, number, bytes(data))
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path / 'bag', ['bgr8', f'odd{EVIL}', '32FC1'])


@pytest.mark.parametrize('verb', ['detect', 'replay'])
def test_topics_and_encodings_of_a_bag(
    command: Command, images: Path, tmp_path: Path, verb: str
) -> None:
    out = 'out' if verb == 'detect' else 'out.mcap'
    done = command(verb, images, '-o', out, '--json', 'result.json')
    assert done.returncode == 1
    assert is_harmless(done.stdout) and is_harmless(done.stderr)
    assert 'passed over /cam?[2J' in done.stderr
    assert not any(line == 'within the limits' for line in done.stdout.split('\n'))
    text = (tmp_path / 'result.json').read_text()
    assert is_harmless(text)
    record = json.loads(text)
    told = (list(record['topics']) if verb == 'replay'
            else [frame['source'] for frame in record['inputs'][0]['frames']])
    assert f'{TOPIC}0' in told


def test_classes_and_topics_that_are_compared(command: Command, tmp_path: Path) -> None:
    first = write_detections(tmp_path / 'a', [0.9, 0.8, 0.7])
    second = write_detections(tmp_path / 'b', [0.5, 0.9, 0.01])
    done = command('compare', first, second, '--json', 'result.json')
    assert done.returncode == 1
    assert is_harmless(done.stdout) and is_harmless(done.stderr)
    assert 'class?[2J' in done.stdout
    assert 'within the limits' not in done.stdout.split('\n')
    record: dict[str, Any] = json.loads((tmp_path / 'result.json').read_text())
    assert record['topics'] == [f'/d{EVIL}']


def test_names_of_files(command: Command, tmp_path: Path) -> None:
    name = EVIL.replace('/', '_')
    picture = cv2.imencode('.jpg', np.zeros((64, 64, 3), np.uint8))[1].tobytes()
    (tmp_path / f'{name}.jpg').write_bytes(picture)
    (tmp_path / f'{name}broken.jpg').write_bytes(picture[:100])
    done = command('detect', f'{name}.jpg', f'{name}broken.jpg', f'{name}missing', '-o', name)
    assert done.returncode == 1
    assert is_harmless(done.stdout) and is_harmless(done.stderr)
    for verb in ('info', 'compare'):
        done = command(verb, *([name] if verb == 'info' else [name, name]))
        assert done.returncode != 0
        assert is_harmless(done.stderr), verb


def test_a_name_that_is_no_text(command: Command, tmp_path: Path) -> None:
    name = b'no\xfftext.jpg'
    (tmp_path / name.decode(errors='surrogateescape')).write_bytes(b'\xff\xd8')
    done = command('detect', tmp_path, '-o', 'out', '--json', '-')
    assert done.returncode == 1
    assert 'no?text.jpg: truncated' in done.stderr
    assert 'no\udcfftext.jpg' in json.loads(done.stdout)['inputs'][0]['failed'][0]


def test_tables_and_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    output.warn(f'a {EVIL}')
    output.say(output.format_table([(EVIL, EVIL), ('b', 'c')]))
    printed = capsys.readouterr()
    assert printed.err.count('\n') == 1 and is_harmless(printed.err)
    assert printed.out.count('\n') == 2 and is_harmless(printed.out)
