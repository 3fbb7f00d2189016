"""Pictures and labels that do not fit each other: measured as they should be, or told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnx_models
import pytest

from yolov7_trt_ros.cli.main import main

# The tiny model finds the square from 16 to 48 of its 64 pixels wherever it is bright; pictures
# are twice as wide as high, so the letterbox halves them and the square is the middle half.
WIDE_WH, MIDDLE_BOX = (128, 64), [32.0, 0.0, 64.0, 64.0]


def save_jpeg(path: Path, pixels: np.ndarray, orientation: int) -> None:
    """Write a JPEG whose EXIF data say how to turn it (TIFF tag 0x0112)."""
    exif = (
        b'Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0'
        + orientation.to_bytes(2, 'little') + b'\0\0\0\0\0\0'
    )
    segment = b'\xff\xe1' + (len(exif) + 2).to_bytes(2, 'big') + exif
    data = cv2.imencode('.jpg', pixels)[1].tobytes()
    path.write_bytes(data[:2] + (segment if orientation else b'') + data[2:])


def bright() -> np.ndarray:
    return np.full((WIDE_WH[1], WIDE_WH[0], 3), 255, np.uint8)


class Labelled:
    """A model, a folder with one picture, and its labels."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = onnx_models.brightness_grid(
            folder / 'm.onnx', metadata={'names': '["box"]'}
        )
        (folder / 'img').mkdir()
        self.content: dict[str, Any] = {
            'images': [{'id': 1, 'file_name': 'a.jpg', 'width': 128, 'height': 64}],
            'annotations': [{'id': 1, 'image_id': 1, 'category_id': 1, 'bbox': MIDDLE_BOX}],
            'categories': [{'id': 1, 'name': 'box'}],
        }

    def state_size(self, width: int | None, height: int | None) -> None:
        self.content['images'][0].update(width=width, height=height)

    def measure(self, *more: str) -> int:
        labels = self.folder / 'l.json'
        labels.write_text(json.dumps(self.content))
        return main([
            'eval', '-m', str(self.model), '--size', '64', '--backend', 'onnx', '--images',
            str(self.folder / 'img'), '--annotations', str(labels), '--json', '-', *more,
        ])


@pytest.fixture
def labelled(tmp_path: Path) -> Labelled:
    return Labelled(tmp_path)


def ap50(capsys: pytest.CaptureFixture[str]) -> tuple[float, str]:
    printed = capsys.readouterr()
    return json.loads(printed.out)['ap50'], printed.err


@pytest.mark.parametrize('orientation', range(9))
def test_labels_on_the_stored_picture(
    labelled: Labelled, orientation: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """From 5 on the size tells; 2 to 4 keep it, so that nothing tells what was labelled."""
    pixels = bright()
    pixels[:20, :20] = 0  # turned in any way it is another picture
    save_jpeg(labelled.folder / 'img' / 'a.jpg', pixels, orientation)
    assert labelled.measure() == 0
    found, said = ap50(capsys)
    assert found == 1.0
    assert ('1 pictures are used as stored' in said) == (orientation > 4)
    assert ('does not show whether the labels' in said) == (orientation in (2, 3, 4))


def test_labels_on_the_picture_turned_upright(
    labelled: Labelled, capsys: pytest.CaptureFixture[str]
) -> None:
    save_jpeg(labelled.folder / 'img' / 'a.jpg', np.rot90(bright()).copy(), 6)
    assert labelled.measure() == 0
    found, said = ap50(capsys)
    assert (found, 'EXIF' in said) == (1.0, False)


def test_another_picture_than_the_labelled_one(
    labelled: Labelled, capsys: pytest.CaptureFixture[str]
) -> None:
    save_jpeg(labelled.folder / 'img' / 'a.jpg', bright(), 0)
    labelled.state_size(640, 480)
    assert labelled.measure() == 1
    printed = capsys.readouterr()
    assert 'a.jpg has 128x64 pixels, but 640x480 where it was labelled' in printed.err
    assert 'none of the 1 images' in printed.err and printed.out == ''
    save_jpeg(labelled.folder / 'img' / 'a.jpg', bright(), 6)
    assert labelled.measure() == 1
    assert '128x64 pixels (64x128 rotated by its EXIF data)' in capsys.readouterr().err


def test_no_size_is_told(labelled: Labelled, capsys: pytest.CaptureFixture[str]) -> None:
    save_jpeg(labelled.folder / 'img' / 'a.jpg', bright(), 0)
    labelled.state_size(None, None)
    assert labelled.measure() == 0
    found, said = ap50(capsys)
    assert found == 1.0
    assert '1 of 1 images have no width and height' in said
    assert 'the average precision of 1 labelled images is rough' in said
    labelled.content['annotations'].append(
        {'id': 2, 'image_id': 1, 'category_id': 1, 'bbox': [100, 0, 90, 64]}
    )
    assert labelled.measure() == 0
    assert 'labels of 1 pictures extend beyond them; the first is a.jpg' in ap50(capsys)[1]


def test_nothing_to_measure_is_known_before_the_work(
    labelled: Labelled, capsys: pytest.CaptureFixture[str]
) -> None:
    save_jpeg(labelled.folder / 'img' / 'a.jpg', bright(), 0)
    labelled.content['images'].append({'id': 2, 'file_name': 'b.jpg', 'width': 1, 'height': 1})
    labelled.content['annotations'][0]['iscrowd'] = 1
    assert labelled.measure('--allow-missing') == 1
    assert 'labels nothing of the 1 categories that the model has in the 1 images' in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize('name', ['x' * 5000, 'a\0b', '\ud800.jpg', '../../../../../../nowhere'])
def test_names_that_no_file_has(
    labelled: Labelled, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    labelled.content['images'][0]['file_name'] = name
    assert labelled.measure() == 1
    assert '1 of 1 images' in capsys.readouterr().err


def test_names_that_move_the_cursor(
    labelled: Labelled, capsys: pytest.CaptureFixture[str]
) -> None:
    save_jpeg(labelled.folder / 'img' / 'a.jpg', bright(), 0)
    labelled.content['images'].append({'id': 2, 'file_name': 'e\x1b[2Jvil.jpg'})
    assert labelled.measure() == 1
    assert 'the first is e\\x1b[2Jvil.jpg' in capsys.readouterr().err


def test_quantisation_is_scored_on_pictures_as_they_were_labelled(
    labelled: Labelled, capsys: pytest.CaptureFixture[str]
) -> None:
    from yolov7_trt_ros.cli.labels import open_annotations
    from yolov7_trt_ros.cli.model_steps.calibration_pictures import FilePictures
    from yolov7_trt_ros.cli.model_steps.model_scores import LabelledScore
    from yolov7_trt_ros.engine.open import open_detector
    from yolov7_trt_ros.engine.options import DetectorOptions

    picture = labelled.folder / 'img' / 'a.jpg'
    save_jpeg(picture, bright(), 6)
    labelled.content['images'][0]['file_name'] = 'train/a.jpg'
    assert labelled.measure() == 1  # there is no such folder; quantize knows the file by its name
    score = LabelledScore(
        FilePictures([picture]), open_annotations(labelled.folder / 'l.json'),
        lambda path: open_detector(DetectorOptions(
            model=str(path), backend='onnx', network_size=64, rectangular=False
        )),
    )
    capsys.readouterr()
    model = onnx.load(str(labelled.model))
    assert score(model) == score(model) == 1.0
    said = capsys.readouterr().err
    assert said.count('1 pictures are used as stored') == 1
    assert said.count('the average precision of 1 labelled images is rough') == 1
