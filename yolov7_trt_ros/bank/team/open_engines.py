"""Open the engines beside the first one; each must have its classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import contextlib

from yolov7_trt_ros.bank.class_map import missing_classes
from yolov7_trt_ros.bank.update.engine_bank import OpenModel
from yolov7_trt_ros.bank.update.update_machine import ModelId
from yolov7_trt_ros.core.detector import Detector
from yolov7_trt_ros.core.forms.model_spec import ModelSpec
from yolov7_trt_ros.errors import SettingError, Yolov7TrtError


def open_engines(
    first: ModelSpec, named: Sequence[tuple[str, Callable[[], Detector]]]
) -> list[OpenModel]:
    """
    Return the open engines, numbered from 2 on; if one cannot be opened, none stays open.

    Parameters
    ----------
    first
        The model of the first engine.
    named
        Name of each other engine, and what opens it.

    Raises
    ------
    SettingError
        An engine lacks classes of the first one.
    Yolov7TrtError
        An engine cannot be opened; the message says which one and why.

    """
    with contextlib.ExitStack() as opened:
        engines = []
        for number, (name, opener) in enumerate(named, 2):
            what = f'engine {number} of `engines`, {name}'
            try:
                detector = opener()
            except Yolov7TrtError as exc:
                raise type(exc)(f'{what}: {exc}') from exc
            opened.callback(detector.close)
            lost = missing_classes(first, detector.spec)
            if lost:
                raise SettingError(
                    f'{what} lacks the classes {lost} of `model`: the engines must have the same '
                    'classes; set class_names if the model has none'
                )
            engines.append(OpenModel(ModelId(number, name), detector, ''))
        opened.pop_all()
    return engines
