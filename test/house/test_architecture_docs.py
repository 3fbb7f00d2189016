"""docs/architecture.md names the files that are there, and config/coco80.txt the right classes."""

from __future__ import annotations

from pathlib import Path
import re

import pytest

from yolov7_trt_ros.core.class_names import COCO80
from yolov7_trt_ros.engine.model_files import load_class_names

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / 'yolov7_trt_ros'
ARCHITECTURE = REPOSITORY / 'docs' / 'architecture.md'
# what a file or folder of this repository looks like between backquotes
_FILE = re.compile(r'`([\w./-]+\.(?:py|md|xml|yaml|toml|txt|onnx|rst)|[\w./-]+/)`')


def named() -> set[str]:
    """Return the files and folders that the document names."""
    return set(_FILE.findall(ARCHITECTURE.read_text(encoding='utf-8')))


def package_files() -> list[str]:
    """Return every Python file, from the package down; an `__init__.py` as its folder."""
    files = sorted(PACKAGE.rglob('*.py'))
    return [
        f'{file.parent.relative_to(PACKAGE).as_posix()}/' if file.name == '__init__.py'
        else file.relative_to(PACKAGE).as_posix()
        for file in files
        if file != PACKAGE / '__init__.py'
    ]


@pytest.mark.parametrize('name', package_files())
def test_every_file_of_the_package_is_named(name: str) -> None:
    assert name in named(), f'docs/architecture.md does not name {name}'


def test_every_named_file_exists() -> None:
    absent = [
        name for name in named() if not ((PACKAGE / name).exists() or (REPOSITORY / name).exists())
    ]
    assert absent == []


def test_coco80_txt_holds_the_classes_of_coco() -> None:
    path = REPOSITORY / 'config' / 'coco80.txt'
    assert load_class_names(str(path)) == COCO80
    assert path.read_text(encoding='utf-8') == '\n'.join(COCO80) + '\n'
