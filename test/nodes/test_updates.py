"""benchmarks/updates.py in short: the real node, real models, two good updates and bad ones."""

from __future__ import annotations

import json
from pathlib import Path
import subprocess
import sys

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / 'benchmarks'
KINDS = {
    'outside': 'refused: model may only name files in',
    'half a file': 'was cut off',
    'other classes': 'it does not have the classes person, bicycle, car and 77 more',
    'NaN on some frames': 'it failed on a frame: the model gave',
    'finds nothing': 'agreement 0.0000 in 20 frames',
}


@pytest.mark.slow
def test_updates_good_and_bad_lose_nothing(tmp_path):
    output = tmp_path / 'updates.json'
    run = subprocess.run(
        [sys.executable, str(BENCHMARKS / 'updates.py'), '--updates', '2', '-o', str(output),
         '--kinds', *KINDS],
        capture_output=True, text=True, timeout=600,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    result = json.loads(output.read_text())
    assert result['good_updates']['updates'] == 2
    bad = result['bad_candidates']
    for kind, told in KINDS.items():
        assert told in bad['candidates'][kind], kind
    assert set(bad['killed_builds']) == {'parse', 'tactics', 'write'}
    assert all('SIGKILL' in told for told in bad['killed_builds'].values())
    assert result['good_updates']['during_updates']['gaps_ms']['count'] > 0
    for part in ('good_updates', 'bad_candidates'):
        counts = result[part]['counts']
        assert counts['failed'] == 0 and counts['processed'] > 0
        assert counts['received'] == counts['processed'] + counts['dropped']
