"""OnnxDetector with real ONNX Runtime: the embedded model, odd models and useless files."""

from __future__ import annotations

from collections.abc import Iterator
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from skimage import data as skimage_data

from yolov7_trt_ros.core.boxes import box_iou
from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.forms.model_spec import OutputLayout
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.engine.model_files import find_model
from yolov7_trt_ros.engine.onnx_detector import OnnxDetector
from yolov7_trt_ros.engine.open import open_detector
from yolov7_trt_ros.engine.options import DEFAULT_MODEL, DetectorOptions
from yolov7_trt_ros.errors import (
    InferenceError,
    ModelFormatError,
    ModelLayoutError,
    SettingError,
    Yolov7TrtError,
)
from yolov7_trt_ros.testing import encode_image

SETTINGS = DetectSettings()


@pytest.fixture(scope='module')
def astronaut() -> np.ndarray:
    """RGB, 512 x 512: a woman in an orange suit."""
    return skimage_data.astronaut()


@pytest.fixture(scope='module')
def embedded() -> Iterator[OnnxDetector]:
    detector = OnnxDetector(find_model(DEFAULT_MODEL), network_size=320, threads=1)
    yield detector
    detector.close()


def grey(value: int, size_wh: tuple[int, int] = (64, 64)) -> ImageView:
    return ImageView.from_array(np.full((size_wh[1], size_wh[0], 3), value, np.uint8))


def rgb_view(rgb: np.ndarray) -> ImageView:
    return ImageView.from_array(np.ascontiguousarray(rgb), 'rgb8')


# ---- the embedded model


def test_the_embedded_model_finds_the_astronaut(
    embedded: OnnxDetector, astronaut: np.ndarray
) -> None:
    found, timings = embedded.detect(rgb_view(astronaut), SETTINGS)
    records = found.as_records(embedded.spec.class_names)
    assert records[0]['class_name'] == 'person'
    assert records[0]['score'] > 0.4
    left, top, right, bottom = records[0]['box_xyxy']
    assert left < 60 and top < 60 and right > 330 and bottom > 460
    assert min(timings.preprocess_ns, timings.infer_ns, timings.postprocess_ns) > 0
    assert 'CPU' in embedded.backend


def test_what_the_embedded_model_is(embedded: OnnxDetector) -> None:
    spec = embedded.spec
    assert spec.layout is OutputLayout.GRID
    assert (spec.num_classes, spec.stride, spec.fixed_wh) == (80, 32, None)
    assert spec.class_names[:2] == ('person', 'bicycle')


def test_the_same_frame_gives_the_same_detections(
    embedded: OnnxDetector, astronaut: np.ndarray
) -> None:
    first, _ = embedded.detect(rgb_view(astronaut), SETTINGS)
    embedded.detect(grey(0), SETTINGS)
    again, _ = embedded.detect(rgb_view(astronaut), SETTINGS)
    assert np.array_equal(first.boxes_xyxy, again.boxes_xyxy)
    assert np.array_equal(first.scores, again.scores)


@pytest.mark.parametrize('encoding', [
    'bgr8', 'bgra8', 'rgba8', 'uyvy', 'yuyv', 'nv12', 'nv21', 'bayer_rggb8', 'bayer_gbrg8',
])
def test_every_encoding_finds_the_same_person(
    embedded: OnnxDetector, astronaut: np.ndarray, encoding: str
) -> None:
    data, step = encode_image(astronaut, encoding, step_padding=8)
    image = ImageView.from_buffer(data, width=512, height=512, encoding=encoding, step=step)
    expected, _ = embedded.detect(rgb_view(astronaut), SETTINGS)
    found, _ = embedded.detect(image, SETTINGS)
    assert found.class_ids[0] == expected.class_ids[0]
    assert abs(found.scores[0] - expected.scores[0]) < 0.05
    assert box_iou(found.boxes_xyxy[:1], expected.boxes_xyxy[:1])[0, 0] > 0.9


