"""Refits on a GPU: the outputs are those of the new model, and what does not fit is refused."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

from yolov7_trt_ros.cli.main import main
from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.engine.building import refit
from yolov7_trt_ros.engine.building.build_options import BuildOptions
from yolov7_trt_ros.engine.building.prepared_model import prepare_model
from yolov7_trt_ros.engine.building.refit import LARGEST_ERROR, refit_plan, Refitted
from yolov7_trt_ros.engine.device.cuda_device import find_target
from yolov7_trt_ros.engine.onnx_detector import OnnxDetector
from yolov7_trt_ros.engine.open import build_needed_plan, open_detector
from yolov7_trt_ros.engine.options import DetectorOptions
from yolov7_trt_ros.engine.plan.plan_file import manifest_path, read_manifest
from yolov7_trt_ros.engine.trt.api import TrtApi
from yolov7_trt_ros.engine.trt.build_progress import BuildProgress
from yolov7_trt_ros.errors import PlanError, PlanMismatchError, RefitError

NANO = Path(__file__).parents[2] / 'yolov7_trt_ros' / 'models' / 'yolov7-nano_fp16w.onnx'
SETTINGS = DetectSettings(score_threshold=0.01)
PlanMaker = Callable[..., Path]


def written(
    source: Path, path: Path, change: Callable[[Any, np.ndarray], np.ndarray]
) -> Path:
    """Write a model with other weights; the scales of int8 stay."""
    model = onnx.load(str(source))
    for each in model.graph.initializer:
        values = onnx.numpy_helper.to_array(each)
        if each.name.removesuffix('.half').endswith(('.weight', '.bias')):
            new = change(each.name, values).astype(values.dtype)
            each.CopyFrom(onnx.numpy_helper.from_array(new, each.name))
    path.write_bytes(model.SerializeToString())
    return path


def finetuned(source: Path, path: Path, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    return written(source, path, lambda _, values: values * rng.uniform(0.9, 1, values.shape))


def refitted(api: TrtApi, plan: Path, new: Path, output: Path, **changes: Any) -> Refitted:
    machine = changes.pop('machine', find_target(api))
    return refit_plan(
        plan, new, output, api=api, machine=machine, report=lambda *_: None,
        cancelled=lambda: False, **changes,
    )


def picture(seed: int) -> ImageView:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 80, (480, 640, 3), np.uint8)
    for _ in range(12):
        x, y = rng.integers(0, 560), rng.integers(0, 380)
        pixels[y:y + rng.integers(40, 200), x:x + rng.integers(30, 160)] = rng.integers(0, 256, 3)
    return ImageView.from_array(pixels)


def quantised(folder: Path) -> Path:
    """Write the embedded model with Q/DQ nodes."""
    pictures, path = folder / 'pictures', folder / 'nano.int8.onnx'
    pictures.mkdir()
    for seed in range(8):
        assert cv2.imwrite(str(pictures / f'{seed}.png'), picture(seed).pixels)
    assert main(['quantize', str(NANO), '--images', str(pictures), '-o', str(path),
                 '--method', 'minmax', '--score-count', '0']) == 0
    return path


class Base:
    """A refittable plan, and the model that it was built from."""

    def __init__(self, precision: str, plan: PlanMaker, folder: Path) -> None:
        self.onnx = quantised(folder) if precision == 'int8' else NANO
        self.plan = plan(self.onnx, 'nano_refittable', precision=precision, refittable=True)
        self.precision = precision

    def is_fixed(self, api: TrtApi) -> bool:
        """Whether TensorRT refits no such plan: 8.6 builds the biases of Q/DQ layers into it."""
        return self.precision == 'int8' and api.version.startswith('8.')


@pytest.fixture(scope='module', params=['fp32', 'fp16', 'int8'])
def base(
    request: pytest.FixtureRequest, plan: PlanMaker, tmp_path_factory: pytest.TempPathFactory
) -> Base:
    return Base(request.param, plan, tmp_path_factory.mktemp('base'))


def test_a_refitted_plan_finds_what_the_new_model_finds(
    api: TrtApi, base: Base, tmp_path: Path
) -> None:
    former, images = base.plan.read_bytes(), [picture(0), picture(1)]
    new, output = finetuned(base.onnx, tmp_path / 'v8.onnx'), tmp_path / 'v8.plan'
    if base.is_fixed(api):
        with pytest.raises(RefitError, match=r'has built model\.0\.conv\.bias, .* into the'):
            refitted(api, base.plan, new, output, images=images)
        assert not output.exists() and base.plan.read_bytes() == former
        return
    done = refitted(api, base.plan, new, output, images=images)
    precision = done.manifest.precision
    print(f'{precision}: error {done.error}')
    assert done.error <= LARGEST_ERROR[precision] < error_of(former, new, done, api, images)
    assert done.changed > 100 and base.plan.read_bytes() == former != output.read_bytes()
    assert read_manifest(output) == done.manifest
    detector, wanted = open_detector(DetectorOptions(str(output))), OnnxDetector(new)
    most_px, most_score = {'fp32': (0.5, 0.005), 'fp16': (4.0, 0.05)}.get(precision, (0, 0))
    for seed in range(4):
        ours, _ = detector.detect(picture(seed), SETTINGS)
        theirs, _ = wanted.detect(picture(seed), SETTINGS)
        for index in range(min(5, len(theirs)) if most_px else 0):  # int8 rounds otherwise there
            gap = np.abs(ours.boxes_xyxy - theirs.boxes_xyxy[index]).max(axis=1)
            gap += np.where(ours.class_ids == theirs.class_ids[index], 0, 1e6)
            best = int(gap.argmin())
            assert gap[best] < most_px
            assert abs(ours.scores[best] - theirs.scores[index]) < most_score
    detector.close()
    # and once more, back to where it began
    again = refitted(api, output, base.onnx, tmp_path / 'back.plan')
    assert again.changed == done.changed and again.error <= LARGEST_ERROR[again.manifest.precision]


def error_of(
    plan: bytes, onnx_path: Path, done: Refitted, api: TrtApi, images: list[ImageView]
) -> float:
    """Return what refit judges by, of a plan and a model."""
    options = BuildOptions.from_manifest(done.manifest)
    progress = BuildProgress(lambda *_: None, lambda: False)
    model = prepare_model(onnx_path, options, api, progress, with_session=True)
    blobs = refit._blobs(done.manifest.profiles[0], model.spec, images)
    wanted = refit._run_on_cpu(model, model.spec, blobs)
    return refit._largest_error(
        model.spec.outputs, wanted, refit._run_on_gpu(plan, blobs, api)
    )


def test_what_does_not_fit_is_refused_and_nothing_written(
    api: TrtApi, base: Base, plan: PlanMaker, tmp_path: Path
) -> None:
    output = tmp_path / 'none.plan'

    def refuse(error: type[Exception], told: str, from_plan: Path, new: Path, **more: Any) -> None:
        with pytest.raises(error, match=told):
            refitted(api, from_plan, new, output, **more)
        assert not output.exists() and not manifest_path(output).exists()

    new = finetuned(base.onnx, tmp_path / 'v8.onnx')
    other = tmp_path / 'other.onnx'
    model = onnx.load(str(base.onnx))
    next(each for each in model.graph.node if each.op_type == 'LeakyRelu').attribute[0].f += 0.1
    other.write_bytes(model.SerializeToString())
    refuse(RefitError, 'its layers, or their attributes', base.plan, other)
    refuse(RefitError, 'is not refittable; build it once with', plan(), new)
    cut = tmp_path / 'cut.plan'
    cut.write_bytes(base.plan.read_bytes()[:-1000])
    manifest_path(cut).write_bytes(manifest_path(base.plan).read_bytes())
    refuse(PlanError, 'truncated', cut, new)
    foreign = dataclasses.replace(find_target(api), tensorrt_version='7.1.3')
    refuse(PlanMismatchError, 'here is 7.1.3', base.plan, new, machine=foreign)


def test_a_plan_that_serves_is_refitted_in_place_of_a_build(
    api: TrtApi, base: Base, tmp_path: Path
) -> None:
    former = read_manifest(base.plan)
    assert former is not None
    options = DetectorOptions(
        str(finetuned(base.onnx, tmp_path / 'v8.onnx', 1)), precision=former.precision,
        plan_cache=str(tmp_path / 'cache'), refit_from=str(base.plan), network_size=320,
    )
    plan = build_needed_plan(options, lambda *_: None, lambda: False)
    found = read_manifest(plan)
    assert found is not None
    assert found.onnx == options.model
    if base.is_fixed(api):
        assert found.options['refittable'] is False  # built
    else:
        assert found.options['refittable'] is True  # which no build of the cache is
        assert found.profiles == former.profiles
    detector = open_detector(options)
    detector.detect(picture(0), SETTINGS)
    detector.close()
