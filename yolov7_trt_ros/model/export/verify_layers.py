"""Compare an exported model with its network layer by layer, each on the same input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import copy
import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
import torch
from torch import Tensor

from yolov7_trt_ros.errors import ExportError
from yolov7_trt_ros.model.export.onnx_decode import write_grid
from yolov7_trt_ros.model.export.onnx_layers import write_head, write_rows
from yolov7_trt_ros.model.export.onnx_writer import GraphWriter
from yolov7_trt_ros.model.export.options import Shape
from yolov7_trt_ros.model.export.verify import (
    Arrays,
    draw_images,
    ExportDifference,
    relative_error,
    RELATIVE_LIMIT,
    run_exported,
    WHAT,
)
from yolov7_trt_ros.model.network.architecture import decode_maps, Network, run_row
from yolov7_trt_ros.model.network.layer_table import IMAGE
from yolov7_trt_ros.onnx_tools.model_file import serialise
from yolov7_trt_ros.onnx_tools.runtime import open_session

_GRID = 'grid.of.layers'
_TINY = float(np.finfo(np.float32).tiny)
_SATURATED = 1e-9
"""Two float32 programs never agree as well as this, unless all values are at their ends."""


def add_layers(
    results: Sequence[ExportDifference], network: Network, opset: int, *,
    image_hw: tuple[int, int] | None = None, limit: float = RELATIVE_LIMIT,
) -> list[ExportDifference]:
    """
    Compare the layers one by one if the outputs are not conclusive.

    That is if they are beyond the limit; and if they are all the same, for sigmoids that are
    at their ends hide what is before them.

    Raises
    ------
    ExportError
        A layer differs: the message names it.

    """
    return [
        result if _SATURATED < result.relative_error <= limit else dataclasses.replace(
            result, layers=_compare_layers(network, opset, image_hw, result.shape, limit)
        )
        for result in results
    ]


def _compare_layers(
    network: Network, opset: int, image_hw: tuple[int, int] | None, shape: Shape, limit: float
) -> float:
    """Return the greatest error of a layer or the decoding, on what it is given in the model."""
    writer = GraphWriter(opset)
    names = write_rows(writer, network, 'images')
    maps = write_head(writer, network, names)
    write_grid(writer, network, maps, _GRID, image_hw)
    images = draw_images(np.random.default_rng(7), shape)
    session = open_session(serialise(_showing(writer, names, maps)), WHAT)
    found = {'images': images} | run_exported(session, images)
    worst = 0.0
    for what, name, wanted in _wanted_layers(network, names, maps, found):
        if name == _GRID:
            error = relative_error(found[name], wanted)
        else:
            largest = np.abs(wanted).max(initial=_TINY)
            error = float(np.abs(found[name] - wanted).max() / largest)
        if not error <= limit:
            raise ExportError(
                f'{what} of the ONNX model differs from that of the network by {error:.1e} '
                f'(relative) on the same inputs, expected at most {limit:.0e}; nothing was written'
            )
        worst = max(worst, error)
    return worst


def _showing(writer: GraphWriter, names: Mapping[int, str], maps: Sequence[str]) -> Any:
    """Return the model with every layer as an output."""
    shown = [name for index, name in names.items() if index != IMAGE] + list(maps)
    outputs: list[tuple[str, int, Sequence[int | str]]] = [
        (name, TensorProto.FLOAT, [f'{name}.{axis}' for axis in 'bchw']) for name in shown
    ]
    outputs.append((_GRID, TensorProto.FLOAT, ['batch', 'rows', 'values']))
    return writer.model(('batch', 3, 'height', 'width'), outputs, {})


def _wanted_layers(
    network: Network, names: Mapping[int, str], maps: Sequence[str], found: Arrays
) -> Iterator[tuple[str, str, NDArray[Any]]]:
    """Yield each layer, the name of its output, and what it should be, in float64."""
    def given(name: str) -> Tensor:
        return torch.from_numpy(found[name]).double()

    with torch.inference_mode():
        for index, row in enumerate(network.rows[:-1]):
            block = copy.deepcopy(network.model[index]).double()
            inputs = [given(names[source]) for source in row.sources]
            yield f'layer {index} ({row.kind})', names[index], run_row(row, block, inputs).numpy()
        head = copy.deepcopy(network.head).double()
        wanted = head([given(names[source]) for source in network.rows[-1].sources])
        for name, each in zip(maps, wanted, strict=True):
            yield f'the head ({name})', name, each.numpy()
        yield 'the decoding', _GRID, decode_maps(network, [given(name) for name in maps]).numpy()
