"""The comparison with peers: rows, turns, peers in other interpreters, trtutils' settings."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
from pathlib import Path
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.errors import PlanMissingError
from yolov7_trt_ros.testing import make_detections

BENCHMARKS = Path(__file__).resolve().parents[2] / 'benchmarks'
sys.path.insert(0, str(BENCHMARKS))

import peers  # noqa: E402, I100  (their folder has just been added)
from peers_parts import trtutils_peer  # noqa: E402
from peers_parts.other_interpreter import environment_of, PeerElsewhere  # noqa: E402
from peers_parts.timed import NotRunError, Peer, PeerHere  # noqa: E402

FRAME = np.zeros((48, 64, 3), np.uint8)


def found_of(detections: Detections) -> PeerHere:
    return PeerHere(lambda bgr: detections)


def raising(error: Exception) -> Any:
    def opener(args: argparse.Namespace) -> Peer:
        raise error

    return opener


def test_peers_that_cannot_run_are_named_with_the_reason(capsys):
    one = make_detections((64, 48), ((1, 2, 30, 40), 0.9, 0))
    with contextlib.ExitStack() as ends:
        opened, absent = peers.open_peers({
            'ours': lambda args: found_of(one), 'gone': raising(ImportError('no module x')),
            'unbuilt': raising(PlanMissingError('no plan')),
            'ungiven': lambda args: peers.needed('', '--checkpoint'),
        }, argparse.Namespace(), ends)
    assert list(opened) == ['ours']
    assert absent == {
        'gone': 'not installed: no module x', 'unbuilt': 'cannot run: no plan',
        'ungiven': 'cannot run: --checkpoint was not given',
    }
    assert 'gone: not installed' in capsys.readouterr().out


def test_peers_are_timed_in_turns_and_compared_with_ours():
    one = make_detections((64, 48), ((1, 2, 30, 40), 0.9, 0))
    other = make_detections((64, 48), ((1, 2, 30, 40), 0.9, 1))
    frames = [FRAME] * 2
    runs = {'ours': found_of(one), 'same': found_of(one), 'other': found_of(other)}

    def broken(bgr: Any) -> Detections:
        raise ValueError('no engine')

    rows = peers.measure_size({**runs, 'broken': PeerHere(broken)}, frames, 15, least_boxes=1)
    told = rows.pop('broken')['not_run']
    assert told.startswith('failed: no engine (in ') and '> broken, line' in told
    assert {name: row['agreement_f1'] for name, row in rows.items()} == {
        'ours': 1, 'same': 1, 'other': 0
    }
    assert all(row['boxes_per_frame'] == 1 for row in rows.values())
    with pytest.raises(SystemExit, match='1.00 boxes a frame'):
        peers.measure_size(runs, frames, 15, least_boxes=2)


def test_blocks_alternate_and_their_first_frames_are_not_counted():
    asked: list[tuple[str, list[int]]] = []

    class Noted(PeerHere):

        def __init__(self, name: str) -> None:
            self.name = name

        def time(self, order: Any) -> list[int]:
            asked.append((self.name, list(order)))
            if self.name == 'breaks' and len(asked) > 5:
                raise OSError('gone')
            return [1 + number for number in range(len(order))]

    samples_ns, failed = peers.time_in_turns(
        {name: Noted(name) for name in ('a', 'b', 'breaks')}, 4, 30
    )
    lead, block = peers.LEAD_IN, peers.BLOCK
    assert samples_ns == {
        name: [*range(1 + lead, 1 + lead + block)] * 3 for name in ('a', 'b')
    }
    assert failed['breaks'].startswith('failed: gone')
    assert [name for name, _ in asked] == [
        'a', 'b', 'breaks', 'a', 'b', 'breaks', 'b', 'a', 'a', 'b',
    ]
    assert [len(order) for _, order in asked] == [peers.WARM_UP] * 3 + [lead + block] * 7
    assert asked[3][1][lead:] == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]


def test_peers_that_did_not_run_have_their_row_in_result_and_table(tmp_path, monkeypatch, capsys):
    one = make_detections((64, 48), ((1, 2, 30, 40), 0.9, 0))
    monkeypatch.setattr(peers, 'PEERS', {
        'ours': lambda args: PeerHere(lambda bgr: one, {'settings': 'of ours'}),
        'gone': raising(ImportError('no module x')),
    })
    monkeypatch.setattr(peers, 'load_frames', lambda *_: [FRAME])
    path = tmp_path / 'peers.json'
    command = ['peers.py', '--frames', '2', '--least-boxes', '1', '-o', str(path)]
    for asked, status in (([], 3), (['--without', 'gone'], 0)):
        monkeypatch.setattr(sys, 'argv', [*command, *asked])
        assert peers.main() == status
        result = json.loads(path.read_text())
        assert result['not_run'] == {'gone': 'not installed: no module x'}
        assert result['sizes']['640x480']['gone'] == {'not_run': 'not installed: no module x'}
        assert result['sizes']['640x480']['ours']['settings'] == 'of ours'
        told = capsys.readouterr()
        assert '| gone | not run: not installed: no module x |' in told.out
        assert ('without gone' in told.err) == bool(status)


def test_peers_where_nothing_is_installed_say_so_and_fail():
    done = subprocess.run(
        [sys.executable, BENCHMARKS / 'peers.py'], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 1 and 'nothing ran' in done.stdout, done.stderr
    for name in ('ours', 'usual Python', 'trtutils', 'PyTorch'):
        assert f'{name}: ' in done.stdout


READY = "print('{\"facts\": {}}', flush=True)\n"
FOUND = '{"found": [[[1, 2, 3, 4, 0.5, 7]]]}'


def child(code: str, **limits: float) -> PeerElsewhere:
    return PeerElsewhere(
        [sys.executable, '-c', code], environment_of(sys.executable), **limits
    )


def answering(line: str) -> str:
    """Return a child that answers every question with a line."""
    return f'{READY}for _ in open(0): print({line!r}, flush=True)'


@pytest.mark.parametrize(('code', 'reason'), [
    ('', 'ended with status 0: without a word'),
    ('import os; os.abort()', 'ended with status -6'),
    ("raise SystemExit('no GPU\\nhere')", 'ended with status 1: here'),
    ("print('hello')", 'does not answer what was asked: Expecting value'),
    ("print('[]')", 'does not answer what was asked: the answer: expected an object'),
    ("print('{}')", "the answer has no 'facts'"),
    ("print('[' * 100000)", 'does not answer'),
    ("import sys; sys.stdout.buffer.write(b'\\xff\\n')", 'does not answer what was asked'),
    ("print('x' * (17 << 20), end='')", 'bytes without an end of line'),
])
def test_a_child_that_does_not_begin_as_agreed_is_a_reason(code, reason):
    with pytest.raises(NotRunError, match=reason):
        child(code)


@pytest.mark.parametrize(('line', 'reason'), [
    ('{"taken_ns": [5]}', "the answer has no 'found'"),
    ('{"found": []}', '0 frames for 1'),
    ('{"found": [[], []]}', '2 frames for 1'),
    ('{"found": [[[1, 2, 3, 4, 0.5]]]}', 'a list of 6 values'),
    ('{"found": [[[1, 2, NaN, 4, 0.5, 7]]]}', 'expected'),
    ('{"found": [[[1, 2, 3, 4, 0.5, 0.5]]]}', 'expected'),
    ('{"found": [[[1, 2, 3, 4, 0.5, 3000000000]]]}', 'expected'),
])
def test_detections_that_are_none_are_refused(line, reason):
    peer = child(answering(line))
    with contextlib.closing(peer), pytest.raises(NotRunError, match=reason):
        peer.show([FRAME])


@pytest.mark.parametrize(('taken', 'reason'), [
    ([5], '1 frames of 5 ns for 2'), ([5, 0], 'expected'), ([5, -5], 'expected'),
    ([10**12, 10**12], '2 frames of 2000000000000 ns for 2'), (['5', '5'], 'expected'),
    ([10**14, 1], 'expected'),
])
def test_times_that_are_none_are_refused(taken, reason):
    peer = child(answering(json.dumps({'taken_ns': taken})))
    with contextlib.closing(peer), pytest.raises(NotRunError, match=reason):
        peer.time([0, 0])


def test_what_a_child_answers_becomes_detections_and_times():
    peer = child(answering(FOUND))
    with contextlib.closing(peer):
        found = peer.show([FRAME])[0]
        assert found.boxes_xyxy.tolist() == [[1, 2, 3, 4]] and found.class_ids.tolist() == [7]
        assert found.source_wh == (64, 48)
    peer = child(answering('{"taken_ns": [1, 2]}'))
    with contextlib.closing(peer):
        assert peer.time([0, 0]) == [1, 2]


def test_a_silent_child_is_given_up_and_ended(monkeypatch):
    monkeypatch.setattr('peers_parts.other_interpreter.END_LIMIT_S', 0.2)
    ignoring = 'import signal\nsignal.pause()'  # neither answers nor ends with its input
    with pytest.raises(NotRunError, match='has not answered within 0.1 s'):
        child(ignoring, open_limit_s=0.1)
    peer = child(READY + ignoring, answer_limit_s=0.1)
    with pytest.raises(NotRunError, match='has not answered within 0.1 s'):
        peer.time([0])
    peer.close()
    assert peer._process.returncode == -9


def test_another_interpreter_gets_no_home_and_libraries_of_this_one(monkeypatch):
    own, driver = f'{sys.prefix}/lib', '/usr/local/nvidia/lib64'
    monkeypatch.setenv('PYTHONHOME', sys.prefix)
    monkeypatch.setenv('LD_LIBRARY_PATH', os.pathsep.join([own, driver, '']))
    here, there = environment_of(sys.executable), environment_of('/elsewhere/bin/python3')
    assert here['PYTHONHOME'] == sys.prefix and own in here['LD_LIBRARY_PATH']
    assert 'PYTHONHOME' not in there and there['LD_LIBRARY_PATH'] == driver
    assert here['PYTHONPATH'] == there['PYTHONPATH'] == os.pathsep.join(
        [str(BENCHMARKS.parent), str(BENCHMARKS)]
    )
    monkeypatch.setenv('LD_LIBRARY_PATH', own)
    assert 'LD_LIBRARY_PATH' not in environment_of('/elsewhere/bin/python3')


class Detector:
    """What trtutils returns: boxes of whole pixels, score, class."""

    def end2end(self, bgr: Any) -> list[tuple[tuple[int, int, int, int], float, int]]:
        return [((1, 2, 3, 4), 0.5, 7)]


def test_trtutils_runs_in_the_first_way_that_does_and_tells_the_others(capsys):
    def open_one(plan: str, preprocessor: str, way: trtutils_peer.Way) -> Detector:
        if way.by_address is False:
            raise RuntimeError('cudaErrorInvalidValue')
        return Detector()

    peer = trtutils_peer.open_first('x.plan', 'cuda', trtutils_peer.COPYING, open_one)
    assert peer.facts['settings'] == trtutils_peer.COPYING[1].name
    assert list(peer.facts['refused']) == ['defaults']
    assert peer.facts['refused']['defaults'].startswith('cudaErrorInvalidValue (in ')
    assert 'trtutils, cuda, defaults: cudaErrorInvalidValue' in capsys.readouterr().out
    found = peer.show([FRAME])[0]
    assert found.boxes_xyxy.tolist() == [[1, 2, 3, 4]] and found.class_ids.tolist() == [7]


def test_trtutils_that_runs_in_no_way_gives_all_reasons():
    def open_one(plan: str, preprocessor: str, way: trtutils_peer.Way) -> Detector:
        raise RuntimeError(f'no {way.name}')

    with pytest.raises(NotRunError) as raised:
        trtutils_peer.open_first('x.plan', 'cuda', trtutils_peer.COPYING, open_one)
    assert all(f'no {way.name}' in str(raised.value) for way in trtutils_peer.COPYING)


def test_copies_get_the_address_of_an_array_of_one_number():
    """
    The way of real cuda-bindings from an argument to an address.

    13.4 with NumPy 1.26 takes the number in an array of one number for the address.

    """
    runtime = pytest.importorskip('cuda.bindings.runtime')
    count = np.full((1, 1), 5, np.int32)

    class Copies:
        cudaError_t = runtime.cudaError_t

        def cudaMemcpyAsync(self, to: Any, source: Any, *rest: Any) -> Any:  # noqa: N802
            places = [runtime._HelperInputVoidPtr(each).cptr for each in (to, source)]
            return (*places, *rest)

        cudaMemcpy = cudaMemcpyAsync  # noqa: N815

    mended = trtutils_peer.ByAddress(Copies())
    address = count.ctypes.data
    assert mended.cudaMemcpyAsync(count, 64, 4, 'kind', 'stream') == (
        address, 64, 4, 'kind', 'stream'
    )
    assert mended.cudaMemcpy(64, count, 4, 'kind') == (64, address, 4, 'kind')
    assert mended.cudaError_t is runtime.cudaError_t
