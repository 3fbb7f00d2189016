"""TensorRtOnnx: an ONNX model in the form that TensorRT parses."""

from __future__ import annotations

from pathlib import Path
import re
from typing import Any

from yolov7_trt_ros.core.forms.model_spec import ModelSpec
from yolov7_trt_ros.errors import BuildError
from yolov7_trt_ros.onnx_tools.edit import drop_unused, name_nodes, widen_casts
from yolov7_trt_ros.onnx_tools.graph import convs_by_type, is_quantised
from yolov7_trt_ros.onnx_tools.half_precision import convert_to_half
from yolov7_trt_ros.onnx_tools.model_file import (
    import_onnx,
    infer_shapes,
    load_model,
    metadata_of_model,
    read_weights,
    serialise,
)
from yolov7_trt_ros.onnx_tools.nms_plugin import (
    find_plugin,
    plugin_shapes,
    RunnableModel,
    strip_nms_plugin,
)
from yolov7_trt_ros.onnx_tools.strip_decoding import strip_decoding

_SHOWN_NAMES = 5
_WHOLE = 1 << 31
"""An end beyond that of any shape."""


def read_model(
    path: Path, data: bytes | None = None, *, keep_nms_plugin: bool = False
) -> tuple[Any, RunnableModel]:
    """
    Load a file once, for TensorRT and for ONNX Runtime.

    Parameters
    ----------
    path
        The file.
    data
        What is in it, if it was read before.
    keep_nms_plugin
        Leave EfficientNMS_TRT in the model for TensorRT, instead of cutting it off.

    Returns
    -------
    tuple[Any, RunnableModel]
        The ModelProto to edit for TensorRT, and what ONNX Runtime runs.

    Raises
    ------
    MissingDependencyError
        The `onnx` package is not installed.
    ModelFormatError
        The file is not ONNX.
    ModelLayoutError
        It ends in an NMS plugin that cannot be cut off.

    """
    onnx = import_onnx('a plan is built through it')
    model = load_model(path, weights=False, data=data)
    if read_weights(path, model):
        data = serialise(model)
    if find_plugin(model) is None:
        return model, RunnableModel(str(path) if data is None else data)
    runs = model
    if keep_nms_plugin:
        runs = onnx.ModelProto()
        runs.CopyFrom(model)
    cut = strip_nms_plugin(path, runs)
    assert cut is not None
    return model, cut


