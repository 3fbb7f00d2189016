"""ONNX nodes for the layers of a network."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import nn

from yolov7_trt_ros.model.export.onnx_writer import GraphWriter
from yolov7_trt_ros.model.network.architecture import Network
from yolov7_trt_ros.model.network.blocks import ConvBlock, Down, Pyramid, PYRAMID_POOLS
from yolov7_trt_ros.model.network.layer_table import IMAGE, LayerRow, LEAKY_SLOPE

_END = 2**31 - 1


def write_layers(writer: GraphWriter, network: Network, image: str) -> list[str]:
    """
    Write every layer of a network whose batch norms are folded.

    Returns the names of the raw maps (B, 3 * (5 + classes), h, w), smallest stride first. Nodes
    and tensors are called like the layers: `model.3.conv`, then `model.3` for its activation.

    """
    return write_head(writer, network, write_rows(writer, network, image))


def write_head(writer: GraphWriter, network: Network, values: Mapping[int, str]) -> list[str]:
    """Write the head on the rows' outputs, by their numbers; return the names of its maps."""
    name = f'model.{len(network.rows) - 1}'
    inputs = [values[source] for source in network.rows[-1].sources]
    return [
        _convolution(writer, layer, x, f'{name}.m.{level}')
        for level, (layer, x) in enumerate(zip(network.head.layers, inputs, strict=True))
    ]


def write_rows(writer: GraphWriter, network: Network, image: str) -> dict[int, str]:
    """Write all layers but the head; return the name of each row's output."""
    values = {IMAGE: image}
    for index, (row, block) in enumerate(zip(network.rows, network.model, strict=True)):
        if row.kind != 'detect':
            inputs = [values[source] for source in row.sources]
            values[index] = _write_row(writer, row, block, inputs, f'model.{index}')
    return values


def _write_row(
    writer: GraphWriter, row: LayerRow, block: nn.Module, inputs: list[str], name: str
) -> str:
    if isinstance(block, ConvBlock):
        return _write_conv(writer, block, inputs[0], name)
    if isinstance(block, Pyramid):
        return _write_pyramid(writer, block, inputs[0], name)
    if isinstance(block, Down):
        return _write_down(writer, block, inputs[0], name)
    if row.kind == 'max_pool':
        return _write_pool(writer, inputs[0], row.kernel, row.stride, row.padding, name)
    if row.kind == 'upsample':
        return writer.double_size(inputs[0], name)
    if row.kind == 'reorg':
        return _write_reorg(writer, inputs[0], name)
    if row.kind == 'add':
        return writer.node('Add', inputs, name)
    return writer.node('Concat', inputs, name, axis=1)


def _write_conv(writer: GraphWriter, block: ConvBlock, x: str, name: str) -> str:
    assert block.bn is None  # export folds them
    x = _convolution(writer, block.conv, x, f'{name}.conv')
    if block.activation == 'silu':
        gate = writer.node('Sigmoid', [x], f'{name}.sigmoid')
        return writer.node('Mul', [x, gate], name)
    if block.activation == 'leaky_relu':
        return writer.node('LeakyRelu', [x], name, alpha=LEAKY_SLOPE)
    return writer.node('Relu', [x], name) if block.activation == 'relu' else x


def _convolution(writer: GraphWriter, layer: nn.Conv2d, x: str, name: str) -> str:
    inputs = [x, writer.weight(f'{name}.weight', layer.weight.detach().numpy())]
    if layer.bias is not None:
        inputs.append(writer.const(f'{name}.bias', layer.bias.detach().numpy(), np.float32))
    padding = int(layer.padding[0])
    return writer.node(
        'Conv', inputs, name, kernel_shape=list(layer.kernel_size), strides=list(layer.stride),
        pads=[padding] * 4, group=layer.groups,
    )


def _write_pool(
    writer: GraphWriter, x: str, kernel: int, stride: int, padding: int, name: str
) -> str:
    return writer.node(
        'MaxPool', [x], name, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[padding] * 4
    )


def _write_pyramid(writer: GraphWriter, block: Pyramid, x: str, name: str) -> str:
    wide = x
    for number in (1, 3, 4):
        part = getattr(block, f'cv{number}')
        wide = _write_conv(writer, part, wide, f'{name}.cv{number}')
    pools = [
        _write_pool(writer, wide, size, 1, size // 2, f'{name}.pool{size}')
        for size in PYRAMID_POOLS
    ]
    wide = writer.node('Concat', [wide, *pools], f'{name}.pools', axis=1)
    wide = _write_conv(writer, block.cv5, wide, f'{name}.cv5')
    wide = _write_conv(writer, block.cv6, wide, f'{name}.cv6')
    plain = _write_conv(writer, block.cv2, x, f'{name}.cv2')
    joined = writer.node('Concat', [wide, plain], f'{name}.joined', axis=1)
    return _write_conv(writer, block.cv7, joined, f'{name}.cv7')


def _write_down(writer: GraphWriter, block: Down, x: str, name: str) -> str:
    stepped = _write_conv(writer, block.cv1, x, f'{name}.cv1')
    stepped = _write_conv(writer, block.cv2, stepped, f'{name}.cv2')
    pooled = _write_pool(writer, x, 2, 2, 0, f'{name}.pool')
    pooled = _write_conv(writer, block.cv3, pooled, f'{name}.cv3')
    return writer.node('Concat', [stepped, pooled], name, axis=1)


def _write_reorg(writer: GraphWriter, x: str, name: str) -> str:
    """Write the four pixels of each 2x2 square as channels: down the columns first."""
    corners = []
    for column in (0, 1):
        for row in (0, 1):
            bounds = (writer.integers(*values)
                      for values in ((row, column), (_END, _END), (2, 3), (2, 2)))
            corners.append(writer.node('Slice', [x, *bounds], f'{name}.corner{row}{column}'))
    return writer.node('Concat', corners, name, axis=1)
