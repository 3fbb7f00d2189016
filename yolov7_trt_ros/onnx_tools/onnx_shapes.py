"""Rewrite what TensorRT 8's parser reads wrongly: the `start` and `end` of Shape (opset 15)."""

from __future__ import annotations

from typing import Any

_WHOLE = 1 << 31


def slice_shapes(onnx: Any, model: Any) -> int:
    """
    Turn `Shape(x, start, end)` into `Slice(Shape(x), start, end)`; returns how many.

    TensorRT 8.6 takes such a node for a plain Shape and fails later on, or runs another network.

    """
    graph = model.graph
    nodes, changed = [], 0
    for node in graph.node:
        nodes.append(node)
        if node.op_type != 'Shape' or not node.attribute:
            continue
        bounds = {entry.name: entry.i for entry in node.attribute}
        del node.attribute[:]
        result = node.output[0]
        node.output[0] = f'{result}.whole'
        names = []
        for name, value in (('start', bounds.get('start', 0)), ('end', bounds.get('end', _WHOLE))):
            names.append(f'{result}.{name}')
            graph.initializer.append(
                onnx.helper.make_tensor(names[-1], onnx.TensorProto.INT64, [1], [value])
            )
        inputs = [node.output[0], *names]
        nodes.append(onnx.helper.make_node('Slice', inputs, [result], name=f'{result}.slice'))
        changed += 1
    del graph.node[:]
    graph.node.extend(nodes)
    return changed
