"""Plans of every form that exporters give, with and without their manifest, against the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from export_forms import CLASSES, Form, FORMS
import numpy as np
import onnx_models
import pytest

from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.forms.model_spec import OutputLayout
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.engine.gpu.trt_detector import TrtDetector
from yolov7_trt_ros.engine.onnx_detector import OnnxDetector
from yolov7_trt_ros.engine.plan.plan_file import read_manifest
from yolov7_trt_ros.engine.plan.shape_range import ShapeRange
from yolov7_trt_ros.engine.trt.api import TrtApi
from yolov7_trt_ros.engine.trt.build_progress import BuildProgress
from yolov7_trt_ros.engine.trt.network import BuildSettings, TrtNetwork
from yolov7_trt_ros.errors import ModelLayoutError
from yolov7_trt_ros.onnx_tools.tensorrt_form import TensorRtOnnx

PlanMaker = Callable[..., Path]
SETTINGS = DetectSettings(score_threshold=0.3)
NAMES = [f'name {index}' for index in range(CLASSES)]
TAKEN = [form for form in FORMS if form.verdict == 'taken' and '(n, 7)' not in form.shape]
SIZES = ShapeRange((1, 3, 64, 96), (1, 3, 64, 96), (1, 3, 64, 96))


def noise(seed: int) -> ImageView:
    rng = np.random.default_rng(seed)
    return ImageView.from_array(rng.integers(0, 256, (64, 96, 3), np.uint8))


def by_name(form: Form) -> str:
    return form.name


@pytest.mark.parametrize('form', TAKEN, ids=by_name)
def test_each_form_finds_what_the_cpu_finds(
    api: TrtApi, plan: PlanMaker, tmp_path: Path, form: Form
) -> None:
    onnx = form.make(tmp_path)
    name = f'form{FORMS.index(form)}'
    built = plan(onnx, name, profiles=(SIZES,), precision='fp32', keep_grid=True)
    anchors = onnx_models.CONV_ANCHORS if 'raw heads' in form.name else None
    cpu = OnnxDetector(onnx, class_names=NAMES, keep_grid=True)
    for manifest in (read_manifest(built), None):
        detector = TrtDetector(
            built, built.read_bytes(), api=api, manifest=manifest, class_names=NAMES,
            anchors=anchors, memory='staged',
        )
        try:
            assert detector.spec.layout is cpu.spec.layout
            assert detector.spec.evidence
            for seed in range(3):
                found, wanted = (
                    each.detect(noise(seed), SETTINGS)[0] for each in (detector, cpu)
                )
                assert len(found) == len(wanted) > 3
                assert found.class_ids.tolist() == wanted.class_ids.tolist()
                assert np.allclose(found.boxes_xyxy, wanted.boxes_xyxy, atol=0.05)
                assert np.allclose(found.scores, wanted.scores, atol=2e-3)
        finally:
            detector.close()


def test_a_plan_of_boxes_within_0_and_1_is_refused(
    api: TrtApi, plan: PlanMaker, tmp_path: Path
) -> None:
    """Built by somebody else: our own build refuses the model before."""
    form = next(form for form in FORMS if form.name == 'boxes within 0..1')
    onnx = form.make(tmp_path)
    with pytest.raises(ModelLayoutError, match='in 0..1'):
        plan(onnx, 'normalised', profiles=(SIZES,))
    network, edit = TrtNetwork(api), TensorRtOnnx(onnx)
    network.parse(edit.to_bytes(), edit.node_label)
    settings = BuildSettings(profiles=(SIZES,), opt_level=0)
    data = network.build(settings, BuildProgress(lambda phase, part: None, lambda: False))
    with pytest.raises(ModelLayoutError, match='in 0..1'):
        TrtDetector(tmp_path / 'foreign.plan', data, api=api, memory='staged')


def test_a_fixed_batch_takes_fewer_images(api: TrtApi, plan: PlanMaker, tmp_path: Path) -> None:
    onnx = onnx_models.brightness_grid(tmp_path / 'b8.onnx', shape=(8, 3, 64, 64), num_classes=3)
    built = plan(onnx, 'b8', profiles=(), precision='fp32')
    manifest = read_manifest(built)
    assert manifest is not None and manifest.profiles[0].minimum == (8, 3, 64, 64)
    free = OnnxDetector(
        onnx_models.brightness_grid(tmp_path / 'free.onnx', num_classes=3), network_size=64,
        rectangular=False,
    )
    detector = TrtDetector(
        built, built.read_bytes(), api=api, manifest=manifest, memory='staged'
    )
    try:
        assert (detector.max_batch, detector.spec.layout) == (8, OutputLayout.GRID)
        for count in (1, 3, 8):
            images = [noise(seed) for seed in range(count)]
            found, _ = detector.detect_batch(images, SETTINGS)
            for image, each in zip(images, found, strict=True):
                wanted, _ = free.detect(image, SETTINGS)
                assert len(each) == len(wanted) == 1
                assert np.allclose(each.boxes_xyxy, wanted.boxes_xyxy, atol=0.05)
    finally:
        detector.close()
