"""Compare an exported model with the network it came from, on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray
import onnx
from onnx import TensorProto
import torch

from yolov7_trt_ros.errors import ExportError, InferenceError
from yolov7_trt_ros.model.architecture import decode_maps, Network
from yolov7_trt_ros.model.onnx_nms import BOXES, PLUGIN, SCORES
from yolov7_trt_ros.onnx_tools.model_file import serialise
from yolov7_trt_ros.onnx_tools.runtime import open_session, run_session

RELATIVE_LIMIT = 1e-4
_BLOCK_PX = 8
_WHAT = 'the exported model'

Shape = tuple[int, int, int, int]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The greatest relative difference that images of one shape gave, and in which output."""

    shape: Shape
    output: str
    relative_error: float

    def __str__(self) -> str:
        """Return `2x3x128x192 4.1e-07 (output)`."""
        return f'{"x".join(map(str, self.shape))} {self.relative_error:.1e} ({self.output})'


def compare_outputs(model: Any, network: Network, shapes: Sequence[Shape]) -> list[Comparison]:
    """
    Run a model and its network on the same random images, once a shape.

    Differences are those of `relative_error`. Of a model that ends in NMS, the boxes and scores
    that go into it are compared, and the whole must run.

    Raises
    ------
    ExportError
        ONNX Runtime cannot run the model at one of the shapes, or its outputs have other shapes
        than the network's.

    """
    whole, inner = _sessions(model)
    random = np.random.default_rng(7)
    results = []
    for shape in shapes:
        images = _draw_images(random, shape)
        if whole is not None:
            _run(whole, images)
        results.append(_compare(shape, _run(inner, images), _reference(model, network, images)))
    return results


def _draw_images(random: np.random.Generator, shape: Shape) -> NDArray[np.float32]:
    """Return random blocks under noise: noise alone looks the same everywhere to deep layers."""
    batch, channels, height, width = shape
    cells = random.random((batch, channels, -(-height // _BLOCK_PX), -(-width // _BLOCK_PX)))
    blocks = cells.repeat(_BLOCK_PX, 2).repeat(_BLOCK_PX, 3)[..., :height, :width]
    return (0.75 * blocks + 0.25 * random.random(shape)).astype(np.float32)


def check_comparisons(results: Sequence[Comparison], limit: float = RELATIVE_LIMIT) -> Comparison:
    """
    Return the worst result.

    Raises
    ------
    ExportError
        It is not below the limit.

    """
    worst = max(results, key=lambda result: (
        np.inf if np.isnan(result.relative_error) else result.relative_error
    ))
    if not worst.relative_error <= limit:
        raise ExportError(
            f'the ONNX model differs from the network by {worst.relative_error:.1e} (relative) in '
            f'{worst.output} at {"x".join(map(str, worst.shape))}, expected at most {limit:.0e}; '
            'nothing was written. Weights with infinite or NaN values do this'
        )
    return worst


def _sessions(model: Any) -> tuple[Any, Any]:
    """Return the model as it is, unless only TensorRT runs it, and the part to compare."""
    kinds = {node.op_type for node in model.graph.node}
    if not kinds & {PLUGIN, 'NonMaxSuppression'}:
        return None, open_session(serialise(model), _WHAT)
    part = onnx.ModelProto()
    part.CopyFrom(model)
    if PLUGIN in kinds:
        plugin = next(node for node in part.graph.node if node.op_type == PLUGIN)
        part.graph.node.remove(plugin)
    del part.graph.output[:]
    part.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in (BOXES, SCORES)
    )
    whole = None if PLUGIN in kinds else open_session(serialise(model), _WHAT)
    return whole, open_session(serialise(part), _WHAT)


def _run(session: Any, images: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    names = [value.name for value in session.get_outputs()]
    try:
        values = run_session(session, names, {session.get_inputs()[0].name: images})
    except InferenceError as exc:
        raise ExportError(
            f'the exported model does not run at {"x".join(map(str, images.shape))}: {exc}'
        ) from exc
    return dict(zip(names, values, strict=True))


def _reference(
    model: Any, network: Network, images: NDArray[np.float32]
) -> dict[str, NDArray[np.float32]]:
    """Return what each output should be, from the network in torch."""
    with torch.inference_mode():
        maps = network(torch.from_numpy(images))
        rows = decode_maps(network, maps).numpy()
    names = [value.name for value in model.graph.output]
    if len(names) == len(maps) and names[0].startswith('raw'):
        return dict(zip(names, (raw.numpy() for raw in maps), strict=True))
    kinds = {node.op_type for node in model.graph.node}
    if not kinds & {PLUGIN, 'NonMaxSuppression'}:
        return {names[0]: rows}
    boxes = rows[..., :4]
    if PLUGIN not in kinds:
        centre, half = boxes[..., :2], boxes[..., 2:] / 2
        boxes = np.concatenate([centre - half, centre + half], -1)
    scores = rows[..., 4:5] * (rows[..., 5:] if rows.shape[-1] > 6 else np.float32(1))
    return {BOXES: boxes, SCORES: scores}


def _compare(
    shape: Shape, found: dict[str, NDArray[Any]], wanted: dict[str, NDArray[np.float32]]
) -> Comparison:
    errors = []
    for name, want in wanted.items():
        got = found[name]
        if got.shape != want.shape:
            raise ExportError(
                f'the exported model gives {name} of the shape {got.shape} at '
                f'{"x".join(map(str, shape))}, expected {want.shape}'
            )
        errors.append((relative_error(got, want, 0 if name == SCORES else 4), name))
    worst, name = max(errors, key=lambda error: np.inf if np.isnan(error[0]) else error[0])
    return Comparison(shape, name, worst)


def relative_error(found: NDArray[Any], wanted: NDArray[Any], box_values: int = 4) -> float:
    """
    Return the greatest difference, relative to the largest magnitude among values of its kind.

    A kind is one channel of maps (B, C, h, w), and of rows (B, rows, values) one of the four box
    values, or all scores together: the scores of a class that is nowhere are all but zero, and
    what a sigmoid's approximation does to them decides nothing.

    Parameters
    ----------
    found, wanted
        Arrays of one shape.
    box_values
        How many of the first values of a row are box values.

    """
    columns = 1 if wanted.ndim == 4 else wanted.ndim - 1
    others = tuple(axis for axis in range(wanted.ndim) if axis != columns)
    difference = np.abs(found.astype(np.float64) - wanted).max(others)
    largest = np.abs(wanted).max(others)
    if wanted.ndim == 3:
        largest[box_values:] = largest[box_values:].max(initial=0)
    smallest = np.finfo(np.float32).tiny
    return float((difference / np.maximum(largest, smallest)).max())
