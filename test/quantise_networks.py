"""Small networks with the joints that Q/DQ placement is about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, TensorProto


class NetworkWriter:
    """Writes nodes one after the other; each method returns the name of its output."""

    def __init__(self, opset: int = 17, seed: int = 0) -> None:
        self.opset = opset
        self.nodes: list[Any] = []
        self.stored: list[Any] = []
        self._rng = np.random.default_rng(seed)

    def store(self, name: str, value: np.ndarray) -> str:
        self.stored.append(numpy_helper.from_array(value, name))
        return name

    def node(self, operator: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def conv(self, source: str, name: str, channels: tuple[int, int], kernel: int = 3,
             dtype: Any = np.float32) -> str:
        shape = (channels[1], channels[0], kernel, kernel)
        weight = self._rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).astype(dtype)
        bias = self._rng.normal(0, 0.1, channels[1]).astype(dtype)
        inputs = [source, self.store(f'{name}.weight', weight), self.store(f'{name}.bias', bias)]
        return self.node('Conv', inputs, name, pads=[kernel // 2] * 4)

    def leaky(self, source: str, name: str, channels: tuple[int, int]) -> str:
        """Conv and LeakyRelu."""
        return self.node('LeakyRelu', [self.conv(source, f'{name}.conv', channels)], name)

    def silu(self, source: str, name: str, channels: tuple[int, int]) -> str:
        """Conv, Sigmoid and Mul."""
        conv = self.conv(source, f'{name}.conv', channels)
        gate = self.node('Sigmoid', [conv], f'{name}.gate')
        return self.node('Mul', [conv, gate], name)

    def save(self, path: Path, output: str, kind: int = TensorProto.FLOAT) -> Path:
        shape = ('batch', 3, 'height', 'width')
        graph = helper.make_graph(
            self.nodes, 'small', [helper.make_tensor_value_info('images', kind, shape)],
            [helper.make_tensor_value_info(output, kind, None)], self.stored,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid('', self.opset)], ir_version=8
        )
        helper.set_model_props(model, {'names': '["cat"]', 'stride': '32'})
        onnx.save(model, str(path))
        return path


def branching(path: Path) -> Path:
    """
    One of everything: a branch joined again, a pool, an upsampling, a residual, two heads.

    stem ─ left ─┐                       ┌─ pool ─ deep ─ up ─┐
         └ right ┴ joined ─ merged ──────┴────────────────────┴ neck ─ thin ─ residual sum ─ head
    """
    net = NetworkWriter()
    stem = net.leaky('images', 'stem', (3, 8))
    branches = [net.leaky(stem, 'left', (8, 4)), net.silu(stem, 'right', (8, 4))]
    joined = net.node('Concat', branches, 'joined', axis=1)
    merged = net.leaky(joined, 'merged', (8, 8))
    pool = net.node('MaxPool', [merged], 'pool', kernel_shape=[2, 2], strides=[2, 2])
    deep = net.leaky(pool, 'deep', (8, 8))
    scales = net.store('twice', np.array([1, 1, 2, 2], np.float32))
    up = net.node('Resize', [deep, '', scales], 'up', mode='nearest',
                  coordinate_transformation_mode='asymmetric', nearest_mode='floor')
    neck = net.node('Concat', [up, merged], 'neck', axis=1)
    thin = net.silu(neck, 'thin', (16, 8))
    block = net.silu(thin, 'block', (8, 8))
    total = net.node('Add', [thin, block], 'sum')
    last = net.leaky(total, 'last', (8, 8))
    net.conv(last, 'head', (8, 6), kernel=1)
    return net.save(path, 'head')
