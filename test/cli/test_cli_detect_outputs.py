"""What `detect` writes: whole or not at all, of any size, from folders in folders."""

from __future__ import annotations

from collections.abc import Callable
import json
import os
from pathlib import Path
import resource
import shutil
import subprocess
import sys

import cv2
import numpy as np
from onnx_models import fixed_rows
from pycocotools.coco import COCO
import pytest

from yolov7_trt_ros.cli.main import main
from yolov7_trt_ros.cli.verbs.detect import expand_patterns
from yolov7_trt_ros.cli.work.folder_lock import locked_folder
from yolov7_trt_ros.errors import InputError

REPOSITORY = Path(__file__).resolve().parents[2]
Limited = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def limited(tmp_path: Path) -> Limited:
    """Run the command where no file may grow beyond some bytes, as on a full disk."""

    def run(most_bytes: int, *given: object) -> subprocess.CompletedProcess[str]:
        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

        return subprocess.run(
            [sys.executable, '-B', '-m', 'yolov7_trt_ros', *map(str, given)], cwd=tmp_path,
            env=os.environ | {'PYTHONPATH': str(REPOSITORY)}, preexec_fn=limit,
            capture_output=True, text=True, check=False,
        )

    return run


def save_video(path: Path, frames: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 10, (320, 240))
    rng = np.random.default_rng(1)
    for _ in range(frames):
        writer.write(rng.integers(0, 255, (240, 320, 3), np.uint8))
    writer.release()
    return path


def test_a_picture_that_does_not_fit_leaves_no_part(
    limited: Limited, photographs: Path, tmp_path: Path
) -> None:
    done = limited(20_000, 'detect', photographs / 'coffee.jpg', '-o', 'out')
    assert done.returncode == 1
    assert done.stderr == (
        'yolov7_trt: error: cannot write out/coffee.jpg: File too large\n'
    )
    assert not list((tmp_path / 'out').rglob('*'))


def test_a_video_that_does_not_fit_leaves_no_part(limited: Limited, tmp_path: Path) -> None:
    save_video(tmp_path / 'clip.avi', 12)
    done = limited(50_000, 'detect', 'clip.avi', '-o', 'out')
    assert done.returncode == 1
    assert 'error: cannot write out/clip.mp4: ' in done.stderr
    assert ' of its 12 frames are in the file' in done.stderr
    assert not list((tmp_path / 'out').rglob('*'))
    assert limited(10_000_000, 'detect', 'clip.avi', '-o', 'out').returncode == 0
    assert [file.name for file in (tmp_path / 'out').iterdir()] == ['clip.mp4']


def test_results_that_do_not_fit_leave_those_of_before(
    limited: Limited, photographs: Path, tmp_path: Path
) -> None:
    (tmp_path / 'r.json').write_text('{}')
    done = limited(400, 'info', 'yolov7-nano', '--json', 'r.json')
    assert done.returncode == 1
    assert done.stderr == 'yolov7_trt: error: r.json: File too large\n'
    assert (tmp_path / 'r.json').read_text() == '{}'


def test_a_frame_too_wide_for_jpeg_is_written_as_png(tmp_path: Path) -> None:
    for name, shape in (('wide', (40, 65_600, 3)), ('high', (65_600, 40, 3))):
        data = cv2.imencode('.png', np.zeros(shape, np.uint8))[1]
        (tmp_path / f'{name}.png').write_bytes(data.tobytes())
        out = tmp_path / 'out'
        assert main(['detect', str(tmp_path / f'{name}.png'), '-o', str(out)]) == 0
        assert cv2.imread(str(out / f'{name}.png')).shape == shape


