"""Open a detector: options in, the engine that fits this machine out."""

from __future__ import annotations

import dataclasses

from yolov7_trt_ros.core.detector import Detector
from yolov7_trt_ros.core.model_spec import ANCHOR_SETS, Anchors
from yolov7_trt_ros.engine.model_files import DEFAULT_MODEL, find_model, load_class_names
from yolov7_trt_ros.errors import MissingDependencyError, SettingError

BACKENDS = ('auto', 'onnx')


@dataclasses.dataclass(frozen=True)
class DetectorOptions:
    """
    What is fixed when a detector is opened.

    Attributes
    ----------
    model
        Path of a model file, or the name of an embedded one.
    backend
        `auto`, or `onnx` for ONNX Runtime on the CPU.
    class_names
        `auto` (the model's metadata, COCO for 80 classes), `coco80`, or a text file.
    anchors
        `auto`, or a name of `ANCHOR_SETS`; only raw-head models need it.
    network_size
        Longer side of the network input in pixels; models with a fixed input ignore it.
    rectangular
        Letterbox to the smallest rectangle where the model allows it, else to a square.
    threads
        CPU threads of the engine; 0 takes one per core.

    """

    model: str = DEFAULT_MODEL
    backend: str = 'auto'
    class_names: str = 'auto'
    anchors: str = 'auto'
    network_size: int = 640
    rectangular: bool = True
    threads: int = 0


def open_detector(options: DetectorOptions) -> Detector:
    """
    Load a model into the engine that fits it and this machine, warmed up.

    Raises
    ------
    ModelError
        The file is missing, unreadable or not a YOLOv7 export.
    SettingError
        An option is out of its range.
    MissingDependencyError
        ONNX Runtime is not installed.

    """
    if options.backend not in BACKENDS:
        known = ', '.join(BACKENDS)
        raise SettingError(f'backend must be one of {known}, got {options.backend!r}')
    path = find_model(options.model)
    class_names = load_class_names(options.class_names)
    anchors = choose_anchors(options.anchors)
    try:
        from yolov7_trt_ros.engine.onnx_detector import OnnxDetector
    except ImportError as exc:
        raise MissingDependencyError(
            f'no inference engine: ONNX Runtime cannot be imported ({exc}); '
            'install it with: pip install onnxruntime'
        ) from exc
    return OnnxDetector(
        path,
        class_names=class_names,
        anchors=anchors,
        network_size=options.network_size,
        rectangular=options.rectangular,
        threads=options.threads,
    )


def choose_anchors(name: str) -> Anchors | None:
    """Return the anchors called `name`, None for `auto`; raises SettingError for others."""
    if name in ('', 'auto'):
        return None
    if name not in ANCHOR_SETS:
        known = ', '.join(ANCHOR_SETS)
        raise SettingError(f'anchors must be auto or one of {known}, got {name!r}')
    return ANCHOR_SETS[name]
