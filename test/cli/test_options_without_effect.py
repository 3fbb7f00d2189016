"""Options that a model, an engine or an input cannot follow are told of, not ignored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx_models import brightness_grid, ends_in_plugin, fixed_rows
import pytest

from yolov7_trt_ros.cli.effects.given_options import given
from yolov7_trt_ros.cli.main import build_parser, main

NEEDED = {
    'eval': ['--images', 'none', '--annotations', 'none.json'], 'bench': ['-o', 'out'],
    'detect': ['a.jpg', '-o', 'out'], 'replay': ['a.mcap', '-o', 'b.mcap'], 'info': [],
    'label': ['a.jpg', '-o', 'out', '--format', 'coco'], 'quantize': ['-o', 'q.onnx'],
    'prune': ['-o', 'p.pt', '--flops', '0.5', '--images', 'none'], 'demo': [],
}


@pytest.fixture
def fixed(tmp_path: Path) -> Path:
    return brightness_grid(tmp_path / 'fixed.onnx', shape=(1, 3, 64, 64))


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    return brightness_grid(tmp_path / 'wide.onnx', shape=(1, 3, 64, 96))


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Run a command that is to be refused; return its last line, behind warnings of the model."""
    assert main([str(word) for word in words]) == 2
    printed = capsys.readouterr()
    assert printed.out == ''
    return printed.err.splitlines()[-1]


