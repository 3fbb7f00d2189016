"""Stored weights whose numbers are not those of their shapes: refused where a model is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from yolov7_trt_ros.engine.model_files import find_model
from yolov7_trt_ros.errors import ModelFormatError
from yolov7_trt_ros.onnx_tools.edit import widen_casts
from yolov7_trt_ros.onnx_tools.model_file import load_model
from yolov7_trt_ros.onnx_tools.tensorrt_form import read_model


def _cut(tensor: Any) -> None:
    tensor.raw_data = tensor.raw_data[:-2]


def _reshape(tensor: Any) -> None:
    tensor.dims[0] = 2**40


def _negate(tensor: Any) -> None:
    tensor.dims[0], tensor.dims[1] = -tensor.dims[0], -tensor.dims[1]


def _empty(tensor: Any) -> None:
    tensor.ClearField('raw_data')


@pytest.mark.parametrize('damage', [_cut, _reshape, _negate, _empty])
def test_weights_that_are_not_those_of_their_shape_are_refused(
    tmp_path: Path, damage: Callable[[Any], None]
) -> None:
    model = onnx.load(str(find_model('yolov7-nano')))
    tensor = next(each for each in model.graph.initializer if len(each.dims) == 4)
    damage(tensor)
    path = tmp_path / 'damaged.onnx'
    path.write_bytes(model.SerializeToString())
    for read in (load_model, lambda path: read_model(path, path.read_bytes())):
        with pytest.raises(ModelFormatError, match=f'is damaged: its weights .{tensor.name}'):
            read(path)


@pytest.mark.parametrize('field', ['attribute', 'input', 'output'])
def test_a_cast_that_lacks_something_is_left_to_who_runs_the_model(field: str) -> None:
    path = str(find_model('yolov7-nano'))
    model = onnx.load(path)
    cast = next(node for node in model.graph.node if node.op_type == 'Cast')
    del getattr(cast, field)[:]
    assert widen_casts(model) == widen_casts(onnx.load(path)) - 1
