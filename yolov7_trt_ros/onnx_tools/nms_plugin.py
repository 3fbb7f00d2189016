"""Strip TensorRT's EfficientNMS plugin from an ONNX model, so that it runs elsewhere."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from yolov7_trt_ros.errors import ModelLayoutError
from yolov7_trt_ros.onnx_tools.edit import set_outputs
from yolov7_trt_ros.onnx_tools.model_file import import_onnx, load_model, serialise

PLUGIN = 'EfficientNMS_TRT'
_MOST_BOXES = 100
"""The plugin's own default."""


@dataclasses.dataclass(frozen=True)
class RunnableModel:
    """
    The part of a file that ONNX Runtime can run.

    Attributes
    ----------
    model
        Path of the file, or a serialised model.
    boxes_name, boxes_are_centres
        If the plugin was stripped: the outputs are its former inputs, boxes and scores. Else
        None.

    """

    model: str | bytes
    boxes_name: str | None = None
    boxes_are_centres: bool | None = None


def find_plugin(model: Any) -> Any | None:
    """Return the node of the plugin; None if the model has none."""
    return next((node for node in model.graph.node if node.op_type == PLUGIN), None)


def strip_nms_plugin(path: Path, model: Any = None) -> RunnableModel | None:
    """
    Strip the plugin; None if the model has none.

    Parameters
    ----------
    path
        The file.
    model
        The ModelProto of the file if it is loaded already; it is changed.

    Raises
    ------
    MissingDependencyError
        The `onnx` package is not installed.
    ModelFormatError
        The file is not ONNX, or its weights are missing.
    ModelLayoutError
        The plugin was to apply a sigmoid to the scores, which YOLOv7's exporter does not use, or
        it does not have its two inputs.

    """
    import_onnx(
        f'{path} ends in the TensorRT plugin {PLUGIN}; to run it on the CPU the plugin is cut off'
    )
    model = load_model(path) if model is None else model
    plugin = find_plugin(model)
    if plugin is None:
        return None
    options = _options(plugin)
    if len(plugin.input) < 2:
        raise ModelLayoutError(f'{path}: {PLUGIN} needs boxes and scores, it has '
                               f'{len(plugin.input)} input(s): the file is damaged')
    if options.get('score_activation', 0):
        raise ModelLayoutError(f'{path}: {PLUGIN} with score_activation is not supported')
    boxes_name, scores_name = plugin.input[:2]
    expose_nms_inputs(model, boxes_name, scores_name)
    return RunnableModel(
        serialise(model), boxes_name, boxes_are_centres=options.get('box_coding', 0) == 1
    )


def expose_nms_inputs(model: Any, boxes: str, scores: str) -> None:
    """Remove the plugin in place; the model then outputs the inputs of its NMS."""
    for node in [node for node in model.graph.node if node.op_type == PLUGIN]:
        model.graph.node.remove(node)
    set_outputs(model.graph, (boxes, scores))


def plugin_shapes(model: Any) -> dict[str, tuple[int | None, ...]]:
    """Return the shapes of the outputs of the plugin by its attributes; none without it."""
    plugin = find_plugin(model)
    if plugin is None:
        return {}
    most = _options(plugin).get('max_output_boxes', _MOST_BOXES)
    shapes = ((None, 1), (None, most, 4), (None, most), (None, most))
    return dict(zip(plugin.output, shapes, strict=True))


def _options(plugin: Any) -> dict[str, Any]:
    value_of = import_onnx().helper.get_attribute_value
    return {entry.name: _plain_number(value_of(entry)) for entry in plugin.attribute}


def _plain_number(value: Any) -> Any:
    """Take the one number out of a list: exporters write plugin attributes as INT or INTS."""
    return value[0] if isinstance(value, (list, tuple)) and len(value) == 1 else value
