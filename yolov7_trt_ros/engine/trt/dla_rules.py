"""
NVIDIA's documented rules for layers on a deep learning accelerator (DLA).

Facts from three public sources, none tried on a DLA:

- "DLA Supported Layers and Restrictions" of the TensorRT documentation
  (docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/dla-layer-restrictions.html):
  batches to 4096, other sides to 8192, no dynamic shapes, at most 16 loadables a core;
  convolution, activation, concatenation, element-wise, pooling, resize and their limits. The
  window of a pooling and the scales of a resize are those of the guide of TensorRT 8.
- "Supported ONNX Operators on Orin DLA" of NVIDIA/Deep-Learning-Accelerator-SW: no division,
  power, exponential, minimum or root.
- NVIDIA's guide of TensorRT 8.5, "TensorRT and DLA": no explicit quantisation (Q/DQ layers).

Where the sources differ, or a kind of DLA is told from another, a layer counts as one that falls
back. No TensorRT import: layers come in as they are, with the module that made them.

"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

LOADABLES = 16
"""Most that one core holds at a time."""

_BATCH, _SIDE = 4096, 8192
_KERNEL, _STRIDE = 32, 8
_WINDOW, _POOL_PADDING, _POOL_STRIDE = 8, 7, 16
_SCALE = 32
_ACTIVATIONS = ('RELU', 'SIGMOID', 'TANH', 'CLIP')
_OPERATIONS = ('SUM', 'SUB', 'PROD', 'MAX')
_POOLINGS = ('MAX', 'AVERAGE')
_UNARIES = ('ABS',)
_SILENT = ('CONSTANT', 'SHAPE', 'IDENTITY', 'CAST')
"""Layers without work of their own; casts serve strongly typed TensorRT."""

DYNAMIC = 'dynamic shapes, give --opt alone so that there is one'


def is_work(layer: Any) -> bool:
    """Whether a layer computes on pictures: not constants, shapes, or integers about shapes."""
    if _name(layer.type) in _SILENT:
        return False
    outputs = [layer.get_output(number) for number in range(layer.num_outputs)]
    return not all(output is None or output.is_shape_tensor for output in outputs)


def reason_against(module: Any, layer: Any) -> str:
    """Return why a layer is left to the GPU by what is documented, '' if nothing speaks so."""
    kind = _name(layer.type)
    shapes = [
        tuple(tensor.shape) for tensor in (
            *(layer.get_input(number) for number in range(layer.num_inputs)),
            *(layer.get_output(number) for number in range(layer.num_outputs)),
        ) if tensor is not None
    ]
    rule = _RULES.get(kind)
    if rule is None:
        return f'{kind.lower().replace("_", " ")}: no such layer on a DLA'
    return rule(_as(module, layer, _CLASSES[kind])) or _check_sides(kind, shapes)


def _check_sides(kind: str, shapes: Sequence[tuple[int, ...]]) -> str:
    for shape in shapes:
        if len(shape) not in (0, 1, 4) and kind != 'SHUFFLE':
            return f'{kind.lower()}: {len(shape)} dimensions, 4 are taken'
        if len(shape) == 4 and (shape[0] > _BATCH or max(shape[1:]) > _SIDE):
            return f'{kind.lower()}: {shape} is over {_BATCH} images, or {_SIDE} a side'
    return ''


def _activation(layer: Any) -> str:
    name = _name(layer.type)
    if name == 'LEAKY_RELU':
        return 'LeakyReLU: runs on an Orin, not on every DLA'
    return '' if name in _ACTIVATIONS else f'activation {name.lower()}'


def _concatenation(layer: Any) -> str:
    return '' if layer.axis == 1 else f'concatenation along axis {layer.axis}: channels alone'


def _convolution(layer: Any) -> str:
    kernel, stride = tuple(layer.kernel_size_nd), tuple(layer.stride_nd)
    if len(kernel) != 2 or max(kernel) > _KERNEL or max(stride) > _STRIDE:
        return f'convolution with kernel {kernel} and stride {stride}'
    return '' if layer.num_output_maps <= _SIDE else f'convolution to {layer.num_output_maps} maps'


def _deconvolution(layer: Any) -> str:
    plain = layer.num_groups == 1 and not any(layer.padding_nd) and set(layer.dilation_nd) == {1}
    return '' if plain else 'deconvolution with groups, padding or dilation'


def _elementwise(layer: Any) -> str:
    name = _name(layer.op)
    return '' if name in _OPERATIONS else f'element-wise {name.lower()}'


def _pooling(layer: Any) -> str:
    window, stride = tuple(layer.window_size_nd), tuple(layer.stride_nd)
    name = _name(layer.type)
    if name not in _POOLINGS or len(window) != 2:
        return f'{name.lower()} pooling over {window}'
    if max(window) > _WINDOW:
        return f'pooling over {window[0]}x{window[1]}: {_WINDOW}x{_WINDOW} at most (SPP)'
    if max(layer.padding_nd) > _POOL_PADDING or max(stride) > _POOL_STRIDE:
        return f'pooling with padding {tuple(layer.padding_nd)} and stride {stride}'
    return ''


def _resize(layer: Any) -> str:
    if _name(layer.resize_mode) != 'NEAREST':
        return f'resize {_name(layer.resize_mode).lower()}: nearest alone'
    scales = list(layer.scales or ())
    if not scales:
        return 'resize to a size, not by whole scales'
    whole = all(scale == int(scale) and 1 <= scale <= _SCALE for scale in scales)
    return '' if len(scales) == 4 and scales[:2] == [1, 1] and whole else f'resize by {scales}'


def _shuffle(layer: Any) -> str:
    source, target = layer.get_input(0).shape, layer.get_output(0).shape
    if len(source) != 4 or len(target) != 4:
        return f'reshape or transpose from {len(source)} to {len(target)} dimensions'
    return ''


def _unary(layer: Any) -> str:
    name = _name(layer.op)
    return '' if name in _UNARIES else f'unary {name.lower()}'


def _nothing_against(layer: Any) -> str:
    return ''


_RULES: dict[str, Callable[[Any], str]] = {
    'ACTIVATION': _activation, 'CONCATENATION': _concatenation, 'CONVOLUTION': _convolution,
    'DECONVOLUTION': _deconvolution, 'ELEMENTWISE': _elementwise, 'POOLING': _pooling,
    'RESIZE': _resize, 'SHUFFLE': _shuffle, 'SCALE': _nothing_against, 'UNARY': _unary,
    'QUANTIZE': lambda _: 'Q/DQ layers: a DLA takes no explicit quantisation',
    'DEQUANTIZE': lambda _: 'Q/DQ layers: a DLA takes no explicit quantisation',
}
_CLASSES = {
    'ACTIVATION': 'IActivationLayer', 'CONCATENATION': 'IConcatenationLayer',
    'CONVOLUTION': 'IConvolutionLayer', 'DECONVOLUTION': 'IDeconvolutionLayer',
    'ELEMENTWISE': 'IElementWiseLayer', 'POOLING': 'IPoolingLayer', 'RESIZE': 'IResizeLayer',
    'SHUFFLE': 'IShuffleLayer', 'SCALE': 'IScaleLayer', 'UNARY': 'IUnaryLayer',
    'QUANTIZE': 'IQuantizeLayer', 'DEQUANTIZE': 'IDequantizeLayer',
}


def _as(module: Any, layer: Any, name: str) -> Any:
    """Return a layer as its own class, which TensorRT's Python does not do by itself."""
    layer.__class__ = getattr(module, name)
    return layer


def _name(value: Any) -> str:
    """Return the name of one of TensorRT's enumerations."""
    return str(value).rpartition('.')[2]
