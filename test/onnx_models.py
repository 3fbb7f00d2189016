"""Tiny ONNX models that behave like YOLOv7 exports, built in milliseconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper, numpy_helper, TensorProto


def _constant(name: str, value: np.ndarray) -> Any:
    return numpy_helper.from_array(value, name)


def save(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any],
         initializers: list[Any], metadata: dict[str, str] | None = None) -> Path:
    graph = helper.make_graph(nodes, 'tiny', inputs, outputs, initializers)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid('', 13)], ir_version=8
    )
    helper.set_model_props(model, metadata or {})
    path.write_bytes(model.SerializeToString())
    return path


def brightness_grid(
    path: Path,
    *,
    shape: tuple[Any, ...] = ('batch', 3, 'height', 'width'),
    baked_wh: tuple[int, int] | None = None,
    num_classes: int = 1,
    objectness: float = 0.0,
    half: bool = False,
    metadata: dict[str, str] | None = None,
) -> Path:
    """
    Build a grid model whose objectness is the brightness of each cell.

    Every cell claims the box (16, 16, 48, 48). With `baked_wh` the added constant has the shape of
    the whole grid, as YOLOv7's `--dynamic` export has it; `objectness` is added to each.

    """
    dtype, kind = (np.float16, TensorProto.FLOAT16) if half else (np.float32, TensorProto.FLOAT)
    width = 5 + num_classes
    picked = np.zeros((1, 1, 1, 1, width), dtype)
    picked[..., 4] = 1
    row = np.zeros(width, dtype)
    row[:5] = [32, 32, 32, 32, objectness]
    row[5:] = np.linspace(1, 0.5, num_classes)
    initializers = [
        _constant('picked', picked), _constant('last', np.array([4])),
        _constant('flat', np.array([0, -1, width])),
    ]
    nodes = [helper.make_node('ReduceMean', ['images'], ['grey'], axes=[1], keepdims=1)]
    for stride in (8, 16, 32):
        grid = (1, 1, 1, 1)
        if baked_wh is not None:
            grid = (1, 3, baked_wh[1] // stride, baked_wh[0] // stride)
        name = f'{{}}_{stride}'.format
        initializers += [
            _constant(name('base'), np.broadcast_to(row, (*grid, width)).copy()),
        ]
        nodes += [
            helper.make_node('AveragePool', ['grey'], [name('pool')],
                             kernel_shape=[stride] * 2, strides=[stride] * 2),
            helper.make_node('Concat', [name('pool')] * 3, [name('anchors')], axis=1),
            helper.make_node('Unsqueeze', [name('anchors'), 'last'], [name('cells')]),
            helper.make_node('Mul', [name('cells'), 'picked'], [name('values')]),
            helper.make_node('Add', [name('values'), name('base')], [name('grid')]),
            helper.make_node('Reshape', [name('grid'), 'flat'], [name('rows')]),
        ]
    nodes.append(helper.make_node('Concat', ['rows_8', 'rows_16', 'rows_32'], ['output'], axis=1))
    images = helper.make_tensor_value_info('images', kind, shape)
    output = helper.make_tensor_value_info('output', kind, ('b', 'rows', width))
    return save(path, nodes, [images], [output], initializers, metadata)


def ends_in_plugin(
    path: Path, *, num_classes: int = 4, half: bool = False, scores_first: bool = False,
    **attributes: Any,
) -> Path:
    """Build a model of 64 x 64 whose fixed boxes and scores go into EfficientNMS_TRT."""
    dtype, kind = (np.float16, TensorProto.FLOAT16) if half else (np.float32, TensorProto.FLOAT)
    boxes = np.zeros((1, 252, 4), dtype)
    boxes[0, :2] = [[10, 20, 30, 40], [40, 10, 60, 30]]
    scores = np.zeros((1, 252, num_classes), dtype)
    scores[0, 0, 1], scores[0, 1, num_classes - 1] = 0.75, 0.5
    zero = _constant('zero', np.zeros(1, dtype))
    nodes = [
        helper.make_node('ReduceMean', ['images'], ['mean'], keepdims=0),
        helper.make_node('Mul', ['mean', 'zero'], ['nothing']),
        helper.make_node('Add', ['fixed_scores', 'nothing'], ['s']),
        helper.make_node('Add', ['fixed_boxes', 'nothing'], ['b']),
        helper.make_node('EfficientNMS_TRT', ['b', 's'], ['num', 'box', 'score', 'class'],
                         name='nms', **attributes),
    ]
    if scores_first:
        nodes[2], nodes[3] = nodes[3], nodes[2]
    images = helper.make_tensor_value_info('images', kind, (1, 3, 64, 64))
    outputs = [
        helper.make_tensor_value_info('num', TensorProto.INT32, (1, 1)),
        helper.make_tensor_value_info('box', kind, (1, 100, 4)),
        helper.make_tensor_value_info('score', kind, (1, 100)),
        helper.make_tensor_value_info('class', TensorProto.INT32, (1, 100)),
    ]
    initializers = [zero, _constant('fixed_boxes', boxes), _constant('fixed_scores', scores)]
    return save(path, nodes, [images], outputs, initializers)


def classifier(path: Path) -> Path:
    nodes = [
        helper.make_node('GlobalAveragePool', ['images'], ['pool']),
        helper.make_node('Flatten', ['pool'], ['logits'], axis=1),
    ]
    images = helper.make_tensor_value_info('images', TensorProto.FLOAT, (1, 3, 64, 64))
    logits = helper.make_tensor_value_info('logits', TensorProto.FLOAT, (1, 3))
    return save(path, nodes, [images], [logits], [])


def two_inputs(path: Path) -> Path:
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 3, 64, 64)) for name in 'ab'
    ]
    output = helper.make_tensor_value_info('c', TensorProto.FLOAT, (1, 3, 64, 64))
    return save(path, [helper.make_node('Add', ['a', 'b'], ['c'])], inputs, [output], [])
