"""
Strip the decoding from an ONNX model that ends in rows of boxes; it then ends in raw maps.

Decoding inside a network costs TensorRT some fifty small layers; our kernels do the same from raw
maps for those cells alone that pass the threshold, in float32. Nothing is taken for granted from
names or operators: the anchors are read off from what the cut part makes of maps of zeros, and a
model is cut only where our decoding of noisy maps gives what that part gives.

"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolov7_trt_ros.core.decode import Candidates, decode_outputs
from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.forms.anchors import format_anchors
from yolov7_trt_ros.core.forms.model_names import choose_names
from yolov7_trt_ros.core.forms.model_spec import Anchors, ANCHORS_PER_CELL, ModelSpec, OutputLayout
from yolov7_trt_ros.errors import InferenceError, MissingDependencyError, ModelFormatError
from yolov7_trt_ros.onnx_tools.edit import drop_unused
from yolov7_trt_ros.onnx_tools.graph import Graph
from yolov7_trt_ros.onnx_tools.model_file import (
    import_onnx,
    load_model,
    metadata_of_model,
    serialise,
)
from yolov7_trt_ros.onnx_tools.runtime import open_session, run_session

_LAYOUTS = (OutputLayout.GRID, OutputLayout.LABELLED)
_ALL_CELLS = DetectSettings(score_threshold=0.0)
_CELLS_HW = (2, 3)
"""Size of the coarsest map if the model leaves it open; unequal to distinguish the sides."""

_NOISE = 2.0
_TOLERANCE = {'float32': (1e-4, 1e-2, 1e-3), 'float16': (1e-2, 1.0, 0.5)}
"""Of numbers, relative; of boxes in network pixels; share of other classes (of equal scores)."""

_SURPRISES = (ModelFormatError, InferenceError, ValueError, KeyError)
"""Of a part that is not what it was taken for: it does not load or run, or lacks an input."""


@dataclasses.dataclass(frozen=True)
class _Tail:
    """The decoding: `nodes` make `outputs` of the `maps`, which ascend in stride."""

    nodes: tuple[Any, ...]
    maps: tuple[str, ...]
    outputs: tuple[str, ...]
    dtype: str
    num_classes: int


def load_without_decoding(path: Path, spec: ModelSpec) -> tuple[bytes, ModelSpec] | None:
    """
    Return an ONNX file without its decoding, and its new spec; None if it stays as it is.

    It stays if the decoding is not YOLOv7's, or the `onnx` package is not installed.

    """
    if spec.layout not in _LAYOUTS:
        return None
    try:
        model = load_model(path)
        cut = strip_decoding(model, spec)
        return None if cut is None else (serialise(model), cut)
    except (MissingDependencyError, ModelFormatError):  # ONNX Runtime reads more than that package
        return None


def strip_decoding(model: Any, spec: ModelSpec) -> ModelSpec | None:
    """
    Strip the decoding in place, and return the new spec of the model.

    Parameters
    ----------
    model
        A ModelProto that ends in rows of boxes; afterwards it has anchors in its metadata.
    spec
        What it is.

    Returns
    -------
    ModelSpec | None
        None if the decoding is not YOLOv7's: the model is unchanged.

    Raises
    ------
    ModelLayoutError
        The number of class names is not the number of classes of its convolutions.

    """
    if spec.layout not in _LAYOUTS:
        return None
    graph = Graph(model)
    tail = _find_tail(graph, spec)
    if tail is None:
        return None
    anchors = _verified_anchors(model, tail, spec)
    if anchors is None:
        return None
    _strip(graph, tail, spec, anchors)
    return _raw_spec(spec, tail, anchors)


def _raw_spec(spec: ModelSpec, tail: _Tail, anchors: Anchors) -> ModelSpec:
    names = choose_names(spec.class_names or None, {}, tail.num_classes, None)
    return dataclasses.replace(
        spec, layout=OutputLayout.RAW_HEADS, outputs=tail.maps, anchors=anchors,
        num_classes=tail.num_classes, class_names=names.names,
        boxes_are_centres=False, transposed=False, columns=None,
        doubts=() if spec.num_classes is None else spec.doubts,
        evidence=(
            *spec.evidence,
            f'our decoding of noisy maps gives what its own does: {tail.num_classes} classes, '
            f'anchors {format_anchors(anchors)}',
        ),
    )


def _find_tail(graph: Graph, spec: ModelSpec) -> _Tail | None:
    """Return what follows the last convolutions; None if they are not one a stride."""
    outputs = spec.outputs if spec.layout is OutputLayout.LABELLED else spec.outputs[:1]
    convs = _last_convs(graph, outputs[0])
    if len(convs) != len(spec.strides) or any(len(conv.input) < 2 for conv in convs):
        return None
    weights = [graph.stored.get(conv.input[1]) for conv in convs]
    num_classes = _num_classes(weights, spec)
    if num_classes is None:
        return None
    maps = tuple(_scaled(graph, conv.output[0]) for conv in convs)
    nodes, inputs = graph.needed_for(outputs, maps)
    if inputs & {value.name for value in graph.model.graph.input} - set(graph.stored):
        return None  # it reads the image, if only its size
    half = import_onnx().TensorProto.FLOAT16
    is_half = any(each is not None and each.data_type == half for each in weights)
    dtype = 'float16' if is_half else 'float32'
    return _Tail(tuple(nodes), maps, outputs, dtype, num_classes)


def _strip(graph: Graph, tail: _Tail, spec: ModelSpec, anchors: Anchors) -> None:
    """Take the tail off a model."""
    onnx, model = import_onnx(), graph.model
    nodes, _ = graph.needed_for(tail.maps)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:], model.graph.output[:], model.graph.value_info[:]
    model.graph.node.extend(kept)
    batch = spec.image.shape[0] or 'batch'
    shapes = _map_shapes(spec, tail)
    for name, shape, stride in zip(tail.maps, shapes, spec.strides, strict=True):
        sides = (batch, shape[1], f'height_{stride}', f'width_{stride}')
        model.graph.output.append(_declare(name, tail.dtype, sides))
    drop_unused(model.graph)
    onnx.helper.set_model_props(
        model, metadata_of_model(model) | {'anchors': json.dumps(anchors)}
    )


def _last_convs(graph: Graph, output: str) -> list[Any]:
    """Return the convolutions that a tensor depends on directly, in the order of inputs."""
    found, waiting, seen = [], [output], set()
    while waiting:
        node = graph.producers.get(waiting.pop())
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if node.op_type == 'Conv':
            found.append(node)
        else:
            waiting += reversed(node.input)
    return found


def _scaled(graph: Graph, tensor: str) -> str:
    """Return a map after what scales or shifts its channels: implicit vectors not folded."""
    while True:
        readers = graph.readers(tensor)
        if len(readers) != 1 or readers[0].op_type not in ('Add', 'Mul'):
            return tensor
        others = [graph.stored.get(name) for name in readers[0].input if name != tensor]
        if len(others) != 1 or others[0] is None or len(others[0].dims) != 4:
            return tensor
        tensor = readers[0].output[0]


def _num_classes(weights: Sequence[Any | None], spec: ModelSpec) -> int | None:
    """Return the classes of the last convolutions; None if they are not those of the spec."""
    channels = {each.dims[0] for each in weights if each is not None and each.dims}
    if not channels:
        return spec.num_classes
    if len(channels) > 1:
        return None
    values, rest = divmod(int(channels.pop()), ANCHORS_PER_CELL)
    if rest or values < 6 or spec.num_classes not in (None, values - 5) and (
        spec.layout is OutputLayout.GRID
    ):
        return None
    return values - 5


def _declare(name: str, dtype: str, sides: Sequence[int | str | None]) -> Any:
    """Return the declaration of a tensor."""
    onnx = import_onnx()
    kind = onnx.TensorProto.FLOAT16 if dtype == 'float16' else onnx.TensorProto.FLOAT
    return onnx.helper.make_tensor_value_info(name, kind, sides)


# ---- is it YOLOv7's?


def _verified_anchors(model: Any, tail: _Tail, spec: ModelSpec) -> Anchors | None:
    """Return the anchors where our decoding is what the tail computes, else None."""
    try:
        data = serialise(_tail_model(model, tail))
        session = open_session(data, 'the decoding', threads=1)
        shapes = _map_shapes(spec, tail)
        zeros = [np.zeros(shape, tail.dtype) for shape in shapes]
        anchors = _read_anchors(_sizes(spec, _run(session, tail, zeros)), shapes)
        if anchors is None:
            return None
        random = np.random.default_rng(0)
        maps = [(random.standard_normal(shape) * _NOISE).astype(tail.dtype) for shape in shapes]
        counted = dataclasses.replace(spec, num_classes=tail.num_classes)
        theirs = decode_outputs(counted, _run(session, tail, maps), _ALL_CELLS)
        ours = decode_outputs(_raw_spec(spec, tail, anchors), maps, _ALL_CELLS)
    except _SURPRISES:
        return None
    return anchors if _agree(ours, theirs, *_TOLERANCE[tail.dtype]) else None


def _tail_model(model: Any, tail: _Tail) -> Any:
    onnx = import_onnx()
    read = {name for node in tail.nodes for name in node.input}
    graph = onnx.helper.make_graph(
        tail.nodes, 'decoding',
        [_declare(name, tail.dtype, [None] * 4) for name in tail.maps],
        [onnx.ValueInfoProto(name=name) for name in tail.outputs],
        [tensor for tensor in model.graph.initializer if tensor.name in read],
    )
    return onnx.helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=model.ir_version,
        functions=model.functions,
    )


def _map_shapes(spec: ModelSpec, tail: _Tail) -> list[tuple[int, int, int, int]]:
    """Return shapes of the maps at the model's size, or at a small one if it is open."""
    height, width = (
        side or cells * spec.stride
        for side, cells in zip(spec.image.shape[2:], _CELLS_HW, strict=True)
    )
    channels = ANCHORS_PER_CELL * (5 + tail.num_classes)
    batch = spec.image.shape[0] or 1
    return [(batch, channels, height // stride, width // stride) for stride in spec.strides]


def _run(session: Any, tail: _Tail, maps: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    return run_session(session, tail.outputs, dict(zip(tail.maps, maps, strict=True)))


def _sizes(spec: ModelSpec, outputs: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return width and height (rows, 2) of the boxes of the first image."""
    rows = outputs[0][0].T if spec.transposed else outputs[0][0]
    first = spec.columns.box if spec.columns is not None else 0
    boxes = rows[:, first:first + 4].astype(np.float64)
    corners = spec.layout is OutputLayout.LABELLED and not spec.boxes_are_centres
    with np.errstate(invalid='ignore'):  # of infinite corners: no anchors
        sizes: NDArray[Any] = boxes[:, 2:] - boxes[:, :2] if corners else boxes[:, 2:]
    return sizes


def _read_anchors(
    sizes_wh: NDArray[Any], shapes: Sequence[tuple[int, int, int, int]]
) -> Anchors | None:
    """Return the sizes of the boxes of maps of zeros: (2 sigmoid(0))^2 is 1."""
    counts = [ANCHORS_PER_CELL * height * width for _, _, height, width in shapes]
    if len(sizes_wh) != sum(counts):
        return None
    anchors = []
    for rows in np.split(sizes_wh, np.cumsum(counts)[:-1]):
        sizes = rows.reshape(ANCHORS_PER_CELL, -1, 2)
        if not np.allclose(sizes, sizes[:, :1], rtol=1e-3) or sizes.min() <= 0:
            return None
        anchors.append(tuple((float(w), float(h)) for w, h in sizes[:, 0].round(4)))
    return tuple(anchors)


def _agree(
    ours: Candidates, theirs: Candidates, relative: float, pixels: float, others: float
) -> bool:
    return (
        ours.boxes_xyxy.shape == theirs.boxes_xyxy.shape
        and np.allclose(ours.boxes_xyxy, theirs.boxes_xyxy, relative, pixels)
        and np.allclose(ours.scores, theirs.scores, relative, relative)
        and float(np.mean(ours.class_ids != theirs.class_ids)) <= others
    )
