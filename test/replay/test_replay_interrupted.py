"""Ctrl-C in a replay: one line and no half bag. A bad output: refused before any work."""

from __future__ import annotations

from collections.abc import Callable
import os
from pathlib import Path
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest

from yolov7_trt_ros.cli.main import main

REPOSITORY = Path(__file__).resolve().parents[2]


def test_an_interrupted_replay_leaves_nothing(
    tmp_path: Path, make_bag: Callable[..., Path], make_message: Callable[..., Any],
    picture: np.ndarray,
) -> None:
    message = make_message(picture, 'jpeg', 1)
    bag = make_bag('drive', [('/camera/image/compressed', message)] * 3000)
    work = tmp_path / 'work'
    work.mkdir()
    running = subprocess.Popen(
        [sys.executable, '-m', 'yolov7_trt_ros', 'replay', str(bag), '-o', 'new.mcap'], cwd=work,
        env=os.environ | {'PYTHONPATH': str(REPOSITORY)}, stderr=subprocess.PIPE, text=True,
    )
    until = time.monotonic() + 600
    while not list(work.rglob('*.mcap')) and time.monotonic() < until:
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, printed = running.communicate(timeout=600)
    # Python ends by the signal, which a shell has as 130 too, where it came while rosbags
    # compiled a text of its own
    assert running.returncode in (130, -signal.SIGINT)
    assert printed == 'yolov7_trt: interrupted: new.mcap was not written\n'
    assert list(work.iterdir()) == []


@pytest.mark.parametrize('output', ['there.mcap', 'bag', 'photo.jpg/x.mcap'])
def test_a_bad_output_is_refused_before_any_work(
    tmp_path: Path, make_bag: Callable[..., Path], make_message: Callable[..., Any],
    picture: np.ndarray, output: str, capsys: pytest.CaptureFixture[str],
) -> None:
    bag = make_bag('drive', [('/camera/image/compressed', make_message(picture, 'jpeg', 1))])
    (tmp_path / 'there.mcap').write_text('mine')
    (tmp_path / 'photo.jpg').write_text('mine')
    (tmp_path / 'bag').mkdir()
    (tmp_path / 'bag/metadata.yaml').write_text('mine')
    words = ['replay', str(bag), '-o', str(tmp_path / output), '--model', 'no such model']
    assert main(words) == 1
    assert 'no such model' not in capsys.readouterr().err
    (tmp_path / 'bag/notes.txt').write_text('mine')
    if output == 'bag':
        assert main([*words, '--force']) == 1
        assert 'notes.txt' in capsys.readouterr().err
    assert (tmp_path / 'there.mcap').read_text() == (tmp_path / 'photo.jpg').read_text() == 'mine'
