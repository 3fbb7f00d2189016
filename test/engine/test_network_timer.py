from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_models
import pytest
from test_trt_detector_emulated import gpu, opened  # noqa: F401  (fixtures)

from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.core.letterbox import fit_letterbox
from yolov7_trt_ros.core.preprocess import Preprocessor
from yolov7_trt_ros.engine import network_timer
from yolov7_trt_ros.engine.model_files import find_model
from yolov7_trt_ros.engine.onnx_batches import OnnxBatches
from yolov7_trt_ros.engine.onnx_detector import OnnxDetector
from yolov7_trt_ros.errors import InferenceError, ModelFormatError, SettingError
from yolov7_trt_ros.onnx_tools.graph import onnx_precision
from yolov7_trt_ros.onnx_tools.runtime import OnnxSession
from yolov7_trt_ros.testing import FAKE_TIMINGS, FakeDetector, smooth_picture

SETTINGS = DetectSettings()
SIZE = 64


def pictures(count: int) -> list[ImageView]:
    return [ImageView.from_array(smooth_picture(80 + 16 * n, 60)) for n in range(count)]


def test_host_engines_are_timed_by_what_they_say_of_a_frame() -> None:
    detector = FakeDetector(max_batch=3)
    timer = network_timer.network_timer(detector, SETTINGS, 3)
    assert timer.sample(pictures(3)) == [FAKE_TIMINGS.infer_ns]
    assert detector.batches == [3]
    assert (timer.clock, timer.by_detector) == ('host clock', True)


def test_larger_batches_than_a_detector_takes_are_refused() -> None:
    detector = OnnxDetector(find_model('yolov7-nano'), network_size=SIZE, threads=1)
    with pytest.raises(SettingError, match='at most 1 image at once'):
        network_timer.network_timer(detector, SETTINGS, 8)
    assert network_timer.time_network(detector, pictures(1))[0] > 0


def test_events_around_the_network_alone(opened: Callable[..., Any]) -> None:  # noqa: F811
    """The emulated device has events too; frames and timing do not disturb each other."""
    detector = opened(rectangular=False)
    images = pictures(3)
    before = [detector.detect(image, SETTINGS)[0].scores.tolist() for image in images]
    timer = network_timer.network_timer(detector, SETTINGS, 1)
    assert (timer.clock, timer.by_detector) == ('CUDA events', False)
    for image in images * 2:
        samples = timer.sample([image])
        assert len(samples) > 1
        assert all(isinstance(value, int) and value >= 0 for value in samples)
    assert len(timer.sample(images[:2])) > 1
    after = [detector.detect(image, SETTINGS)[0].scores.tolist() for image in images]
    assert before == after
    with pytest.raises(SettingError, match='at most'):
        network_timer.network_timer(detector, SETTINGS, detector.max_batch + 1)


def test_emulated_network_runs_as_often_as_it_is_timed(
    opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:
    detector = opened(cuda_graph=False, rectangular=False)
    image = pictures(1)
    detector.detect(image[0], SETTINGS)
    bucket = detector._bucket_for(image, SETTINGS)
    runs: list[int] = []
    enqueue = bucket.enqueue_network
    monkeypatch.setattr(bucket, 'enqueue_network', lambda: (runs.append(1), enqueue()))
    samples = network_timer.network_timer(detector, SETTINGS, 1).sample(image)
    assert len(runs) == len(samples) + 4  # the frame itself and three to warm up


@pytest.fixture(scope='module')
def nano() -> Path:
    return find_model('yolov7-nano')


def test_a_batch_holds_every_image_as_the_letterbox_makes_it(nano: Path) -> None:
    images = pictures(3)
    batches = OnnxBatches(nano, 3, (SIZE, SIZE), threads=1)
    blob = batches.prepare(images)
    assert blob.shape == (3, 3, SIZE, SIZE)
    for slot, image in zip(blob, images, strict=True):
        alone = Preprocessor().prepare(image, fit_letterbox(image.size_wh, (SIZE, SIZE)))
        np.testing.assert_array_equal(slot, alone[0])
    assert batches.infer_ns(images) > 0
    assert network_timer.batch_timer(batches).sample(images)[0] > 0
    batches.close()
    batches.close()
    with pytest.raises(InferenceError, match='closed'):
        batches.infer_ns(images)


def test_batches_run_what_the_detector_runs(nano: Path) -> None:
    detector = OnnxDetector(nano, network_size=SIZE, threads=1)
    batches = OnnxBatches(nano, 2, (SIZE, SIZE), threads=1, spec=detector.spec)
    maps = batches._session.run(batches.prepare(pictures(2)))
    assert [each.shape[:2] for each in maps] == [(2, 255)] * 3
    batches.close()


def test_fixed_batches_are_told(tmp_path: Path) -> None:
    path = onnx_models.brightness_grid(tmp_path / 'grid.onnx', num_classes=3)
    model = onnx.load(path)
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, path)
    with pytest.raises(SettingError, match='fixed batch of 1, not 8'):
        OnnxBatches(path, 8, (SIZE, SIZE), threads=1)


def test_precision_of_an_onnx_file(tmp_path: Path, nano: Path) -> None:
    assert onnx_precision(nano) == 'fp32'  # half-precision weights, cast before they are used
    assert onnx_precision(tmp_path / 'none.onnx') == ''
    model = onnx.load(nano)
    model.graph.node.append(onnx.helper.make_node('QuantizeLinear', ['a', 'b'], ['c']))
    onnx.save(model, tmp_path / 'int8.onnx')
    assert onnx_precision(tmp_path / 'int8.onnx') == 'int8'


def test_sessions_refuse_what_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / 'text.onnx'
    path.write_text('no model')
    with pytest.raises(ModelFormatError, match=r'text\.onnx'):
        OnnxSession(path, threads=1)
