from __future__ import annotations

from collections.abc import Callable
import contextlib
import json
import os
from pathlib import Path
import sqlite3
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from rosbags.rosbag2 import Reader

from yolov7_trt_ros.cli.main import main
from yolov7_trt_ros.replay.bags.detection_message import DETECTIONS_TYPE
from yolov7_trt_ros.replay.bags.rosbags_adapter import load_typestore

REPOSITORY = Path(__file__).resolve().parents[2]
ENCODINGS = ('bgr8', 'rgb8', 'mono8', 'yuv422', 'jpeg')
MakeBag = Callable[..., Path]
MakeMessage = Callable[..., Any]


@pytest.fixture
def bag(make_bag: MakeBag, make_message: MakeMessage, picture: np.ndarray) -> Path:
    return make_bag('bag', [
        (f'/{encoding}/image', make_message(picture, encoding, number))
        for number, encoding in enumerate(ENCODINGS)
    ])


def test_replay_of_every_encoding(bag: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, '-m', 'yolov7_trt_ros', 'replay', 'bag', '-o', 'out.mcap', '--json', '-'],
        cwd=tmp_path, env=os.environ | {'PYTHONPATH': str(REPOSITORY)},
        capture_output=True, text=True, check=False,
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record['frames'] == len(ENCODINGS)
    assert record['topics']['/jpeg/image'] == '/jpeg/detections'
    with Reader(tmp_path / 'out.mcap') as reader:
        for connection, _, data in reader.messages():
            assert connection.msgtype == DETECTIONS_TYPE
            message = load_typestore().deserialize_cdr(data, DETECTIONS_TYPE)
            names = {item.results[0].hypothesis.class_id for item in message.detections}
            assert 'person' in names, connection.topic


def test_what_the_output_may_be(
    bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'out.mcap'
    arguments = ['replay', str(bag), '-o', str(out), '--topics', '/jpeg/image,/bgr8/image']
    assert main(arguments) == 0
    assert main(arguments) == 1
    assert '--force' in capsys.readouterr().err
    assert main([*arguments, '--force', '--with-images']) == 0
    with Reader(out) as reader:
        assert {item.topic: item.msgcount for item in reader.connections} == {
            '/bgr8/detections': 1, '/jpeg/detections': 1, '/bgr8/image': 1, '/jpeg/image': 1,
        }


def test_damaged_images_make_the_status_1(
    make_bag: MakeBag, make_message: MakeMessage, picture: np.ndarray, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    good, bad = make_message(picture, 'bgr8', 1), make_message(picture, 'bgr8', 1, step=1)
    arguments = ['-o', str(tmp_path / 'out.mcap')]
    mixed = make_bag('mixed', [('/a/image', good), ('/a/image', bad)])
    assert main(['replay', str(mixed), *arguments]) == 1
    assert 'step is 1 bytes' in capsys.readouterr().err
    assert (tmp_path / 'out.mcap').exists()
    none_good = make_bag('none_good', [('/a/image', bad)])
    assert main(['replay', str(none_good), '-o', str(tmp_path / 'none.mcap')]) == 1
    assert not (tmp_path / 'none.mcap').exists()


def test_a_half_written_bag_is_replayed_with_a_warning(
    bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    half = tmp_path / 'half.mcap'
    half.write_bytes(next(bag.glob('*.mcap')).read_bytes()[:-50])
    assert main(['replay', str(half), '-o', str(tmp_path / 'out.mcap')]) == 0
    printed = capsys.readouterr()
    assert 'recovered 5 messages' in printed.err
    assert 'frames      5' in printed.out


def test_no_bag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['replay', str(tmp_path / 'no.mcap'), '-o', str(tmp_path / 'out.mcap')]) == 1
    assert capsys.readouterr().err.startswith('yolov7_trt: error: no such file or folder')


def test_detect_draws_the_images_of_a_bag(bag: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    assert main(['detect', str(bag), '-o', str(out), '--topics', '/bgr8/image,/mono8/image']) == 0
    assert sorted(str(path.relative_to(out)) for path in out.rglob('*.jpg')) == [
        'bag/bgr8.image/000000.jpg', 'bag/mono8.image/000000.jpg'
    ]


@pytest.mark.parametrize(('sec', 'nanosec', 'written'), [
    (7, 1_500_000_000, (8, 500_000_000)), (-2, 5, (-2, 5)),
    (2**31 - 1, 2**32 - 1, (2**31 - 1, 999_999_999)),
])
def test_stamps_that_no_clock_gives_are_told_and_written_as_times(
    make_bag: MakeBag, make_message: MakeMessage, picture: np.ndarray, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], sec: int, nanosec: int, written: tuple[int, int],
) -> None:
    message = make_message(picture, 'jpeg', 0)
    message.header.stamp.sec, message.header.stamp.nanosec = sec, nanosec
    bag = make_bag('odd', [('/a/image', message)])
    assert main(['replay', str(bag), '-o', str(tmp_path / 'out.mcap')]) == 0
    assert '/a/image: 1 stamps are not proper' in capsys.readouterr().err
    with Reader(tmp_path / 'out.mcap') as reader:
        (_, _, data), = reader.messages()
    stamp = load_typestore().deserialize_cdr(data, DETECTIONS_TYPE).header.stamp
    assert (stamp.sec, stamp.nanosec) == written


def test_a_bag_of_times_before_1970(
    make_bag: MakeBag, make_message: MakeMessage, picture: np.ndarray, tmp_path: Path
) -> None:
    bag = make_bag('old', [('/a/image', make_message(picture, 'jpeg', 0))], storage='sqlite3')
    with contextlib.closing(sqlite3.connect(next(bag.glob('*.db3')))) as database:
        database.execute('UPDATE messages SET timestamp = -5')
        database.commit()
    assert main(['replay', str(bag), '-o', str(tmp_path / 'out.mcap'), '--with-images']) == 0


def test_a_real_bag(shared_data: Path, tmp_path: Path) -> None:
    bag = shared_data / 'vision/bags/real_webcam_klintan_repacked'
    status = main(['replay', str(bag), '-o', str(tmp_path / 'out.mcap'), '--json',
                   str(tmp_path / 'out.json')])
    record = json.loads((tmp_path / 'out.json').read_text())
    assert status == 0
    assert record['frames'] == 2
    assert record['detections_per_class'].get('person') == 2