def test_folders_in_folders_keep_their_places(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'top/inner').mkdir(parents=True)
    for place in ('a.jpg', 'inner/a.jpg'):
        shutil.copy(photographs / 'coffee.jpg', tmp_path / 'top' / place)
    out = tmp_path / 'top/out'
    given = ['detect', str(tmp_path / 'top'), '-o', str(out)]
    assert main(given) == 0
    assert 'folders not entered (--recursive enters them): inner' in capsys.readouterr().err
    for _ in range(2):  # what it wrote itself is not read the second time
        assert main([*given, '--recursive', '--json', str(tmp_path / 'r.json')]) == 0
        record = json.loads((tmp_path / 'r.json').read_text())
        assert [frame['source'] for frame in record['inputs'][0]['frames']] == [
            'a.jpg', 'inner/a.jpg'
        ]
        assert sorted(str(file.relative_to(out)) for file in out.rglob('*.jpg')) == [
            'a.jpg', 'inner/a.jpg'
        ]


def test_the_limit_of_pixels(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ['detect', str(photographs / 'coffee.jpg'), '-o', str(tmp_path / 'out')]
    assert main([*given, '--max-pixels', '1000']) == 1
    assert 'larger than the limit of 1000 pixels' in capsys.readouterr().err
    assert main([*given, '--max-pixels', '240000']) == 0
    with pytest.raises(SystemExit):
        main([*given, '--max-pixels', '0'])


def test_an_address_is_told_as_it_was_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['replay', 'rtsp://cam/1', '-o', str(tmp_path / 'out.mcap')]) == 1
    assert "'rtsp://cam/1' is an address" in capsys.readouterr().err


def test_patterns_are_taken_in_order(photographs: Path, tmp_path: Path) -> None:
    found = expand_patterns([f'{photographs}/c*.jpg'])
    assert [Path(each).name for each in found] == ['chelsea.jpg', 'coffee.jpg']
    odd = tmp_path / 'a[1].jpg'
    odd.write_bytes(b'')
    assert expand_patterns([str(odd), 'gone.jpg', 'http://a/*']) == [
        str(odd), 'gone.jpg', 'http://a/*',
    ]
    with pytest.raises(InputError, match='no file matches'):
        expand_patterns([f'{tmp_path}/*.png'])


def test_labels_coco_and_crops(photographs: Path, tmp_path: Path) -> None:
    out, coco = tmp_path / 'out', tmp_path / 'coco.json'
    words = ['detect', str(photographs / 'astronaut.jpg'), '-o', str(out), '--size', '352',
             '--json', str(tmp_path / 'found.json'), '--save-txt', '--save-crops',
             '--save-coco', str(coco), '--hide-labels', '--line-width', '4']
    assert main(words) == 0
    found = json.loads((tmp_path / 'found.json').read_text())
    (frame,) = found['inputs'][0]['frames']
    (person,) = [each for each in frame['detections'] if each['class_name'] == 'person']
    lines = (out / 'labels' / 'astronaut.txt').read_text().splitlines()
    assert len(lines) == len(frame['detections'])
    (line,) = [each for each in lines if each.startswith('0 ')]
    x, y, width, height = map(float, line.split()[1:])
    left, top, right, bottom = person['box_xyxy']
    assert x * 512 == pytest.approx((left + right) / 2, abs=0.01)
    assert height * 512 == pytest.approx(bottom - top, abs=0.01)
    record = json.loads(coco.read_text())
    assert record['images'] == [
        {'id': 1, 'file_name': 'astronaut.jpg', 'width': 512, 'height': 512}]
    assert record['categories'][0] == {'id': 1, 'name': 'person'}
    assert len(record['annotations']) == len(lines)
    (crop,) = (out / 'crops' / 'person').iterdir()
    shape = cv2.imread(str(crop)).shape
    assert shape[1] == pytest.approx(right - left, abs=2)
    (out / 'labels' / 'astronaut.txt').write_text('mine')
    assert main(words) == 0
    assert (out / 'labels' / 'astronaut.txt').read_text() == 'mine'
    assert (out / 'labels' / 'astronaut-2.txt').read_text().splitlines() == lines


def test_coco_labels_can_be_measured_with(photographs: Path, tmp_path: Path) -> None:
    """What a model found, taken as the labels, gives that model an AP50 of about one."""
    coco = tmp_path / 'coco.json'
    assert main(['detect', str(photographs), '-o', str(tmp_path / 'out'), '--size', '320',
                 '--square', '--save-coco', str(coco)]) == 0
    record = tmp_path / 'eval.json'
    assert main(['eval', '--images', str(photographs), '--annotations', str(coco), '--size', '320',
                 '--json', str(record)]) == 0
    assert json.loads(record.read_text())['ap50'] > 0.8


