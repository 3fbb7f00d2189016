"""What the detector node reports of itself and its model, on /diagnostics and in the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus

from yolov7_trt_ros.bank.update.engine_bank import OpenModel
from yolov7_trt_ros.core.detector import Detector
from yolov7_trt_ros.core.forms.model_spec import ModelSpec
from yolov7_trt_ros.core.looks.look_options import OFF
from yolov7_trt_ros.engine.options import DetectorOptions
from yolov7_trt_ros.nodes.detector.worker.detections_wire import DetectionsWire
from yolov7_trt_ros.nodes.diagnostics import make_status


def node_status(
    node_name: str, state: str, values: Mapping[str, str], *, error: str = '', busy: str = ''
) -> DiagnosticStatus:
    """
    Return the status of the node as a whole.

    Parameters
    ----------
    node_name, state
        Fully qualified name, and the lifecycle state's label.
    values
        Model, backend, status of the engine, last error.
    error
        Present error (ERROR), '' for none.
    busy
        Present warning or activity other than detecting (WARN), '' for none.

    """
    level = DiagnosticStatus.OK
    if error or busy:
        level = DiagnosticStatus.ERROR if error else DiagnosticStatus.WARN
    values = {'state': state, **values}
    return make_status(f'{node_name}: detector', level, error or busy or state, values)


def model_values(model: str, detector: Detector) -> dict[str, str]:
    """Return the values of a loaded model for diagnostics."""
    return {
        'model': model,
        'backend': detector.backend,
        'output layout': detector.spec.layout.value,
        **({'in doubt': '; '.join(detector.spec.doubts)} if detector.spec.doubts else {}),
        **detector.status(),
    }


def unused_size(spec: ModelSpec, values: Mapping[str, Any]) -> str:
    """Return a warning for a `network_size` that was set and that a model cannot have, else ''."""
    size = values['network_size']
    fixed = spec.other_wh(size)
    is_set = size != DetectorOptions.network_size and values['second_look'] == OFF
    if fixed is None or not is_set:
        return ''
    return (f'network_size is {size}, but the input of the model is fixed at '
            f'{fixed[0]}x{fixed[1]} pixels, which is used')


def log_model(logger: Any, model: OpenModel, wire: DetectionsWire | None) -> None:
    """Log which model serves from now on, and doubts about it."""
    spec, name = model.detector.spec, model.model.name
    logger.info(
        f'model {name}: {spec.layout.value} output, {len(spec.class_names)} class names, '
        f'{model.detector.backend}'
    )
    for doubt in spec.doubts:
        logger.warning(f'model {name}: {doubt}')
    if wire is not None and wire.reason:
        logger.warning(f'detections are published as {wire.form}')
