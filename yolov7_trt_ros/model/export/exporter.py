"""Export a network as ONNX: decoded rows, raw maps or NMS inside; verified before writing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
import json
import os
from pathlib import Path
from typing import Any

from onnx import TensorProto

from yolov7_trt_ros.atomic_file import temporary_file
from yolov7_trt_ros.errors import SettingError
from yolov7_trt_ros.model.export.onnx_decode import write_grid
from yolov7_trt_ros.model.export.onnx_layers import write_layers
from yolov7_trt_ros.model.export.onnx_nms import Output, write_plugin_nms, write_standard_nms
from yolov7_trt_ros.model.export.onnx_writer import GraphWriter
from yolov7_trt_ros.model.export.options import (
    DEFAULT_OPSET,
    DEFAULT_SHAPE,
    DYNAMIC,
    ExportOptions,
    NmsSettings,
    Shape,
)
from yolov7_trt_ros.model.export.verify import (
    check_differences,
    compare_outputs,
    ExportDifference,
    Outline,
)
from yolov7_trt_ros.model.export.verify_layers import add_layers
from yolov7_trt_ros.model.network.architecture import (
    fold_batch_norms,
    has_batch_norms,
    Network,
    round_weights,
)

_BASE_BYTES = 450_000_000
_COPIES = {'grid': 4, 'raw': 4, 'end2end': 7}
_GRID, _RAW = 'output', 'raw'


def export_onnx(
    network: Network,
    path: Path,
    *,
    form: str = 'grid',
    nms: str = 'trt',
    dynamic: Iterable[str] = DYNAMIC,
    shape: Shape = DEFAULT_SHAPE,
    opset: int = DEFAULT_OPSET,
    nms_settings: NmsSettings | None = None,
    half_weights: bool = False,
) -> list[ExportDifference]:
    """
    Write a network as ONNX after comparing it with torch on three inputs.

    Returns how much each input's outputs differ; with `half_weights` from the network whose
    weights are rounded.

    Raises
    ------
    ExportError
        The outputs differ by more than 0.0001 (relative) and more than rounding explains, or a
        weight is beyond float16; no file is written.
    SettingError
        An option is unknown or out of its range, or the size is no multiple of the stride.
    OSError
        The disk is full or the folder cannot be written; no part of the file is left.

    """
    options = ExportOptions(
        form, nms, frozenset(dynamic), shape, opset, nms_settings or NmsSettings(),
        half_weights,
    )
    if has_batch_norms(network):
        network = fold_batch_norms(network)
    if half_weights:
        network = round_weights(network)
    shapes = comparison_shapes(network, options)
    model = build_model(network, options)
    data = model.SerializeToString()
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_file(path, data) as temporary:
        del data
        if not Outline.of(model).has_nms:
            model = Outline.of(model)  # the weights are in the file
        results = compare_outputs(temporary, model, network, shapes)
        results = add_layers(
            results, network, options.opset,
            image_hw=None if 'hw' in options.dynamic else options.shape[2:],
        )
        check_differences(results)
        os.replace(temporary, path)
    return results


def estimate_memory_bytes(network: Network, form: str) -> int:
    """Return about how much memory an export takes, as measured with yolov7-e6e."""
    weights_bytes = sum(4 * value.numel() for value in network.parameters())
    return _BASE_BYTES + _COPIES[form] * weights_bytes


def build_model(network: Network, options: ExportOptions) -> Any:
    """Return the ModelProto of a network whose batch norms are folded; not yet compared."""
    batch: int | str = 'batch' if 'batch' in options.dynamic else options.shape[0]
    image_hw = None if 'hw' in options.dynamic else options.shape[2:]
    _check_size(network, image_hw)
    writer = GraphWriter(options.opset, half_weights=options.half_weights)
    maps = write_layers(writer, network, 'images')
    outputs: Sequence[Output]
    if options.form == 'raw':
        outputs = _write_raw(writer, network, maps, batch, image_hw)
    else:
        rows = 'rows' if options.form == 'end2end' else _GRID
        write_grid(writer, network, maps, rows, image_hw)
        count = 'rows' if image_hw is None else _count_rows(network, image_hw)
        outputs = [(_GRID, TensorProto.FLOAT, (batch, count, 5 + network.num_classes))]
        if options.form == 'end2end' and options.nms == 'trt':
            outputs = write_plugin_nms(
                writer, rows, network.num_classes, options.nms_settings, batch
            )
        elif options.form == 'end2end':
            outputs = write_standard_nms(writer, rows, network.num_classes, options.nms_settings)
    size = ('height', 'width') if image_hw is None else image_hw
    return writer.model((batch, 3, *size), outputs, _metadata(network))


def comparison_shapes(network: Network, options: ExportOptions) -> list[Shape]:
    """Return three input shapes: other than square and batch 2 if the model takes them."""
    stride = network.stride
    batches = (1, 2, 1) if 'batch' in options.dynamic else (options.shape[0],) * 3
    sizes: Sequence[tuple[int, int]] = [options.shape[2:]] * 3
    if 'hw' in options.dynamic:
        cells = ((6, 6), (4, 7), (8, 3))
        sizes = [(stride * rows, stride * columns) for rows, columns in cells]
    return [(batch, 3, *size) for batch, size in zip(batches, sizes, strict=True)]


def _write_raw(
    writer: GraphWriter, network: Network, maps: Sequence[str], batch: int | str,
    image_hw: tuple[int, int] | None,
) -> list[Output]:
    channels = 3 * (5 + network.num_classes)
    outputs: list[Output] = []
    for raw, stride in zip(maps, network.strides, strict=True):
        name = writer.node('Identity', [raw], f'{_RAW}_{stride}')
        size: tuple[int | str, int | str] = (f'height_{stride}', f'width_{stride}')
        if image_hw is not None:
            size = (image_hw[0] // stride, image_hw[1] // stride)
        outputs.append((name, TensorProto.FLOAT, (batch, channels, *size)))
    return outputs


def _check_size(network: Network, image_hw: tuple[int, int] | None) -> None:
    if image_hw is not None and any(side % network.stride for side in image_hw):
        raise SettingError(
            f'height and width must be multiples of the stride {network.stride}, got '
            f'{image_hw[0]}x{image_hw[1]}'
        )


def _count_rows(network: Network, image_hw: tuple[int, int]) -> int:
    return sum(3 * (image_hw[0] // s) * (image_hw[1] // s) for s in network.strides)


def _metadata(network: Network) -> dict[str, str]:
    return {
        'names': json.dumps(list(network.class_names), ensure_ascii=False),
        'stride': str(network.stride),
        'anchors': json.dumps(network.anchors),
    }
