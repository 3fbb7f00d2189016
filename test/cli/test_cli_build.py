"""The `build` verb, with the real builder of TensorRT-RTX where it is installed."""

from __future__ import annotations

import argparse
from collections.abc import Callable
import importlib.util
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import threading
import time

import pytest

from yolov7_trt_ros.cli import build_display
from yolov7_trt_ros.cli.main import main
from yolov7_trt_ros.cli.verbs import build
from yolov7_trt_ros.engine.building.build_options import BuildOptions
from yolov7_trt_ros.engine.plan.shape_range import ShapeRange
from yolov7_trt_ros.engine.trt import api as trt_api
from yolov7_trt_ros.errors import BuildError, PlanError, SettingError

Command = Callable[..., subprocess.CompletedProcess[str]]
RTX_IS_HERE = any(map(importlib.util.find_spec, ('tensorrt_rtx', 'tensorrt_rtx_bindings')))
needs_rtx = pytest.mark.skipif(not RTX_IS_HERE, reason='TensorRT-RTX is not installed')


def parse(*words: str) -> BuildOptions:
    parser = argparse.ArgumentParser()
    build.add_arguments(parser)
    return build.build_options(parser.parse_args(['m.onnx', '-o', 'm.plan', *words]))


@pytest.fixture
def only_rtx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pass over a TensorRT that is installed too: it takes minutes."""
    monkeypatch.setattr(trt_api, 'MODULES', ('tensorrt_rtx', 'tensorrt_rtx_bindings'))


# ---- arguments


@pytest.mark.parametrize(('words', 'precision'), [
    ((), 'fp16'), (('--fp16',), 'fp16'), (('--int8',), 'int8'), (('--best',), 'mixed'),
    (('--fp16', '--int8'), 'mixed'), (('--precision', 'fp32'), 'fp32'),
    (('--best', '--fp16'), 'mixed'), (('--precision', 'mixed', '--best'), 'mixed'),
])
def test_precisions(words: tuple[str, ...], precision: str) -> None:
    assert parse(*words).precision == precision


def test_contradicting_precisions() -> None:
    with pytest.raises(SettingError, match='choose one precision, not fp32 and int8'):
        parse('--precision', 'fp32', '--int8')


@pytest.mark.parametrize('words', [
    ('--min', '1x3x320x320', '--opt', '1x3x640x640', '--max', '8x3x640x640'),
    ('--minShapes=images:1x3x320x320', '--optShapes=images:1x3x640x640',
     '--maxShapes=images:8x3x640x640'),
])
def test_shapes_in_both_spellings(words: tuple[str, ...]) -> None:
    expected = ShapeRange((1, 3, 320, 320), (1, 3, 640, 640), (8, 3, 640, 640))
    assert parse(*words).profiles == (expected,)


def test_several_profiles_and_one_shape() -> None:
    one, eight = (1, 3, 384, 640), (8, 3, 384, 640)
    assert parse('--opt', '1x3x384x640', '--opt', '8x3x384x640').profiles == (
        ShapeRange(one, one, one), ShapeRange(eight, eight, eight),
    )
    assert parse('--max', '8x3x384x640', '--min', '1x3x384x640').profiles == (
        ShapeRange(one, eight, eight),
    )
    with pytest.raises(SettingError, match='1 x --min, 2 x --opt, 2 x --max'):
        parse('--min', '1x3x384x640', '--opt', '1x3x384x640', '--opt', '8x3x384x640')


@pytest.mark.parametrize(('words', 'message'), [
    (('--opt', '640'), 'such as 1x3x640x640'),
    (('--min', '2x3x64x64', '--opt', '1x3x64x64'), 'min <= opt <= max'),
    (('--opt-level', '9'), 'opt_level'),
    (('--keep-fp32', '('), 'regular expression'),
])
def test_wrong_values(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        parse(*words)


def test_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['build', 'yolov7-nano', '-o', str(tmp_path / 'm.onnx')]) == 2
    assert '--output must end in .plan or .engine' in capsys.readouterr().err
    assert main(['build', 'missing.onnx', '-o', str(tmp_path / 'm.plan')]) == 1
    assert 'embedded: yolov7-nano' in capsys.readouterr().err


def test_without_tensorrt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trt_api, 'MODULES', ('tensorrt_missing',))
    assert main(['build', 'yolov7-nano', '-o', str(tmp_path / 'm.plan')]) == 1
    assert 'TensorRT cannot be imported' in capsys.readouterr().err


# ---- the real builder


@needs_rtx
def test_build_and_info(
    only_rtx: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = tmp_path / 'nano.plan'
    words = ['--max', '1x3x64x64', '--keep-fp32', '^model.77', '--json', '-']
    assert main(['build', 'yolov7-nano', '-o', str(plan), *words]) == 0
    captured = capsys.readouterr()
    record = json.loads(captured.out)
    assert record['file'] == str(plan)
    assert record['precision'] == 'fp16'
    assert record['options']['keep_fp32'] == '^model.77'
    assert record['machine']['flavour'] == 'TensorRT-RTX'
    assert captured.err.startswith('building, 0 s: ')
    assert '1x3x64x64 .. 1x3x64x64 .. 1x3x64x64' in captured.err
    assert main(['info', str(plan)]) == 0
    printed = capsys.readouterr().out
    for text in ('nano.plan (', 'TensorRT-RTX', 'precision   fp16', 'profile     1x3x64x64',
                 'keep_fp32 ^model.77', 'raw (model.77.m.0, model.77.m.1, model.77.m.2)',
                 '80: person, bicycle', 'fits here'):
        assert text in printed
    assert main(['info', str(plan), '--json', '-', '--layers']) == 0
    told = json.loads(capsys.readouterr().out)
    assert told['manifest'] == {key: value for key, value in record.items() if key != 'file'}
    assert (told['layers'] is None) == ('layers_missing' in told)


@needs_rtx
def test_ctrl_c_stops_a_build(tmp_path: Path) -> None:
    code = (
        'import sys\nfrom yolov7_trt_ros.engine.trt import api\n'
        'from yolov7_trt_ros.engine.trt.build_progress import BuildProgress\n'
        'api.MODULES = api.MODULES[1:]\n'
        'step_complete = BuildProgress.step_complete\n'
        'def slowly(self, name):\n    import time\n    time.sleep(0.05)\n'
        '    return step_complete(self, name)\n'
        'BuildProgress.step_complete = slowly\n'
        'from yolov7_trt_ros.cli.main import main\nsys.exit(main(sys.argv[1:]))\n'
    )
    with subprocess.Popen(
        [sys.executable, '-c', code, 'build', 'yolov7-nano', '-o', 'n.plan'], cwd=tmp_path,
        env=os.environ | {'PYTHONPATH': str(Path(__file__).parents[2])},
        stderr=subprocess.PIPE, text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if '%' in line:
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
        assert process.wait(600) == 130
    assert 'stopping the build' in rest
    assert 'Traceback' not in rest
    assert not list(tmp_path.iterdir())


# ---- what is shown


def test_lines_are_never_more_than_5_s_apart(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr(build_display.time, 'monotonic', lambda: now[0])
    with build_display.BuildDisplay() as display:
        for _ in range(10):
            display.report('tactics: head.0', 0.25)
            now[0] += 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ['building, 0 s: tactics: head.0 (25%)',
                         'building, 4 s: tactics: head.0 (25%)']
    assert len(lines) == 5


def test_a_bar_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv('FORCE_COLOR', '1')
    with build_display.BuildDisplay() as display:
        display.report('tactics: [head]', None)
        display.report('tactics: [head]', 0.5)
        time.sleep(0.2)
    printed = capsys.readouterr().err
    assert 'building' in printed
    assert '[head]' in printed
    assert '50%' in printed


def test_ctrl_c_before_a_build_is_as_always() -> None:
    with pytest.raises(KeyboardInterrupt), build_display.BuildDisplay():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)


def test_ctrl_c_during_a_build_cancels_it(capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), build_display.BuildDisplay() as display:
        display.report('build', None)
        assert not display.cancelled()
        os.kill(os.getpid(), signal.SIGINT)
        assert display.cancelled()
        raise BuildError('the build was cancelled')
    assert signal.getsignal(signal.SIGINT) is before
    assert 'stopping the build' in capfd.readouterr().err


def test_a_build_that_cannot_be_stopped_ends_by_sigterm_all_the_same(tmp_path: Path) -> None:
    code = (
        'import threading\nfrom yolov7_trt_ros.cli import interruption\n'
        'from yolov7_trt_ros.cli.build_display import BuildDisplay\n'
        'with interruption.by_other_signals(), BuildDisplay() as display:\n'
        '    display.report("build", None)\n'
        '    threading.Event().wait()\n'  # as TensorRT 8 does: nothing is asked meanwhile
    )
    with subprocess.Popen(
        [sys.executable, '-c', code], stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        env=os.environ | {'PYTHONPATH': str(Path(__file__).parents[2])},
    ) as process:
        assert process.stderr is not None and 'build' in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(600) == 143


def test_other_errors_pass(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(PlanError, match='odd'), build_display.BuildDisplay():
        raise PlanError('odd')


def test_threads_have_no_ctrl_c() -> None:
    done = []

    def work() -> None:
        with build_display.BuildDisplay():
            done.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [before]


@needs_rtx
def test_a_dla_report_builds_nothing(
    only_rtx: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ['build', 'yolov7-nano', '--dla-core', '0', '--opt', '1x3x64x64', '--report']
    assert main([*words, '--json', str(tmp_path / 'dla.json')]) == 0
    record = json.loads((tmp_path / 'dla.json').read_text())
    assert not record['asked'] and record['transitions'] > 50
    assert main([*words, '--max-transitions', '4']) == 1
    told = capsys.readouterr()
    assert 'ESTIMATE by documented rules of NVIDIA' in told.out
    assert 'exceed --max-transitions 4. On the GPU: LeakyReLU' in told.err


@pytest.mark.parametrize(('words', 'message'), [
    (['--report'], '--report is for a DLA: give --dla-core too'),
    (['--max-transitions', '3', '-o', 'x.plan'], '--max-transitions is for a DLA'),
    (['--dla-core', '0', '--report', '-o', 'x.plan'], '--report builds nothing: leave out'),
    (['--dla-core', '0', '--report', '--max-transitions', '-1'], 'must be at least 0, got -1'),
    (['--dla-core', '0'], 'give the file to write: -o PLAN'),
])
def test_wrong_words_about_a_dla(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['build', 'yolov7-nano', *words]) != 0
    assert message in capsys.readouterr().err
