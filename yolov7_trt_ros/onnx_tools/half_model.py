"""A mixed model: the backbone in float16, the detection heads in float32, as a typed ONNX."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from yolov7_trt_ros.errors import ExportError
from yolov7_trt_ros.onnx_tools.graph import FloatModel

ConvertToHalf = Callable[[Any, Any, Collection[str]], None]
"""Converts a model (the onnx package, ModelProto, names of nodes that stay) in place."""

_LARGEST_HALF = 65504.0


def make_mixed(model: FloatModel, kept: Collection[str], convert: ConvertToHalf) -> Any:
    """
    Return a new ModelProto whose backbone is float16; its inputs and outputs stay float32.

    Parameters
    ----------
    model
        What to convert; it stays as it is.
    kept
        Names of the convolutions that stay float32: the heads, and what else is to stay. What
        follows the last ones, where boxes are decoded into pixels, stays float32 anyway.
    convert
        `onnx_tools.half_precision.convert_to_half`.

    Raises
    ------
    ExportError
        A weight is beyond what float16 can hold.

    """
    mixed = onnx.ModelProto()
    mixed.CopyFrom(model.model)
    with np.errstate(over='ignore'):  # found below, and told with the name
        convert(onnx, mixed, tuple(kept))
    for tensor in mixed.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT16:
            values = numpy_helper.to_array(tensor)
            if not np.isfinite(values).all():
                raise ExportError(
                    f'{tensor.name.removesuffix(".half")} has values beyond float16\'s '
                    f'{_LARGEST_HALF:.0f}; keep its convolution in float32 with --keep'
                )
    return mixed
