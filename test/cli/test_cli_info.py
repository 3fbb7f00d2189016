from __future__ import annotations

from collections.abc import Callable
import hashlib
import json
from pathlib import Path
import subprocess

import cv2
import numpy as np
import onnx_models
import pytest

from yolov7_trt_ros.cli.main import main
from yolov7_trt_ros.core.forms.model_spec import ModelSpec, OutputLayout, TensorInfo
from yolov7_trt_ros.engine.device import find_gpu
from yolov7_trt_ros.engine.gpu import plan_facts
from yolov7_trt_ros.engine.model_files import find_model
from yolov7_trt_ros.engine.plan.build_target import BuildTarget
from yolov7_trt_ros.engine.plan.plan_file import manifest_path, PlanManifest, write_plan
from yolov7_trt_ros.engine.plan.shape_range import ShapeRange
from yolov7_trt_ros.engine.trt import api as trt_api
from yolov7_trt_ros.errors import PlanError

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


# ---- plans

ORIN = BuildTarget('TensorRT', '8.6.0', '12.2', 'Orin', '8.7')
PROFILE = ShapeRange((1, 3, 320, 320), (1, 3, 640, 640), (4, 3, 1280, 1280))
IMAGES = TensorInfo('images', (None, 3, None, None), 'float32')


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a plan of an Orin, on a machine without TensorRT."""
    monkeypatch.setattr(trt_api, 'MODULES', ('tensorrt_missing',))
    path = tmp_path / 'v7.plan'
    spec = ModelSpec(IMAGES, OutputLayout.GRID, ('output',), ('cat', 'dog'), 2, (8, 16, 32))
    write_plan(path, b'plan', PlanManifest(
        machine=ORIN, precision='fp16', profiles=(PROFILE,), onnx='v7.onnx', onnx_sha256='a' * 64,
        plan_sha256=hashlib.sha256(b'plan').hexdigest(), plan_size_bytes=4,
        options={'opt_level': 0, 'refittable': True, 'dla_core': None}, spec=spec,
        created='2026-01-02T03:04:05+00:00', build_seconds=61.5,
    ))
    return path


def test_everything_in_a_manifest_is_shown(
    plan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['info', str(plan)]) == 0
    printed = capsys.readouterr().out
    for text in (
        '2026-01-02T03:04:05+00:00, in 61.5 s', 'TensorRT 8.6.0 on Orin (compute capability 8.7)',
        'CUDA        12.2', '1x3x320x320 .. 1x3x640x640 .. 4x3x1280x1280', 'v7.onnx (sha256 aaa',
        'opt_level 0, refittable\n', 'images float32[?, 3, ?, ?]', 'grid (output)', '2: cat, dog',
        'fits here   unknown: TensorRT cannot be imported',
    ):
        assert text in printed


def test_a_plan_of_another_machine(
    plan: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = BuildTarget('TensorRT', '10.3.0', '12.6', 'Orin', '8.7')
    monkeypatch.setattr(trt_api.TrtApi, 'load', lambda: None)
    monkeypatch.setattr(find_gpu, 'find_target', lambda api: here)
    assert main(['info', str(plan)]) == 0
    printed = capsys.readouterr().out
    assert 'fits here   no: ' in printed
    assert 'built with TensorRT 8.6.0, here is 10.3.0. Build it again with: yolov7_tr' in printed
    monkeypatch.setattr(find_gpu, 'find_target', lambda api: ORIN)
    assert main(['info', str(plan), '--json', '-']) == 0
    assert json.loads(capsys.readouterr().out)['fits_here'] == 'yes'


def test_layers_where_tensorrt_loads_the_plan(
    plan: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    layers = [
        {'Name': 'conv1', 'LayerType': 'CaskConvolution',
         'Outputs': [{'Name': 'x', 'Format/Datatype': 'Channel major FP16 format'}]},
        {'Name': 'conv2'},
    ]
    facts = plan_facts.PlanFacts((IMAGES,), (), (PROFILE,), 3 << 20, layers)
    monkeypatch.setattr(plan_facts, 'load_plan_facts', lambda path: facts)
    assert main(['info', str(plan), '--layers']) == 0
    printed = capsys.readouterr().out
    assert '3.0 MiB for one context' in printed
    assert '0         conv1, CaskConvolution, Channel major FP16 format\n' in printed
    assert '1         conv2\n' in printed
    assert main(['info', str(plan), '--layers', '--json', '-']) == 0
    assert json.loads(capsys.readouterr().out)['layers'] == layers


def test_layers_where_it_does_not(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['info', str(plan), '--layers']) == 0
    assert 'layers      TensorRT cannot load it here: ' in capsys.readouterr().out


def test_a_plan_without_manifest(
    plan: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest_path(plan).unlink()

    def refuse(path: Path) -> None:
        raise PlanError('no driver')

    monkeypatch.setattr(plan_facts, 'load_plan_facts', refuse)
    assert main(['info', str(plan)]) == 0
    printed = capsys.readouterr().out
    assert 'none: not built with yolov7_trt build' in printed
    assert 'TensorRT cannot load it here: no driver' in printed


def test_damaged_plans(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan.write_bytes(b'pla')
    assert main(['info', str(plan)]) == 1
    assert 'is truncated: 3 bytes of 4' in capsys.readouterr().err
    manifest_path(plan).write_text('{}')
    assert main(['info', str(plan)]) == 1
    assert 'is not a manifest' in capsys.readouterr().err


def test_what_was_assumed_is_said_by_every_verb_that_opens_a_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx_models.conv_grid(tmp_path / 'm.onnx', num_classes=3)
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((64, 96, 3), np.uint8))
    out = str(tmp_path / 'out')
    for words in (
        ['detect', '-m', str(model), str(tmp_path / 'a.png'), '-o', out],
        ['export', str(model), '-o', str(tmp_path / 'copy.onnx')],
    ):
        assert main(words) == 0
        warning = 'warning: nothing confirms the number of classes: 8 values'
        assert capsys.readouterr().err.count(warning) == 1
    assert main(['info', str(model), '--json', '-']) == 0
    told = json.loads(capsys.readouterr().out)
    assert any('378 rows' in each for each in told['told_by'])
    assert len(told['in_doubt']) == 1
