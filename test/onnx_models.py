"""Tiny ONNX models that behave like YOLOv7 exports, built in milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper, numpy_helper, TensorProto
import pytest

BuildModel = Callable[..., Path]


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
    Build a grid model that claims the box (16, 16, 48, 48) as surely as its input is bright.

    Of each stride one cell does, with the brightness of the brightest cell as its objectness; the
    others claim boxes around themselves with none. `objectness` is added to each. With `baked_wh`
    the grid has that size, as in YOLOv7's `--dynamic` export, else any up to 1280.

    """
    dtype, kind = (np.float16, TensorProto.FLOAT16) if half else (np.float32, TensorProto.FLOAT)
    scores = np.linspace(1, 0.5, num_classes) if num_classes > 2 else [0.75, 0.5][:num_classes]
    initializers = [
        _constant('flat', np.array([0, -1, 5 + num_classes])), _constant('none', dtype(0)),
        _constant('added', dtype(objectness)),
        _constant('sides', np.full((1, 2, 1, 1), 32, dtype)),
        _constant('scores', np.array(scores, dtype).reshape(1, -1, 1, 1)),
        *(_constant(f'index_{index}', np.array([index])) for index in range(5)),
    ]
    nodes = []

    def add(operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    add('ReduceMean', ['images'], 'grey', axes=[1], keepdims=1)
    for stride in (8, 16, 32):
        name = f'{{}}_{stride}'.format
        pool = add('AveragePool', ['grey'], name('pool'),
                   kernel_shape=[stride] * 2, strides=[stride] * 2)
        add('Mul', [pool, 'none'], name('zero'))
        add('Shape', [pool], name('shape'))
        for axis, side in ((3, 'x'), (2, 'y')):
            cells = (baked_wh[3 - axis] if baked_wh else 1280) // stride
            form = (1, 1, 1, -1) if side == 'x' else (1, 1, -1, 1)
            chosen = np.arange(cells) == 32 // stride - 1  # its box is centred on its far corner
            starts = np.arange(cells) * stride + stride / 2
            for what, values in (('centre', starts), ('chosen', chosen)):
                initializers.append(
                    _constant(name(f'all_{what}_{side}'), values.astype(dtype).reshape(form))
                )
                if baked_wh:
                    add('Identity', [name(f'all_{what}_{side}')], name(f'{what}_{side}'))
                    continue
                first, last = f'index_{axis}', f'index_{axis + 1}'
                end = add('Slice', [name('shape'), first, last], name(f'{what}_{side}_end'))
                add('Slice', [name(f'all_{what}_{side}'), 'index_0', end, f'index_{axis}'],
                    name(f'{what}_{side}'))
        add('Mul', [name('chosen_x'), name('chosen_y')], name('chosen'))
        initializers.append(_constant(name('moved'), dtype(stride / 2)))
        add('Mul', [name('chosen'), name('moved')], name('corner'))
        for side in ('x', 'y'):
            add('Add', [name(f'centre_{side}'), name('corner')], name(f'c{side}_flat'))
            add('Add', [name(f'c{side}_flat'), name('zero')], name(f'c{side}'))
        add('ReduceMax', [pool], name('brightest'), axes=[2, 3], keepdims=1)
        add('Add', [name('brightest'), 'added'], name('sure'))
        add('Mul', [name('chosen'), name('sure')], name('objectness'))
        add('Add', [name('zero'), 'sides'], name('wh'))
        add('Add', [name('zero'), 'scores'], name('classes'))
        parts = [name(part) for part in ('cx', 'cy', 'wh', 'objectness', 'classes')]
        add('Concat', parts, name('values'), axis=1)
        add('Transpose', [name('values')], name('last'), perm=[0, 2, 3, 1])
        add('Reshape', [name('last'), 'flat'], name('rows'))
    add('Concat', [f'rows_{stride}' for stride in (8, 16, 32) for _ in range(3)], 'output', axis=1)
    images = helper.make_tensor_value_info('images', kind, shape)
    output = helper.make_tensor_value_info('output', kind, ('b', 'rows', 5 + num_classes))
    return save(path, nodes, [images], [output], initializers, metadata)


def grid_centres(
    network_wh: tuple[int, int] = (64, 64), strides: tuple[int, ...] = (8, 16, 32),
    anchors: int = 3,
) -> np.ndarray:
    """Return boxes (rows, 4), as centres and sizes, around the cells of a grid."""
    rows = []
    for stride in strides:
        y, x = np.mgrid[:network_wh[1]:stride, :network_wh[0]:stride] + stride / 2
        centres = np.tile(np.stack([x, y], -1).reshape(-1, 2), (anchors, 1))
        rows.append(np.concatenate([centres, np.full_like(centres, 2 * stride)], axis=1))
    return np.concatenate(rows).astype(np.float32)


def as_corners(centres: np.ndarray) -> np.ndarray:
    """Return boxes (..., 4) of centres and sizes as corners."""
    half = centres[..., 2:] / 2
    return np.concatenate([centres[..., :2] - half, centres[..., :2] + half], axis=-1)


def ends_in_plugin(
    path: Path, *, num_classes: int = 4, half: bool = False, scores_first: bool = False,
    **attributes: Any,
) -> Path:
    """Build a model of 64 x 64 whose fixed boxes and scores go into EfficientNMS_TRT."""
    dtype, kind = (np.float16, TensorProto.FLOAT16) if half else (np.float32, TensorProto.FLOAT)
    centres = attributes.get('box_coding') in (1, [1])
    boxes = (grid_centres() if centres else as_corners(grid_centres()))[None].astype(dtype)
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


def fixed_rows(path: Path, rows: np.ndarray, bright: np.ndarray | None = None) -> Path:
    """Build a model of 64 x 64 that gives the same rows always, and `bright` more for white."""
    nodes = [
        helper.make_node('ReduceMin', ['images'], ['darkest'], keepdims=0),
        helper.make_node('Floor', ['darkest'], ['white']),
        helper.make_node('Mul', ['bright', 'white'], ['more']),
        helper.make_node('Add', ['rows', 'more'], ['output']),
    ]
    images = helper.make_tensor_value_info('images', TensorProto.FLOAT, (1, 3, 64, 64))
    output = helper.make_tensor_value_info('output', TensorProto.FLOAT, rows.shape)
    stored = [_constant('rows', rows),
              _constant('bright', np.zeros_like(rows) if bright is None else bright)]
    return save(path, nodes, [images], [output], stored)


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


CONV_ANCHORS = (
    ((9.0, 14.5), (17.0, 31.0), (34.0, 24.0)),
    ((28.0, 60.0), (63.0, 44.0), (58.0, 118.0)),
    ((115.0, 91.0), (157.0, 199.0), (372.0, 325.0)),
)


def conv_grid(
    path: Path,
    *,
    sides: tuple[Any, Any] = (64, 96),
    num_classes: int = 2,
    half: bool = False,
    implicit: bool = False,
    strides: tuple[int, ...] = (8, 16, 32),
    sizes: str = 'yolov7',
    reads_image: bool = False,
    channels: int | None = None,
    grid_hw: tuple[int, int] = (64, 96),
) -> Path:
    """
    Build a grid model whose maps come from convolutions; the grid is made for `grid_hw`.

    `sides` may be names, as YOLOv7's `--dynamic` export has them. With `sizes='yolov3'` boxes are
    exp(t) anchors. `implicit` scales and shifts the maps; `reads_image` scales them by the image.

    """
    dtype, kind = (np.float16, TensorProto.FLOAT16) if half else (np.float32, TensorProto.FLOAT)
    random = np.random.default_rng(1)
    values = 5 + num_classes
    channels = channels or 3 * values

    def number(value: Any) -> Any:
        return np.asarray(value, dtype)

    stored = {
        'two': number(2), 'half': number(0.5), 'flat': np.array([1, -1, values]),
        'parts': np.array([2, 2, 1 + num_classes]), 'none': number(0),
        'wanted': np.arange(3 * values),
    }
    nodes = []

    def add(operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    for stride, anchors in zip(strides, CONV_ANCHORS, strict=True):
        name = f'{{}}_{stride}'.format
        height, width = (side // stride for side in grid_hw)
        y, x = np.mgrid[:height, :width]
        stored[name('w')] = number(random.normal(0, 3, (channels, 3, 1, 1)))
        stored[name('b')] = number(random.normal(0, 1, channels))
        stored[name('shape')] = np.array([1, 3, values, height, width])
        stored[name('cells')] = number(np.stack([x, y], -1)[None, None])
        stored[name('stride')] = number(stride)
        stored[name('anchors')] = number(np.array(anchors)[None, :, None, None])
        add('AveragePool', ['images'], name('pool'), kernel_shape=[stride] * 2,
            strides=[stride] * 2)
        raw = add('Conv', [name('pool'), name('w'), name('b')], name('conv'))
        if channels != 3 * values:
            raw = add('Gather', [raw, 'wanted'], name('fewer'), axis=1)
        if implicit:
            stored[name('scale')] = number(random.normal(1, 0.1, (1, channels, 1, 1)))
            stored[name('shift')] = number(random.normal(0, 0.1, (1, channels, 1, 1)))
            raw = add('Mul', [name('scale'), raw], name('scaled'))
            raw = add('Add', [raw, name('shift')], name('shifted'))
        if reads_image:
            add('ReduceMean', ['images'], name('grey'), keepdims=0)
            add('Mul', [name('grey'), 'none'], name('nothing'))
            raw = add('Add', [raw, name('nothing')], name('mixed'))
        add('Reshape', [raw, name('shape')], name('split'))
        add('Transpose', [name('split')], name('last'), perm=[0, 1, 3, 4, 2])
        add('Sigmoid', [name('last')], name('unit'))
        nodes.append(helper.make_node(
            'Split', [name('unit'), 'parts'], [name('xy'), name('wh'), name('rest')], axis=4
        ))
        add('Mul', [name('xy'), 'two'], name('xy2'))
        add('Sub', [name('xy2'), 'half'], name('xy1'))
        add('Add', [name('xy1'), name('cells')], name('centre'))
        add('Mul', [name('centre'), name('stride')], name('centres'))
        if sizes == 'yolov3':
            add('Exp', [name('wh')], name('square'))
        else:
            add('Mul', [name('wh'), 'two'], name('wh2'))
            add('Pow', [name('wh2'), 'two'], name('square'))
        add('Mul', [name('square'), name('anchors')], name('sizes'))
        add('Concat', [name('centres'), name('sizes'), name('rest')], name('all'), axis=4)
        add('Reshape', [name('all'), 'flat'], name('rows'))
    add('Concat', [f'rows_{stride}' for stride in strides], 'output', axis=1)
    images = helper.make_tensor_value_info('images', kind, (1, 3, *sides))
    output = helper.make_tensor_value_info('output', kind, (1, 'rows', values))
    return save(path, nodes, [images], [output], [_constant(*each) for each in stored.items()])


@pytest.fixture
def build(tmp_path: Path) -> BuildModel:
    """Build one of the models of onnx_models.py by its function's name and return its path."""
    makers = {maker.__name__: maker
              for maker in (brightness_grid, ends_in_plugin, classifier, two_inputs)}

    def build_model(kind: str, **options: Any) -> Path:
        return makers[kind](tmp_path / f'{kind}.onnx', **options)

    return build_model
