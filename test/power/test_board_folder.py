"""The temporary folder of an emulated board: removed with it, or by a later board."""

from __future__ import annotations

import os
from pathlib import Path
import signal
import subprocess
import sys
import tempfile

import pytest

from yolov7_trt_ros.emulated_board.board import create_board
from yolov7_trt_ros.temporary_folder import MARK

REPOSITORY = Path(__file__).resolve().parents[2]
CODE = """
import sys
from yolov7_trt_ros.emulated_board.board import create_board
board = create_board('orin_nano_super')
print(board.root, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of temporary files, which is one of this test's."""
    monkeypatch.setenv('TMPDIR', str(tmp_path))
    monkeypatch.setattr(tempfile, 'tempdir', None)
    return tmp_path


def test_what_a_killed_process_left_is_removed_by_a_later_board(temporary: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, '-c', CODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {'PYTHONPATH': str(REPOSITORY)},
    )
    assert process.stdout is not None
    left = Path(process.stdout.readline().strip()).parent
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=600)
    assert left.parent == temporary and (left / 'root/etc').is_dir()
    os.utime(left / MARK, (1_000_000_000, 1_000_000_000))
    with create_board('nano') as board:
        assert not left.exists()
        assert board.root.is_dir()
        assert [each.name for each in temporary.iterdir()] == [board.root.parent.name]
    board.close()
    assert not any(temporary.iterdir())


def test_a_given_folder_is_kept_with_what_else_is_in_it(tmp_path: Path) -> None:
    (tmp_path / 'mine').write_text('mine')
    create_board('nano', tmp_path).close()
    assert [each.name for each in tmp_path.iterdir()] == ['mine']
