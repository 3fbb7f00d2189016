"""Find the GPU of this machine and the target that a plan must fit. PyCUDA may be missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from yolov7_trt_ros.engine.plan.build_target import BuildTarget
from yolov7_trt_ros.errors import MissingDependencyError

if TYPE_CHECKING:
    from yolov7_trt_ros.engine.trt.api import TrtApi


def has_gpu() -> bool:
    """Whether there is a CUDA device, and PyCUDA to use it."""
    try:
        from yolov7_trt_ros.engine.device.cuda_device import has_cuda_device
    except ImportError:  # no PyCUDA, or no driver library
        return False
    return has_cuda_device()


def find_target(api: TrtApi) -> BuildTarget:
    """
    Return what a plan must fit here.

    Raises
    ------
    MissingDependencyError
        There is no PyCUDA, or no driver.
    InferenceError
        There is no GPU.

    """
    try:
        from yolov7_trt_ros.engine.device.cuda_device import find_target as ask_device
    except ImportError as exc:
        raise MissingDependencyError(
            f'TensorRT plans run through PyCUDA, which cannot be imported ({exc}); install it '
            'with: pip install pycuda; the NVIDIA driver must be there as well'
        ) from exc
    return ask_device(api)
