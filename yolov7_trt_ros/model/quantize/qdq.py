"""Insert Q/DQ pairs into a model: symmetric int8, scales per tensor, per channel for weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
import onnx
from onnx import helper, numpy_helper

from yolov7_trt_ros.model.quantize.calibration import Calibration
from yolov7_trt_ros.model.quantize.calibration_histogram import LEVELS
from yolov7_trt_ros.model.quantize.placement import place, Placement
from yolov7_trt_ros.onnx_tools.graph import FloatModel

METADATA_KEY = 'quantisation'

_LEAST_SCALE = 2.0**-24  # the least float16: mixed plans hold scales in float16, and none may be 0
_SHRINKS = np.linspace(0.5, 1.0, 51)


def quantise(
    model: FloatModel,
    calibration: Calibration,
    *,
    method: str,
    kept: Collection[str],
    weight_range: str = 'max',
) -> Any:
    """
    Return a new ModelProto with Q/DQ pairs.

    Weights stay float32, before a Q and a DQ node of their own: every TensorRT parses that, and
    folds it. Biases stay float32.

    Parameters
    ----------
    model, calibration
        What to quantise, and the magnitudes of its activations.
    method
        How the ranges of activations are found: `kl`, `mse`, `percentile` or `minmax`.
    kept
        Names of the convolutions that stay float.
    weight_range
        `max`: the largest weight of a channel; `mse`: the range with the least squared error.

    """
    placement = place(model, kept)
    ranges = calibration.ranges(placement, method)
    return insert_pairs(model, placement, ranges, weight_range)


def insert_pairs(
    model: FloatModel, placement: Placement, ranges: Mapping[str, float], weight_range: str
) -> Any:
    """Return a copy of a model with the pairs of a placement, `ranges` being those of tensors."""
    quantised = onnx.ModelProto()
    quantised.CopyFrom(model.model)
    writer = _PairWriter(quantised.graph)
    convs = set(placement.convs)
    by_reader: dict[str, list[str]] = {}
    for tensor, readers in placement.reads.items():
        for name in readers:
            by_reader.setdefault(name, []).append(tensor)
    for node in model.model.graph.node:
        copy = writer.take(node)
        for tensor in by_reader.get(node.name, ()):
            pair = writer.activation(tensor, ranges[tensor])
            copy.input[:] = [pair if name == tensor else name for name in copy.input]
        if node.name in convs:
            copy.input[1] = writer.weight(node.input[1], model.weight(node.name), weight_range)
        writer.nodes.append(copy)
    del quantised.graph.node[:]
    quantised.graph.node.extend(writer.nodes)
    return quantised


class _PairWriter:
    """Writes each pair once, before its first reader."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self._pairs: dict[str, str] = {}
        self.nodes: list[Any] = []

    def take(self, node: Any) -> Any:
        """Return a copy of a node, to be changed."""
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        return copy

    def activation(self, tensor: str, largest: float) -> str:
        """Return the name of a tensor as it is after its pair."""
        scale = np.array(max(largest / LEVELS, _LEAST_SCALE), np.float32)
        return self._pair(tensor, scale, {})

    def weight(self, tensor: str, values: NDArray[np.float32], weight_range: str) -> str:
        """Return the name of weights as they are after their pair."""
        scales = np.maximum(channel_ranges(values, weight_range) / LEVELS, _LEAST_SCALE)
        return self._pair(tensor, scales.astype(np.float32), {'axis': 0})

    def _pair(self, tensor: str, scale: NDArray[np.float32], attributes: dict[str, Any]) -> str:
        if tensor in self._pairs:
            return self._pairs[tensor]
        parameters = [f'{tensor}.scale', f'{tensor}.zero_point']
        zero_point = np.zeros(scale.shape, np.int8)
        self._graph.initializer.extend([
            numpy_helper.from_array(scale, parameters[0]),
            numpy_helper.from_array(zero_point, parameters[1]),
        ])
        names = [f'{tensor}.quantised', f'{tensor}.dequantised']
        for operator, source, target in (
            ('QuantizeLinear', tensor, names[0]), ('DequantizeLinear', names[0], names[1]),
        ):
            self.nodes.append(helper.make_node(
                operator, [source, *parameters], [target], name=target, **attributes
            ))
        self._pairs[tensor] = names[1]
        return names[1]


def channel_ranges(weights: NDArray[np.float32], weight_range: str) -> NDArray[np.float64]:
    """Return the magnitude that becomes 127 for each output channel, (out,)."""
    flat = weights.reshape(len(weights), -1).astype(np.float64)
    largest: NDArray[np.float64] = np.abs(flat).max(axis=1)
    if weight_range == 'max':
        return largest
    best: NDArray[np.float64] = largest.copy()
    least = np.full(len(flat), np.inf)
    for shrink in _SHRINKS:
        step = np.maximum(largest * shrink / LEVELS, _LEAST_SCALE)[:, None]
        rounded = np.clip(np.rint(flat / step), -LEVELS, LEVELS) * step
        error = np.square(flat - rounded).sum(axis=1)
        better = error < least
        best = np.where(better, largest * shrink, best)
        least = np.where(better, error, least)
    return best


def describe(model: Any, text: str) -> None:
    """Add to the metadata of a model how it was made; existing entries stay."""
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            entry.value = text
            return
    model.metadata_props.add(key=METADATA_KEY, value=text)
