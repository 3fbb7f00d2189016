from __future__ import annotations

from collections.abc import Callable
import errno
import json
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from yolov7_trt_ros.cli.main import main
from yolov7_trt_ros.cli.work.output_names import OutputNames

REPOSITORY = Path(__file__).resolve().parents[2]
Command = Callable[..., subprocess.CompletedProcess[str]]


def test_pictures_end_to_end(command: Command, photographs: Path, tmp_path: Path) -> None:
    done = command('detect', photographs, '-o', 'out', '--json', 'result.json')
    assert (done.returncode, done.stderr) == (0, '')
    assert 'frames      3' in done.stdout
    result = json.loads((tmp_path / 'result.json').read_text())
    frames = {frame['source']: frame for frame in result['inputs'][0]['frames']}
    classes = {
        name: {item['class_name'] for item in frame['detections']}
        for name, frame in frames.items()
    }
    assert 'person' in classes['astronaut.jpg']
    assert result['frames'] == 3
    assert result['latency_ms']['total']['p50'] > 0
    assert result['settings']['score_threshold'] == 0.25
    for name in ('astronaut', 'chelsea', 'coffee'):
        drawn = cv2.imread(str(tmp_path / f'out/{name}.jpg'))
        source = cv2.imread(str(photographs / f'{name}.jpg'))
        assert drawn.shape == source.shape
    changed = np.abs(cv2.imread(str(tmp_path / 'out/astronaut.jpg')).astype(int)
                     - cv2.imread(str(photographs / 'astronaut.jpg'))).max()
    assert changed > 100


def test_json_on_the_output_is_nothing_but_json(command: Command, photographs: Path) -> None:
    done = command('detect', photographs / 'astronaut.jpg', '-o', 'out', '--json', '-',
                   '--classes', 'person')
    result = json.loads(done.stdout)
    assert result['detections_per_class'] == {'person': 1}
    assert 'frames' in done.stderr


def test_inputs_that_fail_do_not_stop_the_rest(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'broken.jpg').write_bytes(b'\xff\xd8 no picture')
    paths = [str(tmp_path / name) for name in ('broken.jpg', 'missing.jpg')]
    status = main(['detect', *paths, str(photographs / 'coffee.jpg'), '-o', str(tmp_path / 'out')])
    printed = capsys.readouterr()
    assert status == 1
    assert printed.err.count('yolov7_trt: warning: ') == 2
    assert 'failed      2' in printed.out
    assert (tmp_path / 'out/coffee.jpg').exists()


def test_equal_names_do_not_overwrite_each_other(photographs: Path, tmp_path: Path) -> None:
    for folder in ('a', 'b'):
        (tmp_path / folder).mkdir()
        shutil.copy(photographs / 'coffee.jpg', tmp_path / folder / 'x.jpg')
    status = main(['detect', str(tmp_path / 'a'), str(tmp_path / 'b/x.jpg'), '-o',
                   str(tmp_path / 'out')])
    assert status == 0
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['x-2.jpg', 'x.jpg']


def test_an_input_is_never_overwritten(photographs: Path, tmp_path: Path) -> None:
    shutil.copy(photographs / 'coffee.jpg', tmp_path / 'coffee.jpg')
    before = (tmp_path / 'coffee.jpg').read_bytes()
    assert main(['detect', str(tmp_path / 'coffee.jpg'), '-o', str(tmp_path)]) == 0
    assert (tmp_path / 'coffee.jpg').read_bytes() == before
    assert (tmp_path / 'coffee-2.jpg').exists()


def test_names(tmp_path: Path) -> None:
    names = OutputNames(tmp_path, [tmp_path / 'a.jpg'])
    assert [names.take('a', '.jpg').name for _ in range(3)] == ['a-2.jpg', 'a-3.jpg', 'a-4.jpg']
    assert names.take('a', '.mp4').name == 'a.mp4'


def test_a_folder_with_the_name_of_a_picture_is_no_output_of_ours(tmp_path: Path) -> None:
    (tmp_path / 'a.jpg').mkdir()
    (tmp_path / 'b').mkdir()
    names = OutputNames(tmp_path, [])
    assert names.take('a', '.jpg').name == 'a-2.jpg'
    assert names.take('b', '').name == 'b'  # one for the pictures of a bag


def test_names_where_an_input_cannot_be_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: Path) -> None:
        raise PermissionError(errno.EACCES, 'Permission denied')

    monkeypatch.setattr(Path, 'iterdir', refused)
    assert OutputNames(tmp_path / 'out', [tmp_path]).take('a', '.jpg').name == 'a.jpg'


def test_a_video_becomes_a_video(photographs: Path, tmp_path: Path) -> None:
    picture = cv2.resize(cv2.imread(str(photographs / 'astronaut.jpg')), (322, 242))
    writer = cv2.VideoWriter(
        str(tmp_path / 'clip.avi'), cv2.VideoWriter.fourcc(*'MJPG'), 10, (322, 242)
    )
    for _ in range(6):
        writer.write(picture)
    writer.release()
    out = tmp_path / 'out'
    assert main(['detect', str(tmp_path / 'clip.avi'), '-o', str(out), '--every', '2']) == 0
    capture = cv2.VideoCapture(str(out / 'clip.mp4'))
    assert capture.get(cv2.CAP_PROP_FPS) == 5
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert capture.read()[1].shape == (242, 322, 3)


def test_an_interrupt_ends_it_without_a_traceback(tmp_path: Path) -> None:
    writer = cv2.VideoWriter(
        str(tmp_path / 'long.avi'), cv2.VideoWriter.fourcc(*'MJPG'), 10, (640, 480)
    )
    for _ in range(2000):
        writer.write(np.zeros((480, 640, 3), np.uint8))
    writer.release()
    running = subprocess.Popen(
        [sys.executable, '-m', 'yolov7_trt_ros', 'detect', 'long.avi', '-o', 'out'],
        cwd=tmp_path, env=os.environ | {'PYTHONPATH': str(REPOSITORY)}, stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 600
    while not list(tmp_path.glob('out/.long*.mp4')) and time.monotonic() < until:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, printed = running.communicate(timeout=600)
    assert running.returncode == 130
    assert printed == 'yolov7_trt: interrupted: nothing was written\n'
    assert not list((tmp_path / 'out').rglob('*'))  # no half file


@pytest.mark.parametrize(('arguments', 'status', 'message'), [
    (['--classes', 'persn'], 2, "did you mean 'person'"),
    (['--score-threshold', '1.5'], 2, 'score_threshold must be within 0..1'),
    (['--size', '100'], 2, 'multiple of the stride'),
    (['--every', '0'], 2, '--every must be at least 1'),
    (['--model', 'nothing.onnx'], 1, "no model 'nothing.onnx'"),
    (['--class-names', 'nothing.txt'], 2, 'class_names must be'),
])
def test_wrong_settings(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    arguments: list[str], status: int, message: str,
) -> None:
    path = str(photographs / 'coffee.jpg')
    assert main(['detect', path, '-o', str(tmp_path / 'out'), *arguments]) == status
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count('\n') == 1
    assert not (tmp_path / 'out').exists()
