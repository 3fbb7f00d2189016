from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from yolov7_trt_ros.cli.main import main
from yolov7_trt_ros.engine.model_files import find_model

Command = Callable[..., subprocess.CompletedProcess[str]]


def test_the_embedded_model(command: Command) -> None:
    done = command('info', 'yolov7-nano', '--json', '-')
    assert (done.returncode, done.stderr) == (0, '')
    record = json.loads(done.stdout)
    data = find_model('yolov7-nano').read_bytes()
    assert record['sha256'] == hashlib.sha256(data).hexdigest()
    assert record['layout'] == 'grid'
    assert record['num_classes'] == 80
    assert record['class_names'][0] == 'person'
    assert record['strides'] == [8, 16, 32]


def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['info']) == 0
    printed = capsys.readouterr().out
    assert 'free, in multiples of 32' in printed
    assert '80: person, bicycle' in printed


@pytest.mark.parametrize(('name', 'layout'), [
    ('yolov5n_640_grid', 'grid'), ('yolov5n_640_end2end_ort', 'end2end_ort'),
    ('yolov5n_640_end2end_trt', 'boxes_scores'),
])
def test_other_forms(
    shared_data: Path, name: str, layout: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shared_data / f'vision/models/{name}.onnx'
    assert main(['info', str(path), '--json', '-']) == 0
    record = json.loads(capsys.readouterr().out)
    assert record['layout'] == layout
    assert record['size_wh'] == [640, 640]


def test_raw_heads_need_anchors(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(shared_data / 'vision/models/yolov5n_640_rawheads.onnx')
    assert main(['info', path, '--anchors', 'yolov7-tiny']) == 0
    assert 'anchors     10x13, 16x30' in capsys.readouterr().out


def test_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / 'bad.onnx').write_bytes(b'no model')
    assert main(['info', str(tmp_path / 'bad.onnx')]) == 1
    assert 'bad.onnx' in capsys.readouterr().err
