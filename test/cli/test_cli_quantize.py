"""The verb quantize, from pictures to a model that runs on ONNX Runtime and builds on TensorRT."""

from __future__ import annotations

import json
from pathlib import Path
import resource
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

from yolov7_trt_ros.cli.main import main
from yolov7_trt_ros.cli.model_steps.calibration_pictures import (
    load_array,
    open_pictures,
    split_pictures,
)
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.engine.building.build_options import BuildOptions
from yolov7_trt_ros.engine.building.builder import build_plan
from yolov7_trt_ros.engine.model_files import find_model
from yolov7_trt_ros.engine.onnx_detector import OnnxDetector
from yolov7_trt_ros.engine.plan.build_target import BuildTarget
from yolov7_trt_ros.engine.plan.shape_range import ShapeRange
from yolov7_trt_ros.engine.trt.api import TrtApi
from yolov7_trt_ros.errors import CalibrationError, InputError, SettingError
from yolov7_trt_ros.replay.pictures import load_picture
from yolov7_trt_ros.report.accuracy.average_precision import accuracy_settings
from yolov7_trt_ros.report.compare.agreement import measure_agreement

REPOSITORY = Path(__file__).resolve().parents[2]
NANO = 'yolov7-nano'
SMALL = ShapeRange(*[(1, 3, 96, 128)] * 3)


def quantize(*arguments: object) -> int:
    return main(['quantize', *map(str, arguments)])


