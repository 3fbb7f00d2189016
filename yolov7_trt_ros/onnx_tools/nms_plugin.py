"""Cut TensorRT's EfficientNMS plugin off an ONNX model, so that it runs elsewhere."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from yolov7_trt_ros.errors import ModelLayoutError
from yolov7_trt_ros.onnx_tools.model_file import import_onnx, load_model, serialise

PLUGIN = 'EfficientNMS_TRT'


@dataclasses.dataclass(frozen=True)
class CutModel:
    """A serialised model whose outputs are the former inputs of the plugin: boxes and scores."""

    model: bytes
    boxes_name: str
    boxes_are_centres: bool


def cut_nms_plugin(path: Path) -> CutModel | None:
    """
    Cut the plugin off; None where the model has none.

    Raises
    ------
    MissingDependencyError
        The `onnx` package is not installed.
    ModelFormatError
        The file is not ONNX, or its weights are not there.
    ModelLayoutError
        The plugin was to apply a sigmoid to the scores, which YOLOv7's exporter does not use, or
        it does not have its two inputs.

    """
    onnx = import_onnx(
        f'{path} ends in the TensorRT plugin {PLUGIN}; to run it on the CPU the plugin is cut off'
    )
    model = load_model(path)
    plugin = next((node for node in model.graph.node if node.op_type == PLUGIN), None)
    if plugin is None:
        return None
    options = {
        attribute.name: _plain_number(onnx.helper.get_attribute_value(attribute))
        for attribute in plugin.attribute
    }
    if len(plugin.input) < 2:
        raise ModelLayoutError(f'{path}: {PLUGIN} needs boxes and scores, it has '
                               f'{len(plugin.input)} input(s): the file is damaged')
    if options.get('score_activation', 0):
        raise ModelLayoutError(f'{path}: {PLUGIN} with score_activation is not supported')
    boxes_name, scores_name = plugin.input[:2]
    model.graph.node.remove(plugin)
    del model.graph.output[:]
    # Without a type: ONNX Runtime infers it, float32 or float16.
    model.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in (boxes_name, scores_name)
    )
    return CutModel(
        serialise(model), boxes_name, boxes_are_centres=options.get('box_coding', 0) == 1
    )


def _plain_number(value: Any) -> Any:
    """Take the one number out of a list: exporters write plugin attributes as INT or INTS."""
    return value[0] if isinstance(value, (list, tuple)) and len(value) == 1 else value
