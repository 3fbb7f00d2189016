"""ONNX nodes that decode raw maps to rows, for any size or with the cells of one size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto

from yolov7_trt_ros.model.export.onnx_writer import GraphWriter
from yolov7_trt_ros.model.network.architecture import ANCHORS_PER_MAP, Network


def write_grid(
    writer: GraphWriter, network: Network, maps: Sequence[str], output: str,
    image_hw: tuple[int, int] | None,
) -> str:
    """
    Write what `decode_maps` computes; return the name of the rows (B, rows, 5 + classes).

    Parameters
    ----------
    writer, network
        Where the nodes go, and the model that they decode for.
    maps, output
        Names of the raw maps, and that of the rows.
    image_hw
        Network size, if it is fixed: the cells are stored then. None computes them from the
        maps' own integer sizes.

    """
    levels = []
    for level, (raw, stride) in enumerate(zip(maps, network.strides, strict=True)):
        hw = None if image_hw is None else (image_hw[0] // stride, image_hw[1] // stride)
        levels.append(_write_level(writer, network, raw, level, hw))
    return writer.node('Concat', levels, output, axis=1)


def _write_level(
    writer: GraphWriter, network: Network, raw: str, level: int, hw: tuple[int, int] | None
) -> str:
    name, values = f'decode.{level}', 5 + network.num_classes
    cells = _write_reshaped(writer, raw, name, values, hw)
    unit = writer.node('Sigmoid', [cells], f'{name}.unit')
    parts = [f'{name}.{part}' for part in ('x', 'y', 'wh', 'scores')]
    writer.split(unit, (1, 1, 2, values - 4), parts)
    stride = writer.number(network.strides[level])
    boxes = [
        _write_centre(writer, parts[axis], _write_cells(writer, name, axis, hw), stride)
        for axis in (0, 1)
    ]
    twice = writer.node('Mul', [parts[2], writer.number(2)], f'{name}.wh.twice')
    square = writer.node('Mul', [twice, twice], f'{name}.wh.square')
    sizes = np.array(network.anchors[level], np.float32).reshape(1, ANCHORS_PER_MAP, 1, 1, 2)
    anchors = writer.const(f'{name}.anchors', sizes, np.float32)
    boxes.append(writer.node('Mul', [square, anchors], f'{name}.wh.pixels'))
    joined = writer.node('Concat', [*boxes, parts[3]], f'{name}.boxes', axis=-1)
    return writer.node('Reshape', [joined, writer.integers(0, -1, values)], f'{name}.rows')


def _write_reshaped(
    writer: GraphWriter, raw: str, name: str, values: int, hw: tuple[int, int] | None
) -> str:
    """(B, 3 * values, h, w) to (B, 3, h, w, values)."""
    if hw is not None:
        shape = writer.integers(0, ANCHORS_PER_MAP, values, *hw)
    else:
        whole = writer.node('Shape', [raw], f'{name}.shape')
        size = writer.node('Gather', [whole, writer.integers(2, 3)], f'{name}.size', axis=0)
        start = writer.integers(0, ANCHORS_PER_MAP, values)
        shape = writer.node('Concat', [start, size], f'{name}.split_shape', axis=0)
    split = writer.node('Reshape', [raw, shape], f'{name}.split')
    return writer.node('Transpose', [split], f'{name}.cells', perm=[0, 1, 3, 4, 2])


def _write_cells(writer: GraphWriter, name: str, axis: int, hw: tuple[int, int] | None) -> str:
    """Numbers of the columns (axis 0) as (1, 1, 1, w, 1), or of the rows as (1, 1, h, 1, 1)."""
    side, along = (3, 'x') if axis == 0 else (2, 'y')
    shape = [1, 1, 1, 1, 1]
    shape[side] = -1
    if hw is not None:
        count = hw[side - 2]
        values = np.arange(count).reshape(shape)
        return writer.const(f'{name}.{along}.cells', values, np.float32)
    index = writer.const(f'index.{side}', np.array(side), np.int64)
    count_name = writer.node('Gather', [f'{name}.shape', index], f'{name}.{along}.count', axis=0)
    zero, one = (writer.const(f'index.{n}', np.array(n), np.int64) for n in (0, 1))
    numbers = writer.node('Range', [zero, count_name, one], f'{name}.{along}.range')
    floats = writer.node('Cast', [numbers], f'{name}.{along}.numbers', to=TensorProto.FLOAT)
    return writer.node('Reshape', [floats, writer.integers(*shape)], f'{name}.{along}.cells')


def _write_centre(writer: GraphWriter, unit: str, cells: str, stride: str) -> str:
    twice = writer.node('Mul', [unit, writer.number(2)], f'{unit}.twice')
    offset = writer.node('Sub', [twice, writer.number(0.5)], f'{unit}.offset')
    position = writer.node('Add', [offset, cells], f'{unit}.position')
    return writer.node('Mul', [position, stride], f'{unit}.pixels')
