"""Edit any ONNX model: name nodes, widen casts, drop unused parts, extract a sub-model."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

from yolov7_trt_ros.onnx_tools.graph import Graph
from yolov7_trt_ros.onnx_tools.model_file import import_onnx


def name_nodes(model: Any) -> None:
    """
    Name each node, after its first output if it has no name of its own; names are unique.

    Errors, `--keep` and `--keep-fp32` speak of nodes by name.

    """
    taken: set[str] = set()
    for index, node in enumerate(model.graph.node):
        name = node.name or next(iter(node.output), node.op_type)
        node.name = f'{name}_{index}' if name in taken else name
        taken.add(node.name)


def widen_casts(model: Any) -> int:
    """
    Fold casts of stored float16 weights into float32 weights; returns how many.

    TensorRT has to see weights as constants, and quantised ones as weights.

    """
    onnx = import_onnx()
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    folded = []
    for node in graph.node:
        if node.op_type != 'Cast' or not node.output or not set(node.input[:1]) & set(stored):
            continue
        weights = stored[node.input[0]]
        target = next((entry.i for entry in node.attribute if entry.name == 'to'), None)
        if (weights.data_type, target) == (onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT):
            wide = onnx.numpy_helper.to_array(weights).astype(np.float32)
            graph.initializer.append(onnx.numpy_helper.from_array(wide, node.output[0]))
            folded.append(node)
    narrow = {node.input[0] for node in folded}
    for node in folded:
        graph.node.remove(node)
    drop_unused(graph, narrow)
    return len(folded)


def drop_unused(graph: Any, names: Collection[str] | None = None) -> None:
    """Remove stored weights that no node reads: those of `names`, or all."""
    used = {name for node in graph.node for name in node.input}
    used |= {value.name for value in graph.output}
    unused = [
        tensor for tensor in graph.initializer
        if tensor.name not in used and (names is None or tensor.name in names)
    ]
    for tensor in unused:
        graph.initializer.remove(tensor)


def set_outputs(graph: Any, names: Iterable[str]) -> None:
    """Make some tensors the outputs; without a type, which ONNX Runtime infers."""
    value = import_onnx().ValueInfoProto
    del graph.output[:]
    graph.output.extend(value(name=name) for name in names)


def sub_model(model: Any, outputs: list[str]) -> Any:
    """Return a model of only those nodes that some tensors need, with these as its outputs."""
    needed, _ = Graph(model).needed_for(outputs)
    part = import_onnx().ModelProto()
    part.CopyFrom(model)
    del part.graph.node[:], part.graph.value_info[:]
    part.graph.node.extend(needed)
    set_outputs(part.graph, outputs)
    drop_unused(part.graph)
    return part
