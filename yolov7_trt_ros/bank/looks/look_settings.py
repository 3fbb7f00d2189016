"""LookSettings: the detection settings of each look, derived from those of the result."""

from __future__ import annotations

import dataclasses

from yolov7_trt_ros.bank.class_map import class_names_of, ClassMap, moved_ids
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.forms.model_spec import ModelSpec
from yolov7_trt_ros.core.looks.look_options import LookOptions


class LookSettings:
    """
    Settings of both looks, made once for each that come: engines look whether they are the same.

    Parameters
    ----------
    first, second
        The models.
    options
        From which score on there is doubt.

    """

    def __init__(self, first: ModelSpec, second: ModelSpec, options: LookOptions) -> None:
        self._names = class_names_of(first), class_names_of(second)
        self._classes = ClassMap(*self._names)
        self._least_score = options.least_score
        self._asked: DetectSettings | None = None
        self._first = self._second = DetectSettings()

    def of_first(self, settings: DetectSettings) -> DetectSettings:
        """Return settings that show what there is doubt of, too."""
        self._make(settings)
        return self._first

    def of_second(self, settings: DetectSettings) -> DetectSettings:
        """Return the same with the class ids of the model for crops."""
        self._make(settings)
        return self._second

    def in_first(self, detections: Detections) -> Detections:
        """Return what the second look has found with the class ids of the first."""
        if self._names[0] == self._names[1]:
            return detections
        return self._classes.of_new(detections)

    def _make(self, settings: DetectSettings) -> None:
        if settings is self._asked:
            return
        self._asked = settings
        self._first = dataclasses.replace(
            settings, score_threshold=min(settings.least_score, self._least_score),
            class_thresholds=(),
        )
        self._second = dataclasses.replace(
            self._first, class_ids=moved_ids(settings.class_ids, *self._names)
        )
