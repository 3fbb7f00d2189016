from __future__ import annotations

from collections.abc import Callable
import json
from pathlib import Path
from subprocess import CompletedProcess

import onnx
import pytest
import torch

from yolov7_trt_ros.cli.main import main
from yolov7_trt_ros.cli.verbs import export as verb
from yolov7_trt_ros.model.network.published import published_table

Command = Callable[..., CompletedProcess[str]]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Save a plain state_dict of a small yolov7-tiny with random weights and two classes."""
    torch.manual_seed(3)
    state, outputs = {}, []
    for index, row in enumerate(published_table('yolov7-tiny').rows):
        inputs = [3 if source < 0 else outputs[source] for source in row.sources]
        channels = sum(inputs) if row.kind == 'concat' else inputs[0]
        if row.kind == 'conv':
            channels = 8
            shape = (channels, inputs[0], row.kernel, row.kernel)
            state[f'model.{index}.conv.weight'] = torch.randn(shape) / (inputs[0] * row.kernel)
            state[f'model.{index}.conv.bias'] = torch.randn(channels) / 4
        elif row.kind == 'detect':
            for level, width in enumerate(inputs):
                state[f'model.{index}.m.{level}.weight'] = torch.randn(21, width, 1, 1)
                state[f'model.{index}.m.{level}.bias'] = torch.randn(21)
        outputs.append(channels)
    torch.save(state, tmp_path / 'small.pt')
    return tmp_path / 'small.pt'


def test_a_checkpoint_becomes_onnx_and_says_how_near_it_is(
    command: Command, tmp_path: Path, checkpoint: Path
) -> None:
    done = command('export', checkpoint, '-o', 'out/small.onnx', '--json', 'out.json')
    assert done.returncode == 0, done.stderr
    assert 'worst relative error' in done.stdout and '2x3x128x224' in done.stdout
    record = json.loads((tmp_path / 'out.json').read_text())
    assert record['worst_relative_error'] < 1e-4 and len(record['comparisons']) == 3
    described = command('info', 'out/small.onnx')
    assert described.returncode == 0, described.stderr
    assert 'grid' in described.stdout


def test_what_was_told_and_what_was_assumed_is_said(
    command: Command, tmp_path: Path, checkpoint: Path
) -> None:
    done = command('export', checkpoint, '-o', 'a.onnx', '--json', '-')
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)['checkpoint']
    assert told['table'] == {
        'value': 'yolov7-tiny', 'assumed': False,
        'from': 'names and shapes of its weights; its connections are taken as published'}
    assert told['activation']['assumed'] and told['anchors']['assumed']
    assert told['strides']['value'] == '8, 16, 32'
    assert told['fused']['value'].startswith('yes')
    shown = ' '.join(done.stderr.split())
    assert 'activation leaky_relu (assumed: not stored in a state_dict' in shown
    assert 'warning: small.pt does not state everything; assumed: activation' in shown
    assert shown.index('activation') < shown.index('worst relative error')


def test_assumptions_are_overruled(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = {}
    for name, more in (
        ('plain', ()), ('table', ('--table', 'yolov7-tiny-silu')),
        ('activation', ('--activation', 'silu', '--anchors', 'yolov7')),
    ):
        path = tmp_path / f'{name}.onnx'
        assert main(['export', str(checkpoint), '-o', str(path), *more]) == 0
        model = onnx.load(path)
        kinds[name] = {node.op_type for node in model.graph.node}
    assert 'LeakyRelu' in kinds['plain'] and 'LeakyRelu' not in kinds['table']
    assert kinds['table'] == kinds['activation']
    anchors = {entry.key: entry.value for entry in model.metadata_props}['anchors']
    assert json.loads(anchors)[0][0] == [12, 16]
    assert 'those published for yolov7 (given)' in capsys.readouterr().out
    assert main(['export', str(path), '-o', str(tmp_path / 'b.onnx'), '--table', 'yolov7']) == 2
    assert 'are for checkpoints' in capsys.readouterr().err


def test_a_large_network_says_how_much_memory_it_takes(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(verb, '_LARGE_BYTES', 1e8)
    assert main(['export', str(checkpoint), '-o', str(tmp_path / 'a.onnx')]) == 0
    shown = capsys.readouterr().out
    assert shown.index('needs about 0.5 GB of memory') < shown.index('worst relative error')


def test_an_exported_model_is_taken_again_and_can_be_fixed(
    command: Command, tmp_path: Path, checkpoint: Path
) -> None:
    assert command('export', checkpoint, '-o', 'a.onnx').returncode == 0
    done = command('export', 'a.onnx', '-o', 'b.onnx', '--static', '1x3x64x96')
    assert done.returncode == 0 and '[1, 3, 64, 96]' in done.stdout, done.stderr
    done = command('export', 'b.onnx', '-o', 'c.onnx', '--dynamic', 'hw')
    assert done.returncode == 1 and 'does not run with a free hw' in done.stderr
    for size in ('1x3x96x96', '1x3x0x0', '2x3x64x96'):
        done = command('export', 'b.onnx', '-o', 'c.onnx', '--static', size)
        assert done.returncode == 1 and f'cannot become {size}' in done.stderr
    done = command('export', 'b.onnx', '-o', 'c.onnx', '--class-names', 'coco80')
    assert done.returncode == 2 and '--class-names is for checkpoints' in done.stderr
    assert not (tmp_path / 'c.onnx').exists()


def test_shapes_and_forms_from_the_command_line(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([
        'export', str(checkpoint), '-o', str(tmp_path / 'a.onnx'), '--dynamic', 'batch',
        '--static', '1x3x64x96', '--form', 'end2end', '--opset', '13', '--max-detections', '50',
    ]) == 0
    graph = onnx.load(tmp_path / 'a.onnx').graph
    dims = [dim.dim_param or dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim]
    assert dims == ['batch', 3, 64, 96]
    assert graph.node[-1].op_type == 'EfficientNMS_TRT'
    shown = ' '.join(capsys.readouterr().out.split())
    assert 'end2end (trt)' in shown and 'free batch' in shown


@pytest.mark.parametrize(('arguments', 'status', 'reason'), [
    (('--output', 'a.txt'), 2, 'must end in .onnx'),
    (('-o', 'a.onnx', '--dynamic', 'depth'), 2, 'batch, hw or batch,hw'),
    (('-o', 'a.onnx', '--static', '1x3x100x64'), 2, 'multiples of the stride 32'),
    (('-o', 'a.onnx', '--static', '1x3x64x99999968'), 2, 'more than 2147483647 values'),
    (('-o', 'a.onnx', '--nms', 'onnx'), 2, 'no effect without --form end2end'),
    (('-o', 'a.onnx', '--score-threshold', '0.3'), 2, '--score-threshold has no effect without'),
    (('-o', 'a.onnx', '--max-detections', '9', '--form', 'raw'), 2, 'no effect without --form'),
    (('-o', 'a.onnx', '--opset', '9'), 2, 'within 11..20'),
    (('-o', 'a.onnx', '--opset', '0'), 2, 'within 11..20'),
    (('-o', 'a.onnx', '--class-names', 'coco80'), 2, 'has 2 classes'),
])
def test_wrong_usage(
    tmp_path: Path, checkpoint: Path, arguments: tuple[str, ...], status: int, reason: str,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(['export', str(checkpoint), *arguments]) == status
    assert reason in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ['small.pt']


class Attack:
    """Pickles as a call of os.system."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, ('touch ran',)


def test_code_in_a_checkpoint_is_refused(command: Command, tmp_path: Path) -> None:
    torch.save({'ema': Attack()}, tmp_path / 'evil.pt')
    done = command('export', 'evil.pt', '-o', 'evil.onnx')
    assert done.returncode == 1 and 'system' in done.stderr and 'code' in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ['evil.pt']
