from __future__ import annotations

from collections.abc import Callable
import json
from pathlib import Path
import subprocess

import pytest

from yolov7_trt_ros.cli.main import main

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.slow
def test_known_average_precision(command: Command, shared_data: Path, tmp_path: Path) -> None:
    """yolov5n as exported by its authors; the numbers were measured with other code."""
    vision = shared_data / 'vision'
    done = command(
        'eval', '--model', vision / 'models/yolov5n_640_grid.onnx', '--images',
        vision / 'val2017/images', '--annotations', vision / 'val2017/instances.json',
        '--json', 'ap.json',
    )
    assert (done.returncode, done.stderr) == (0, '')
    result = json.loads((tmp_path / 'ap.json').read_text())
    assert result['ap'] == pytest.approx(0.305, abs=0.003)
    assert result['ap50'] == pytest.approx(0.482, abs=0.003)
    assert result['per_class']['person']['ap50'] == pytest.approx(0.742, abs=0.003)
    assert result['images'] == result['frames'] == 326
    assert len(result['model']['sha256']) == 64
    assert result['settings']['multi_label'] is True
    assert {'onnxruntime', 'pycocotools', 'yolov7_trt_ros'} <= set(result['versions'])


@pytest.fixture
def annotated(photographs: Path, tmp_path: Path) -> Path:
    """Labels of the photographs and of one image that is not there."""
    names = ['chelsea.jpg', 'coffee.jpg', 'gone.jpg']
    path = tmp_path / 'labels.json'
    path.write_text(json.dumps({
        'images': [{'id': n, 'file_name': name} for n, name in enumerate(names, 1)],
        'annotations': [{'id': 1, 'image_id': 1, 'category_id': 17, 'bbox': [0, 20, 400, 280],
                         'area': 112000, 'iscrowd': 0}],
        'categories': [{'id': 17, 'name': 'cat'}],
    }))
    return path


def test_missing_images_are_an_error(
    photographs: Path, annotated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['eval', '--images', str(photographs), '--annotations', str(annotated)]) == 1
    printed = capsys.readouterr().err
    assert '1 of 3 images' in printed
    assert 'gone.jpg' in printed
    assert '--allow-missing' in printed


def test_missing_images_can_be_allowed(
    photographs: Path, annotated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(['eval', '--images', str(photographs), '--annotations', str(annotated),
                   '--allow-missing', '--rectangular', '--json', '-'])
    result = json.loads(capsys.readouterr().out)
    assert status == 0
    assert result['images'] == 2
    assert result['model']['rectangular'] is True
    assert result['per_class']['cat']['ap50'] > 0.9


def test_a_wrong_folder(tmp_path: Path, annotated: Path) -> None:
    assert main(['eval', '--images', str(tmp_path), '--annotations', str(annotated),
                 '--allow-missing']) == 1