@pytest.fixture(scope='module')
def quantised(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('int8') / 'nano.int8.onnx'
    assert quantize(NANO, '--images', photographs, '-o', path, '--method', 'mse',
                    '--score-count', 0) == 0
    return path


@pytest.fixture(scope='module')
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('mixed') / 'nano.mixed.onnx'
    assert quantize(NANO, '--mixed', '-o', path) == 0
    return path


# ---- what comes out runs and builds


def detections(model: Path, photographs: Path) -> tuple[tuple[str, ...], list[Detections]]:
    detector = OnnxDetector(model, threads=1)
    found = [detector.detect(load_picture(picture), accuracy_settings())[0]
             for picture in sorted(photographs.iterdir())]
    detector.close()
    return detector.spec.class_names, found


@pytest.mark.parametrize(('kind', 'least'), [('quantised', 0.85), ('mixed', 0.99)])
def test_it_detects_on_onnx_runtime(
    request: pytest.FixtureRequest, photographs: Path, kind: str, least: float
) -> None:
    model: Path = request.getfixturevalue(kind)
    names, found = detections(model, photographs)
    _, wanted = detections(find_model(NANO), photographs)
    assert names[found[0].class_ids[0]] == 'person'  # the astronaut
    agreement = measure_agreement(wanted, found)
    assert agreement.wanted >= 1
    assert least < agreement.weighted < 1


@pytest.mark.parametrize(('kind', 'precision'), [
    ('quantised', 'int8'), ('quantised', 'mixed'), ('mixed', 'fp32'),
])
def test_the_real_builder_takes_it(
    request: pytest.FixtureRequest, rtx: TrtApi, tmp_path: Path, kind: str, precision: str
) -> None:
    manifest = build_plan(
        request.getfixturevalue(kind), tmp_path / 'n.plan', BuildOptions(precision, (SMALL,)),
        api=rtx, machine=BuildTarget(rtx.flavour, rtx.version, '', '', ''),
        report=lambda phase, fraction: None, cancelled=lambda: False,
    )
    assert manifest.plan_size_bytes > 1_000_000
    assert manifest.spec.class_names[0] == 'person'


def test_metadata_say_how_it_was_made(quantised: Path, mixed: Path) -> None:
    for path, method in ((quantised, 'mse'), (mixed, 'float16 backbone, float32 heads')):
        metadata = {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
        assert json.loads(metadata['quantisation'])['method'] == method
        assert metadata['stride'] == '32'


def test_quantising_twice_is_refused(
    quantised: Path, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quantize(quantised, '--images', photographs, '-o', tmp_path / 'q.onnx') == 1
    assert 'is quantised already' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_it_can_be_done_again_with_the_same_result(
    quantised: Path, photographs: Path, tmp_path: Path
) -> None:
    again = tmp_path / 'q.onnx'
    quantize(NANO, '--images', photographs, '-o', again, '--method', 'mse', '--score-count', 0)
    assert again.read_bytes() == quantised.read_bytes()


# ---- the tournament


def test_auto_tries_everything_and_says_so(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = quantize(NANO, '--images', photographs, '-o', tmp_path / 'q.onnx', '--size', 160,
                      '--count', 2, '--score-count', 1, '--threads', 1,
                      '--json', tmp_path / 'q.json')
    printed = capsys.readouterr().out
    record = json.loads((tmp_path / 'q.json').read_text())
    assert status == 0
    assert (record['calibrated'], record['scored'], record['held_out']) == (2, 1, True)
    assert '2 calibrated, 1 scored: no picture in both' in printed
    methods = [entry['name'] for entry in record['entries']]
    assert methods[:4] == ['kl', 'mse', 'percentile', 'minmax']
    for name in methods:
        assert f'\n{name} ' in printed
    assert printed.count('<- kept') == 1
    assert record['measure'] == 'agreement' and record['float_score'] == 1
    scores = {entry['name']: entry['score'] for entry in record['entries']}
    assert 0.5 < scores[record['winner']['name']] <= 1
    assert scores[record['winner']['name']] >= max(scores.values()) - 0.005
    if max(scores[name] for name in methods[:4]) < 0.995:
        assert len(record['sensitivity']) == 55


def test_labels_make_it_average_precision(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / 'labels.json'
    labels.write_text(json.dumps({
        'images': [{'id': 7, 'file_name': 'chelsea.jpg'}],
        'annotations': [{'id': 1, 'image_id': 7, 'category_id': 17, 'bbox': [0, 20, 400, 280],
                         'area': 112000, 'iscrowd': 0}],
        'categories': [{'id': 17, 'name': 'cat'}],
    }))
    arguments = (NANO, '--images', photographs, '-o', tmp_path / 'q.onnx', '--size', 320,
                 '--method', 'percentile', '--count', 2, '--annotations', labels)
    # of three pictures the middle one is scored: chelsea
    assert quantize(*arguments, '--score-count', 1, '--json', '-') == 0
    record = json.loads(capsys.readouterr().out)
    assert (record['measure'], record['scored']) == ('AP50', 1)
    assert record['float_score'] > 0.9 and record['entries'][0]['score'] > 0.9
    labels.write_text(labels.read_text().replace('chelsea', 'elsewhere'))
    assert quantize(*arguments, '--score-count', 1) == 1
    assert 'none of the pictures for scores is in' in capsys.readouterr().err


def test_what_is_kept_stays_float(photographs: Path, tmp_path: Path) -> None:
    path = tmp_path / 'q.onnx'
    quantize(NANO, '--images', photographs, '-o', path, '--method', 'minmax', '--size', 64,
             '--score-count', 0, '--keep', r'^model\.[0-4]\.', '--weights', 'mse')
    model = onnx.load(str(path))
    made = {name: node.op_type for node in model.graph.node for name in node.output}
    floats = {node.name for node in model.graph.node
              if node.op_type == 'Conv' and node.input[1] not in made}
    assert floats == {*(f'model.77.m.{index}' for index in range(3)),
                      *(f'model.{index}.conv' for index in range(5))}


# ---- pictures


@pytest.mark.parametrize(('total', 'count', 'score_count'), [
    (1000, 200, 100), (326, 200, 100), (150, 200, 100), (3, 200, 100), (2, 1, 1), (10, 4, 0),
])
def test_pictures_are_spread_and_held_out(total: int, count: int, score_count: int) -> None:
    calibration, scoring = split_pictures(total, count, score_count)
    assert (calibration, scoring) == split_pictures(total, count, score_count)
    assert not set(calibration) & set(scoring)
    assert 1 <= len(calibration) <= count and len(scoring) <= score_count
    assert bool(scoring) == bool(score_count)
    assert len(calibration) + len(scoring) == min(total, count + score_count)
    for chosen in (calibration, scoring):
        gaps = np.diff([-1, *chosen, total])
        if len(chosen) > 3:
            assert gaps.max() < 3 * total / len(chosen)


def test_one_picture_serves_for_both(
    photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = open_pictures(photographs / 'coffee.jpg', count=5, score_count=5)
    assert (len(pictures.calibration), len(pictures.scoring), pictures.held_out) == (1, 1, False)
    assert 'there is one calibration picture' in capsys.readouterr().err


@pytest.mark.parametrize('kind', [np.uint8, np.float32, np.float16])
def test_arrays(tmp_path: Path, kind: Any) -> None:
    values = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 12), np.uint8)
    array = values if kind is np.uint8 else (values / 255).astype(kind)
    np.save(tmp_path / 'calib_data.npy', array)
    pictures = open_pictures(tmp_path / 'calib_data.npy', count=9, score_count=0).calibration
    shown = [image for _, image in pictures]
    assert len(pictures) == len(shown) == 4
    for image, wanted in zip(shown, values, strict=True):
        assert image.encoding.name == 'rgb8'
        assert np.array_equal(image.pixels, wanted.transpose(1, 2, 0))


@pytest.mark.parametrize('array', [
    np.zeros((4, 8, 8, 3), np.uint8), np.zeros((3, 8, 8), np.uint8),
    np.zeros((4, 3, 8, 8), np.int64), np.zeros((4, 3, 8, 8), np.uint16),
])
def test_arrays_of_another_form(tmp_path: Path, array: Any) -> None:
    np.save(tmp_path / 'a.npy', array)
    with pytest.raises(CalibrationError, match=r'must be pictures \(N, 3, H, W\)'):
        load_array(tmp_path / 'a.npy')


def test_arrays_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / 'none.npy', np.zeros((0, 3, 8, 8), np.uint8))
    with pytest.raises(CalibrationError, match='contains no pictures'):
        open_pictures(tmp_path / 'none.npy', count=1, score_count=0)
    np.save(tmp_path / 'mean.npy', np.full((2, 3, 8, 8), -1.5, np.float32))
    pictures = open_pictures(tmp_path / 'mean.npy', count=2, score_count=0).calibration
    assert list(pictures) == [] and pictures.failed == 2
    assert 'floats must be within 0..1' in capsys.readouterr().err


def test_a_video_is_spread_over(tmp_path: Path) -> None:
    path = tmp_path / 'v.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 10, (32, 32))
    for number in range(20):
        writer.write(np.full((32, 32, 3), 10 * number, np.uint8))
    writer.release()
    pictures = open_pictures(path, count=4, score_count=1)
    brightness = [round(float(image.pixels.mean()) / 10) for _, image in pictures.calibration]
    assert brightness == [2, 6, 14, 18]
    assert [round(float(image.pixels.mean()) / 10) for _, image in pictures.scoring] == [10]


def test_undecodable_pictures_are_counted(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / 'pictures'
    folder.mkdir()
    for index, data in enumerate((b'junk', (photographs / 'coffee.jpg').read_bytes()[:900])):
        (folder / f'{index}.jpg').write_bytes(data)
    arguments = (NANO, '--images', folder, '-o', tmp_path / 'q.onnx', '--method', 'kl',
                 '--size', 64, '--score-count', 0, '--json', tmp_path / 'q.json')
    assert quantize(*arguments) == 1
    assert 'no calibration pictures' in capsys.readouterr().err
    assert not (tmp_path / 'q.onnx').exists()
    (folder / '2.jpg').write_bytes((photographs / 'coffee.jpg').read_bytes())
    assert quantize(*arguments) == 1  # done, but not with all of them
    assert capsys.readouterr().err.count('warning') == 2
    record = json.loads((tmp_path / 'q.json').read_text())
    assert (record['calibrated'], record['undecodable']) == (1, 2)
    assert (tmp_path / 'q.onnx').exists()


def test_no_pictures(tmp_path: Path) -> None:
    (tmp_path / 'empty').mkdir()
    with pytest.raises(CalibrationError, match='contains no pictures'):
        open_pictures(tmp_path / 'empty', count=1, score_count=0)
    with pytest.raises(InputError, match='no such file'):
        open_pictures(tmp_path / 'missing', count=1, score_count=0)
    with pytest.raises(SettingError, match='--count must be at least 1'):
        open_pictures(tmp_path / 'empty', count=0, score_count=0)


# ---- arguments, and ends before the end


@pytest.mark.parametrize(('arguments', 'message'), [
    ((), 'int8 needs --images'),
    (('--images', '.', '--mixed'), '--mixed needs no calibration'),
    (('--mixed', '--method', 'kl'), '--mixed needs no calibration'),
    (('--images', '.', '--score-count', '0'), '--method auto needs scores'),
    (('--images', '.', '--keep', 'nowhere'), "--keep 'nowhere' finds none of the 58 Conv nodes"),
    (('--images', '.', '--keep', '('), 'is not a regular expression'),
    (('--images', '.', '-o', 'model.plan'), '--output must end in .onnx'),
])
def test_wrong_usage(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quantize(NANO, '-o', 'q.onnx', *arguments) == 2
    assert message in capsys.readouterr().err


def test_everything_kept_is_an_error(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quantize(NANO, '--images', photographs, '-o', tmp_path / 'q.onnx', '--size', 64,
                    '--method', 'kl', '--keep', '.') == 1
    assert 'all 58 Conv nodes stay float' in capsys.readouterr().err


def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, '-m', 'yolov7_trt_ros', 'quantize', *map(str, arguments)], cwd=REPOSITORY,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )


def test_a_full_disk_leaves_no_half_file(tmp_path: Path) -> None:
    """A limit on the size of files is as good: the write fails in the middle."""
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    path = tmp_path / 'q.onnx'
    path.write_bytes(b'old')
    process = start(NANO, '--mixed', '-o', path, preexec_fn=limit)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 1
    assert 'File too large' in errors and 'Traceback' not in errors
    assert [file.name for file in tmp_path.iterdir()] == ['q.onnx']
    assert path.read_bytes() == b'old'


def test_ctrl_c_leaves_nothing(photographs: Path, tmp_path: Path) -> None:
    folder = tmp_path / 'pictures'
    folder.mkdir()
    for index in range(300):
        (folder / f'{index}.jpg').symlink_to(photographs / 'coffee.jpg')
    work = tmp_path / 'work'
    work.mkdir()
    process = start(NANO, '--images', folder, '-o', work / 'q.onnx', '--threads', 1)
    assert process.stdout is not None
    assert 'calibrating on 200 pictures' in process.stdout.readline()
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 130
    assert 'Traceback' not in errors
    assert not list(work.iterdir())


def test_agreement_in_pictures_without_objects_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / 'dark.npy', np.zeros((4, 3, 160, 160), np.uint8))
    words = [NANO, '--images', tmp_path / 'dark.npy', '-o', tmp_path / 'q.onnx', '--size', 160,
             '--method', 'minmax', '--count', 2]
    assert quantize(*words, '--score-count', 2) == 1
    assert 'finds nothing, so any model would agree' in capsys.readouterr().err
    assert not (tmp_path / 'q.onnx').exists()
    assert quantize(*words, '--score-count', 0) == 0


def test_pictures_in_subfolders_are_said_to_be_left_out(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(photographs, tmp_path / 'day1/more')
    shutil.copy(photographs / 'astronaut.jpg', tmp_path / 'day1')
    assert quantize(NANO, '--images', tmp_path / 'day1', '-o', tmp_path / 'q.onnx', '--size', 160,
                    '--method', 'minmax', '--count', 1, '--score-count', 0) == 0
    assert 'only the pictures of the folder itself are used): more' in capsys.readouterr().err
