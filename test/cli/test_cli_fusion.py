"""The `fusion` verb, on kept layers and with the real builder of TensorRT-RTX."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
import xml.etree.ElementTree as ElementTree

import pytest

from yolov7_trt_ros.cli.main import main
from yolov7_trt_ros.engine.model_files import find_model
from yolov7_trt_ros.engine.trt import api as trt_api

ENGINES = Path(__file__).resolve().parents[1] / 'data' / 'engines'
NANO = ENGINES / 'yolov7-nano_fp16_rtx_1.7.json'
OLD = ENGINES / 'handwritten_trt_8.6_fp16.json'
RTX_IS_HERE = any(map(importlib.util.find_spec, ('tensorrt_rtx', 'tensorrt_rtx_bindings')))
needs_rtx = pytest.mark.skipif(not RTX_IS_HERE, reason='TensorRT-RTX is not installed')

Capture = pytest.CaptureFixture[str]


def without_chains(path: Path, layers: Path = NANO) -> Path:
    """Write layers as trtexec does: without the chains."""
    record = json.loads(layers.read_text(encoding='utf-8'))
    path.write_text(
        json.dumps({'Layers': record['Layers'], 'Bindings': []}), encoding='utf-8'
    )
    return path


def test_kept_layers(capsys: Capture) -> None:
    assert main(['fusion', str(NANO)]) == 0
    captured = capsys.readouterr()
    for text in (
        'engine              TensorRT-RTX 1.7.1.116, built without a GPU, fp16, layers '
        "reported by the builder's log", 'fused               37 of 55 chains (0.673)',
        '  feeding a Concat  25 of 41', '  others            12 of 14',
        '16: its LeakyRelu runs apart and feeds a Concat: model.4.conv, model.5.conv, '
        'model.11.conv, model.12.conv, ... (16)', '111: 58 convolution', '86 Half, 1 Float',
        '4 x copy',
    ):
        assert text in captured.out
    assert captured.err == ''


@pytest.mark.parametrize(('least', 'status'), [
    ('0', 0), ('0.67', 0), ('0.68', 1), ('0.95', 1), ('1', 1),
])
def test_the_least_share(least: str, status: int, capsys: Capture) -> None:
    assert main(['fusion', str(NANO), '--min-fused', least]) == status
    demanded = 'warning: 0.673 of the chains are fused, ' in capsys.readouterr().err
    assert demanded is (status == 1)


@pytest.mark.parametrize('least', ['-0.1', '95'])
def test_no_such_share(least: str, capsys: Capture) -> None:
    assert main(['fusion', str(NANO), f'--min-fused={least}']) == 2
    assert '--min-fused must be within 0..1' in capsys.readouterr().err


def test_pictures_and_json(tmp_path: Path, capsys: Capture) -> None:
    words = ['--svg', str(tmp_path / 'new' / 'x.svg'), '--html', str(tmp_path / 'x.html'),
             '--json', '-', '--min-fused', '0.95']
    assert main(['fusion', str(OLD), *words]) == 1
    captured = capsys.readouterr()
    record = json.loads(captured.out)
    assert (record['fused'], record['chains'], record['min_fused']) == (3, 8, 0.95)
    assert record['fates'][4] == {
        'name': 'row4.conv', 'kind': 'Conv + LeakyRelu', 'state': 'apart', 'layers': [6, 7],
        'precision': 'Half', 'feeds': ['Conv row5.conv', 'Concat row6'],
        'reason': 'its LeakyRelu runs apart and feeds a Concat',
        'detail': 'layer 6 row4.conv (CaskConvolution); layer 7 PWN(row4) (PointWiseV2)',
        'merged_with': [],
    }
    assert record['reformats'][0]['change'] == 'Float to Half'
    assert 'fused               3 of 8 chains' in captured.err
    assert ElementTree.parse(tmp_path / 'new' / 'x.svg').getroot().tag.endswith('svg')
    assert 'row4.conv' in (tmp_path / 'x.html').read_text(encoding='utf-8')
    assert {path.name for path in tmp_path.iterdir()} == {'new', 'x.html'}


def test_layers_of_trtexec_with_the_model(tmp_path: Path, capsys: Capture) -> None:
    layers = without_chains(tmp_path / 'layers.json')
    kept = tmp_path / 'kept.json'
    words = ['--onnx', str(find_model('yolov7-nano')), '--save-layers', str(kept)]
    assert main(['fusion', str(layers), *words]) == 0
    assert '37 of 55 chains' in capsys.readouterr().out
    assert main(['fusion', str(kept), '--min-fused', '0.67']) == 0  # the chains are in there now
    assert '37 of 55 chains' in capsys.readouterr().out


def test_layers_of_trtexec_alone(tmp_path: Path, capsys: Capture) -> None:
    layers = without_chains(tmp_path / 'layers.json')
    assert main(['fusion', str(layers)]) == 0
    captured = capsys.readouterr()
    assert 'chains      none known; give the ONNX model with --onnx' in captured.out
    assert '86 Half, 1 Float' in captured.out
    assert main(['fusion', str(layers), '--min-fused', '0.5']) == 2
    assert '--min-fused needs the chains of the model' in capsys.readouterr().err


def test_names_only_are_warned_of(capsys: Capture) -> None:
    assert main(['fusion', str(ENGINES / 'handwritten_trt_8.6_names_only.json')]) == 0
    captured = capsys.readouterr()
    assert 'names only' in captured.err and '--profilingVerbosity=detailed' in captured.err
    assert '3 of 8 chains' in captured.out


def test_another_model(shared_data: Path, capsys: Capture) -> None:
    onnx = shared_data / 'vision' / 'models' / 'yolov5n_640_grid.onnx'
    assert main(['fusion', str(NANO), '--onnx', str(onnx)]) == 1
    assert 'name none of the 57 convolutions' in capsys.readouterr().err


@pytest.mark.parametrize('text', ['', '{}', '{"Layers": 3}', '{"Layers": [], "Chains": 3}',
                                  '{"Layers": ["a"], "Chains": [{"kind": "x"}]}'])
def test_files_that_are_something_else(tmp_path: Path, text: str, capsys: Capture) -> None:
    path = tmp_path / 'layers.json'
    path.write_text(text, encoding='utf-8')
    assert main(['fusion', str(path)]) == 1
    assert 'yolov7_trt: error: ' in capsys.readouterr().err


def test_files_that_are_not_there(tmp_path: Path, capsys: Capture) -> None:
    for name in ('layers.json', 'm.onnx', 'm.plan'):
        assert main(['fusion', str(tmp_path / name)]) == 1
        assert name in capsys.readouterr().err
    assert main(['fusion', str(NANO), '--onnx', str(tmp_path / 'gone.onnx')]) == 1
    assert 'gone.onnx' in capsys.readouterr().err


def test_a_folder_that_cannot_be_written(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / 'file').write_text('')
    assert main(['fusion', str(NANO), '--svg', str(tmp_path / 'file' / 'x.svg')]) == 1
    assert 'yolov7_trt: error: ' in capsys.readouterr().err


def test_no_shape(capsys: Capture) -> None:
    assert main(['fusion', 'yolov7-nano', '--shape', '640']) == 2


# ---- the real builder


@needs_rtx
def test_an_onnx_model_is_built(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture
) -> None:
    """Pass over a TensorRT that is installed too: it takes minutes."""
    monkeypatch.setattr(trt_api, 'MODULES', ('tensorrt_rtx', 'tensorrt_rtx_bindings'))
    kept = tmp_path / 'kept.json'
    words = ['--shape', '1x3x64x64', '--save-layers', str(kept), '--json', '-']
    assert main(['fusion', 'yolov7-nano', *words]) == 0
    built = json.loads(capsys.readouterr().out)
    assert built['chains'] == 55
    # this builder takes most activations along, and leaves some apart before a Concat
    assert 0.5 < built['fused_share'] < 1
    assert built['by_reader']['others'][0] >= 12
    assert built['source']['precision'] == 'fp16' and set(built['precisions']) >= {'Half'}
    assert main(['fusion', str(kept), '--json', '-']) == 0  # no model is needed any more
    assert json.loads(capsys.readouterr().out) == built


@needs_rtx
def test_a_plan_where_there_is_no_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture
) -> None:
    if importlib.util.find_spec('pycuda') is not None:
        pytest.skip('there may be a GPU here')
    monkeypatch.setattr(trt_api, 'MODULES', ('tensorrt_rtx', 'tensorrt_rtx_bindings'))
    plan = tmp_path / 'nano.plan'
    assert main(['build', 'yolov7-nano', '-o', str(plan), '--max', '1x3x64x64']) == 0
    assert main(['fusion', str(plan)]) == 1
    assert 'a plan can only be loaded with PyCUDA' in capsys.readouterr().err


# ---- times


def profile_of(layers: Path, path: Path) -> Path:
    """Write what trtexec --exportProfile would: layer n takes n microseconds."""
    told = json.loads(layers.read_text(encoding='utf-8'))['Layers']
    entries = [{'name': layer['Name'], 'averageMs': 1.0, 'medianMs': number / 1000}
               for number, layer in enumerate(told)]
    path.write_text(json.dumps([{'count': 7}, *entries]), encoding='utf-8')
    return path


def test_where_the_time_goes(tmp_path: Path, capsys: Capture) -> None:
    profile = profile_of(OLD, tmp_path / 'profile.json')
    kept, page = tmp_path / 'kept.json', tmp_path / 'x.html'
    words = ['--profile', str(profile), '--save-layers', str(kept), '--html', str(page)]
    assert main(['fusion', str(OLD), *words]) == 0
    shown = capsys.readouterr().out
    layers = len(json.loads(profile.read_text(encoding='utf-8'))) - 1
    assert f'{sum(range(layers)) / 1000:.3f} ms in {layers} layers, 7 runs' in shown
    assert 'convolution Half' in shown and 'slowest' in shown
    assert 'Where the time goes' in page.read_text(encoding='utf-8')
    assert main(['fusion', str(kept), '--json', '-']) == 0  # kept with the layers
    record = json.loads(capsys.readouterr().out)
    assert record['times']['total_ms'] == pytest.approx(sum(range(layers)) / 1000)
    assert [layer['ms'] for layer in record['layers']] == [n / 1000 for n in range(layers)]


def test_only_plans_run(capsys: Capture) -> None:
    for model in (str(NANO), 'yolov7-nano'):
        assert main(['fusion', model, '--time', '1x3x640x640']) == 2
        assert '--time needs a plan to run' in capsys.readouterr().err
    assert main(['fusion', str(NANO), '--time', '1x3x640x640', '--profile', 'x.json']) == 2
    assert 'give only one of --time and --profile' in capsys.readouterr().err


def test_no_profile_no_times(capsys: Capture) -> None:
    assert main(['fusion', str(OLD), '--json', '-']) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)['times'] is None
    assert 'slowest' not in captured.err
    assert main(['fusion', str(OLD), '--profile', str(OLD)]) == 1
    assert 'expected what trtexec --exportProfile writes' in capsys.readouterr().err
