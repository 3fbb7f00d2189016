"""The pages of the structure and the package agree; config/coco80.txt has the right classes."""

from __future__ import annotations

from pathlib import Path
import re
import subprocess
import sys

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


def folders() -> list[Path]:
    return sorted({path.parent for path in PACKAGE.rglob('*.py')})


def test_every_folder_of_the_package_is_named() -> None:
    names = {f'{folder.relative_to(PACKAGE).as_posix()}/' for folder in folders()}
    assert names - {'./'} <= named()


def test_the_page_of_files_is_current() -> None:
    tool = REPOSITORY / 'tools' / 'file_catalogue.py'
    done = subprocess.run([sys.executable, str(tool), '--check'], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_folder_has_at_most_17_modules() -> None:
    counts = {folder: len(list(folder.glob('*.py'))) - 1 for folder in folders()}
    assert [f'{folder}: {count}' for folder, count in counts.items() if count > 17] == []


def test_every_named_file_exists() -> None:
    absent = [
        name for name in named() if not ((PACKAGE / name).exists() or (REPOSITORY / name).exists())
    ]
    assert absent == []


def test_coco80_txt_holds_the_classes_of_coco() -> None:
    path = REPOSITORY / 'config' / 'coco80.txt'
    assert load_class_names(str(path)) == COCO80
    assert path.read_text(encoding='utf-8') == '\n'.join(COCO80) + '\n'
