"""Run a loaded plan once and copy its outputs to the host, to recognise the model."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray
import pycuda.driver as cuda

from yolov7_trt_ros.core.forms.model_spec import TensorInfo
from yolov7_trt_ros.core.forms.recognise import probe_images
from yolov7_trt_ros.engine.device.memory import DeviceBuffer
from yolov7_trt_ros.engine.trt.api import TrtContext, TrtEngine
from yolov7_trt_ros.errors import ModelLayoutError


def probe_plan(
    engine: TrtEngine, activations: DeviceBuffer, stream: cuda.Stream, light: float = 1
) -> tuple[list[TensorInfo], dict[str, NDArray[Any]]]:
    """
    Return the outputs with their shapes, and what they hold, for the first profile's optimum.

    The images are noise within 0..light. Raises as `run_plan`.

    """
    image, shape = engine.inputs[0], engine.profiles[0].optimum
    return run_plan(engine, activations, stream, probe_images(shape, image.dtype, light))


def run_plan(
    engine: TrtEngine, activations: DeviceBuffer, stream: cuda.Stream, images: NDArray[Any]
) -> tuple[list[TensorInfo], dict[str, NDArray[Any]]]:
    """
    Run the first profile on images (B, 3, H, W) of the input's dtype.

    Returns
    -------
    The outputs with their shapes, and what they hold by name.

    Raises
    ------
    ModelLayoutError
        The size of an output depends on the image.
    InferenceError
        TensorRT or CUDA failed.

    """
    image = engine.inputs[0]
    with contextlib.ExitStack() as resources:
        context = engine.create_context(0, stream.handle)
        resources.callback(context.close)
        context.set_device_memory(activations.address, activations.size_bytes)
        context.set_input_shape(image.name, images.shape)
        outputs = [
            dataclasses.replace(tensor, shape=context.output_shape(tensor.name))
            for tensor in engine.outputs
        ]
        _check_sizes(outputs)
        cuda.memcpy_htod(_bind(context, resources, image.name, images.nbytes), images)
        values = {t.name: np.empty([side or 0 for side in t.shape], t.dtype) for t in outputs}
        addresses = {
            name: _bind(context, resources, name, array.nbytes) for name, array in values.items()
        }
        context.enqueue(stream.handle)
        stream.synchronize()
        for name, array in values.items():
            cuda.memcpy_dtoh(array, addresses[name])
    return outputs, values


def _bind(
    context: TrtContext, resources: contextlib.ExitStack, name: str, size_bytes: int
) -> int:
    """Give a tensor device memory that lives as long as `resources`; returns its address."""
    buffer = DeviceBuffer(size_bytes)
    resources.callback(buffer.free)
    context.set_address(name, buffer.address)
    return buffer.address


def _check_sizes(outputs: list[TensorInfo]) -> None:
    if any(side is not None and side < 0 for tensor in outputs for side in tensor.shape):
        raise ModelLayoutError(
            'the plan has outputs whose size depends on the image (NMS of ONNX inside); export '
            'the model with --grid, without NMS'
        )
