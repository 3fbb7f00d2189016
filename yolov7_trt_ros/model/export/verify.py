"""
Compare an exported model on ONNX Runtime with its network.

First the outputs, float32 with float32. Where they are not clearly alike, with float64: some
networks make roundings large, and then PyTorch's own float32 is as far from the truth. Of such a
network `verify_layers` compares every layer by itself, where nothing grows.

"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
import torch

from yolov7_trt_ros.errors import ExportError, InferenceError
from yolov7_trt_ros.model.export.onnx_nms import BOXES, SCORES
from yolov7_trt_ros.model.export.options import Shape
from yolov7_trt_ros.model.network.architecture import decode_maps, Network
from yolov7_trt_ros.onnx_tools.model_file import serialise
from yolov7_trt_ros.onnx_tools.nms_plugin import expose_nms_inputs, PLUGIN
from yolov7_trt_ros.onnx_tools.runtime import open_session, run_session

RELATIVE_LIMIT = 1e-4
_CLEARLY_ALIKE = RELATIVE_LIMIT / 2
_BLOCK_PX = 8
WHAT = 'the exported model'

Arrays = dict[str, NDArray[Any]]


@dataclasses.dataclass(frozen=True)
class ExportDifference:
    """
    The greatest relative difference that images of one shape gave.

    Attributes
    ----------
    shape
        Of the images.
    output
        Where it was found.
    relative_error
        Of ONNX Runtime from PyTorch: float32, or float64 where `rounding` is given.
    rounding
        How far PyTorch's own float32 is from float64; None if that was not asked.
    layers
        The greatest error of one layer by itself; None if that was not asked.

    """

    shape: Shape
    output: str
    relative_error: float
    rounding: float | None = None
    layers: float | None = None

    def __str__(self) -> str:
        """Return `2x3x128x192 4.1e-07 (output)`, and what else was compared."""
        text = f'{_shown(self.shape)} {self.relative_error:.1e} ({self.output}'
        if self.rounding is not None:
            text += f'; PyTorch itself {self.rounding:.1e} from float64'
        if self.layers is not None:
            text += f'; each layer alone {self.layers:.1e}'
        return text + ')'

    def is_right(self, limit: float) -> bool:
        """Tell whether it is below the limit, or so is each layer of a network that amplifies."""
        return self.relative_error <= limit or (self.layers is not None and self.layers <= limit)


@dataclasses.dataclass(frozen=True)
class Outline:
    """What the comparison has to know of a model: its outputs, and kinds of nodes."""

    outputs: tuple[str, ...]
    kinds: frozenset[str]

    @classmethod
    def of(cls, model: Any) -> Outline:
        """Return the outline of a ModelProto."""
        return cls(
            tuple(value.name for value in model.graph.output),
            frozenset(node.op_type for node in model.graph.node),
        )

    @property
    def has_nms(self) -> bool:
        """Tell whether the model ends in NMS."""
        return bool(self.kinds & {PLUGIN, 'NonMaxSuppression'})


def compare_outputs(
    path: Path, model: Any, network: Network, shapes: Sequence[Shape]
) -> list[ExportDifference]:
    """
    Run a model and its network on the same random images, once a shape.

    Differences are those of `relative_error`. Of a model that ends in NMS, the boxes and scores
    that go into it are compared, and the whole must run.

    Parameters
    ----------
    path
        The file of the model: ONNX Runtime reads it by itself, so that it is in memory once less.
    model
        The same as a ModelProto, or an outline of it; of one with NMS the NMS is cut off.
    network
        What it was made from; without batch norms.
    shapes
        Of the images.

    Raises
    ------
    ExportError
        ONNX Runtime cannot run the model at one of the shapes, its outputs have other shapes
        than the network's, or the network itself gives no numbers.

    """
    outline = model if isinstance(model, Outline) else Outline.of(model)
    random = np.random.default_rng(7)
    drawn = [draw_images(random, shape) for shape in shapes]
    if 'NonMaxSuppression' in outline.kinds:
        whole = open_session(str(path), WHAT)
        for images in drawn:
            run_exported(whole, images)
        del whole  # which holds the weights
    if outline.has_nms:
        expose_nms_inputs(model, BOXES, SCORES)
    inner = open_session(serialise(model) if outline.has_nms else str(path), WHAT)
    return [_compare(run_exported(inner, images), outline, network, images) for images in drawn]


def _compare(
    found: Arrays, outline: Outline, network: Network, images: NDArray[np.float32]
) -> ExportDifference:
    shape: Shape = images.shape
    wanted = _reference(outline, network, images)
    _check_numbers(wanted, network, shape)
    worst, name = _worst(found, wanted, shape)
    if worst <= _CLEARLY_ALIKE:
        return ExportDifference(shape, name, worst)
    exact = _reference(outline, network, images.astype(np.float64))
    worst, name = _worst(found, exact, shape)
    return ExportDifference(shape, name, worst, rounding=_worst(wanted, exact, shape)[0])


def draw_images(random: np.random.Generator, shape: Shape) -> NDArray[np.float32]:
    """Return random blocks under noise: noise alone looks the same everywhere to deep layers."""
    batch, channels, height, width = shape
    cells = random.random((batch, channels, -(-height // _BLOCK_PX), -(-width // _BLOCK_PX)))
    blocks = cells.repeat(_BLOCK_PX, 2).repeat(_BLOCK_PX, 3)[..., :height, :width]
    return (0.75 * blocks + 0.25 * random.random(shape)).astype(np.float32)


def check_differences(
    results: Sequence[ExportDifference], limit: float = RELATIVE_LIMIT
) -> ExportDifference:
    """
    Return the worst result.

    Raises
    ------
    ExportError
        It is not right.

    """
    worst = max(results, key=lambda result: (not result.is_right(limit), _rank(result)))
    if not worst.is_right(limit):
        reason = (
            'ONNX Runtime gives infinite values or NaN, and PyTorch does not'
            if np.isnan(worst.relative_error) else
            f'PyTorch in float32 differs from float64 by {worst.rounding or 0:.1e} there'
        )
        raise ExportError(
            f'the ONNX model differs from the network by {worst.relative_error:.1e} (relative) in '
            f'{worst.output} at {_shown(worst.shape)}, expected at most {limit:.0e}; nothing was '
            f'written. {reason}'
        )
    return worst


def _rank(result: ExportDifference) -> float:
    return np.inf if np.isnan(result.relative_error) else result.relative_error


def _check_numbers(wanted: Arrays, network: Network, shape: Shape) -> None:
    """Refuse a network whose outputs are not finite, and name the weights that are not."""
    if all(np.isfinite(values).all() for values in wanted.values()):
        return
    bad = [name for name, value in network.state_dict().items() if not value.isfinite().all()]
    raise ExportError(
        f'the network gives infinite values or NaN in PyTorch itself, at {_shown(shape)}; nothing '
        'was written. ' + (
            f'Its weights {bad[0]} hold such values: take a checkpoint of an earlier epoch'
            if bad else 'Its weights are numbers, but too large for float32'
        )
    )


def _shown(shape: Sequence[int]) -> str:
    return 'x'.join(map(str, shape))


def run_exported(session: Any, images: NDArray[np.float32]) -> Arrays:
    """Return the outputs of a session by their names; raises ExportError where it fails."""
    names = [value.name for value in session.get_outputs()]
    try:
        values = run_session(session, names, {session.get_inputs()[0].name: images})
    except InferenceError as exc:
        raise ExportError(
            f'the exported model does not run at {"x".join(map(str, images.shape))}: {exc}'
        ) from exc
    return dict(zip(names, values, strict=True))


def _reference(outline: Outline, network: Network, images: NDArray[Any]) -> Arrays:
    """Return what each output should be, from the network in torch, in the type of the images."""
    with torch.inference_mode():
        run = network.exact_maps if images.dtype == np.float64 else network
        maps = run(torch.from_numpy(images))
        rows = decode_maps(network, maps).numpy()
    if len(outline.outputs) == len(maps) and outline.outputs[0].startswith('raw'):
        return dict(zip(outline.outputs, (raw.numpy() for raw in maps), strict=True))
    if not outline.has_nms:
        return {outline.outputs[0]: rows}
    boxes = rows[..., :4]
    if PLUGIN not in outline.kinds:
        centre, half = boxes[..., :2], boxes[..., 2:] / 2
        boxes = np.concatenate([centre - half, centre + half], -1)
    scores = rows[..., 4:5] * (rows[..., 5:] if rows.shape[-1] > 6 else rows.dtype.type(1))
    return {BOXES: boxes, SCORES: scores}


def _worst(found: Mapping[str, NDArray[Any]], wanted: Arrays, shape: Shape) -> tuple[float, str]:
    """Return the greatest difference and the output that it is in."""
    errors = []
    for name, want in wanted.items():
        got = found[name]
        if got.shape != want.shape:
            raise ExportError(
                f'the exported model gives {name} of the shape {got.shape} at {_shown(shape)}, '
                f'expected {want.shape}'
            )
        errors.append((relative_error(got, want, 0 if name == SCORES else 4), name))
    return max(errors, key=lambda error: np.inf if np.isnan(error[0]) else error[0])


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
