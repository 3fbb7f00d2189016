"""BankSettings: detection settings whose class ids are valid for any model of the bank."""

from __future__ import annotations

import dataclasses
import functools

from yolov7_trt_ros.bank.class_map import moved_ids, moved_thresholds
from yolov7_trt_ros.core.detector import DetectSettings

_FIELDS = tuple(field.name for field in dataclasses.fields(DetectSettings))


@dataclasses.dataclass(frozen=True)
class BankSettings(DetectSettings):
    """
    Detection settings for each frame, while the model may change between frames.

    Attributes
    ----------
    class_names
        The class names to which `class_ids` and `class_thresholds` refer.
    judged_score
        The score threshold for comparing models, if it differs; None for the same.

    """

    class_names: tuple[str, ...] = ()
    judged_score: float | None = None


def judged_score(settings: DetectSettings) -> float:
    """Return the score threshold that models are compared with."""
    own = settings.judged_score if isinstance(settings, BankSettings) else None
    return settings.score_threshold if own is None else own


@functools.lru_cache(maxsize=512)
def settings_for(settings: DetectSettings, class_names: tuple[str, ...]) -> DetectSettings:
    """
    Return settings for a model of these classes; other settings are returned unchanged.

    Equal settings give the same object again, which engines compare first.

    """
    if not isinstance(settings, BankSettings):
        return settings
    values = {name: getattr(settings, name) for name in _FIELDS}
    values['class_ids'] = moved_ids(settings.class_ids, settings.class_names, class_names)
    values['class_thresholds'] = moved_thresholds(
        settings.class_thresholds, settings.class_names, class_names
    )
    return DetectSettings(**values)