class TensorRtOnnx:
    """
    An ONNX model in memory.

    Parameters
    ----------
    path
        The file; it is not changed.
    keep_nms_plugin
        As for `read_model`.
    model
        What `read_model` gave; None to read the file here.

    Raises
    ------
    MissingDependencyError, ModelFormatError, ModelLayoutError
        As `read_model`.

    """

    def __init__(self, path: Path, *, keep_nms_plugin: bool = False, model: Any = None) -> None:
        self._onnx = import_onnx()
        self.model: Any = (
            read_model(path, keep_nms_plugin=keep_nms_plugin)[0] if model is None else model
        )
        self._type_outputs()
        slice_shapes(self.model)
        name_nodes(self.model)

    @property
    def has_nms_plugin(self) -> bool:
        """Whether it ends in TensorRT's NMS plugin."""
        return find_plugin(self.model) is not None

    @property
    def is_quantised(self) -> bool:
        """Whether it has explicit Q/DQ nodes."""
        return is_quantised(self.model)

    @property
    def metadata(self) -> dict[str, str]:
        """Text the model carries."""
        return metadata_of_model(self.model)

    def output_shapes(self) -> list[tuple[str, tuple[int | None, ...], int]]:
        """
        Return name, declared shape and ONNX type number of each output.

        Those of the NMS plugin, which exporters leave open, come from its attributes.

        """
        found = []
        known = plugin_shapes(self.model)
        for value in self.model.graph.output:
            tensor = value.type.tensor_type
            shape = tuple(
                side.dim_value if side.HasField('dim_value') else None for side in tensor.shape.dim
            )
            if value.name in known:
                shape = tuple(
                    default if side is None else side
                    for side, default in zip(shape, known[value.name], strict=True)
                )
            found.append((value.name, shape, tensor.elem_type))
        return found

    def node_label(self, index: int) -> str:
        """Return `head.2 (Conv)` for the node of a number; '' if there is none."""
        nodes = self.model.graph.node
        if not 0 <= index < len(nodes):
            return ''
        return f'{nodes[index].name} ({nodes[index].op_type})'

    def widen_casts(self) -> int:
        """Fold casts of stored float16 weights into float32 weights; returns how many."""
        return widen_casts(self.model)

    def unfold_quantised_weights(self) -> int:
        """
        Put weights that are stored quantised into the form every TensorRT takes; returns how many.

        Int8 weights before a DequantizeLinear become float32 weights before a pair of Q and DQ,
        which gives the same numbers; int32 biases, which TensorRT does not dequantise, become
        float32.

        """
        graph = self.model.graph
        stored = {tensor.name: tensor for tensor in graph.initializer}
        nodes, changed = [], []
        for node in graph.node:
            if node.op_type != 'DequantizeLinear' or node.input[0] not in stored:
                nodes.append(node)
                continue
            changed.append(node.input[0])
            is_bias = stored[node.input[0]].data_type == self._onnx.TensorProto.INT32
            float_name = node.output[0] if is_bias else f'{node.output[0]}.float'
            values = _dequantise(self._onnx, node, stored)
            graph.initializer.append(self._onnx.numpy_helper.from_array(values, float_name))
            if not is_bias:
                nodes += self._quantise_node(node, float_name)
        del graph.node[:]
        graph.node.extend(nodes)
        drop_unused(graph, set(changed))
        return len(changed)

    def _quantise_node(self, dequantise: Any, float_name: str) -> list[Any]:
        """Return the Q node that a DQ node of stored weights lacks, and the DQ node."""
        name = f'{dequantise.output[0]}.quantised'
        quantise = self._onnx.helper.make_node(
            'QuantizeLinear', [float_name, *dequantise.input[1:]], [name], name=name
        )
        quantise.attribute.extend(
            entry for entry in dequantise.attribute if entry.name == 'axis'
        )
        dequantise.input[0] = name
        return [quantise, dequantise]

    def strip_decoding(self, spec: ModelSpec) -> ModelSpec | None:
        """Leave raw maps of a grid model; what it is then, or None if it stays a grid."""
        return strip_decoding(self.model, spec)

    def kept_by_type(self) -> str | None:
        """
        Return a pattern of the convolutions that a mixed typed model leaves in float32.

        None for any other model: one is mixed where other convolutions have float16 weights.

        """
        names, types = convs_by_type(self.model), self._onnx.TensorProto
        if types.FLOAT16 not in names or types.FLOAT not in names:
            return None
        return f'^(?:{"|".join(map(re.escape, names[types.FLOAT]))})$'

    def convert_to_half(self, keep_fp32: str | None) -> None:
        """
        Turn what leads to convolutions into float16, but for inputs and outputs.

        For strongly typed TensorRT, where precisions are those of the model.

        Raises
        ------
        BuildError
            `keep_fp32` finds no node.

        """
        kept = [] if keep_fp32 is None else self._find_nodes(keep_fp32)
        convert_to_half(self.model, kept)

    def to_bytes(self) -> bytes:
        """Return the model serialised."""
        return serialise(self.model)

    def _type_outputs(self) -> None:
        """Give outputs without a type the inferred one: TensorRT needs it."""
        graph = self.model.graph
        if all(value.type.tensor_type.elem_type for value in graph.output):
            return
        inferred = infer_shapes(self.model)
        types = {value.name: value.type for value in (*inferred.value_info, *inferred.output)}
        for value in graph.output:
            if not value.type.tensor_type.elem_type and value.name in types:
                value.type.CopyFrom(types[value.name])
            if not value.type.tensor_type.elem_type:
                value.type.tensor_type.elem_type = graph.input[0].type.tensor_type.elem_type

    def _find_nodes(self, pattern: str) -> list[str]:
        expression = re.compile(pattern)
        names = [str(node.name) for node in self.model.graph.node]
        found = [name for name in names if expression.search(name)]
        if not found:
            raise BuildError(
                f'--keep-fp32 {pattern!r} finds none of the {len(names)} nodes; the last are '
                + ', '.join(names[-_SHOWN_NAMES:])
            )
        return found


def _dequantise(onnx: Any, node: Any, stored: dict[str, Any]) -> Any:
    """Return the float32 array of a DequantizeLinear of stored weights."""
    value, scale, *zero = (
        onnx.numpy_helper.to_array(stored[name]).astype('float32') for name in node.input if name
    )
    shape = [1] * value.ndim
    if scale.size > 1:  # one for each channel
        shape[next((entry.i for entry in node.attribute if entry.name == 'axis'), 1)] = -1
    scale, zero = scale.reshape(shape), [each.reshape(shape) for each in zero]
    return ((value - zero[0]) if zero else value) * scale


def slice_shapes(model: Any) -> int:
    """
    Turn `Shape(x, start, end)` into `Slice(Shape(x), start, end)`; returns how many.

    TensorRT 8.6 takes such a node for a plain Shape and fails later on, or runs another network.

    """
    onnx = import_onnx()
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
