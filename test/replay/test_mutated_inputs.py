"""Damaged bags, pictures, videos and messages: only our errors, in bounded memory and time."""

from __future__ import annotations

import json
import os
from pathlib import Path
import subprocess
import sys

import pytest

HERE = Path(__file__).resolve().parent
MOST_S = 60  # for one input; a few milliseconds are usual, seconds on a loaded machine
INPUTS = {
    'bags': 300, 'detections': 200, 'metadata': 80, 'logs': 100, 'pictures': 400, 'videos': 60,
    'messages': 400,
}


@pytest.mark.parametrize('kind', INPUTS)
def test_damage_raises_our_errors_alone(kind: str, tmp_path: Path) -> None:
    """The limit of memory is set in the process: 1 GiB above what it has at its start."""
    done = subprocess.run(
        [sys.executable, str(HERE / 'mutated_inputs.py'), str(tmp_path), kind,
         str(INPUTS[kind]), '20261'],
        env=os.environ | {'PYTHONPATH': str(HERE.parents[1]), 'OPENCV_LOG_LEVEL': 'SILENT'},
        capture_output=True, text=True, errors='replace', check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert told['foreign'] == []
    assert told['inputs'] == INPUTS[kind]
    assert told['read'] > 0  # some damage does not matter; of metadata.yaml none does
    assert told['worst_s'] < MOST_S, told
