"""The verb refit: what it refuses before any GPU is asked, and what it prints."""

from __future__ import annotations

import json
from pathlib import Path
import sys
from typing import Any

import cv2
import numpy as np
import pytest

from yolov7_trt_ros.cli.main import main
from yolov7_trt_ros.cli.verbs.refit import read_images
from yolov7_trt_ros.engine.building import refit
from yolov7_trt_ros.engine.building.build_options import BuildOptions
from yolov7_trt_ros.engine.building.builder import build_plan
from yolov7_trt_ros.engine.model_files import find_model
from yolov7_trt_ros.engine.plan.build_target import BuildTarget
from yolov7_trt_ros.engine.plan.plan_file import PlanManifest, read_manifest
from yolov7_trt_ros.engine.trt import api as trt_api
from yolov7_trt_ros.engine.trt.api import TrtApi
from yolov7_trt_ros.errors import InputError, RefitError, SettingError

sys.path.insert(0, str(Path(__file__).parents[1] / 'engine'))

from tensorrt_surfaces import surface  # noqa: E402, I100  (its folder has just been added)

ORIN = BuildTarget('TensorRT', '8.6.0', '12.2', 'Orin', '8.7')
NANO = find_model('yolov7-nano')


def build(folder: Path, *, refittable: bool) -> PlanManifest:
    """Write a plan of the embedded model as TensorRT 8.6 would."""
    return build_plan(
        NANO, folder / 'v7.plan', BuildOptions(refittable=refittable), api=TrtApi(surface('8.6')),
        machine=ORIN, report=lambda *_: None, cancelled=lambda: False,
    )


@pytest.fixture
def on_orin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Play TensorRT 8.6 on an Orin."""
    monkeypatch.setattr(TrtApi, 'load', lambda: TrtApi(surface('8.6')))
    monkeypatch.setattr('yolov7_trt_ros.engine.device.find_gpu.find_target', lambda api: ORIN)


@pytest.mark.parametrize(('words', 'status', 'told'), [
    (['v7.plan', 'v8.onnx', '-o', 'v8.onnx'], 2, '--output must end in .plan or .engine'),
    (['v7.onnx', 'v8.onnx', '-o', 'v8.plan'], 2, 'PLAN must end in .plan or .engine, got v7.onnx'),
    (['v7.plan', '-o', 'v8.plan'], 2, 'give a model'),
    (['v7.plan', 'none.onnx', '-o', 'v8.plan'], 1, 'no model'),
    (['v7.plan', 'v7.plan', '-o', 'v8.plan'], 1, 'v7.plan is a TensorRT plan, expected an ONNX'),
    (['v7.plan', 'yolov7-nano', '-o', 'v7.plan'], 2, 'is read as well'),
    (['v7.plan', 'yolov7-nano', '-o', 'v8.plan', '--images', 'none'], 1, 'none'),
    (['v7.plan', 'yolov7-nano', '-o', 'v8.plan', '--count', '0'], 2, '--count must be at least 1'),
    (['v7.plan', 'yolov7-nano', '-o', 'v8.plan'], 1, 'has no manifest'),
    (['none.plan', 'yolov7-nano', '-o', 'v8.plan'], 1, 'there is no plan none.plan'),
])
def test_what_cannot_be(
    on_orin: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], words: list[str], status: int, told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'v7.plan').write_bytes(b'ftrt' + bytes(100))
    assert main(['refit', *words]) == status
    assert told in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ['v7.plan']


def test_a_plan_that_is_not_refittable_says_how_to_make_one(
    on_orin: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build(tmp_path, refittable=False)
    plan = str(tmp_path / 'v7.plan')
    assert main(['refit', plan, 'yolov7-nano', '-o', str(tmp_path / 'v8.plan')]) == 1
    assert 'is not refittable; build it once with: yolov7_trt build' in capsys.readouterr().err


def test_without_tensorrt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trt_api, 'MODULES', ('tensorrt_missing',))
    assert main(['refit', 'v7.plan', 'yolov7-nano', '-o', str(tmp_path / 'v8.plan')]) == 1
    assert 'TensorRT cannot be imported' in capsys.readouterr().err


def test_what_is_printed(
    on_orin: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The refit itself is tested elsewhere: it needs a GPU."""
    manifest = build(tmp_path, refittable=True)
    given: dict[str, Any] = {}

    def refit_plan(plan: Path, onnx: Path, output: Path, **options: Any) -> refit.Refitted:
        given.update(options, files=(plan, onnx, output))
        return refit.Refitted(manifest, 116, 118, 0.0023, 2)

    monkeypatch.setattr(refit, 'refit_plan', refit_plan)
    for number in range(3):
        picture = np.full((30, 40, 3), 50 * number, np.uint8)
        cv2.imwrite(str(tmp_path / f'{number}.png'), picture)
    plan, output = tmp_path / 'v7.plan', tmp_path / 'v8.plan'
    assert main([
        'refit', str(plan), 'yolov7-nano', '-o', str(output), '--images', str(tmp_path),
        '--count', '2', '--json', '-',
    ]) == 0
    captured = capsys.readouterr()
    record = json.loads(captured.out)
    assert (record['changed_weights'], record['largest_error']) == (116, 0.0023)
    assert record['weights']['graph'] == read_manifest(plan).weights.graph
    assert '116 of 118 are new' in captured.err
    assert '0.0023 standard deviations off' in captured.err
    assert '2 images' in captured.err
    assert [image.size_wh for image in given['images']] == [(40, 30), (40, 30)]
    assert given['files'] == (plan, NANO, output) and given['machine'] == ORIN


def test_images_that_cannot_be_read(tmp_path: Path) -> None:
    assert read_images(None, 8) == []
    with pytest.raises(SettingError, match='--count'):
        read_images(None, 0)
    (tmp_path / 'a.png').write_bytes(b'no picture')
    with pytest.raises(InputError, match='--images .*a.png'):
        read_images(tmp_path, 8)


def test_refused_by_the_gpu_is_an_error_of_one_line(
    on_orin: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refit_plan(*_: Any, **__: Any) -> None:
        raise RefitError('its layers are others')

    monkeypatch.setattr(refit, 'refit_plan', refit_plan)
    plan = tmp_path / 'v7.plan'
    plan.write_bytes(b'ftrt')
    assert main(['refit', str(plan), 'yolov7-nano', '-o', str(tmp_path / 'v8.plan')]) == 1
    assert 'its layers are others' in capsys.readouterr().err
