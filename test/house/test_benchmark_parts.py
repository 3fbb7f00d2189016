"""What the benchmarks share: pictures, load, ros2_benchmark's keys."""

from __future__ import annotations

import json
from pathlib import Path
import subprocess
import sys
from typing import Any

import cv2
import numpy as np
import pytest

from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.image import ImageView
from yolov7_trt_ros.engine.model_files import find_model
from yolov7_trt_ros.engine.onnx_detector import OnnxDetector
from yolov7_trt_ros.report.bench import machine_load
from yolov7_trt_ros.report.bench.machine_load import MachineLoad

BENCHMARKS = Path(__file__).resolve().parents[2] / 'benchmarks'
sys.path.insert(0, str(BENCHMARKS))

import beside  # noqa: E402, I100  (their folder has just been added)
import ladder  # noqa: E402
import measured_on  # noqa: E402
import photographs  # noqa: E402
import r2b_report  # noqa: E402
from updates_parts.figures import judge_run  # noqa: E402


def test_results_tell_no_paths_of_one_machine(monkeypatch):
    repository = BENCHMARKS.parent
    monkeypatch.setenv('HOME', '/home/somebody')
    told = f'python {repository}/benchmarks/x.py; /home/somebody/.cache/plans'
    assert measured_on.without_places(told) == 'python benchmarks/x.py; ~/.cache/plans'
    monkeypatch.setenv('HOME', '/')
    assert measured_on.without_places('/a /b') == '/a /b'


def test_mosaics_are_photographs_with_several_objects():
    detector = OnnxDetector(find_model('yolov7-nano'))
    frames = photographs.load_photographs(None, 640, 480)
    assert len({frame.tobytes() for frame in frames}) == len(frames) == 4
    found = [detector.detect(ImageView.from_array(each), DetectSettings())[0] for each in frames]
    photographs.check_boxes(sum(map(len, found)) / len(found))


def test_pictures_of_a_folder_fill_the_size(tmp_path):
    assert cv2.imwrite(str(tmp_path / 'wide.png'), np.full((10, 40, 3), (1, 2, 3), np.uint8))
    (tmp_path / 'notes.txt').write_text('no picture')
    frames = photographs.load_photographs(tmp_path, 64, 48, count=2)
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 2
    assert all((frame == (1, 2, 3)).all() for frame in frames)
    assert not np.shares_memory(*frames)


def test_no_pictures_and_few_boxes_are_errors(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match='has no picture'):
        photographs.load_photographs(tmp_path, 64, 48)
    with pytest.raises(SystemExit, match='4.90 boxes a frame'):
        photographs.check_boxes(4.9)
    monkeypatch.setitem(sys.modules, 'skimage.data', None)
    with pytest.raises(SystemExit, match='pip install scikit-image'):
        photographs.load_photographs(None, 64, 48)


def test_load_is_judged_by_the_cores():
    assert MachineLoad(0.4, 2).warning == ''
    assert 'load 0.6 on 2 core(s)' in MachineLoad(0.6, 2).warning
    assert 'interference by other work is unknown' in MachineLoad(None, 2).warning
    assert MachineLoad(3.0, 2).as_record() == {'one_minute': 3.0, 'cores': 2, 'busy': True}
    assert machine_load.read_load().cores >= 1