def test_two_runs_do_not_write_to_one_folder(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'deep/out'
    words = ['detect', str(photographs / 'astronaut.jpg'), '-o', str(out), '--size', '320']
    with locked_folder(out):
        assert main(words) == 1
        assert f'another run writes to {out}' in capsys.readouterr().err
    assert not (tmp_path / 'deep').exists()
    assert main(words) == 0 and (out / 'astronaut.jpg').is_file()


def pictures_of(coco: Path) -> dict[int, str]:
    """Return the file names of a COCO file by id, as pycocotools reads them."""
    return {number: each['file_name'] for number, each in COCO(str(coco)).imgs.items()}


def test_coco_labels_of_equal_names_in_several_folders_are_told_apart(
    photographs: Path, tmp_path: Path
) -> None:
    names = {'day1': 'astronaut', 'day2': 'coffee'}
    for day, name in names.items():
        (tmp_path / day).mkdir()
        shutil.copy(photographs / f'{name}.jpg', tmp_path / day / '1.jpg')
    coco, record = tmp_path / 'coco.json', tmp_path / 'eval.json'
    assert main(['detect', f'{tmp_path}/day*/*.jpg', '-o', str(tmp_path / 'out'), '--size', '320',
                 '--square', '--save-coco', str(coco)]) == 0
    assert pictures_of(coco) == {1: 'day1/1.jpg', 2: 'day2/1.jpg'}
    assert main(['eval', '--images', str(tmp_path), '--annotations', str(coco), '--size', '320',
                 '--json', str(record)]) == 0
    found = json.loads(record.read_text())
    assert found['images'] == 2 and found['ap50'] > 0.8


def test_coco_labels_of_a_video_do_not_name_the_video_as_a_picture(
    photographs: Path, tmp_path: Path
) -> None:
    video = tmp_path / 'clip.avi'
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*'MJPG'), 10.0, (512, 512))
    for _ in range(2):
        writer.write(cv2.imread(str(photographs / 'astronaut.jpg')))
    writer.release()
    coco = tmp_path / 'coco.json'
    assert main(['detect', str(video), '-o', str(tmp_path / 'out'), '--size', '320',
                 '--save-coco', str(coco)]) == 0
    assert list(pictures_of(coco).values()) == ['clip_000000.jpg', 'clip_000001.jpg']


def test_coco_labels_of_a_model_without_class_names_have_categories(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = np.array([[0, 20, 20, 90, 90, 4, 0.9], [0, 30, 40, 99, 99, 2, 0.8]], np.float32)
    model, coco = fixed_rows(tmp_path / 'model.onnx', rows), tmp_path / 'coco.json'
    words = [str(photographs / 'astronaut.jpg'), '-m', str(model)]
    assert main(['detect', *words, '-o', str(tmp_path / 'out'), '--save-coco', str(coco)]) == 0
    labels = COCO(str(coco))
    found = [labels.loadCats(each['category_id'])[0]['name'] for each in labels.anns.values()]
    assert found == ['class_4', 'class_2']
    assert main(['label', *words, '-o', str(tmp_path / 'set'), '--format', 'coco']) == 2
    assert 'give their names with --class-names' in capsys.readouterr().err


@pytest.mark.parametrize(('words', 'reason'), [
    ([], 'give a folder to write to'), (['--show', '--save-txt'], '--save-txt needs a folder'),
    (['-o', 'out', '--line-width', '999'], '--line-width must be'),
    (['-o', 'out', '--show'], 'needs a display'),
])
def test_what_does_not_go_together(
    words: list[str], reason: str, photographs: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ('DISPLAY', 'WAYLAND_DISPLAY'):
        monkeypatch.delenv(name, raising=False)
    assert main(['detect', str(photographs / 'coffee.jpg'), *words]) == 2
    assert reason in capsys.readouterr().err
