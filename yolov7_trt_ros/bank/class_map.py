"""Map the class ids of one model to those of another, by name."""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import functools

import numpy as np

from yolov7_trt_ros.core.detections import class_name, Detections
from yolov7_trt_ros.core.forms.model_spec import ModelSpec
from yolov7_trt_ros.core.plain_text import listed

_SHOWN = 3


def class_names_of(spec: ModelSpec) -> tuple[str, ...]:
    """Return the names of all classes, `class_<id>` if a model gives none."""
    count = max(len(spec.class_names), spec.num_classes or 0)
    return tuple(class_name(spec.class_names, number) for number in range(count))


def missing_classes(former: ModelSpec, new: ModelSpec) -> str:
    """Return the classes that a new model lacks, as text; '' if none."""
    has = set(class_names_of(new))
    lost = [name or "''" for name in dict.fromkeys(class_names_of(former)) if name not in has]
    return listed(lost, _SHOWN)


def moved_ids(
    ids: frozenset[int] | None, former: Sequence[str], new: Sequence[str]
) -> frozenset[int] | None:
    """
    Return ids of `former` as those of the classes of the same name in `new`; None: all.

    If `former` has no names, ids are assumed to mean the same, as in `ClassMap`.

    """
    if ids is None or not former or tuple(former) == tuple(new):
        return ids
    wanted = {class_name(tuple(former), number) for number in ids}
    return frozenset(number for number, name in enumerate(new) if name in wanted)


def moved_thresholds(
    thresholds: tuple[tuple[int, float], ...], former: Sequence[str], new: Sequence[str]
) -> tuple[tuple[int, float], ...]:
    """Return scores by ids of `former` as those of the same classes in `new`; as `moved_ids`."""
    if not thresholds or not former or tuple(former) == tuple(new):
        return thresholds
    wanted = {class_name(tuple(former), number): score for number, score in thresholds}
    return tuple(
        (number, wanted[name]) for number, name in enumerate(new) if name in wanted
    )


@dataclasses.dataclass(frozen=True)
class ClassMap:
    """
    Converts the detections of two models to the class ids of the former model.

    Attributes
    ----------
    former, new
        Their class names. If the former has none, ids are assumed to mean the same.

    """

    former: tuple[str, ...]
    new: tuple[str, ...]

    def of_former(self, detections: Detections) -> Detections:
        """Return detections of the former model; classes of one name are one."""
        return self._known(detections, self.former)

    def of_new(self, detections: Detections) -> Detections:
        """Return those of the new model, without the classes that only this one has."""
        return self._known(detections, self.new)

    @functools.cached_property
    def _first_ids(self) -> dict[str, int]:
        """Return the first class of each name of the former model."""
        return {name: number for number, name in reversed(list(enumerate(self.former)))}

    def _known(self, detections: Detections, names: tuple[str, ...]) -> Detections:
        if not self.former:
            return detections
        first = self._first_ids
        ids = np.array(
            [first.get(class_name(names, number), -1) for number in detections.class_ids.tolist()],
            np.int32,
        )
        known = ids >= 0
        return Detections(
            detections.boxes_xyxy[known], detections.scores[known], ids[known],
            detections.source_wh,
        )