def test_rectangular_and_square_agree_where_the_picture_is_not_square(
    astronaut: np.ndarray
) -> None:
    wide = cv2.copyMakeBorder(astronaut[:360], 0, 0, 64, 64, cv2.BORDER_REFLECT)
    best = []
    for rectangular in (True, False):
        detector = OnnxDetector(
            find_model(DEFAULT_MODEL), network_size=320, rectangular=rectangular, threads=1
        )
        network_wh = detector.letterbox((640, 360)).network_wh
        assert network_wh == ((320, 192) if rectangular else (320, 320))
        found, _ = detector.detect(rgb_view(wide), SETTINGS)
        assert found.source_wh == (640, 360)
        best.append((found.class_ids[0], found.scores[0], found.boxes_xyxy[:1]))
        detector.close()
    (class_id, score, box), (other_class, other_score, other_box) = best
    assert class_id == other_class == 0
    assert abs(score - other_score) < 0.1
    assert box_iou(box, other_box)[0, 0] > 0.8


@pytest.mark.parametrize('size', [0, -320, 33, 100, 8224])
@pytest.mark.parametrize('rectangular', [False, True])
def test_a_network_size_off_the_stride_is_refused(size: int, rectangular: bool) -> None:
    with pytest.raises(SettingError, match=f'network size .* got {size}'):
        OnnxDetector(find_model(DEFAULT_MODEL), network_size=size, rectangular=rectangular)


def test_negative_threads_are_refused() -> None:
    with pytest.raises(SettingError, match='threads'):
        OnnxDetector(find_model(DEFAULT_MODEL), threads=-1)


def test_close_twice_then_detect() -> None:
    detector = open_detector(DetectorOptions(network_size=64, threads=1))
    detector.close()
    detector.close()
    with pytest.raises(InferenceError, match='closed'):
        detector.detect(grey(0), SETTINGS)


# ---- models of our own


def test_a_bright_image_is_found_and_a_dark_one_is_not(build: Any) -> None:
    detector = OnnxDetector(build('brightness_grid'), network_size=64)
    found, _ = detector.detect(grey(255), SETTINGS)
    assert found.boxes_xyxy.tolist() == [[16, 16, 48, 48]]
    assert found.scores.tolist() == pytest.approx([1.0])
    assert len(detector.detect(grey(0), SETTINGS)[0]) == 0


def test_settings_may_change_from_frame_to_frame(build: Any) -> None:
    detector = OnnxDetector(build('brightness_grid', num_classes=3), network_size=64)
    image = grey(200)
    assert len(detector.detect(image, DetectSettings(score_threshold=0.9))[0]) == 0
    assert detector.detect(image, DetectSettings())[0].class_ids.tolist() == [0]
    every = detector.detect(image, DetectSettings(multi_label=True))[0]
    assert every.class_ids.tolist() == [0, 1, 2]
    some = DetectSettings(multi_label=True, class_ids=frozenset({2}))
    assert detector.detect(image, some)[0].class_ids.tolist() == [2]


def test_float16_input_and_output(build: Any) -> None:
    detector = OnnxDetector(build('brightness_grid', half=True), network_size=64)
    assert detector.spec.image.dtype == 'float16'
    found, _ = detector.detect(grey(204), SETTINGS)
    assert found.scores.tolist() == pytest.approx([0.8], abs=2e-3)
    assert found.boxes_xyxy.tolist() == [[16, 16, 48, 48]]


def test_nan_fails_the_frame_but_not_the_detector(build: Any) -> None:
    detector = OnnxDetector(build('brightness_grid', objectness=float('nan')), network_size=64)
    for _ in range(2):
        with pytest.raises(InferenceError, match='objectness.*NaN'):
            detector.detect(grey(255), SETTINGS)


def test_a_model_with_a_free_size_is_run_at_rectangles(build: Any) -> None:
    detector = OnnxDetector(build('brightness_grid'), network_size=64)
    assert detector.spec.fixed_wh is None
    assert detector.letterbox((200, 50)).network_wh == (64, 32)
    assert len(detector.detect(grey(255, (200, 50)), SETTINGS)[0]) == 1


def test_a_baked_in_grid_is_found_out_and_the_size_taken_for_fixed(build: Any) -> None:
    path = build('brightness_grid', baked_wh=(64, 64))
    detector = OnnxDetector(path, network_size=64)
    assert detector.spec.fixed_wh == (64, 64)
    assert detector.letterbox((200, 50)).network_wh == (64, 64)
    assert len(detector.detect(grey(255, (200, 50)), SETTINGS)[0]) == 1


