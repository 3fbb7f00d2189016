from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

import yolov7_trt_ros
from yolov7_trt_ros.cli.main import main
from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.home_folder import expand_home


def test_home_is_expanded_and_other_paths_stay(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv('HOME', str(tmp_path))
    assert expand_home('~/bag') == tmp_path / 'bag'
    assert expand_home(Path('~')) == tmp_path
    for path in ('a/~/b', '/x', '', 'a~'):
        assert expand_home(path) == Path(path)


@pytest.mark.parametrize('path', ['~no such user/x', '~\0/x', 'a\0b'])
def test_what_is_no_path_is_told_as_an_error_of_ours(path: str) -> None:
    with pytest.raises(SettingError, match='home folder|NUL'):
        expand_home(path)


@pytest.mark.parametrize('words', [
    ['detect', '-o', 'out', '{}'], ['detect', '-m', '{}', 'a.png', '-o', 'out'],
    ['compare', '{}', '{}'], ['replay', '{}', '-o', 'out'], ['demo', '--source', '{}'],
    ['eval', '--images', '{}', '--annotations', '{}'],
])
def test_every_verb_tells_so_in_one_line(words: list[str], capsys) -> None:
    assert main([word.format('~no such user/x') for word in words]) in (1, 2)
    said = capsys.readouterr().err
    if words[0] == 'demo' and importlib.util.find_spec('rclpy') is None:
        assert 'needs rclpy' in said  # nothing else of it is looked at
        return
    assert 'home folder' in said and len(said.splitlines()) == 1, said


def test_nobody_else_expands_home_folders() -> None:
    package = Path(yolov7_trt_ros.__file__).parent
    using = [path.name for path in package.rglob('*.py') if '.expanduser()' in path.read_text()]
    assert using == ['home_folder.py']
