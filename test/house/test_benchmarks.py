"""The benchmarks that need neither a GPU nor much time run: briefly, and on what is here."""

from __future__ import annotations

import json
from pathlib import Path
import subprocess
import sys
from typing import Any

import cv2
import pytest
import skimage.data

REPOSITORY = Path(__file__).resolve().parents[2]
ENGINES = REPOSITORY / 'test' / 'data' / 'engines'


def run(name: str, *arguments: str | Path) -> str:
    """Return what a benchmark prints."""
    command = [sys.executable, REPOSITORY / 'benchmarks' / f'{name}.py', *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    return result.stdout


def saved(path: Path) -> dict[str, Any]:
    """Return results without where they were measured, which is not empty."""
    result: dict[str, Any] = json.loads(path.read_text())
    assert result.pop('measured_on')['command']
    return result


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Return a folder with one picture."""
    folder = tmp_path / 'pictures'
    folder.mkdir()
    astronaut = cv2.cvtColor(skimage.data.astronaut(), cv2.COLOR_RGB2BGR)
    assert cv2.imwrite(str(folder / 'astronaut.png'), astronaut)
    return folder


def test_frame_path(tmp_path: Path) -> None:
    run('frame_path', '--repeats', '2', '--processes', '1', '-o', tmp_path / 'result.json')
    result = saved(tmp_path / 'result.json')
    assert [row['size'] for row in result['outside_network']] == [
        '1920x1080', '1280x720', '640x480'
    ]
    decoded = result['decode_and_nms']
    assert decoded['raw_maps']['candidates'] == decoded['grid']['candidates'] > 0
    assert decoded['dense_grid']['candidates'] == 25200
    assert min(result['throughput_640x480'].values()) > 0


def test_frame_extras(tmp_path: Path) -> None:
    run('frame_extras', '--repeats', '2', '-o', tmp_path / 'result.json')
    result = saved(tmp_path / 'result.json')
    row = result['640x480']
    assert 0 < row['camera_watch']['p50_us'] < row['frame_us']


def test_second_look_gpu_without_one(tmp_path: Path) -> None:
    run('second_look_gpu', '--plan', 'yolov7-nano', '--threads', '1', '--seconds', '0.01',
        '--rounds', '1', '--crops', '1', '-o', tmp_path / 'result.json')
    result = saved(tmp_path / 'result.json')
    assert 'pynvml' in result['energy'] or 'NVML' in result['energy']
    for size in ('1920x1080', '1280x960'):
        full, first, crops = result[size]
        assert full['boxes_per_frame'] > first['boxes_per_frame']
        assert 0.5 <= crops['crops_per_frame'] <= 1 and crops['frames'] > 0


def test_look_cost(tmp_path: Path) -> None:
    run('look_cost', '--frames-each', '1', '--crops', '2', '--passes', '1',
        '-o', tmp_path / 'result.json')
    rows = saved(tmp_path / 'result.json')['rows']
    assert [row['thresholds'] for row in rows] == ['default', 'coco'] * 2
    for row in rows:
        assert 0 < row['ms']['least'] <= row['ms']['p95'] and 0 < row['crops'] <= 2
        assert row['first_look_boxes'] > 5 and row['boxes_per_crop'] > 0


def test_tracking(tmp_path: Path) -> None:
    run('tracking', 'cost', '--frames', '20', '-o', tmp_path / 'result.json')
    result = saved(tmp_path / 'result.json')['cost']
    assert [row['objects'] for row in result['rows']] == [0, 5, 20, 50, 100]
    assert all(row['bytetrack']['p50_us'] > row['off']['p50_us'] for row in result['rows'])


def test_strip_decoding(tmp_path: Path, pictures: Path) -> None:
    result = tmp_path / 'result.json'
    run('decoding_cut', '--pictures', pictures, '--repeats', '1', '--json', result)
    row, = saved(result)['rows']
    assert row['largest_difference_px'] < 1e-3
    assert row['inside']['network_ms'] > 0 < row['cut off']['network_ms']


def test_layer_groups(tmp_path: Path) -> None:
    names = ['yolov7-tiny_fp16_trt_8.6.json', 'yolov7-tiny_int8_trt_8.6.json']
    result = tmp_path / 'result.json'
    table = run('layer_groups', *(ENGINES / name for name in names), '--json', result)
    assert '| decoding | 0.57, 54 | 0.57, 54 |' in table
    rows = saved(result)['rows']
    assert [row['layers'] for row in rows] == names
    for row in rows:
        assert sum(group['ms'] for group in row['groups'].values()) == pytest.approx(
            row['sum_ms'], abs=0.01
        )
