"""Where the tests of this folder keep their files, and emulated boards for them."""

from __future__ import annotations

from collections.abc import Iterator
import os
from pathlib import Path
import sys
import tempfile

from changed_boards import Make
import pytest

from yolov7_trt_ros.emulated_board.board import create_board, EmulatedBoard
from yolov7_trt_ros.emulated_board.boards.catalogue import BOARDS

IN_MEMORY = '/dev/shm'
sys.path.insert(0, str(Path(__file__).parents[2] / 'benchmarks'))  # the simulated board


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """
    Return a folder for one test, in memory where the machine has such a place.

    An emulated board is hundreds of small files, which take several times as long on a disk.

    """
    folder = IN_MEMORY if os.access(IN_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix='test_power_', dir=folder) as name:
        yield Path(name)


@pytest.fixture
def make_board(tmp_path: Path) -> Iterator[Make]:
    boards: list[EmulatedBoard] = []

    def make(name: str = 'orin_nano_super', **options: object) -> EmulatedBoard:
        boards.append(create_board(name, tmp_path / f'board{len(boards)}', **options))
        return boards[-1]

    yield make
    for board in boards:
        board.close()


@pytest.fixture(params=list(BOARDS))
def any_board(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmulatedBoard]:
    with create_board(request.param, tmp_path) as board:
        yield board


@pytest.fixture
def orin(tmp_path: Path) -> Iterator[EmulatedBoard]:
    with create_board('orin_nano_super', tmp_path) as board:
        yield board


@pytest.fixture
def xavier(tmp_path: Path) -> Iterator[EmulatedBoard]:
    with create_board('xavier_nx', tmp_path) as board:
        yield board