def test_results_hold_the_load_of_before(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(measured_on, 'LOAD_BEFORE', MachineLoad(34.0, 2))
    measured_on.save(tmp_path / 'result.json', {})
    record = json.loads((tmp_path / 'result.json').read_text())['measured_on']
    assert record['load_before'] == {'one_minute': 34.0, 'cores': 2, 'busy': True}
    assert 'load 34.0 on 2' in capsys.readouterr().err


MS = 1_000_000


def test_keys_of_ros2_benchmark(tmp_path):
    sent_ns = [0, 100 * MS, 200 * MS, 300 * MS]
    arrived_ns = {0: 10 * MS, 200 * MS: 230 * MS, 300 * MS: 320 * MS}  # the second was lost
    metrics = r2b_report.r2b_record(sent_ns, arrived_ns)
    values = {name.partition('.')[2]: value for name, value in metrics.items()}
    assert values == pytest.approx({
        'RECEIVED_DURATION': 310, 'MEAN_PLAYBACK_FRAME_RATE': 4 / 0.3,
        'MEAN_FRAME_RATE': 3 / 0.31, 'NUM_MISSED_FRAMES': 1, 'NUM_FRAMES_SENT': 4,
        'FIRST_SENT_RECEIVED_LATENCY': 10, 'LAST_SENT_RECEIVED_LATENCY': 20,
        'FIRST_INPUT_LATENCY': 10, 'LAST_INPUT_LATENCY': 20,
        'MAX_LATENCY': 30, 'MIN_LATENCY': 10, 'MEAN_LATENCY': 20,
        'MAX_JITTER': 130, 'MIN_JITTER': 130, 'MEAN_JITTER': 130, 'STD_DEV_JITTER': 0,
    })
    for cameras, depth in (({'camera0': metrics}, ()), (dict.fromkeys('ab', metrics), ('a',))):
        r2b_report.write_r2b(tmp_path / 'r2b.json', '640x480', cameras)
        record: Any = json.loads((tmp_path / 'r2b.json').read_text())
        for name in depth:
            record = record[name]
        assert record['BasicPerformanceMetrics.NUM_FRAMES_SENT'] == 4
    with pytest.raises(SystemExit, match='too few'):
        r2b_report.r2b_record(sent_ns, {0: 1})


def test_a_session_goes_on_after_a_step_that_cannot_run(tmp_path):
    done = subprocess.run([
        sys.executable, BENCHMARKS / 'gpu_session.py', '--plan', tmp_path / 'no.plan',
        '--steps', 'correct', 'peers', 'build_grid', '-o', tmp_path,
    ], capture_output=True, text=True, timeout=600)
    assert done.returncode == 1, done.stderr
    steps = json.loads((tmp_path / 'session.json').read_text())['steps']
    assert steps['correct'] == {'status': 0, 'left_out': 'needs --pictures'}
    assert steps['build_grid'] == {'status': 0, 'left_out': 'no ONNX model was given'}
    assert steps['peers']['status'] == 1 and steps['peers']['last_line'] == 'nothing ran'


def test_host_work_is_measured_without_a_gpu(tmp_path):
    subprocess.run([
        sys.executable, BENCHMARKS / 'host_work.py', '--frames', '20',
        '-o', tmp_path / 'result.json',
    ], check=True, timeout=600)
    result = json.loads((tmp_path / 'result.json').read_text())
    assert result['view_us'] > 0 < result['detect_us'] and result['boxes'] == 10


def test_the_picture_of_the_ladder_is_what_the_results_say(tmp_path, monkeypatch, capsys):
    picture = tmp_path / 'ladder.svg'
    monkeypatch.setattr(sys, 'argv', ['ladder.py', '-o', str(picture)])
    ladder.main()
    drawn = BENCHMARKS.parent / 'docs' / 'images' / 'ladder.svg'
    assert picture.read_text() == drawn.read_text(), 'python benchmarks/ladder.py draws it anew'
    told = capsys.readouterr().out
    for name in ('node_latency_h200', 'node_locked_h200', 'node_latency'):
        node = json.loads((BENCHMARKS / 'results' / f'{name}.json').read_text())
        topic_ms = node['publishers']['serialized']['latency_ms']['p50']
        assert f'{topic_ms:.2f} ms  topic to topic' in told


def test_rungs_of_the_ladder_add_up():
    stages = {f'{name} p50': value for name, value in (
        ('transport', 4.0), ('wait', 2.0), ('preprocess', 0.5), ('infer', 8.0),
        ('postprocess', 0.25), ('publish', 0.125), ('stamp_to_publish', 15.0),
    )}
    node = {'measured_on': {'command': 'node'}, 'publishers': {'serialized': {
        'cameras': [{'stages_ms': stages}], 'latency_ms': {'p50': 15.5},
    }}}
    assert [each.median_ms for each in ladder.cpu_rungs(node)] == [8.0, 8.75, 10.875, 15.5]
    path = {
        'measured_on': {'command': 'path'},
        'stages_rectangular': {'1920x1080 as 640x384': {'network_graph': 0.5}},
        'throughput_rectangular': {'1920x1080': {'upload_ms': 0.25}},
        'latency_rectangular_in_turns': {
            '1920x1080': {'staged': {'p50': 1.0}, 'locked': {'p50': 0.75}},
        },
    }
    rungs = ladder.gpu_rungs(path, {'staged': node, 'locked': node})
    assert [(each.name, each.way, each.median_ms) for each in rungs] == [
        ('engine', ladder.STAGED, 0.5), ('engine', ladder.LOCKED, 0.5),
        ('+ transfers', ladder.STAGED, 0.75),
        ('+ pre- and postprocessing', ladder.STAGED, 1.0),
        ('+ pre- and postprocessing', ladder.LOCKED, 0.75),
        ('in the node', ladder.STAGED, 10.875), ('topic to topic', ladder.STAGED, 15.5),
        ('in the node', ladder.LOCKED, 10.875), ('topic to topic', ladder.LOCKED, 15.5),
    ]
    assert [each.command for each in rungs] == ['path'] * 5 + ['node'] * 4


def test_a_command_that_prints_much_ends_beside_what_is_measured():
    looks = []

    def work(runs):
        while runs():
            looks.append(True)
        return 'measured'

    command = [sys.executable, '-c', 'print("x" * 1_000_000); raise SystemExit(3)']
    done, status, said = beside.run_beside(command, work)
    assert (done, status, len(said)) == ('measured', 3, 1_000_001) and looks


def test_memory_of_all_on_the_gpu_is_judged_between_updates_and_that_of_the_node_always():
    """While a process refits, it has memory as well."""
    during = [{'device_mib': 900.0, 'node_device_mib': 500.0 + index} for index in range(120)]
    after_each = [{'device_mib': 700.0}] * 90
    found, violations = judge_run(during, after_each)
    assert found['device_mib']['verdict'] == 'steady'
    assert found['device_mib']['median_last_third'] == 700
    assert found['node_device_mib']['verdict'] == 'grows' and len(violations) == 1
    assert found['rss_mib'] == {'verdict': 'not measured'}
