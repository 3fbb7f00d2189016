from __future__ import annotations

from collections.abc import Callable
import json
from pathlib import Path
import subprocess

import cv2
import numpy as np
import onnx
import onnx_models
import pytest

from yolov7_trt_ros.cli.main import main

Command = Callable[..., subprocess.CompletedProcess[str]]


def test_the_page(
    photographs: Path, annotated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / 'new' / 'eval.html'
    given = ['--images', str(photographs), '--annotations', str(annotated), '--allow-missing']
    assert main(['eval', *given, '--html', str(annotated)]) != 0  # not over the labels
    assert '--html' in capsys.readouterr().err and annotated.read_text().startswith('{')
    assert main(['eval', *given, '--html', str(page)]) == 0
    text = page.read_text()
    assert 'yolov7-nano on labels.json' in text and 'the average precision of 2' in text
    assert 'Precision over recall' in text and 'confusion matrix' in text


def test_thresholds_inside_a_model_are_warned_of(
    photographs: Path, annotated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = np.array([[0, 2, 10, 60, 60, 15, 0.9]], np.float32)
    model = onnx_models.fixed_rows(tmp_path / 'model.onnx', rows)
    given = ['--images', str(photographs), '--annotations', str(annotated), '--allow-missing',
             '-m', str(model)]
    for more in (['--html', str(tmp_path / 'page.html')], ['-o', str(tmp_path / 'drives')]):
        assert main(['eval', *given, *more]) == 0
        assert 'NMS inside, with its own thresholds' in capsys.readouterr().err
    assert 'NMS inside, with its own thresholds' in (tmp_path / 'page.html').read_text()
    assert main(['eval', *given[:-2]]) == 0
    assert 'NMS inside' not in capsys.readouterr().err


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


def test_a_bag_is_told_the_verbs_that_take_it(
    annotated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'drive').mkdir()
    (tmp_path / 'drive/drive_0.mcap').touch()
    for images in ('drive', 'drive/drive_0.mcap'):
        given = ['--images', str(tmp_path / images), '--annotations', str(annotated)]
        assert main(['eval', *given]) == 1
        assert 'is a bag, and eval takes pictures: yolov7_trt detect and replay take it' in (
            capsys.readouterr().err)


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


@pytest.fixture
def pallets(tmp_path: Path) -> tuple[list[str], Path]:
    """Return how to measure a model of three classes, and its labels: it finds the pallet."""
    model = onnx_models.brightness_grid(tmp_path / 'pallets.onnx', num_classes=3)
    folder = tmp_path / 'pictures'
    folder.mkdir()
    assert cv2.imwrite(str(folder / 'white.png'), np.full((64, 64, 3), 255, np.uint8))
    labels = tmp_path / 'labels.json'
    labels.write_text(json.dumps({
        'images': [{'id': 5, 'file_name': 'white.png'}],
        'annotations': [
            {'id': 1, 'image_id': 5, 'category_id': 1, 'bbox': [16, 16, 32, 32]},
            {'id': 2, 'image_id': 5, 'category_id': 2, 'bbox': [0, 0, 9, 9]},
        ],
        'categories': [{'id': 1, 'name': 'Euro-Pallet'}, {'id': 2, 'name': 'shelf'}],
    }))
    return ['eval', '-m', str(model), '--size', '64', '--backend', 'onnx', '--images',
            str(folder), '--annotations', str(labels)], labels


def test_classes_of_ones_own(
    pallets: tuple[list[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, _ = pallets
    assert main(given) == 1
    assert '(class_0, class_1, class_2) is a labelled category' in capsys.readouterr().err
    names = tmp_path / 'names.txt'
    names.write_text('euro pallet\ndrone\nforklift\n')
    assert main([*given, '--class-names', str(names), '--json', '-']) == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert result['per_class'] == {'Euro-Pallet': {'ap': 1.0, 'ap50': 1.0, 'instances': 1}}
    assert result['ap50'] == 1.0
    assert result['categories_left_out'] == ['shelf']
    assert '1 of the labelled categories are not measured' in printed.err
    assert 'shelf' in printed.err


def test_quantisation_is_scored_on_classes_of_ones_own(
    pallets: tuple[list[str], Path], tmp_path: Path
) -> None:
    from yolov7_trt_ros.cli.model_steps.model_scores import LabelledScore
    from yolov7_trt_ros.engine.open import open_detector
    from yolov7_trt_ros.engine.options import DetectorOptions
    from yolov7_trt_ros.replay.pictures import load_picture
    from yolov7_trt_ros.report.accuracy.coco import CocoAnnotations

    names = tmp_path / 'names.txt'
    names.write_text('euro pallet\ndrone\nforklift\n')
    picture = load_picture(tmp_path / 'pictures' / 'white.png')
    score = LabelledScore(
        [('white.png', picture), ('other.png', picture)], CocoAnnotations(pallets[1]),
        lambda path: open_detector(DetectorOptions(
            model=str(path), backend='onnx', network_size=64, class_names=str(names)
        )),
    )
    assert score(onnx.load(str(tmp_path / 'pallets.onnx'))) == 1.0
    assert score.used == 1
