"""Times of layers beside the layers: matched by name, summed by sort."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from yolov7_trt_ros.errors import ModelFormatError, ModelNotFoundError
from yolov7_trt_ros.report.fusion.engine_layers import parse_layers
from yolov7_trt_ros.report.fusion.timed_layers import (
    describe_run,
    load_profile,
    match_times,
    UNKNOWN,
)

LAYERS = parse_layers([
    {'Name': 'a', 'LayerType': 'CaskConvolution', 'Weights': {'Type': 'Int8'}},
    {'Name': 'PWN(b)', 'LayerType': 'PointWiseV2', 'Precision': 'FP16'},
    {'Name': 'Reformatting CopyNode for Input Tensor 0 to a', 'LayerType': 'Reformat'},
    {'Name': 'a', 'LayerType': 'CaskConvolution', 'Weights': {'Type': 'Half'}},
    {'Name': 'never told of', 'LayerType': 'NoOp'},
])


def entry(name: str, time_ms: float) -> dict[str, Any]:
    return {'name': name, 'timeMs': 50 * time_ms, 'averageMs': time_ms + 1, 'medianMs': time_ms,
            'percentage': 1.0}


PROFILE = [
    {'count': 50}, entry('a', 2.0), entry('PWN(b)', 1.0),
    entry('Reformatting CopyNode for Input Tensor 0 to a', 0.5), entry('a', 4.0),
    entry('from elsewhere', 0.25),
]


def test_what_trtexec_writes(tmp_path: Path) -> None:
    path = tmp_path / 'profile.json'
    path.write_text(json.dumps(PROFILE), encoding='utf-8')
    times = match_times(load_profile(path), LAYERS)
    assert times.total_ms == 7.75
    assert times.by_label() == {
        'convolution Half': (1, 4.0), 'convolution Int8': (1, 2.0), 'PointWiseV2 Half': (1, 1.0),
        'reformat': (1, 0.5), UNKNOWN: (1, 0.25),
    }
    assert list(times.by_label())[0] == 'convolution Half'  # the slowest sort first
    assert [each.time_ms for each in times.slowest(2)] == [4.0, 2.0]
    assert [times.of(layer) for layer in LAYERS] == [2.0, 1.0, 0.5, 4.0, None]
    assert describe_run(times) == '7.750 ms in 5 layers, 50 runs'
    assert times.to_record()['by_kind']['reformat'] == {'layers': 1, 'ms': 0.5}


def test_conditions_are_told() -> None:
    record = {'shape': '8x3x640x640', 'runs': 50, 'network_ms': 3.2, 'layers': PROFILE[1:]}
    assert describe_run(match_times(record, LAYERS)) == (
        '7.750 ms in 5 layers, 3.200 ms without the profiler, 8x3x640x640, 50 runs'
    )


def test_averages_where_there_are_no_medians() -> None:
    (only,) = match_times({'layers': [{'name': 'a', 'averageMs': 3}]}, LAYERS).layers
    assert (only.time_ms, only.layer) == (3.0, LAYERS[0])


@pytest.mark.parametrize('text', [
    '', '{}', '[]', '3', '["a"]', '[{"count": 5}]', '[{"name": "a"}]',
    '[{"name": "a", "medianMs": "x"}]', '[{"name": "a", "medianMs": null}]',
])
def test_files_that_are_something_else(tmp_path: Path, text: str) -> None:
    path = tmp_path / 'profile.json'
    path.write_text(text, encoding='utf-8')
    with pytest.raises(ModelFormatError, match='expected what trtexec --exportProfile writes'):
        load_profile(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match='cannot be read'):
        load_profile(tmp_path / 'none.json')


@pytest.mark.parametrize('record', [
    {}, {'layers': 3}, {'layers': []}, {'layers': [[]]},
    *({'layers': [{'name': 'a', 'medianMs': time_ms}]}
      for time_ms in (10**400, math.nan, -1, True, '1')),
])
def test_saved_times_that_are_something_else(record: dict[str, Any]) -> None:
    with pytest.raises(ModelFormatError):
        match_times(record, LAYERS)
