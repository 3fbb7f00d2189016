"""Files that appear whole or not at all, and never through a link that somebody has laid."""

from __future__ import annotations

import os
from pathlib import Path

from damaged_files import full_disk
import pytest

from yolov7_trt_ros.atomic_file import atomic_write, create_new, hidden_name, temporary_file


def test_a_file_is_replaced_with_the_rights_that_any_new_file_gets(tmp_path: Path) -> None:
    path = tmp_path / 'deep' / 'a.json'
    atomic_write(path, b'old')
    atomic_write(path, b'new')
    assert path.read_bytes() == b'new' and list(path.parent.iterdir()) == [path]
    (tmp_path / 'plain').touch()
    assert path.stat().st_mode == (tmp_path / 'plain').stat().st_mode


def test_a_link_in_place_of_the_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / 'other').write_bytes(b'kept')
    (tmp_path / 'a').symlink_to(tmp_path / 'other')
    atomic_write(tmp_path / 'a', b'new')
    assert (tmp_path / 'other').read_bytes() == b'kept'
    assert not (tmp_path / 'a').is_symlink()


def test_a_disk_that_is_full_leaves_the_old_file(tmp_path: Path) -> None:
    atomic_write(tmp_path / 'a', b'old')
    with full_disk(), pytest.raises(OSError, match='File too large') as caught:
        atomic_write(tmp_path / 'a', bytes(1000))
    assert caught.value.filename == str(tmp_path / 'a')
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b'old']


def test_the_name_of_what_is_not_finished_is_another_each_time(tmp_path: Path) -> None:
    assert len({hidden_name(tmp_path / 'a') for _ in range(100)}) == 100


@pytest.mark.parametrize('name', ['a' * 255, 'ä' * 127])
def test_names_as_long_as_they_may_be(tmp_path: Path, name: str) -> None:
    atomic_write(tmp_path / name, b'data')
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize('target', ['there', 'not there'])
def test_what_is_there_is_neither_opened_nor_followed(tmp_path: Path, target: str) -> None:
    (tmp_path / 'there').write_bytes(b'kept')
    (tmp_path / 'link').symlink_to(tmp_path / target)
    for name in ('there', 'link'):
        with pytest.raises(FileExistsError):
            create_new(tmp_path / name)
    assert (tmp_path / 'there').read_bytes() == b'kept'
    assert not (tmp_path / 'not there').exists()


def test_an_error_names_the_file_and_not_the_temporary_one(tmp_path: Path) -> None:
    (tmp_path / 'a').mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        atomic_write(tmp_path / 'a', b'new')
    assert caught.value.filename == str(tmp_path / 'a')
    assert [path.name for path in tmp_path.iterdir()] == ['a']
    with pytest.raises(FileNotFoundError) as lacking, temporary_file(tmp_path / 'no/b', b''):
        pass
    assert lacking.value.filename == str(tmp_path / 'no/b')
