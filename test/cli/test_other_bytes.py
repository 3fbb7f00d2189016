"""File names that are no UTF-8, as of old disks and other systems, in every place of a command."""

from __future__ import annotations

import json
import os
from pathlib import Path
import shutil

import pytest

from yolov7_trt_ros.cli.main import main
from yolov7_trt_ros.engine.model_files import find_model
from yolov7_trt_ros.engine.onnx_detector import OnnxDetector

ODD = os.fsdecode(b'caf\xe9')


@pytest.fixture
def folders(photographs: Path, tmp_path: Path) -> list[str]:
    """Return two folders of pictures with such names."""
    found = []
    for name in (ODD, f'{ODD}2'):
        folder = tmp_path / name
        try:
            folder.mkdir()
        except OSError:
            pytest.skip('this file system takes no such names')
        shutil.copy(photographs / 'astronaut.jpg', folder / f'{ODD}.jpg')
        found.append(str(folder))
    return found


def test_many_recordings_with_such_names_have_results(folders: list[str], tmp_path: Path) -> None:
    out = tmp_path / 'set'
    assert main(['label', *folders, '-o', str(out), '--format', 'coco', '--size', '320']) == 0
    drives = json.loads((out / 'drives.json').read_text())['drives']
    assert [each['path'] for each in drives.values()] == folders
    assert 'caf' in (out / 'drives.html').read_text()


def test_labels_of_pictures_with_such_names_are_measured_by_folder(
    folders: list[str], tmp_path: Path
) -> None:
    coco = tmp_path / 'coco.json'
    assert main(['detect', *folders, '-o', str(tmp_path / 'out'), '--size', '320', '--square',
                 '--save-coco', str(coco)]) == 0
    assert main(['eval', '--images', str(tmp_path), '--annotations', str(coco), '--size', '320',
                 '-o', str(tmp_path / 'eval'), '--json', str(tmp_path / 'eval.json')]) == 0
    record = json.loads((tmp_path / 'eval.json').read_text())
    assert set(record['drives']) == {ODD, f'{ODD}2'} and record['ap50'] > 0.8
    assert main(['eval', '--images', folders[0], '--annotations', str(coco), '--size', '320',
                 '--allow-missing', '--html', str(tmp_path / 'eval.html')]) == 1


def test_a_model_with_such_a_name_runs(tmp_path: Path) -> None:
    path = tmp_path / f'{ODD}.onnx'
    try:
        shutil.copy(find_model('yolov7-nano'), path)
    except OSError:
        pytest.skip('this file system takes no such names')
    detector = OnnxDetector(path, network_size=64)
    assert detector.spec.num_classes == 80
    detector.close()
