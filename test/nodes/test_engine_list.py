"""The parameter `engines`: what is taken, and what is refused with a reason."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from yolov7_trt_ros.engine import engine_list
from yolov7_trt_ros.engine.engine_list import MOST_ENGINES, NamedEngine
from yolov7_trt_ros.engine.options import DetectorOptions
from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.nodes.detector_parameters import parameters
from yolov7_trt_ros.nodes.detector_parameters.engine_list import read_engines
from yolov7_trt_ros.nodes.detector_parameters.trusted_folders import TrustedFolders

DEFAULTS = {spec.name: spec.default for spec in parameters.PARAMETERS}


def read(engines: str, *, start: str | None = None, **start_values: Any) -> list[NamedEngine]:
    """Read a value, which the node was started with unless `start` is another."""
    trusted = TrustedFolders(
        DEFAULTS | {'engines': engines if start is None else start} | start_values
    )
    return read_engines(DEFAULTS | {'engines': engines}, trusted)


def test_a_list_takes_the_rest_from_the_node() -> None:
    engines = read('a.plan, b.onnx')
    assert [each.name for each in engines] == ['a.plan', 'b.onnx']
    assert engines[0].options.model == 'a.plan'
    assert engines[0].options.network_size == DEFAULTS['network_size']
    assert read('') == []


def test_a_file_says_what_differs(tmp_path: Path) -> None:
    file = tmp_path / 'engines.yaml'
    file.write_text(
        'engines:\n'
        '  - {model: tiny_dla0.plan, name: dla, memory: staged}\n'
        '  - {model: yolov7-nano, name: cpu, backend: onnx, threads: 2, network_size: 416}\n'
        '  - {model: /opt/v.onnx, class_names: names.txt, rectangular: false}\n'
        '  - {model: ~/w.onnx, class_names: ~/names.txt}\n'
    )
    dla, cpu, other, home = read(str(file))
    assert (dla.name, dla.options.model) == ('dla', str(tmp_path / 'tiny_dla0.plan'))
    assert (cpu.options.model, cpu.options.threads, cpu.options.network_size) == (
        'yolov7-nano', 2, 416,
    )
    assert (other.name, other.options.model) == ('/opt/v.onnx', '/opt/v.onnx')
    assert other.options.class_names == str(tmp_path / 'names.txt')
    assert not other.options.rectangular
    assert (home.options.model, home.options.class_names) == ('~/w.onnx', '~/names.txt')


@pytest.mark.parametrize(('text', 'reason'), [
    ('engines: [', 'is not a YAML file'),
    ('engines: [{model: a.plan}]\n\x00', 'is not a YAML file'),
    ('', 'does not list engines: expected `engines:`'),
    ('[]', 'does not list engines'),
    ('engines: a.plan', 'does not list engines'),
    ('engines: []', 'lists none'),
    ('engines: [a.plan]', 'has a str in the list'),
    ('engines: [{backend: onnx}]', 'an engine without `model`'),
    ('engines: [{model: a.plan, thread: 2}]', "has 'thread' for an engine, which may have name,"),
    ('engines: [{model: a.plan, refit_from: b.plan}]', "has 'refit_from' for an engine"),
    ('engines: [{model: a.plan, threads: two}]', 'threads must be an integer'),
    ('engines: [{model: a.plan, threads: 65}]', 'threads must be within 0..64, got 65'),
    ('engines: [{model: a.plan, backend: cuda}]', 'backend must be one of auto, tensorrt, onnx'),
    ('engines: [{model: [a.plan]}]', 'model must be one value, got a list'),
    ('engines: [{model: null}]', 'model must be one value, got a NoneType'),
    ('engines: [{model: a.plan, model: b.plan}]', "line 1: 'model' appears twice"),
    ('engines: [{model: a.plan}]\nengines: [{model: b.plan}]', "'engines' appears twice"),
    ('engines: [{model: a.plan}]\nother: 1', 'does not list engines'),
    ('engines: [{model: yolov7-nano}]', "names 'yolov7-nano' twice, including `model`"),
    ('engines: [{model: a.plan, name: x}, {model: b.plan, name: x}]', "names 'x' twice"),
    ('engines: [{model: !!python/object/apply:os.system [ls]}]', 'is not a YAML file'),
    ('engines: ' + '[' * 3000, 'or more than 4 levels'),
    ('engines: [' + 'a,' * 3000 + ']', 'has more than 1000 values'),
    ('engines: [' + '{model: a},' * 8 + ']', 'may name 7 more at most, got 8'),
    ('engines: &a [*a]', 'has more than 1000 values, aliases counted as what they stand for'),
    ('engines: [{model: a.plan, name: ""}]', 'an empty `name`'),
    ('a: &a [x]\nb: &b [*a, *a]\nengines: *b', 'does not list engines'),
])
def test_files_that_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / 'engines.yaml'
    file.write_text(text)
    with pytest.raises(SettingError) as told:
        read(str(file))
    assert reason in str(told.value) and len(str(told.value)) < 1000


def test_aliases_are_read_as_long_as_they_stand_for_little(tmp_path: Path) -> None:
    file = tmp_path / 'engines.yaml'
    file.write_text(
        'engines: [&a {model: a.plan, backend: onnx}, {<<: *a, model: b.plan, threads: &n 3}, '
        '{model: c.plan, threads: *n}]'
    )
    engines = read(str(file))
    assert [each.options.backend for each in engines] == ['onnx', 'onnx', DEFAULTS['backend']]
    assert [each.options.threads for each in engines[1:]] == [3, 3]
    laughs = ['engines:', '  - &a0 {model: a.plan}', *(
        f'  - &a{level} {{<<: [{", ".join([f"*a{level - 1}"] * 9)}]}}' for level in range(1, 7)
    )]
    keys = ', '.join(f'k{number}: 1' for number in range(400))
    many = f'engines: [&a {{{keys}}}{", *a" * 500}]'
    for text in ('\n'.join(laughs), many):
        file.write_text(text)
        with pytest.raises(SettingError, match='aliases counted as what they stand for'):
            read(str(file))


@pytest.mark.parametrize('key', ['model', 'name', 'threads', 'backend', 'class_names', 'anchors'])
@pytest.mark.parametrize('number', ['0x' + 'f' * 4000, '9' * 4000, ':'.join(['59'] * 1300)])
def test_numbers_that_are_too_long_to_be_written_are_refused(
    tmp_path: Path, key: str, number: str
) -> None:
    file = tmp_path / 'engines.yaml'
    entry = {'model': 'a.plan', key: number}
    file.write_text(f'engines: [{{{", ".join(f"{name}: {v}" for name, v in entry.items())}}}]')
    with pytest.raises(SettingError) as told:
        read(str(file))
    assert f'{key} is a number above 9223372036854775807' in str(told.value)
    file.write_text(f'engines: [{{model: a.plan, {key}: {"9" * 5000}}}]' if key != 'model' else
                    f'engines: [{{model: {"9" * 5000}}}]')
    with pytest.raises(SettingError, match='a value may have 4096 characters, got 5000'):
        read(str(file))


def test_nothing_is_looked_up_for_a_list_that_is_too_long() -> None:
    looked_up: list[str] = []

    def path_of(path: str) -> str:
        looked_up.append(path)
        return path

    with pytest.raises(SettingError, match='may name 7 more at most, got 30000'):
        engine_list.read_engines('a.plan,' * 30_000, DetectorOptions(), path_of)
    assert not looked_up


@pytest.mark.parametrize(('value', 'reason'), [
    ('a.plan,a.plan', "names 'a.plan' twice"),
    ('yolov7-nano', "names 'yolov7-nano' twice, including `model`: if that is intended"),
    (','.join(f'{number}.plan' for number in range(MOST_ENGINES)), 'may name 7 more at most'),
    ('nowhere.yaml', 'cannot be read: No such file'),
    (' , ,', "names no model, got ' , ,': expected models with commas"),
])
def test_lists_that_are_refused(value: str, reason: str) -> None:
    with pytest.raises(SettingError, match=reason):
        read(value)


def test_what_is_no_plain_file_or_too_large_is_not_read(tmp_path: Path) -> None:
    pipe, large = tmp_path / 'pipe.yaml', tmp_path / 'large.yaml'
    os.mkfifo(pipe)
    large.write_text('# ' + 'x' * 70_000)
    with pytest.raises(SettingError, match='no plain file, but a pipe'):
        read(str(pipe))
    with pytest.raises(SettingError, match='larger than the 65536 bytes'):
        read(str(large))
    with pytest.raises(SettingError, match='no plain file'):
        read(str(tmp_path / 'x.yaml' if (tmp_path / 'x.yaml').mkdir() else tmp_path / 'x.yaml'))


def test_while_the_node_runs_files_lie_in_trusted_folders_as_those_of_model(
    tmp_path: Path
) -> None:
    good, bad = tmp_path / 'good', tmp_path / 'bad'
    for each in (good, bad):
        each.mkdir()
        (each / 'engines.yaml').write_text('engines: [{model: v.onnx}]')
    (good / 'out.yaml').write_text(f'engines: [{{model: {bad}/v.onnx}}]')
    (good / 'names.yaml').write_text(f'engines: [{{model: v.onnx, class_names: {bad}/n.txt}}]')
    (good / 'link.onnx').symlink_to(bad / 'v.onnx')
    folders = {'start': '', 'model_folders': str(good)}
    assert read(f'{good}/engines.yaml', **folders)[0].options.model == str(good / 'v.onnx')
    assert read(f'{good}/v.onnx', **folders)
    for value in (
        f'{bad}/v.onnx', f'{bad}/engines.yaml', f'{good}/out.yaml', f'{good}/names.yaml',
        f'{good}/link.onnx', f'{good}/../bad/v.onnx', f'{good}/v.onnx,{bad}/v.onnx',
    ):
        with pytest.raises(SettingError, match='engines may only name files in'):
            read(value, **folders)
    assert read(f'{bad}/engines.yaml', model_folders=str(good))  # what it was started with


@given(st.text(max_size=60))
@settings(max_examples=100, deadline=None)
def test_any_text_is_taken_or_refused_with_a_setting_error(text: str) -> None:
    for start in (text, ''):
        try:
            read(text, start=start)
        except SettingError as exc:
            assert str(exc)
