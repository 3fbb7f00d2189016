"""Write an ONNX graph node by node, for any opset from 11 to 20."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
import onnx
from onnx import helper, numpy_helper, TensorProto

PLUGIN_DOMAIN = 'TRT'

_WEIGHT_DIMENSIONS = 4
_SPLIT_SIZES_AS_INPUT = 13
_RESIZE_ROI_OPTIONAL = 13

Dimensions = Sequence[int | str]
"""Of a tensor: numbers, or the names of what is free."""


class GraphWriter:
    """
    A graph under construction. Each node is called like its first output.

    Parameters
    ----------
    opset
        Version of the operators, 11..20.
    half_weights
        Store weights of convolutions as float16 behind casts; what computes stays float32.

    """

    def __init__(self, opset: int, *, half_weights: bool = False) -> None:
        self.opset = opset
        self._half_weights = half_weights
        self._nodes: list[Any] = []
        self._tensors: dict[str, NDArray[Any]] = {}
        self._domains: set[str] = set()

    def node(
        self, kind: str, inputs: Sequence[str], output: str, *, domain: str = '',
        **attributes: Any,
    ) -> str:
        """Add a node with one output and return the output's name."""
        self.nodes(kind, inputs, [output], domain=domain, **attributes)
        return output

    def nodes(
        self, kind: str, inputs: Sequence[str], outputs: Sequence[str], *, domain: str = '',
        **attributes: Any,
    ) -> None:
        """Add a node with several outputs."""
        self._domains.add(domain)
        self._nodes.append(helper.make_node(
            kind, list(inputs), list(outputs), name=outputs[0], domain=domain, **attributes
        ))

    def const(self, name: str, values: Any, dtype: type[Any]) -> str:
        """Add a constant, once under one name, and return the name; an array is not copied."""
        if name not in self._tensors:
            self._tensors[name] = np.asarray(values, dtype)
        return name

    def weight(self, name: str, values: NDArray[Any]) -> str:
        """Add the weights of a convolution, in the precision they are stored in."""
        if not self._half_weights:
            return self.const(name, values, np.float32)
        stored = self.const(f'{name}.half', values, np.float16)
        return self.node('Cast', [stored], name, to=TensorProto.FLOAT)

    def integers(self, *values: int) -> str:
        """Return the name of a list of integers."""
        return self.const('integers.' + '_'.join(map(str, values)), values, np.int64)

    def number(self, value: float) -> str:
        """Return the name of a float32 scalar."""
        return self.const(f'number.{value:g}', np.array(value), np.float32)

    # ---- operators whose form depends on the opset

    def split(self, x: str, sizes: Sequence[int], outputs: Sequence[str]) -> None:
        """Split a tensor along its last axis."""
        if self.opset >= _SPLIT_SIZES_AS_INPUT:
            self.nodes('Split', [x, self.integers(*sizes)], outputs, axis=-1)
        else:
            self.nodes('Split', [x], outputs, axis=-1, split=list(sizes))

    def double_size(self, x: str, output: str) -> str:
        """Make a map (B, C, h, w) twice as large, by its scale: no size is computed."""
        if self.opset >= _RESIZE_ROI_OPTIONAL:
            roi = ''
        else:
            roi = self.const('no_region', [], np.float32)
        scales = self.const('twice', [1, 1, 2, 2], np.float32)
        return self.node(
            'Resize', [x, roi, scales], output, mode='nearest', nearest_mode='floor',
            coordinate_transformation_mode='asymmetric',
        )

    # ---- the whole

    def model(
        self, image_shape: Dimensions, outputs: Sequence[tuple[str, int, Dimensions | None]],
        metadata: Mapping[str, str],
    ) -> Any:
        """
        Return the ModelProto, checked.

        Weights come in when it is checked, as what checks it makes copies of all it is given.

        Parameters
        ----------
        image_shape
            Of the float32 input `images`.
        outputs
            Name, element type of TensorProto and shape of each.
        metadata
            Text that the model carries.

        """
        graph = helper.make_graph(
            self._nodes, 'yolov7',
            [helper.make_tensor_value_info('images', TensorProto.FLOAT, image_shape)],
            [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in outputs],
            [numpy_helper.from_array(array, name) for name, array in self._tensors.items()
             if array.ndim < _WEIGHT_DIMENSIONS],
        )
        weights = {
            name: array for name, array in self._tensors.items()
            if array.ndim >= _WEIGHT_DIMENSIONS
        }
        opsets = [helper.make_opsetid('', self.opset)]
        version = helper.find_min_ir_version_for(opsets)
        opsets += [helper.make_opsetid(domain, 1) for domain in sorted(self._domains - {''})]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=version, producer_name='yolov7_trt_ros'
        )
        helper.set_model_props(model, dict(metadata))
        _check(model, weights)
        for name, array in weights.items():
            model.graph.initializer.add().CopyFrom(numpy_helper.from_array(array, name))
        return model


def _check(model: Any, weights: Mapping[str, NDArray[Any]]) -> None:
    """Check a model whose weights are not in it yet: for that they are inputs."""
    images = len(model.graph.input)
    model.graph.input.extend(
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in weights.items()
    )
    onnx.checker.check_model(model)
    del model.graph.input[images:]
