"""DetectorOptions: what is fixed when a detector is opened. Standard library only."""

from __future__ import annotations

import dataclasses

BACKENDS = ('auto', 'tensorrt', 'onnx')
PRECISIONS = ('fp32', 'fp16', 'int8', 'mixed')
MEMORIES = ('auto', 'staged', 'locked', 'mapped', 'direct')
MAX_BATCH_LIMIT = 64
NETWORK_SIZE_RANGE = (32, 4096)
"""Least and largest `network_size` that users may set."""
DEFAULT_MODEL = 'yolov7-nano'


@dataclasses.dataclass(frozen=True)
class DetectorOptions:
    """
    What is fixed when a detector is opened.

    Attributes
    ----------
    model
        Path of a model file, or the name of an embedded one. A TensorRT plan ends in `.plan` or
        `.engine`. A PyTorch checkpoint is exported into the cache first.
    backend
        `tensorrt` for the GPU, `onnx` for ONNX Runtime on the CPU, `auto` for the first that is
        there.
    class_names
        `auto` (the model's metadata, COCO for 80 classes), `coco80`, or a text file.
    anchors
        `auto`, a name of `ANCHOR_SETS`, or numbers as `parse_anchors` reads them; only models
        with raw heads need it.
    network_size
        Longer side of the network input in pixels; models with a fixed input ignore it.
    rectangular
        Letterbox to the smallest rectangle where the model allows it, else to a square.
    threads
        CPU threads of the engine; 0 takes one per core.
    precision
        Of the plan that TensorRT builds from an ONNX model: `fp32`, `fp16`, `int8` or `mixed`.
    max_batch
        Most images that plan takes at once.
    memory
        How images reach the GPU: `staged`, `locked`, `mapped`, `direct`, or `auto` for the
        fastest, measured once on each machine.
    cuda_graph
        Replay the frame's work as one CUDA graph where possible.
    plan_cache
        Folder of the plans built from ONNX models; '' for `yolov7_trt_ros/plans` in
        `$XDG_CACHE_HOME`, or `~/.cache`.
    refit_from
        A model that is open with these options: where its plan is refittable, a copy of it gets
        the weights of `model` if that is enough, in place of a build. '' for none.

    """

    model: str = DEFAULT_MODEL
    backend: str = 'auto'
    class_names: str = 'auto'
    anchors: str = 'auto'
    network_size: int = 640
    rectangular: bool = True
    threads: int = 0
    precision: str = 'fp16'
    max_batch: int = 1
    memory: str = 'auto'
    cuda_graph: bool = True
    plan_cache: str = ''
    refit_from: str = ''
