"""TemporaryFolder: what a killed process left is removed by the next, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path
import signal
import subprocess
import sys

import pytest

from yolov7_trt_ros.temporary_folder import MARK, TemporaryFolder

REPOSITORY = Path(__file__).resolve().parents[2]
PREFIX = 'yolov7_trt_test_'
CODE = """
import sys
from pathlib import Path
from yolov7_trt_ros.temporary_folder import TemporaryFolder
folder = TemporaryFolder(sys.argv[1], Path(sys.argv[2]))
Path(folder.name, 'part').mkdir()
Path(folder.name, 'part', 'file').write_text('half')
print(folder.name, flush=True)
sys.stdin.read()
"""


def start(folder: Path) -> tuple[subprocess.Popen[str], Path]:
    """Start a process that has a temporary folder; return both."""
    process = subprocess.Popen(
        [sys.executable, '-c', CODE, PREFIX, str(folder)], text=True,
        env=os.environ | {'PYTHONPATH': str(REPOSITORY)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def age(folder: Path) -> None:
    os.utime(folder / MARK, (1_000_000_000, 1_000_000_000))


def test_what_a_killed_process_left_is_removed_and_what_is_in_use_stays(tmp_path: Path) -> None:
    processes = [start(tmp_path) for _ in range(3)]
    (killed, left), (new, fresh), (living, used) = processes
    for folder in (left, used):
        age(folder)
    for process in (killed, new):
        process.send_signal(signal.SIGKILL)
        process.wait(600)
    with TemporaryFolder(PREFIX, tmp_path) as name:
        assert Path(name).is_dir()
        assert not left.exists(), 'its process was killed'
        assert fresh.exists(), 'another process may be about to lock it'
        assert (used / 'part/file').read_text() == 'half'
    assert not Path(name).exists()
    living.communicate('', timeout=600)
    assert not used.exists()


@pytest.mark.parametrize('mark', [
    None, '', 'mine\n', 'written by yolov7_trt_ros on another-host\n', 'a link', 'a pipe',
    'a folder',
])
def test_a_folder_without_our_mark_stays(tmp_path: Path, mark: str | None) -> None:
    with TemporaryFolder(PREFIX, tmp_path) as name:
        own = Path(name, MARK).read_text()
    foreign = tmp_path / f'{PREFIX}mine'
    foreign.mkdir()
    (foreign / 'file').write_text('mine')
    if mark == 'a link':
        (tmp_path / 'elsewhere').write_text(own)
        (foreign / MARK).symlink_to(tmp_path / 'elsewhere')
        os.utime(tmp_path / 'elsewhere', (1_000_000_000, 1_000_000_000))
    elif mark == 'a pipe':
        os.mkfifo(foreign / MARK)
    elif mark == 'a folder':
        (foreign / MARK).mkdir()
    elif mark is not None:
        (foreign / MARK).write_text(mark)
        age(foreign)
    (tmp_path / f'{PREFIX}file').write_text('mine')
    (tmp_path / f'{PREFIX}link').symlink_to(foreign)
    with TemporaryFolder(PREFIX, tmp_path):
        pass
    assert (foreign / 'file').read_text() == 'mine'
    assert (tmp_path / f'{PREFIX}file').exists() and (tmp_path / f'{PREFIX}link').is_symlink()


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        TemporaryFolder(PREFIX, tmp_path / 'none')


def test_cleaning_twice_is_harmless_and_leaves_no_file_open(tmp_path: Path) -> None:
    before = len(os.listdir('/proc/self/fd'))
    folder = TemporaryFolder(PREFIX, tmp_path)
    folder.cleanup()
    folder.cleanup()
    assert len(os.listdir('/proc/self/fd')) == before
