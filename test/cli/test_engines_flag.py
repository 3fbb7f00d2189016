"""`--engines`: real engines that share frames; each answered, in order, by whom it is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_typestore, Stores
import skimage.data

from yolov7_trt_ros.cli.main import main
from yolov7_trt_ros.errors import BagError
from yolov7_trt_ros.replay.bags.detection_message import ENGINE_TYPE
from yolov7_trt_ros.replay.bags.mcap_file import McapFile
from yolov7_trt_ros.replay.bags.rosbags_adapter import load_typestore

SIZE = ('--size', '320', '--threads', '1')
TOPIC, KIND = '/front/image_raw/compressed', 'sensor_msgs/msg/CompressedImage'
FRAMES = 12


def jpeg(number: int) -> Any:
    rgb = skimage.data.astronaut()[number:number + 400]
    return cv2.imencode('.jpg', np.ascontiguousarray(rgb[..., ::-1]))[1].reshape(-1)


@pytest.fixture(scope='module')
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return pictures of a person, all different, and labels of them."""
    folder = tmp_path_factory.mktemp('engines') / 'pictures'
    folder.mkdir()
    names = [f'{number:02d}.jpg' for number in range(FRAMES)]
    for number, name in enumerate(names):
        (folder / name).write_bytes(jpeg(4 * number).tobytes())
    (folder.parent / 'labels.json').write_text(json.dumps({
        'images': [{'id': number, 'file_name': name} for number, name in enumerate(names)],
        'annotations': [
            {'id': number + 1, 'image_id': number, 'category_id': 1, 'bbox': [0, 0, 400, 390],
             'area': 156000, 'iscrowd': 0} for number in range(FRAMES)
        ],
        'categories': [{'id': 1, 'name': 'person'}],
    }))
    return folder


@pytest.fixture(scope='module')
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('engines') / 'drive'
    types = get_typestore(Stores.ROS2_HUMBLE)
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        topic = writer.add_connection(TOPIC, KIND, typestore=types)
        for number in range(FRAMES):
            stamp = types.types['builtin_interfaces/msg/Time'](100, number)
            header = types.types['std_msgs/msg/Header'](stamp, 'camera')
            message = types.types[KIND](header, 'jpeg', jpeg(4 * number))
            writer.write(topic, number, bytes(types.serialize_cdr(message, KIND)))
    return path


@pytest.fixture
def alike(tmp_path: Path) -> Path:
    """Return a list of one more engine, the same as the first."""
    path = tmp_path / 'alike.yaml'
    path.write_text('engines: [{model: yolov7-nano, name: other, threads: 1}]')
    return path


@pytest.fixture
def unlike(tmp_path: Path) -> Path:
    """Return a list of one more engine, of another network size."""
    path = tmp_path / 'unlike.yaml'
    path.write_text('engines: [{model: yolov7-nano, name: small, threads: 1, network_size: 160}]')
    return path


def detect(source: Path, out: Path, *flags: str) -> dict[str, Any]:
    report = out.with_suffix('.json')
    assert main(['detect', str(source), '-o', str(out), '--json', str(report), '-s', '0.1',
                 *SIZE, *flags]) == 0
    record: dict[str, Any] = json.loads(report.read_text())
    return record


def frames_of(record: dict[str, Any]) -> list[dict[str, Any]]:
    return [frame for each in record['inputs'] for frame in each['frames']]