def test_a_baked_in_grid_of_another_size_says_which_setting_to_change(build: Any) -> None:
    with pytest.raises(ModelLayoutError, match='input of 96x96 pixels; .* set network_size'):
        OnnxDetector(build('brightness_grid', baked_wh=(64, 64)), network_size=96)


@pytest.mark.parametrize('rectangular', [False, True])
def test_a_model_with_one_free_side_is_bound_to_the_probed_size(
    build: Any, rectangular: bool
) -> None:
    path = build('brightness_grid', shape=(1, 3, 'height', 96))
    detector = OnnxDetector(path, network_size=64, rectangular=rectangular)
    assert detector.spec.fixed_wh == (96, 64)
    assert len(detector.detect(grey(255, (200, 50)), SETTINGS)[0]) == 1


def test_a_fixed_size_wins_over_the_setting(build: Any) -> None:
    path = build('brightness_grid', shape=(1, 3, 64, 96))
    detector = OnnxDetector(path, network_size=1)
    assert detector.spec.fixed_wh == (96, 64)


def test_names_come_from_metadata_or_the_caller(build: Any) -> None:
    path = build('brightness_grid', num_classes=2, metadata={'names': "{0: 'lamp', 1: 'sun'}"})
    assert OnnxDetector(path, network_size=64).spec.class_names == ('lamp', 'sun')
    given = OnnxDetector(path, network_size=64, class_names=['a', 'b'])
    assert given.spec.class_names == ('a', 'b')
    with pytest.raises(ModelLayoutError, match='2 classes, but the given class names count 1'):
        OnnxDetector(path, network_size=64, class_names=['a'])


def test_useless_metadata_is_refused(build: Any) -> None:
    path = build('brightness_grid', metadata={'names': 'lamp and sun'})
    with pytest.raises(ModelLayoutError, match='class names in the model metadata'):
        OnnxDetector(path, network_size=64)


# ---- what is no YOLOv7 model


def test_a_classifier_is_refused_with_its_outputs(build: Any) -> None:
    with pytest.raises(ModelLayoutError, match=r'logits float32\[1, 3\].*Accepted: grid'):
        OnnxDetector(build('classifier'))


def test_two_inputs_are_refused(build: Any) -> None:
    with pytest.raises(ModelLayoutError, match='this model has 2: a float32.*b float32'):
        OnnxDetector(build('two_inputs'))


def test_a_batch_of_eight_is_refused(build: Any) -> None:
    path = build('brightness_grid', shape=(8, 3, 64, 64))
    with pytest.raises(ModelLayoutError, match='fixed batch of 8.*export it with batch 1'):
        OnnxDetector(path)


def _broken_files() -> dict[str, bytes]:
    model = find_model(DEFAULT_MODEL).read_bytes()
    return {
        'empty': b'',
        'one byte': b'\x08',
        'random': np.random.default_rng(0).bytes(5000),
        'text': b'this is no model\n' * 50,
        'truncated': model[: len(model) // 2],
        'head only': model[:100],
        'names EfficientNMS': b'EfficientNMS_TRT' * 10,
    }


@pytest.mark.parametrize('name', _broken_files())
def test_broken_files_are_refused_by_name(name: str, tmp_path: Path) -> None:
    path = tmp_path / 'broken.onnx'
    path.write_bytes(_broken_files()[name])
    with pytest.raises(ModelFormatError, match='broken.onnx is not'):
        OnnxDetector(path)


def test_a_directory_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / 'missing.onnx'):
        with pytest.raises(ModelFormatError):
            OnnxDetector(path)


def test_a_file_overwritten_in_places_raises_our_errors_only(build: Any) -> None:
    path = build('brightness_grid')
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(whole)
        for at in rng.integers(0, len(whole), 3):
            damaged[at] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            OnnxDetector(path, network_size=64, threads=1).detect(grey(255), SETTINGS)
        except Yolov7TrtError:
            continue


def test_an_unreadable_file_is_refused(build: Any) -> None:
    path = build('brightness_grid')
    path.chmod(0)
    if os.access(path, os.R_OK):
        return  # root reads everything
    with pytest.raises(ModelFormatError):
        OnnxDetector(path)
