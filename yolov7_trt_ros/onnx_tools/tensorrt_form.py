"""Edit an ONNX model before TensorRT parses it: names, widened weights, half precision."""

from __future__ import annotations

from pathlib import Path
import re
from typing import Any

from yolov7_trt_ros.core.model_spec import ModelSpec
from yolov7_trt_ros.errors import BuildError
from yolov7_trt_ros.onnx_tools.decoding_cut import cut_decoding
from yolov7_trt_ros.onnx_tools.half_precision import convert_to_half
from yolov7_trt_ros.onnx_tools.model_file import import_onnx, load_model, serialise
from yolov7_trt_ros.onnx_tools.nms_plugin import cut_nms_plugin, PLUGIN
from yolov7_trt_ros.onnx_tools.onnx_shapes import slice_shapes

_SHOWN_NAMES = 5


class OnnxEdit:
    """
    An ONNX model in memory.

    Parameters
    ----------
    path
        The file; it is not changed.
    keep_nms_plugin
        Leave EfficientNMS_TRT in, instead of cutting it off.

    Raises
    ------
    MissingDependencyError
        The `onnx` package is not installed.
    ModelFormatError
        The file is not ONNX.

    """

    def __init__(self, path: Path, *, keep_nms_plugin: bool = False) -> None:
        onnx = self._onnx = import_onnx('a plan is built through it')
        self.model: Any = load_model(path)
        if self.has_nms_plugin and not keep_nms_plugin:
            cut = cut_nms_plugin(path)
            assert cut is not None
            self.model = onnx.load_from_string(cut.model)
        self._type_outputs()
        slice_shapes(onnx, self.model)
        self._name_nodes()

    @property
    def has_nms_plugin(self) -> bool:
        """Whether it ends in TensorRT's NMS plugin."""
        return any(node.op_type == PLUGIN for node in self.model.graph.node)

    @property
    def is_quantised(self) -> bool:
        """Whether it has explicit Q/DQ nodes."""
        return any(node.op_type == 'QuantizeLinear' for node in self.model.graph.node)

    @property
    def metadata(self) -> dict[str, str]:
        """Text the model carries."""
        return {entry.key: entry.value for entry in self.model.metadata_props}

    def output_shapes(self) -> list[tuple[str, tuple[int | None, ...], int]]:
        """
        Return name, declared shape and ONNX type number of each output.

        Those of the NMS plugin, which exporters leave open, come from its attributes.

        """
        found = []
        known = self._plugin_shapes()
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

    def _plugin_shapes(self) -> dict[str, tuple[int | None, ...]]:
        plugin = next((node for node in self.model.graph.node if node.op_type == PLUGIN), None)
        if plugin is None:
            return {}
        most = 100  # the plugin's own default
        for entry in plugin.attribute:
            if entry.name == 'max_output_boxes':
                most = entry.ints[0] if entry.ints else entry.i
        shapes = ((None, 1), (None, most, 4), (None, most), (None, most))
        return dict(zip(plugin.output, shapes, strict=True))

    def node_label(self, index: int) -> str:
        """Return `head.2 (Conv)` for the node of a number; '' where there is none."""
        nodes = self.model.graph.node
        if not 0 <= index < len(nodes):
            return ''
        return f'{nodes[index].name} ({nodes[index].op_type})'

    def widen_casts(self) -> int:
        """
        Fold casts of stored float16 weights into float32 weights; returns how many.

        TensorRT has to see weights as constants, and quantised ones as weights.

        """
        graph = self.model.graph
        to_array, from_array = self._onnx.numpy_helper.to_array, self._onnx.numpy_helper.from_array
        stored = {tensor.name: tensor for tensor in graph.initializer}
        folded = []
        for node in graph.node:
            if node.op_type != 'Cast' or node.input[0] not in stored:
                continue
            weights = stored[node.input[0]]
            target = next(entry.i for entry in node.attribute if entry.name == 'to')
            if (weights.data_type, target) == (
                self._onnx.TensorProto.FLOAT16, self._onnx.TensorProto.FLOAT
            ):
                graph.initializer.append(
                    from_array(to_array(weights).astype('float32'), node.output[0])
                )
                folded.append(node)
        for node in folded:
            graph.node.remove(node)
        self._drop_unused({node.input[0] for node in folded})
        return len(folded)

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
        self._drop_unused(set(changed))
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

    def cut_decoding(self, spec: ModelSpec) -> ModelSpec | None:
        """Leave raw maps of a grid model; what it is then, or None where it stays a grid."""
        return cut_decoding(self.model, spec)

    def kept_by_type(self) -> str | None:
        """
        Return a pattern of the convolutions that a mixed typed model leaves in float32.

        None for any other model: one is mixed where other convolutions have float16 weights.

        """
        tensors = {tensor.name: tensor.data_type for tensor in self.model.graph.initializer}
        names: dict[int, list[str]] = {}
        for node in self.model.graph.node:
            if node.op_type == 'Conv' and node.input[1] in tensors:
                names.setdefault(tensors[node.input[1]], []).append(str(node.name))
        types = self._onnx.TensorProto
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
        convert_to_half(self._onnx, self.model, kept)

    def to_bytes(self) -> bytes:
        """Return the model serialised."""
        return serialise(self.model)

    def _type_outputs(self) -> None:
        """Give outputs without a type the inferred one: TensorRT needs it."""
        graph = self.model.graph
        if all(value.type.tensor_type.elem_type for value in graph.output):
            return
        inferred = self._onnx.shape_inference.infer_shapes(self.model).graph
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

    def _name_nodes(self) -> None:
        """
        Name each node, after its first output if it has no name of its own.

        Errors and --keep-fp32 speak of nodes by name.

        """
        taken: set[str] = set()
        for index, node in enumerate(self.model.graph.node):
            name = node.name or next(iter(node.output), node.op_type)
            node.name = f'{name}_{index}' if name in taken else name
            taken.add(node.name)

    def _drop_unused(self, names: set[str]) -> None:
        graph = self.model.graph
        used = {name for node in graph.node for name in node.input}
        used |= {value.name for value in graph.output}
        for tensor in [each for each in graph.initializer if each.name in names - used]:
            graph.initializer.remove(tensor)


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
