"""tools/test_cyclonedds.sh: what it lacks, and which folders it fills. Nothing is built here."""

from __future__ import annotations

import os
from pathlib import Path
import shutil
import subprocess

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / 'tools' / 'test_cyclonedds.sh'
USED = ('bash', 'dirname', 'ls', 'mkdir')
NEEDED = ('cmake', 'g++', 'git', 'make')


def run(folder: Path, *programs: str) -> subprocess.CompletedProcess[str]:
    """Run the script where nothing but these programs is installed; each of them fails."""
    path = folder / 'bin'
    path.mkdir()
    for name in USED:
        (path / name).symlink_to(str(shutil.which(name)))
    for name in programs:
        (path / name).write_text(f'#!{shutil.which("sh")}\nexit 9\n')
        (path / name).chmod(0o755)
    (path / '.package.stamp').touch()
    return subprocess.run(
        [str(SCRIPT)], capture_output=True, text=True, check=False,
        env={'PATH': str(path), 'VENV': str(path),
             'CYCLONEDDS_FOLDER': str(folder / "it's a place")},
    )


def test_what_is_lacking_is_named(tmp_path: Path) -> None:
    done = run(tmp_path, 'git')
    assert done.returncode == 1
    for name in set(NEEDED) - {'git'}:
        assert f'{name}: apt-get install -y cmake' in done.stderr
    assert 'git: ' not in done.stderr and not (tmp_path / "it's a place").exists()


@pytest.mark.parametrize('content', ['rmw', '.hidden', 'built.stamp'])
def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path, content: str) -> None:
    folder = tmp_path / "it's a place"
    (folder / content).mkdir(parents=True)
    done = run(tmp_path, *NEEDED)
    assert done.returncode == 1 and 'CYCLONEDDS_FOLDER=FOLDER' in done.stderr
    assert os.listdir(folder) == [content]
