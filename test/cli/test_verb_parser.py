"""Options of other tools: each is told which of ours does the same."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from yolov7_trt_ros.cli.main import build_parser, main
from yolov7_trt_ros.cli.verb_parser import OURS, WITHOUT_FLAG


def verbs() -> dict[str, argparse.ArgumentParser]:
    actions = build_parser()._actions
    (found,) = [each for each in actions if isinstance(each, argparse._SubParsersAction)]
    return dict(found.choices)


@pytest.mark.parametrize(('line', 'advice'), [
    ('detect a.jpg -o out --conf 0.3', ['for --conf give --score-threshold']),
    ('detect a.jpg -o out --conf=0.3', ['for --conf give --score-threshold']),
    ('detect a.jpg -o out --conf_thres 0.3', ['for --conf_thres give --score-threshold']),
    ('detect a.jpg -o out --imgsz 640', ['for --imgsz give --size']),
    ('detect --source a.jpg --weights yolov7.pt --conf-thres 0.25 --img-size 640 --device 0', [
        'give the value of --source without a flag, as PATH', 'for --weights give --model',
        'for --conf-thres give --score-threshold', 'for --img-size give --size',
        'for --device give --backend',
    ]),
    ('replay drive.mcap -o x.mcap --iou_thres 0.5', ['for --iou_thres give --iou-threshold']),
    ('eval --images . --annotations a.json --weights v7.onnx', ['for --weights give --model']),
    ('eval --images . --data coco.json', ['for --data give --annotations']),
    ('export --weights v7.pt -o v7.onnx --grid --img-size 640 640', [
        'for --weights give --model', 'for --grid give --form',
        'for --img-size give --static']),
    ('build --onnx=v7.onnx --saveEngine=v7.engine', ['for --onnx give --model']),
    ('build v7.onnx -o v7.plan --useDLACore=0', ['for --useDLACore give --dla-core']),
    ('quantize v7.onnx -o q.onnx --calib imgs', ['for --calib give --images']),
    ('prune --weights v7.pt -o p.pt --flops 1', ['for --weights give --model']),
    ('fusion --engine v7.plan', ['for --engine give --model']),
    ('demo --weights v7.onnx', ['for --weights give --model']),
    ('demo --conf 0.3 --video a.mp4', ['give --score-threshold', 'for --video give --source']),
    ('bench --weights a.onnx -o out', ['for --weights give --model']),
    ('detect a.jpg -o out --scor-threshold 1', ['did you mean --score-threshold']),
    ('detect a.jpg -o out --clases person', ['did you mean --classes']),
    ('detect a.jpg -o out --workers 2', [
        'label, replay, eval and compare take --workers N, and process N recordings at once; '
        '--threads N is the number of CPU threads here']),
    ('info --workers=2', ['label, replay, eval and compare take --workers N']),
    ('bench v7.onnx -o out', ['v7.onnx needs its option in front: --model']),
    ('demo drive.mp4', ['drive.mp4 needs its option in front: --source or --model']),
    ('top --topcs /a', ['did you mean --topics']),
    ('power status --jsn', ['did you mean --json']),
])
def test_the_option_that_was_meant_is_told(
    line: str, advice: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(line.split())
    assert caught.value.code == 2
    usage, told = capsys.readouterr().err.rstrip('\n').rsplit('\n', 1)
    assert told.startswith(f'yolov7_trt {line.split()[0]}') and ': error: ' in told
    assert 'usage: ' in usage
    for each in advice:
        assert each in told


@pytest.mark.parametrize('line', [
    'detect a.jpg -o out --zebra', 'detect -o out', 'eval --images . -s -1', 'doctor -x',
])
def test_no_advice_where_none_is_known(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(line.split())
    assert 'give --' not in capsys.readouterr().err


def test_the_table_names_only_options_that_some_verb_has() -> None:
    known = {option for parser in verbs().values() for option in parser._option_string_actions}
    named = {ours for each in OURS.values() for ours in each} - {WITHOUT_FLAG}
    assert named <= known
    assert all(flag == flag.replace('_', '-') for flag in OURS)


def test_an_option_of_a_verb_itself_is_never_advised_against() -> None:
    from yolov7_trt_ros.cli.verb_parser import advise

    for parser in verbs().values():
        for option in parser._option_string_actions:
            assert advise(parser, [option, f'{option}=5']) == []


def test_a_model_for_info_with_and_without_its_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['info', 'yolov7-nano']) == 0
    told = capsys.readouterr().out
    for words in (['-m', 'yolov7-nano'], ['--model', 'yolov7-nano'], []):
        assert main(['info', *words]) == 0
        assert capsys.readouterr().out == told
    assert main(['info', 'yolov7-nano', '-m', 'other.onnx']) == 2
    assert 'give one model' in capsys.readouterr().err


@pytest.mark.parametrize('words', [
    ['fusion'], ['build', '-o', 'a.plan'], ['export', '-o', 'a.onnx'],
    ['quantize', '-o', 'q.onnx', '--images', '.'],
])
def test_every_verb_takes_the_model_with_its_flag(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert 'give a model: as MODEL, or with -m' in capsys.readouterr().err
    assert main([*words, 'a.onnx', '-m', 'a.onnx']) == 2
    assert 'give one model' in capsys.readouterr().err
    assert main([*words, '-m', 'gone.onnx']) == 1
    assert 'gone.onnx' in capsys.readouterr().err


def test_help_of_the_demo_has_its_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(['demo', '-h'])
    assert 'examples:\n  yolov7_trt demo\n  yolov7_trt demo --source' in capsys.readouterr().out


@pytest.mark.parametrize('words', [
    ['detect', 'a.jpg', '-o', ''], ['replay', 'a.mcap', '-o', ''], ['detect', 'a.jpg', '-o='],
    ['eval', '--images', '', '--annotations', 'a.json'], ['compare', '', 'b.mcap'],
])
def test_an_empty_path_is_not_the_current_folder(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match='2'):
        main(words)
    assert 'the path is empty; is a variable not set?' in capsys.readouterr().err


@pytest.mark.parametrize('verb', ['detect', 'label', 'replay'])
def test_an_empty_input_is_not_the_current_folder(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    form = ['--format', 'coco'] if verb == 'label' else []
    assert main([verb, '', '-o', 'out', *form]) == 1
    assert 'the path is empty; is a variable not set?' in capsys.readouterr().err


@pytest.mark.parametrize('count', ['99999', '-1', 'many'])
def test_threads_are_bounded(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match='2'):
        main(['detect', 'a.jpg', '-o', 'out', '--threads', count])
    assert f"--threads: must be within 0..1024, got '{count}'" in capsys.readouterr().err


@pytest.mark.parametrize(('words', 'option'), [
    ('detect a.jpg -o out --score-threshold', '--score-threshold/-s'),
    ('compare a b --max-drift', '--max-drift'), ('bench m.onnx --seconds', '--seconds'),
    ('power status --emulate nano --timeout', '--timeout'),
    ('power --timeout', '--timeout'), ('power watch --period', '--period'),
])
@pytest.mark.parametrize('number', ['nan', 'inf', 'many'])
def test_numbers_are_finite(
    words: str, option: str, number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match='2'):
        main([*words.split(), number])
    shown = capsys.readouterr().err
    assert f'argument {option}: must be' in shown and f"got '{number}'" in shown


@pytest.mark.parametrize('seconds', ['0', '-1', '3601'])
def test_the_time_limit_of_power_tools_has_limits(
    seconds: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match='2'):
        main(['power', 'status', '--emulate', 'nano', '--timeout', seconds])
    assert f"must be within 0.1..3600 s, got '{seconds}'" in capsys.readouterr().err