@pytest.mark.parametrize('verb', NEEDED)
@pytest.mark.parametrize('size', ['-3', '0', '31', '4097', '64.0', 'big'])
def test_a_size_that_no_model_has_is_refused_at_once(
    verb: str, size: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args([verb, *NEEDED[verb], '--size', size])
    assert ended.value.code == 2
    assert f"must be within 32..4096 pixels, got '{size}'" in capsys.readouterr().err


@pytest.mark.parametrize('size', ['320', '641', '640'])
def test_a_fixed_size_is_not_replaced_in_silence(
    fixed: Path, photographs: Path, tmp_path: Path, size: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'out'
    for words in (
        ['detect', photographs, '-o', out, '-m', fixed],
        ['detect', photographs, '-o', out, '-m', fixed, '--tiles', '2x2'],
        ['label', photographs, '-o', out, '--format', 'coco', '-m', fixed],
        ['info', fixed],
        ['demo', '-m', fixed, '-o', out],
    ):
        assert refused(capsys, *words, '--size', size) == (
            f'yolov7_trt: error: --size is {size}, but the input of {fixed} is fixed at 64x64 '
            'pixels: leave --size out, or export the model with a free size'
        )


def test_a_size_that_the_model_has_or_nobody_asked_for_is_none_of_these(
    fixed: Path, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['info', str(fixed), '--size', '64']) == 0
    assert main(['info', str(fixed)]) == 0
    assert main(['detect', str(photographs), '-o', str(tmp_path / 'out'), '-m', str(fixed)]) == 0
    assert 'fixed at' not in capsys.readouterr().err


def test_the_rows_of_a_benchmark_are_of_the_size_asked_for(
    fixed: Path, photographs: Path, tmp_path: Path
) -> None:
    words = ['bench', '-m', str(fixed), '--images', str(photographs), '-o', str(tmp_path / 'out'),
             '--seconds', '0.1', '--power', 'none', '--batch', '1']
    assert main([*words, '--size', '320']) == 1
    assert 'is fixed at 64x64 pixels' in (tmp_path / 'out' / 'bench.md').read_text()
    assert main(words) == 0


def test_the_sizes_of_a_second_look(
    fixed: Path, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ['detect', photographs, '-o', tmp_path / 'out', '-m', fixed, '--second-look', 'on']
    assert '--look first_size is 320, but the input' in refused(
        capsys, *words, '--look', 'first_size=320')
    assert '--look crop_size is 320, but the input' in refused(
        capsys, *words, '--look', 'crop_size=320')
    assert '--size has no effect with --second-look on: --look first_size=PX' in refused(
        capsys, *words, '--size', '64')


def test_engines_of_other_sizes(
    fixed: Path, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tmp_path / 'names.txt'
    names.write_text('thing\n')
    free = brightness_grid(tmp_path / 'free.onnx')
    words = ['detect', str(photographs), '-o', str(tmp_path / 'out'), '-m', str(free),
             '--class-names', str(names), '--engines']
    assert main([*words, str(fixed), '--size', '96']) == 0
    warned = capsys.readouterr().err
    assert f'the input of {fixed} is fixed at 64x64 pixels: --size 96 has no effect' in warned
    listed = tmp_path / 'engines.yaml'
    listed.write_text(f'engines: [{{model: {fixed}, network_size: 128, class_names: {names}}}]')
    assert 'network_size is 128, but the input' in refused(capsys, *words, listed)


def test_options_of_the_other_engine(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ['detect', photographs, '-o', tmp_path / 'out', '--size', '64']
    assert '--precision, --no-cuda-graph have no effect with ONNX Runtime' in refused(
        capsys, *words, '--backend', 'onnx', '--precision', 'fp16', '--no-cuda-graph')
    assert '--threads has no effect with TensorRT' in refused(
        capsys, *words, '--backend', 'tensorrt', '--threads', '2')
    plan = tmp_path / 'model.plan'
    plan.write_bytes(b'plan')
    assert 'a plan has the precision that it was built with; leave it out' in refused(
        capsys, *words, '-m', plan, '--precision', 'fp16')
    for flag in ('--size', '--anchors'):
        assert f'{flag} has no effect for a plan' in refused(capsys, 'info', plan, flag, '64')
    assert '--layers has no effect for an ONNX file' in refused(capsys, 'info', '--layers')


def test_what_auto_did_not_use_is_a_warning(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same command may run on machines with and without a GPU."""
    words = ['detect', str(photographs), '-o', str(tmp_path / 'out'), '--size', '64']
    assert main([*words, '--backend', 'onnx']) == 0
    assert 'no effect' not in capsys.readouterr().err
    assert main([*words, '--precision', 'fp32']) == 0
    warned = capsys.readouterr().err
    assert warned.count('warning: --precision has no effect: the model runs in ONNX Runtime') == 1


def test_square_and_iou_of_models_that_have_their_own(
    wide: Path, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ['detect', photographs, '-o', tmp_path / 'out', '-m']
    assert 'whose input is fixed at 96x64 pixels' in refused(capsys, *words, wide, '--square')
    rows = np.zeros((1, 7), np.float32)
    rows[0] = 0, 10, 10, 30, 30, 0, 0.9
    nms = fixed_rows(tmp_path / 'nms.onnx', rows)
    given_words = [str(word) for word in (*words, nms, '--iou-threshold', '0.3')]
    assert main(given_words) == 0
    assert '--iou-threshold has no effect: the model has NMS inside' in capsys.readouterr().err
    cut = ends_in_plugin(tmp_path / 'cut.onnx')  # its NMS is ours here
    assert main([str(word) for word in (*words, cut, '--iou-threshold', '0.3')]) == 0
    assert 'no effect' not in capsys.readouterr().err


@pytest.mark.parametrize(('flags', 'reason'), [
    (['--topics', '/a'], 'no input is a bag'), (['-r'], 'no input is a folder of pictures'),
    (['--every', '2'], 'no input is a video or a bag'),
])
def test_options_of_other_kinds_of_inputs(
    photographs: Path, tmp_path: Path, flags: list[str], reason: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    picture = photographs / 'coffee.jpg'
    told = refused(capsys, 'detect', picture, '-o', tmp_path / 'out', *flags)
    assert f'has no effect here: {reason}' in told
    if flags[0] != '--every':
        assert refused(
            capsys, 'label', picture, '-o', tmp_path / 'out', '--format', 'coco', *flags) == told


def test_a_stream_is_no_recording_and_what_is_unknown_may_be_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ['detect', '-o', tmp_path / 'out', '-m', 'none.onnx', '--every', '2']
    address = 'rtsp://127.0.0.1:1/stream'
    assert 'no input is a video or a bag' in refused(capsys, *words, address)
    assert main([str(word) for word in (*words, address, tmp_path / 'none.mp4')]) == 1
    assert "no model 'none.onnx'" in capsys.readouterr().err


@pytest.mark.parametrize(('words', 'told'), [
    (['quantize', 'm.onnx', '-o', 'q.onnx', '--mixed', '--size', '320', '--weights', 'mse'],
     '--size, --weights have no effect with --mixed'),
    (['quantize', 'm.onnx', '-o', 'q.onnx', '--images', 'i', '--method', 'kl', '--score-count',
      '0', '--annotations', 'a.json'], '--annotations has no effect with --score-count 0'),
    (['bench', '-m', 'm.onnx', '--images', 'i', '-o', 'out', '--limit', '4', '--allow-missing'],
     '--limit, --allow-missing have no effect without --annotations'),
    (['bench', '-m', 'm.onnx', '--images', 'i', '-o', 'out', '--table', 'yolov7'],
     '--table has no effect without a row of a PyTorch checkpoint'),
    (['fusion', 'layers.json', '--shape', '1x3x640x640'],
     '--shape has no effect where no ONNX model is built'),
    (['refit', 'm.plan', 'yolov7-nano', '-o', 'n.plan', '--count', '3'],
     '--count has no effect without --images'),
    (['replay', 'a.mcap', 'b.mcap', '-o', 'out', '--force'],
     '--force has no effect with many bags'),
    (['bench', '--merge', 'a.json', '-o', 'out', '--size', '320'],
     '--size has no effect with --merge'),
])
def test_options_that_need_another_one(
    words: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert told in refused(capsys, *words)


def test_what_was_given_is_known_also_with_its_default() -> None:
    args = build_parser().parse_args(['detect', 'a.jpg', '-s', '0.25', '--square', '--siz', '640'])
    flags = ['--score-threshold', '--square', '--size', '--threads', '--iou-threshold']
    assert given(args, flags) == flags[:3]
