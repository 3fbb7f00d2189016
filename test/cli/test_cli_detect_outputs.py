"""What `detect` writes: whole or not at all, of any size, from folders in folders."""

from __future__ import annotations

from collections.abc import Callable
import json
import os
from pathlib import Path
import resource
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from yolov7_trt_ros.cli import arguments
from yolov7_trt_ros.cli.main import main
from yolov7_trt_ros.core.image import DEFAULT_MAX_DECODED_PIXELS, MAX_PIXELS

REPOSITORY = Path(__file__).resolve().parents[2]
Limited = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def limited(tmp_path: Path) -> Limited:
    """Run the command where no file may grow beyond some bytes, as on a full disk."""

    def run(most_bytes: int, *given: object) -> subprocess.CompletedProcess[str]:
        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

        return subprocess.run(
            [sys.executable, '-B', '-m', 'yolov7_trt_ros', *map(str, given)], cwd=tmp_path,
            env=os.environ | {'PYTHONPATH': str(REPOSITORY)}, preexec_fn=limit,
            capture_output=True, text=True, check=False,
        )

    return run


def save_video(path: Path, frames: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 10, (320, 240))
    rng = np.random.default_rng(1)
    for _ in range(frames):
        writer.write(rng.integers(0, 255, (240, 320, 3), np.uint8))
    writer.release()
    return path


def test_a_picture_that_does_not_fit_leaves_no_part(
    limited: Limited, photographs: Path, tmp_path: Path
) -> None:
    done = limited(20_000, 'detect', photographs / 'coffee.jpg', '-o', 'out')
    assert done.returncode == 1
    assert done.stderr == (
        'yolov7_trt: error: cannot write out/coffee.jpg: File too large\n'
    )
    assert list((tmp_path / 'out').iterdir()) == []


def test_a_video_that_does_not_fit_leaves_no_part(limited: Limited, tmp_path: Path) -> None:
    save_video(tmp_path / 'clip.avi', 12)
    done = limited(50_000, 'detect', 'clip.avi', '-o', 'out')
    assert done.returncode == 1
    assert 'error: cannot write out/clip.mp4: ' in done.stderr
    assert ' of its 12 frames are in the file' in done.stderr
    assert list((tmp_path / 'out').iterdir()) == []
    assert limited(10_000_000, 'detect', 'clip.avi', '-o', 'out').returncode == 0
    assert [file.name for file in (tmp_path / 'out').iterdir()] == ['clip.mp4']


def test_results_that_do_not_fit_leave_those_of_before(
    limited: Limited, photographs: Path, tmp_path: Path
) -> None:
    (tmp_path / 'r.json').write_text('{}')
    done = limited(400, 'info', 'yolov7-nano', '--json', 'r.json')
    assert done.returncode == 1
    assert done.stderr == 'yolov7_trt: error: r.json: File too large\n'
    assert (tmp_path / 'r.json').read_text() == '{}'


def test_a_frame_too_wide_for_jpeg_is_written_as_png(tmp_path: Path) -> None:
    for name, shape in (('wide', (40, 65_600, 3)), ('high', (65_600, 40, 3))):
        data = cv2.imencode('.png', np.zeros(shape, np.uint8))[1]
        (tmp_path / f'{name}.png').write_bytes(data.tobytes())
        out = tmp_path / 'out'
        assert main(['detect', str(tmp_path / f'{name}.png'), '-o', str(out)]) == 0
        assert cv2.imread(str(out / f'{name}.png')).shape == shape


def test_folders_in_folders_keep_their_places(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'top/inner').mkdir(parents=True)
    for place in ('a.jpg', 'inner/a.jpg'):
        shutil.copy(photographs / 'coffee.jpg', tmp_path / 'top' / place)
    out = tmp_path / 'top/out'
    given = ['detect', str(tmp_path / 'top'), '-o', str(out)]
    assert main(given) == 0
    assert 'folders not entered (--recursive enters them): inner' in capsys.readouterr().err
    for _ in range(2):  # what it wrote itself is not read the second time
        assert main([*given, '--recursive', '--json', str(tmp_path / 'r.json')]) == 0
        record = json.loads((tmp_path / 'r.json').read_text())
        assert [frame['source'] for frame in record['inputs'][0]['frames']] == [
            'a.jpg', 'inner/a.jpg'
        ]
        assert sorted(str(file.relative_to(out)) for file in out.rglob('*.jpg')) == [
            'a.jpg', 'inner/a.jpg'
        ]


def test_the_limit_of_pixels(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert arguments.DEFAULT_MAX_PIXELS == DEFAULT_MAX_DECODED_PIXELS
    assert arguments.LARGEST_MAX_PIXELS == MAX_PIXELS
    given = ['detect', str(photographs / 'coffee.jpg'), '-o', str(tmp_path / 'out')]
    assert main([*given, '--max-pixels', '1000']) == 1
    assert 'larger than the limit of 1000 pixels' in capsys.readouterr().err
    assert main([*given, '--max-pixels', '240000']) == 0
    with pytest.raises(SystemExit):
        main([*given, '--max-pixels', '0'])


@pytest.mark.parametrize('verb', ['detect', 'replay'])
def test_an_address_is_told_as_it_was_given(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / ('out' if verb == 'detect' else 'out.mcap')
    assert main([verb, 'rtsp://cam/1', '-o', str(out)]) == 1
    assert "'rtsp://cam/1' is an address" in capsys.readouterr().err
