"""Which file, which names, which anchors: from settings to a detector."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from hypothesis import assume, given
from hypothesis import strategies as st
import pytest

from yolov7_trt_ros.core.class_names import COCO80
from yolov7_trt_ros.core.forms.anchors import choose_anchors
from yolov7_trt_ros.core.forms.model_spec import ANCHOR_SETS
from yolov7_trt_ros.engine.model_files import (
    EMBEDDED_MODELS,
    find_model,
    load_class_names,
    OFFICIAL_WEIGHTS,
)
from yolov7_trt_ros.engine.open import open_detector
from yolov7_trt_ros.engine.options import DetectorOptions
from yolov7_trt_ros.errors import ModelNotFoundError, SettingError


@pytest.mark.parametrize('name', EMBEDDED_MODELS)
def test_embedded_models_are_there(name: str) -> None:
    assert find_model(name).is_file()


def test_a_path_is_itself_and_home_is_expanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / 'own.onnx'
    path.write_bytes(find_model('yolov7-nano').read_bytes())
    monkeypatch.setenv('HOME', str(tmp_path))
    assert find_model(str(path)) == path
    assert find_model('~/own.onnx') == path


@pytest.mark.parametrize('name', [
    '', 'missing.onnx', '/', '.', '~no_such_user_here/x.onnx', 'a\0b', 'x' * 5000, '/dev/null',
])
def test_a_missing_model_is_refused_with_the_embedded_names(name: str) -> None:
    with pytest.raises(ModelNotFoundError, match='embedded: yolov7-nano'):
        find_model(name)


@pytest.mark.parametrize('name', OFFICIAL_WEIGHTS)
def test_official_weights_are_told_where_to_be_had(name: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        open_detector(DetectorOptions(model=name))
    for text in (f'releases/download/v0.1/{name}.pt', 'GPL-3.0',
                 f'yolov7_trt export {name}.pt -o {name}.onnx'):
        assert text in str(caught.value)


@given(st.text(max_size=30))
def test_random_names_are_not_found(name: str) -> None:
    assume(not os.path.exists(name))  # Hypothesis tries names that it finds in the code
    with contextlib.suppress(ModelNotFoundError):
        assert find_model(name).name.startswith(name)  # one that is embedded


@pytest.mark.parametrize('source', ['', 'auto'])
def test_auto_asks_the_model(source: str) -> None:
    assert load_class_names(source) is None


def test_names_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / 'names.txt'
    path.write_text('  cat\n\ndog walker \r\nKäfer\n', encoding='utf-8')
    assert load_class_names(str(path)) == ('cat', 'dog walker', 'Käfer')
    assert load_class_names('coco80') == COCO80


def test_useless_names_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / 'empty.txt').write_text('\n \n')
    (tmp_path / 'binary.txt').write_bytes(b'\xff\xfe\x00')
    sources = [str(tmp_path / 'empty.txt'), str(tmp_path / 'binary.txt'), str(tmp_path),
               'missing.txt', '~no_such_user_here/x', 'a\0b', 'x' * 5000]
    for source in sources:
        with pytest.raises(SettingError, match='class_names'):
            load_class_names(source)


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16'])
@pytest.mark.parametrize('end', ['\n', '\r\n', '\r'])
def test_encodings_and_line_ends_of_names_files(tmp_path: Path, encoding: str, end: str) -> None:
    path = tmp_path / 'names.txt'
    names = ('red', 'blå bil', 'C# book', "driver's seat", '[', 'a, b', 'ميخ', 'می\u200cخواهم')
    path.write_bytes((end.join(names) + end).encode(encoding))
    assert load_class_names(str(path)) == names


@pytest.mark.parametrize(('content', 'what'), [
    (b'names: [red, blue]', 'looks like YAML'),
    (b'path: ../data\nnc: 2\nnames:\n  0: red\n', 'looks like YAML'),
    (b'0: red\n1: blue\n', 'looks like YAML'),
    (b'---\n- red\n', 'looks like YAML'),
    (b'["red", "blue"]', 'looks like JSON'),
    (b'{"0": "red"}', 'looks like JSON'),
    (b'[\n"red",\n"blue"\n]', "name 2, '\"red\",', looks like JSON"),
    (b'# my classes\nred\n', 'name 1, .# my classes., looks like a line with a comment'),
    (b'red # the first\nblue\n', 'a line with a comment'),
    (b'item {\n  id: 1\n', 'a label map'),
    (b'red,blue,green\n', 'its only line has commas'),
    (b'red\x1b[2J\nblue\n', r'name 1 has invisible characters in it: red\\x1b'),
    ('red\nb\u202elue\n'.encode(), r'name 2 has invisible characters in it: b\\u202e'),
    ('red\x85blue\n'.encode(), 'name 1 has invisible'),
    ('red\n'.encode('utf-16-le'), 'zero bytes: not text, or UTF-16 without'),
    ('Käfer\n'.encode('latin-1'), 'no text in utf-8 .byte 1 is 0xe4.; save it as UTF-8'),
    (b'\xff\xfea', 'no text in utf-16'),
    (b'x\n' * 600_000, 'larger than the 1048576 bytes'),
    (bytes(5000), 'zero bytes'),
    (b'\xef\xbb\xbf\n', 'holds no names'),
], ids=lambda value: str(value)[:30])
def test_other_files_than_of_names(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / 'names.txt'
    path.write_bytes(content)
    with pytest.raises(SettingError, match=f'class_names must be .*: .*{what}') as caught:
        load_class_names(str(path))
    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()


def test_anchors_by_name() -> None:
    assert choose_anchors('auto') is choose_anchors('') is None
    assert choose_anchors('yolov7') is ANCHOR_SETS['yolov7']
    with pytest.raises(SettingError, match='auto or one of yolov7-tiny, yolov7, yolov7-p6'):
        choose_anchors('yolov5')


@pytest.mark.parametrize(('options', 'error', 'message'), [
    (DetectorOptions(backend='tpu'), SettingError, "backend must be one of .* got 'tpu'"),
    (DetectorOptions(model='missing.onnx'), ModelNotFoundError, 'missing.onnx'),
    (DetectorOptions(class_names='missing.txt'), SettingError, 'missing.txt'),
    (DetectorOptions(anchors='mine'), SettingError, 'mine'),
    (DetectorOptions(network_size=100), SettingError, 'network size'),
])
def test_useless_options_are_refused(
    options: DetectorOptions, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        open_detector(options)
