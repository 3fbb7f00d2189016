"""benchmarks/updates.py in short: the real node, real models, two good updates and bad ones."""

from __future__ import annotations

import json
from pathlib import Path
import shutil
import signal
import subprocess
import sys
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
import pytest
from ros_probe import DetectorProcess, LATCHED, Probe

from yolov7_trt_ros.engine.model_files import find_model

BENCHMARKS = Path(__file__).resolve().parents[2] / 'benchmarks'
sys.path.insert(0, str(BENCHMARKS))

from updates import builds_of  # noqa: E402, I100  (its folder has just been added)

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
    good = result['good_updates']
    assert (good['updates'], good['asked'], good['ended']) == (2, 2, 'all done')
    assert len(good['after_each']) == 2 and good['p99_ratio'] > 0
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


@pytest.mark.slow
def test_updates_that_have_no_time_leave_a_result(tmp_path):
    output = tmp_path / 'updates.json'
    run = subprocess.run(
        [sys.executable, str(BENCHMARKS / 'updates.py'), '--updates', '100', '-o', str(output),
         '--limit-s', '0', '--kinds', 'half a file'],
        capture_output=True, text=True, timeout=600,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    good = json.loads(output.read_text())['good_updates']
    assert (good['updates'], good['asked'], good['ended']) == (0, 100, 'after 0 s')
    assert good['p99_ratio'] is None and good['counts']['failed'] == 0


PHASES: dict[str, tuple[str, dict[str, Any]]] = {
    'opening': ('unbuilt.onnx', {}),  # its build waits in its first phase
    'shadow': ('new.onnx', {}),  # no camera sends
    'kept': ('new.onnx', {'update': 'immediate'}),
}


@pytest.mark.parametrize(('state', 'number', 'status'), [
    *((state, signal.SIGTERM, 0) for state in PHASES),
    ('opening', signal.SIGKILL, -signal.SIGKILL),
])
def test_the_node_may_be_ended_in_each_phase(
    probe: Probe, log: Path, tmp_path: Path, state: str, number: int, status: int
) -> None:
    name, parameters = PHASES[state]
    model = shutil.copy(find_model('yolov7-nano'), tmp_path / name)
    process = DetectorProcess(
        log, command=[sys.executable, str(BENCHMARKS / 'updates_parts/node.py')], autostart=True,
        network_size=64, backend='onnx', model_folders=tmp_path, **parameters,
    )
    told: list[DiagnosticStatus] = []

    def values() -> dict[str, str]:
        return {each.key: each.value for each in told[-1].values} if told else {}

    try:
        told = probe.listen(DiagnosticStatus, '/detector/update', LATCHED)
        probe.wait_until(lambda: values().get('state') == 'steady', 'the first model')
        assert probe.set_parameter('model', str(model)) == ''
        probe.wait_until(
            lambda: values()['state'] == state
            and (state != 'opening' or 'parse' in values().get('progress', '')), state,
        )
        builds = builds_of(process.process.pid)
        assert len(builds) == (state == 'opening')
    finally:
        ended = process.stop(number)
    assert ended == status and 'Traceback' not in process.text(), process.text()
    probe.wait_until(
        lambda: not any(Path(f'/proc/{each}').exists() for each in builds), 'the build to end'
    )
