"""The classes and detection settings of each look, derived from those of the result."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from yolov7_trt_ros.bank.class_map import class_names_of, ClassMap, missing_classes, moved_ids
from yolov7_trt_ros.core.class_filter import find_class_ids
from yolov7_trt_ros.core.detections import Detections
from yolov7_trt_ros.core.detector import DetectSettings
from yolov7_trt_ros.core.forms.model_spec import ModelSpec
from yolov7_trt_ros.core.looks.look_options import LookOptions
from yolov7_trt_ros.core.plain_text import listed
from yolov7_trt_ros.errors import SettingError

_SHOWN_CLASSES = 3


class CropClasses(NamedTuple):
    """
    Classes of the first model whose objects get a crop.

    Attributes
    ----------
    ids
        Their ids; None: all.
    lacking
        The names of those that get none because the model for crops lacks them, '' if none.

    """

    ids: frozenset[int] | None
    lacking: str


def crop_classes(first: ModelSpec, second: ModelSpec, options: LookOptions) -> CropClasses:
    """
    Return which classes get a crop: those of the options that both models have.

    Raises
    ------
    SettingError
        The model for crops has none of the classes of the first, or lacks one of the options; or
        the first lacks one of those.

    """
    wanted = find_class_ids(options.classes, first.class_names)
    names, other = class_names_of(first), class_names_of(second)
    if not names:  # ids mean the same
        return CropClasses(wanted, '')
    known = frozenset(number for number, name in enumerate(names) if name in set(other))
    if not known:
        raise SettingError(
            'the model of the second look has no class of the first one: expected '
            f'{listed(names, _SHOWN_CLASSES)}, found {listed(other, _SHOWN_CLASSES) or "none"}; '
            'set class_names if a model does not name its classes, or take another '
            'second_look_model'
        )
    if wanted is not None and not wanted <= known:
        lost = [names[number] for number in sorted(wanted - known)]
        raise SettingError(
            'the model of the second look lacks classes of second_look_classes: '
            f'{listed(lost, _SHOWN_CLASSES)}; leave them out, or take another second_look_model'
        )
    lost_names = missing_classes(first, second) if wanted is None else ''
    return CropClasses(known if lost_names else wanted, lost_names)


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