def test_alike_engines_find_what_one_finds_in_the_same_order(
    pictures: Path, alike: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = detect(pictures, tmp_path / 'one')
    two = detect(pictures, tmp_path / 'two', '--engines', str(alike))
    printed = capsys.readouterr()
    assert 'unlike' not in printed.err and 'engines' not in one
    assert two['frames'] == FRAMES and two['failed'] == 0
    for first, second in zip(frames_of(one), frames_of(two), strict=True):
        assert second.pop('engine') in ('yolov7-nano', 'other')
        assert {**first, 'output': ''} == {**second, 'output': ''}
    engines = two['engines']
    assert engines['alike'] is True
    assert [each['name'] for each in engines['of']] == ['yolov7-nano', 'other']
    assert all(each['frames'] and len(each['sha256']) == 64 for each in engines['of'])
    assert sum(each['frames'] for each in engines['of']) == FRAMES
    assert f'other {engines["of"][1]["frames"]} frames' in printed.out


def test_that_only_the_first_looks_twice_is_told(
    pictures: Path, alike: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    detect(pictures, tmp_path / 'two', '--engines', str(alike), '--second-look', 'on', '--look',
           'first_size=160')
    assert 'with several engines only the first looks twice' in capsys.readouterr().err


def test_the_engine_that_is_named_found_it(
    pictures: Path, unlike: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The record is true: each frame has what the engine named there finds alone."""
    alone = {
        'yolov7-nano': frames_of(detect(pictures, tmp_path / 'large')),
        'small': frames_of(detect(pictures, tmp_path / 'small', '--size', '160')),
    }
    capsys.readouterr()
    record = detect(pictures, tmp_path / 'both', '--engines', str(unlike))
    warned = capsys.readouterr().err
    assert 'the engines are unlike' in warned and 'another run may find other objects' in warned
    assert record['engines']['alike'] is False
    assert {frame['engine'] for frame in frames_of(record)} == set(alone)
    for number, frame in enumerate(frames_of(record)):
        assert frame['detections'] == alone[frame['engine']][number]['detections']


def test_replay_names_the_engine_of_each_message(
    bag: Path, alike: Path, tmp_path: Path
) -> None:
    one, two, report = (tmp_path / name for name in ('one.mcap', 'two.mcap', 'two.json'))
    assert main(['replay', str(bag), '-o', str(one), *SIZE]) == 0
    assert main(['replay', str(bag), '-o', str(two), *SIZE, '--engines', str(alike), '--json',
                 str(report)]) == 0
    assert main(['compare', str(one), str(two), '--min-ap50', '1', '--min-matched', '1',
                 '--max-drift', '0']) == 0
    record = json.loads(report.read_text())
    types = load_typestore()
    messages = [
        (each.log_time_ns, types.deserialize_cdr(each.data, ENGINE_TYPE))
        for each in McapFile(two).messages(['/front/detections/engine'])
        if not isinstance(each, BagError)
    ]
    assert [stamp for stamp, _ in messages] == list(range(FRAMES))
    assert [each.header.stamp.nanosec for _, each in messages] == list(range(FRAMES))
    names = [each.method for _, each in messages]
    told = {each['name']: each['frames'] for each in record['engines']['of']}
    assert told == {name: names.count(name) for name in ('yolov7-nano', 'other')}


def test_eval_uses_each_image_once_and_says_with_which_engine(
    pictures: Path, alike: Path, tmp_path: Path
) -> None:
    found = {}
    for name, flags in (('one', []), ('two', ['--engines', str(alike)])):
        assert main([
            'eval', '--images', str(pictures), '--annotations',
            str(pictures.parent / 'labels.json'), '--json', str(tmp_path / 'out.json'), *SIZE,
            *flags,
        ]) == 0
        found[name] = json.loads((tmp_path / 'out.json').read_text())
    assert found['one']['per_class'] == found['two']['per_class']
    engine_of = found['two']['engine_of']
    assert sorted(engine_of) == [f'{number:02d}.jpg' for number in range(FRAMES)]
    assert set(engine_of.values()) == {'yolov7-nano', 'other'}
    assert 'engine_of' not in found['one']


def test_drives_of_eval_say_it_too(pictures: Path, alike: Path, tmp_path: Path) -> None:
    command = ['eval', '--images', str(pictures), '--annotations',
               str(pictures.parent / 'labels.json'), '-o', str(tmp_path / 'out'), *SIZE]
    assert main([*command, '--engines', str(alike)]) == 0
    (drive,) = json.loads((tmp_path / 'out' / 'drives.json').read_text())['drives'].values()
    assert len(drive['engine_of']) == FRAMES
    # another list is another measurement: nothing of the old one is taken for it
    alike.write_text('engines: [{model: yolov7-nano, name: other, network_size: 160}]')
    assert main([*command, '--engines', str(alike)]) != 0


def test_label_says_the_engine_of_each_picture(bag: Path, alike: Path, tmp_path: Path) -> None:
    texts = {}
    for name, flags in (('one', []), ('two', ['--engines', str(alike)])):
        assert main(['label', str(bag), '-o', str(tmp_path / name), '--format', 'coco', *SIZE,
                     *flags]) == 0
        texts[name] = json.loads(
            (tmp_path / name / 'annotations/instances_default.json').read_text()
        )
    assert texts['one']['annotations'] == texts['two']['annotations']
    assert {each['engine'] for each in texts['two']['images']} == {'yolov7-nano', 'other'}
    assert all('engine' not in each for each in texts['one']['images'])


def test_bench_has_a_row_for_each_way(
    pictures: Path, alike: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([
        'bench', '-m', 'yolov7-nano', '--images', str(pictures), '--annotations',
        str(pictures.parent / 'labels.json'), '-o', str(tmp_path / 'out'), '--second-look', 'on',
        '--look', 'max_crops=2', '--look', 'first_size=160', '--tiles', '2x1', '--engines',
        str(alike), '--seconds', '0.1', '--power', 'none', '--batch', '1,2', *SIZE,
    ]) == 0
    bench = json.loads((tmp_path / 'out' / 'bench.json').read_text())
    once, twice, tiled, team = bench['rows']
    name = 'ONNX Runtime FP32 yolov7-nano'
    assert [row['name'] for row in bench['rows']] == [
        name, f'{name} + second look', f'{name} + tiles', f'{name} + more engines',
    ]
    assert all(not row['why_not'] and row['accuracy']['images'] == FRAMES for row in bench['rows'])
    assert once['accuracy'] == team['accuracy']
    assert 'crops of 128 px an image' in twice['facts']['second look']
    assert tiled['facts']['tiles'].startswith('2x1, overlap 0.2: 3 views')
    assert twice['network_wh'] == [160, 160] and tiled['network_wh'] == [320, 320]
    one, two = team['batches']
    assert one['end_to_end']['fps'] > 0 and one['end_to_end']['latency_ms']['p50'] > 0
    assert one['network'] is None and 'no common network time' in one['why_no_network']
    assert two['end_to_end'] is None and 'one image at once' in two['why_no_end_to_end']
    assert 'frames' in team['facts']['engine other']
    assert {'second look', 'tiles', 'more engines'} <= set(bench['settings'])
    assert str(tmp_path) not in (tmp_path / 'out' / 'bench.json').read_text()
    assert 'More engines: each works on a frame of its own' in capsys.readouterr().out
    # single engines of another machine stay comparable
    assert main(['bench', '--merge', str(tmp_path / 'out' / 'bench.json'), '-o',
                 str(tmp_path / 'merged')]) == 0


@pytest.mark.parametrize(('flags', 'words'), [
    (['--engines', 'nowhere.yaml'], 'engines: nowhere.yaml cannot be read: No such file'),
    (['--engines', 'yolov7-nano'], "engines names 'yolov7-nano' twice, including `model`"),
    (['--engines', 'gone.onnx'], "engine 2 of `engines`, gone.onnx: no model 'gone.onnx'"),
    (['--engines', 'ALIKE', '--tiles', '2x2'], 'tiles and engines exclude each other'),
    (['--engines', 'THREADS'], 'threads must be within 0..64, got 65'),
    (['--engines', 'NAMES'], 'engine 2 of `engines`, named lacks the classes person, bicycle'),
])
def test_what_cannot_be_is_refused(
    flags: list[str], words: str, pictures: Path, alike: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / 'threads.yaml').write_text('engines: [{model: yolov7-nano, threads: 65}]')
    (tmp_path / 'names.txt').write_text(''.join(f'one {number}\n' for number in range(80)))
    (tmp_path / 'names.yaml').write_text(
        'engines: [{model: yolov7-nano, name: named, class_names: names.txt}]'
    )
    files = {'ALIKE': str(alike), 'THREADS': str(tmp_path / 'threads.yaml'),
             'NAMES': str(tmp_path / 'names.yaml')}
    flags = [files.get(flag, flag) for flag in flags]
    assert main(['detect', str(pictures), '-o', str(tmp_path / 'out'), *SIZE, *flags]) != 0
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(('flags', 'words'), [
    (['--engines', 'nowhere.yaml'], 'engines: nowhere.yaml cannot be read: No such file'),
    (['--engines', 'yolov7-nano'], "engines names 'yolov7-nano' twice, including `model`"),
    (['--tiles', '0x2'], 'tiles are columns x rows of 1 to 16, as in 2x2'),
    (['--second-look', 'on', '--look', 'max_crops=17'], 'second_look_max_crops must be within'),
])
def test_bench_refuses_it_before_anything_is_measured(
    flags: list[str], words: str, pictures: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(['bench', '-m', 'yolov7-nano', '--images', str(pictures), '-o',
                 str(tmp_path / 'bench'), *SIZE, *flags]) == 2
    assert words in capsys.readouterr().err and not (tmp_path / 'bench').exists()


def test_workers_do_not_choose_each_for_itself_how_to_look(
    bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['replay', str(bag), '-o', str(tmp_path / 'out'), '--workers', '2',
                 '--second-look', 'auto']) == 2
    assert '--second-look auto measures in each worker' in capsys.readouterr().err


def test_workers_and_engines_exclude_each_other(
    bag: Path, alike: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['replay', str(bag), '-o', str(tmp_path / 'out'), '--workers', '2', '--engines',
                 str(alike)]) == 2
    assert 'each worker would open all of them' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()
